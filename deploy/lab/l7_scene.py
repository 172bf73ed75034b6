# SPDX-License-Identifier: Apache-2.0
"""The L7 part of the scene: the user's api-service in two versions behind a waypoint, and who asks it.

The four seed files are applied as they stand; what a check needs to be short or different is written over
them for its time (`Seed.overlay`).
"""
import contextlib
import copy
import json
import os
import time

import yaml

from .lab import PYTHON, ROOT
from .sh import LabError, run, wait_until
from .yamlout import write_atomically

HTTP_APPS = os.path.join(ROOT, "deploy", "lab", "http_apps.py")
SEED = os.path.join(ROOT, "test", "golden", "seed")
SERVICE_VIP, SERVICE_VIP6 = "10.96.0.20", "fd00:10:96::20"
HOST = "api-service.production.svc.cluster.local"
URL = f"http://{SERVICE_VIP}"
AMBIENT = {"istio.io/dataplane-mode": "ambient"}
GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
    "metadata": {"name": "waypoint", "namespace": "production", "labels": {"istio.io/waypoint-for": "service"}},
    "spec": {"gatewayClassName": "istio-waypoint",
             "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
}


class Seed:
    """One seed file as the lab's manifest: as it stands, or with some of its objects changed."""

    def __init__(self, lab, name):
        # After the lab's own manifests: of two objects of one name the first by path counts.
        self.lab, self.name = lab, f"user/{name}"
        with open(os.path.join(SEED, name), encoding="utf-8") as file:
            self.text = file.read()
        os.makedirs(os.path.join(lab.manifests, "user"), exist_ok=True)

    def apply(self):
        self.lab.write_text(self.name, self.text)
        return time.monotonic()

    def remove(self):
        self.lab.remove(self.name.removesuffix(".yaml"))

    def edited(self, edit):
        """Applies it with edit(objects by kind) done to it."""
        objects = [o for o in yaml.safe_load_all(self.text) if o]
        edit({o["kind"]: o for o in objects})
        self.lab.write_text(self.name, yaml.safe_dump_all(copy.deepcopy(objects), sort_keys=False))
        return time.monotonic()


class L7Scene:
    """web-service on node1 and other-service on node2 ask api-service, v1 on node2 and v2 on node1."""

    def __init__(self, scene):
        self.scene, self.lab = scene, scene.lab
        self.routes = Seed(self.lab, "virtual-service-config.yaml")
        self.security = Seed(self.lab, "security-config.yaml")
        self.watching = Seed(self.lab, "observability-config.yaml")
        self.install = Seed(self.lab, "istio-setup.yaml")
        self.edits = 0
        self.web = self.other = self.v1 = self.v2 = None

    def raise_pods(self):
        lab = self.lab
        one, two = lab.nodes
        lab.accounts("production", "web", "api", "batch", "web-service", "other-service", "api-service")
        self.web = lab.create_pod(one, "production", "web-service", "web-service", {"app": "web-service"})
        self.other = lab.create_pod(two, "production", "other-service", "other-service", {"app": "other-service"})
        labels = {"app": "api-service"}
        self.v1 = lab.create_pod(two, "production", "api-service-v1", "api-service", {**labels, "version": "v1"},
                                 ready=False)
        self.v2 = lab.create_pod(one, "production", "api-service-v2", "api-service", {**labels, "version": "v2"},
                                 ready=False)
        for pod in (self.v1, self.v2):
            pod.start("app", [PYTHON, HTTP_APPS, "serve", pod.labels["version"], "8081"])
            self.start_front(pod)
            lab.update_pod(pod, ready=True)
        lab.service("production", "api-service", labels, [("http", 80, 8080)], [SERVICE_VIP, SERVICE_VIP6])
        self.scene.wait_known([self.web, self.other, self.v1, self.v2])

    def start_front(self, pod):
        """nghttpx before the application: it takes HTTP/1.1, and HTTP/2 without TLS as the seed's UPGRADE wants."""
        config = os.path.join(self.lab.run_dir, f"{pod.name}.nghttpx")
        log = os.path.join(self.lab.run_dir, "logs", f"{pod.name}.access.log")
        write_atomically(config, "frontend=*,8080;no-tls\nbackend=127.0.0.1,8081\nworkers=1\nno-via=yes\n"
                                 f"add-x-forwarded-for=no\naccesslog-file={log}\naccesslog-format=$remote_addr "
                                 "$alpn $request\n")
        program = pod.start("front", ["nghttpx", f"--conf={config}"])
        program.access_log_path = log
        program.wait_for("listening", lambda: pod.run(["ss", "-Hltn", "sport = :8080"]).stdout, 10)
        program.wait_for("in front of its application",
                         lambda: pod.run(["ss", "-Hltn", "sport = :8081"]).stdout, 10)

    def raise_waypoint(self):
        """Gateway and label; seconds until the waypoint is ready, and until node proxies go through it."""
        began = time.monotonic()
        self.lab.write("gateway-waypoint", GATEWAY)
        self.lab.namespace("production", {**AMBIENT, "istio.io/use-waypoint": "waypoint"})
        row = wait_until("culvertd's waypoint is ready", self.waypoint, 20)
        ready = time.monotonic() - began

        def bound():
            for node in self.lab.nodes:
                services = {s["hostname"]: s for s in node.ztunnel.config_dump()["services"]}
                if not services.get(HOST, {}).get("waypoint"):
                    return False
            return True
        wait_until("both node proxies know the waypoint of api-service", bound, 10)
        wait_until("a request goes through", lambda: self.get("/health")[0] == 200, 10)
        return row, ready, time.monotonic() - began

    def drop_waypoint(self):
        self.lab.namespace("production", AMBIENT)
        self.lab.remove("gateway-waypoint")
        wait_until("the waypoint is gone", lambda: not self.waypoints(), 20)

    def waypoints(self):
        code, body = self.lab.control_get("/debug/waypoints")
        if code != 200:
            raise LabError(f"/debug/waypoints answers {code} {body.strip()}")
        return json.loads(body)["waypoints"]

    def waypoint(self):
        """The row of production/waypoint once it is ready."""
        return next((w for w in self.waypoints() if w["programmed"]), None)

    def log_path(self):
        return os.path.join(self.lab.run_dir, "logs", "waypoint-production.waypoint.log")

    def log(self, offset=0):
        with open(self.log_path(), encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            return file.read()

    def log_size(self):
        return os.path.getsize(self.log_path())

    def page(self, path, port=None):
        """A page of the waypoint, from the node it runs on."""
        row = self.waypoint()
        address = f"127.0.0.1:{row['process']['adminPort']}" if port is None else f"{row['address']}:{port}"
        done = self.lab.nodes[1].run(["curl", "-sS", "--max-time", "5", f"http://{address}{path}"], check=False)
        return done.stdout

    # ---- asking

    def get(self, path, *options, pod=None, timeout=10):
        """(status, answer or text, curl's words) of one request from `pod` (web-service)."""
        status, body, words = (pod or self.web).curl(URL + path, *options, timeout=timeout)
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        return status, body, words

    def load_argv(self, path, **options):
        argv = [PYTHON, HTTP_APPS, "load", URL + path]
        for name, value in options.items():
            if name == "headers":
                for header in value:
                    argv += ["--header", header]
            else:
                argv += [f"--{name.rstrip('_')}", str(value)]
        return argv

    def load(self, path, pod=None, **options):
        done = (pod or self.web).run(self.load_argv(path, **options), timeout=120)
        return json.loads(done.stdout.strip().splitlines()[-1])

    def start_load(self, path, pod=None, **options):
        """Requests until `finish_load`."""
        flag = os.path.join(self.lab.run_dir, f"load-{time.monotonic_ns()}")
        write_atomically(flag, "")
        program = (pod or self.web).start("load", self.load_argv(path, while_=flag, **options), transient=True)
        program.flag = flag
        return program

    def finish_load(self, program, timeout=40):
        with contextlib.suppress(FileNotFoundError):
            os.remove(program.flag)
        wait_until("the load ends", lambda: not program.alive(), timeout)
        return json.loads(program.log().strip().splitlines()[-1])

    def control(self, pod, **knobs):
        """Changes what an application does from now on."""
        pod.run(["curl", "-sS", "--max-time", "5", "--data", json.dumps(knobs), "http://127.0.0.1:8081/control"])

    def seen(self, pod):
        return json.loads(pod.run(["curl", "-sS", "--max-time", "5", "http://127.0.0.1:8081/seen"]).stdout)

    @contextlib.contextmanager
    def routes_with(self, edit):
        """The seed's routes changed for a while; begins and ends when the waypoint acts by them."""
        self.edits += 1
        mark = str(self.edits)

        def marked(kinds):
            edit(kinds)
            for route in kinds["VirtualService"]["spec"]["http"]:
                route["headers"] = {"response": {"set": {"x-edit": mark}}}
        self.routes.edited(marked)
        try:
            wait_until("the changed routes are live", lambda: self.response_header("/health", "x-edit") == mark, 5)
            yield
        finally:
            self.routes.apply()
            wait_until("the seed's routes are live", lambda: not self.response_header("/health", "x-edit"), 5)

    def response_header(self, path, name):
        done = self.web.run(["curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-w", f"%header{{{name}}}", URL + path],
                            check=False)
        return done.stdout

    def wait_status(self, path, status, *options, pod=None, timeout=5):
        """Until a request gets that status, twice in a row; the seconds it took."""
        began = time.monotonic()
        last = [None]

        def settled():
            last[0] = self.get(path, *options, pod=pod)
            return last[0][0] == status
        try:
            wait_until(f"{path} must answer {status}", settled, timeout, 0.02)
        except LabError as error:
            raise LabError(f"{error}; it answers {last[0]}") from None
        seconds = time.monotonic() - began
        again = self.get(path, *options, pod=pod)
        if again[0] != status:
            raise LabError(f"{path} answered {status} once, then {again}")
        return seconds


__all__ = ["AMBIENT", "HOST", "HTTP_APPS", "L7Scene", "SEED", "SERVICE_VIP", "Seed", "URL", "run"]
