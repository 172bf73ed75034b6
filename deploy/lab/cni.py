# SPDX-License-Identifier: Apache-2.0
"""Calls CNI plugins exactly as a container runtime does (CNI specification 1.0, sections 2-4)."""
import json
import os

from .sh import LabError, in_netns, run

REFERENCE_PLUGINS = "/usr/lib/cni"


class CniError(LabError):
    """A plugin answered with an error object."""

    def __init__(self, plugin, command, answer):
        self.code = answer.get("code")
        super().__init__(f"CNI {command}: {plugin} answered code {self.code}: {answer.get('msg', '')} "
                         f"{answer.get('details', '')}".strip())


class CniRuntime:
    """One node's runtime: reads the first configuration of the node's directory, runs the chain."""

    def __init__(self, node_netns, conf_dir, bin_dir, cache_dir):
        self.node_netns = node_netns
        self.conf_dir = conf_dir
        self.bin_dir = bin_dir
        self.cache_dir = cache_dir

    def conflist(self):
        names = sorted(n for n in os.listdir(self.conf_dir) if n.endswith((".conf", ".conflist")))
        if not names:
            raise LabError(f"no CNI configuration in {self.conf_dir}")
        with open(os.path.join(self.conf_dir, names[0]), encoding="utf-8") as file:
            config = json.load(file)
        if "plugins" not in config:
            config = {"name": config["name"], "cniVersion": config.get("cniVersion", "0.3.1"),
                      "plugins": [config]}
        return config

    def call(self, command, plugin, stdin, container_id="", netns_path="", ifname="", args=""):
        """One plugin, one command: environment and stdin in, its JSON answer out."""
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns_path,
            "CNI_IFNAME": ifname,
            "CNI_PATH": f"{self.bin_dir}:{REFERENCE_PLUGINS}",
            "CNI_ARGS": args,
        }
        binary = next((os.path.join(folder, plugin) for folder in (self.bin_dir, REFERENCE_PLUGINS)
                       if os.path.exists(os.path.join(folder, plugin))), None)
        if binary is None:
            raise LabError(f"CNI plugin {plugin} is neither in {self.bin_dir} nor in {REFERENCE_PLUGINS}")
        done = run(in_netns(self.node_netns, [binary]), input=json.dumps(stdin), env=env, check=False,
                   timeout=60)
        try:
            answer = json.loads(done.stdout) if done.stdout.strip() else {}
        except ValueError:
            raise LabError(f"CNI {command}: {plugin} wrote no JSON: {done.stdout[:200]!r}") from None
        if done.returncode != 0:
            raise CniError(plugin, command, answer or {"msg": done.stderr.strip()[-300:]})
        return answer

    @staticmethod
    def _request(config, plugin, previous):
        request = dict(plugin)
        request["name"] = config["name"]
        request["cniVersion"] = config.get("cniVersion", "0.3.1")
        if previous is not None:
            request["prevResult"] = previous
        return request

    def add(self, container_id, netns_path, args):
        """loopback, then the chain in order; each plugin is told what the one before answered."""
        loopback = {"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}
        self.call("ADD", "loopback", loopback, container_id, netns_path, "lo", args)
        config = self.conflist()
        result = None
        for plugin in config["plugins"]:
            result = self.call("ADD", plugin["type"], self._request(config, plugin, result), container_id,
                               netns_path, "eth0", args)
        with open(os.path.join(self.cache_dir, container_id), "w", encoding="utf-8") as cache:
            json.dump({"config": config, "result": result, "args": args, "netns": netns_path}, cache)
        return result

    def _cached(self, container_id):
        path = os.path.join(self.cache_dir, container_id)
        if not os.path.exists(path):
            return path, {"config": self.conflist(), "result": None}
        with open(path, encoding="utf-8") as cache:
            return path, json.load(cache)

    def check(self, container_id):
        _, cached = self._cached(container_id)
        for plugin in cached["config"]["plugins"]:
            self.call("CHECK", plugin["type"],
                      self._request(cached["config"], plugin, cached["result"]), container_id,
                      cached["netns"], "eth0", cached["args"])

    def delete(self, container_id, netns_path, args):
        """The chain in reverse order with the cached result, then loopback."""
        path, cached = self._cached(container_id)
        for plugin in reversed(cached["config"]["plugins"]):
            self.call("DEL", plugin["type"], self._request(cached["config"], plugin, cached["result"]),
                      container_id, netns_path, "eth0", args)
        loopback = {"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}
        self.call("DEL", "loopback", loopback, container_id, netns_path, "lo", args)
        if os.path.exists(path):
            os.unlink(path)
