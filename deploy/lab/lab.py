# SPDX-License-Identifier: Apache-2.0
"""Lab: raises the nodes, plays kubelet, container runtime and kube-proxy, and cleans up.

Everything it makes carries its prefix (namespaces, cgroups) or lives in its run directory, so that
the next start can remove what a killed run left behind.

  inter-node link     10.10.0.1/24 fd00:10:10::1  node1 === node2  10.10.0.2/24 fd00:10:10::2
  control host        10.10.0.100, joined to each node by a link of its own
  outside host        203.0.113.10, 2001:db8:cafe::10: not part of the mesh
  pods of node N      10.244.N.0/24, fd00:10:244:N::/64 (bridge and host-local)
  services            10.96.0.0/16, fd00:10:96::/112
  waypoints           10.99.2.0/24, on node2
"""
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import uuid

from .capture import Capture
from .cni import CniError, CniRuntime, REFERENCE_PLUGINS
from .programs import Program, start_time_of
from .sh import LabError, in_netns, run, wait_until
from .yamlout import to_yaml, write_atomically

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
APPS = os.path.join(ROOT, "deploy", "lab", "apps.py")
PYTHON = "/usr/bin/python3"
CONTROL_IP = "10.10.0.100"
OUTSIDE_IP, OUTSIDE_IP6 = "203.0.113.10", "2001:db8:cafe::10"
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
WAYPOINT_CIDR = "10.99.2.0/24"
PROBE_IP = "169.254.7.127"

_SYSCTLS = {
    "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1, "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0, "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.accept_ra": 0,
}


class Pod:
    """A pod as the lab knows it: its manifest, its namespace, its processes."""

    def __init__(self, lab, node, namespace, name, account, labels):
        self.lab, self.node = lab, node
        self.namespace, self.name, self.account = namespace, name, account
        self.labels = dict(labels)
        self.uid = str(uuid.uuid4())
        self.container_id = os.urandom(32).hex()
        self.netns = f"{lab.prefix}pod-{namespace}-{name}"
        self.netns_path = f"/run/netns/{self.netns}"
        self.cgroup = None
        self.ips = []
        self.ready = False
        self.programs = []

    @property
    def ip(self):
        return next(a for a in self.ips if ":" not in a)

    @property
    def ip6(self):
        return next(a for a in self.ips if ":" in a)

    @property
    def identity(self):
        return f"spiffe://cluster.local/ns/{self.namespace}/sa/{self.account}"

    @property
    def cni_args(self):
        return ";".join(("IgnoreUnknown=1", f"K8S_POD_NAMESPACE={self.namespace}", f"K8S_POD_NAME={self.name}",
                         f"K8S_POD_INFRA_CONTAINER_ID={self.container_id}", f"K8S_POD_UID={self.uid}"))

    def manifest(self):
        status = {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]}
        if self.ips:
            status = {
                "phase": "Running", "hostIP": self.node.ip,
                "podIP": self.ip, "podIPs": [{"ip": a} for a in self.ips],
                "conditions": [{"type": "PodScheduled", "status": "True"},
                               {"type": "Initialized", "status": "True"},
                               {"type": "Ready", "status": "True" if self.ready else "False"}],
            }
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": self.uid,
                         "labels": self.labels},
            "spec": {"nodeName": self.node.name, "serviceAccountName": self.account,
                     "containers": [{"name": "app", "image": "debian:12"}]},
            "status": status,
        }

    def run(self, argv, timeout=60, check=True):
        return run(in_netns(self.netns, argv), timeout=timeout, check=check)

    def start(self, what, argv, env=None, transient=False):
        program = Program(self.lab, f"{self.namespace}.{self.name}.{what}", argv, netns=self.netns, env=env,
                          cgroup=self.cgroup)
        program.transient = transient
        self.programs.append(program)
        return program

    def client(self, kind, address, *options, timeout=150):
        """One run of a client of apps.py in this pod: its result as a dict ('error' if it failed)."""
        done = self.run([PYTHON, APPS, kind, address, *options], timeout=timeout, check=False)
        try:
            return json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise LabError(f"{self.name}: client {kind} {address}: {done.stderr.strip()[-300:]}") from None

    def curl(self, url, *options, timeout=10):
        """(HTTP status or 0, body, curl's own words)."""
        done = self.run(["curl", "-sS", "-g", "--max-time", timeout, "-w", "\n%{http_code}", *options, url],
                        timeout=timeout + 10, check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0) if done.returncode == 0 else 0, body, done.stderr.strip()


class Node:
    """One node: a namespace with a bridge, a CNI configuration, an agent and its ztunnels."""

    def __init__(self, lab, number):
        self.lab, self.number = lab, number
        self.name = f"node{number}"
        self.netns = f"{lab.prefix}{self.name}"
        self.ip, self.ip6 = f"10.10.0.{number}", f"fd00:10:10::{number}"
        self.pod_cidr, self.pod_cidr6 = f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"
        self.dir = os.path.join(lab.run_dir, self.name)
        self.conf_dir = os.path.join(self.dir, "cni", "net.d")
        self.bin_dir = os.path.join(self.dir, "cni", "bin")
        self.agent_dir = os.path.join(self.dir, "run")
        self.zds = os.path.join(self.agent_dir, "ztunnel.sock")
        self.runtime = CniRuntime(self.netns, self.conf_dir, self.bin_dir, os.path.join(self.dir, "cni", "cache"))
        self.agent = None
        self.agent_starts = 0
        self.ztunnels = []   # newest last

    def write_conflist(self):
        config = {
            "cniVersion": "1.0.0", "name": "lab",
            "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False,
                "ipam": {
                    "type": "host-local", "dataDir": os.path.join(self.dir, "cni", "ipam"),
                    "ranges": [[{"subnet": self.pod_cidr}], [{"subnet": self.pod_cidr6}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            }],
        }
        write_atomically(os.path.join(self.conf_dir, "10-lab.conflist"), json.dumps(config, indent=2) + "\n")

    def chained(self):
        try:
            return any(p.get("type") == "istio-cni" for p in self.runtime.conflist()["plugins"])
        except (OSError, ValueError):
            return False

    def run(self, argv, timeout=30, check=True):
        return run(in_netns(self.netns, argv), timeout=timeout, check=check)

    @property
    def ztunnel(self):
        return self.ztunnels[-1]

    def start_agent(self, extra_env=None):
        """The node agent, in the node's namespace as a host-network DaemonSet pod would run."""
        selectors = ("[{podSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}},"
                     " {podSelector: {matchExpressions: [{key: istio.io/dataplane-mode, operator: NotIn,"
                     " values: [none]}]}, namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}}]")
        env = {
            "NODE_NAME": self.name, "CULVERT_DIR": self.lab.manifests,
            "CNI_SOURCE_DIR": os.path.join(self.dir, "plugin-image"),
            "MOUNTED_CNI_BIN_DIR": self.bin_dir, "MOUNTED_CNI_NET_DIR": self.conf_dir,
            "CNI_AGENT_RUN_DIR": self.agent_dir, "ZTUNNEL_UDS_ADDRESS": self.zds,
            "AMBIENT_ENABLED": "true", "AMBIENT_IPV6": "true", "AMBIENT_DNS_CAPTURE": "false",
            "NATIVE_NFTABLES": "true", "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP": "true",
            "AMBIENT_ENABLEMENT_SELECTOR": selectors, "EXCLUDE_NAMESPACES": "kube-system",
            "POD_NAMESPACE": "istio-system", "POD_NAME": f"istio-cni-node-{self.name}",
            "SYSTEM_NAMESPACE": "istio-system", "REPAIR_ENABLED": "false",
        }
        env.update(extra_env or {})
        shutil.copy(self.lab.binary("istio-cni"), env["CNI_SOURCE_DIR"])
        self.agent_starts += 1
        self.agent = Program(self.lab, f"{self.name}.agent", [self.lab.binary("install-cni")],
                             netns=self.netns, env=env)
        self.lab.programs.append(self.agent)
        self.agent.wait_for("chained into the node's CNI configuration", self.chained, 20)
        self.agent.wait_for("ready", lambda: self.agent_get("readyz", 8000)[0] == 200, 20)
        return self.agent

    def agent_get(self, path, port=15014):
        done = self.run(["curl", "-sS", "--max-time", 5, "-w", "\n%{http_code}", f"http://127.0.0.1:{port}/{path}"],
                        check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0), body

    def start_ztunnel(self, extra_env=None, wait=True):
        """A ztunnel pod (its own namespace, made by the same CNI chain) and ztunnel in it."""
        ztunnel = Ztunnel(self, f"ztunnel-{self.name}-{len(self.ztunnels)}", extra_env)
        self.ztunnels.append(ztunnel)
        ztunnel.start()
        if wait:
            ztunnel.wait_ready()
        return ztunnel


class Ztunnel:
    """One ztunnel pod. start() may be called again after a kill, as kubelet restarts a container."""

    def __init__(self, node, name, extra_env=None):
        self.node, self.lab = node, node.lab
        self.pod = self.lab.create_pod(node, "istio-system", name, "ztunnel",
                                       {"app": "ztunnel", "istio.io/dataplane-mode": "none"})
        self.token = os.path.join(node.dir, f"{name}.token")
        write_atomically(self.token, self.lab.token("istio-system", "ztunnel", node.name, name), 0o600)
        self.extra_env = extra_env or {}
        self.program = None

    def start(self):
        root = os.path.join(self.lab.state, "ca", "root-cert.pem")
        env = {
            "XDS_ADDRESS": f"https://{CONTROL_IP}:15012", "CA_ADDRESS": f"https://{CONTROL_IP}:15012",
            "XDS_ROOT_CA": root, "CA_ROOT_CA": root, "AUTH_TOKEN": self.token,
            "NODE_NAME": self.node.name, "INPOD_UDS": self.node.zds, "POD_NAME": self.pod.name,
            "POD_NAMESPACE": "istio-system", "SERVICE_ACCOUNT": "ztunnel", "INSTANCE_IP": self.pod.ip,
            "ISTIO_META_DNS_CAPTURE": "false", "CLUSTER_ID": "Kubernetes",
            "CONNECTION_TERMINATION_DEADLINE": "8s", "RUST_LOG": "info",
        }
        env.update(self.lab.ztunnel_env)
        env.update(self.extra_env)
        self.program = self.pod.start("ztunnel", [self.lab.binary("ztunnel"), "proxy", "ztunnel"], env)
        return self.program

    def get(self, port, path, method="GET", timeout=5):
        done = self.pod.run(["curl", "-sS", "--max-time", timeout, "-X", method, "-w", "\n%{http_code}",
                             f"http://127.0.0.1:{port}{path}"], timeout=timeout + 5, check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0), body

    def ready(self):
        code, body = self.get(15021, "/healthz/ready")
        if code != 200:
            raise LabError(f"readiness answers {code} {body.strip()}")
        return True

    def wait_ready(self, timeout=20):
        self.program.wait_for("ready", self.ready, timeout)

    def config_dump(self):
        code, body = self.get(15000, "/config_dump")
        if code != 200:
            raise LabError(f"{self.pod.name}: /config_dump answers {code}")
        return json.loads(body)

    def metrics(self):
        code, body = self.get(15020, "/metrics")
        if code != 200:
            raise LabError(f"{self.pod.name}: /metrics answers {code}")
        return parse_metrics(body)

    def access_log(self, offset=0):
        """The access log since `offset` as dicts: message, level and every key=value."""
        return parse_access_log(self.program.log(offset))


def parse_metrics(text):
    """[(name, labels, value)] of an OpenMetrics page."""
    rows = []
    for line in text.splitlines():
        match = re.match(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", line)
        if match and not line.startswith("#"):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
            rows.append((match.group(1), labels, float(match.group(3))))
    return rows


_PAIR = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)')


def parse_access_log(text):
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record.get("scope") == "access" or str(record.get("message", "")).startswith("connection"):
                found.append(record)
            continue
        parts = line.split("\t")
        if "access" not in parts[:4]:
            continue
        at = parts.index("access")
        record = {"time": parts[0], "level": parts[1].strip().lower(), "message": parts[at + 1] if len(parts) > at + 1 else ""}
        for key, value in _PAIR.findall("\t".join(parts[at + 2:])):
            record[key] = json.loads(value) if value.startswith('"') else value
        record["line"] = line
        found.append(record)
    return found


class Lab:
    """Owner of everything. Use as a context manager; leaving it removes what it made."""

    def __init__(self, name="demo", build_dir=None, keep=False, progress=None):
        self.name = name
        self.prefix = "culvert-" if name == "demo" else f"culvert-{name}-"
        self.run_dir = f"/run/culvert-{name}"
        self.build_dir = build_dir or os.environ.get("CULVERT_BUILD") or os.path.join(ROOT, "build", "release")
        self.keep = keep
        self.progress = progress or (lambda text: None)
        self.manifests = os.path.join(self.run_dir, "manifests")
        self.state = os.path.join(self.run_dir, "state")
        self.nodes, self.pods, self.programs, self.captures = [], {}, [], []
        self.services = {}
        self.names = {}   # of hosts outside the cluster, for the control plane
        self.control_flags = []
        self.ztunnel_env = {}
        self.culvertd = None
        self.cgroup_root = None
        self.namespaces_made = {}
        self._lock = None

    # ---- life

    def __enter__(self):
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes network namespaces")
        self._lock = open(f"/run/culvert-{self.name}.lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(f"another lab named {self.name} is running") from None
        try:   # what a container runtime gives its containers
            resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 1048576))
        except (OSError, ValueError):
            pass
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda n, _: sys.exit(128 + n))
        self.clean()
        return self

    def __exit__(self, kind, value, trace):
        if not (self.keep and kind is None):
            self.clean()
        self._lock.close()
        return False

    def clean(self):
        """Removes what this lab, or a run before it, left: processes, namespaces, cgroups, files."""
        for program in [p for pod in self.pods.values() for p in pod.programs] + self.programs:
            program.signal(signal.SIGKILL)
        for capture in self.captures:
            if capture.process.poll() is None:
                capture.process.kill()
        self._kill_recorded()
        mine = re.compile(rf"^{re.escape(self.prefix)}(node\d+|control|outside|pod-.*)$")
        listed = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        for namespace in listed:
            if mine.match(namespace) and not (self.name == "demo" and namespace.startswith("culvert-e2e-")):
                run(["ip", "netns", "del", namespace], check=False)
        self._remove_cgroups()
        if os.path.isdir(self.run_dir):
            if os.path.isdir(os.path.join(self.run_dir, "logs")):
                kept = f"/var/tmp/culvert-{self.name}-logs"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(os.path.join(self.run_dir, "logs"), kept, dirs_exist_ok=True)
            shutil.rmtree(self.run_dir, ignore_errors=True)
        self.nodes, self.pods, self.programs, self.captures = [], {}, [], []
        self.services, self.namespaces_made = {}, {}

    def _kill_recorded(self):
        path = os.path.join(self.run_dir, "processes")
        if not os.path.exists(path):
            return
        pids = []
        with open(path, encoding="utf-8") as file:
            for line in file:
                pid, began = line.split()
                try:
                    if start_time_of(pid) == began:
                        os.kill(int(pid), signal.SIGKILL)
                        pids.append(pid)
                except (OSError, IndexError):
                    pass
        end = time.monotonic() + 3
        while any(os.path.exists(f"/proc/{p}/ns/net") for p in pids) and time.monotonic() < end:
            for pid in pids:
                try:
                    os.waitpid(int(pid), os.WNOHANG)
                except (ChildProcessError, OSError):
                    pass
            time.sleep(0.01)

    def remember_process(self, pid):
        with open(os.path.join(self.run_dir, "processes"), "a", encoding="utf-8") as file:
            file.write(f"{pid} {start_time_of(pid)}\n")

    def _cgroup_base(self):
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == "cgroup2":
                    return os.path.join(fields[1], f"culvert-{self.name}")
        raise LabError("no cgroup2 tree is mounted: the node agent finds running pods through it "
                       "(mount -t cgroup2 none /sys/fs/cgroup)")

    def _remove_cgroups(self):
        base = self._cgroup_base()
        for folder, _, _ in os.walk(base, topdown=False):
            procs = os.path.join(folder, "cgroup.procs")
            for _ in range(100):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    try:
                        with open(procs, encoding="utf-8") as file:
                            for pid in file:
                                os.kill(int(pid), signal.SIGKILL)
                    except OSError:
                        pass
                    time.sleep(0.01)

    def binary(self, name):
        places = {"ztunnel": "ztunnel/ztunnel", "istio-cni": "cni/istio-cni", "install-cni": "cni/install-cni",
                  "culvertd": "control/culvertd", "culvert": "control/culvert", "waypoint": "waypoint/waypoint"}
        path = os.path.join(self.build_dir, places[name])
        if not os.path.exists(path):
            raise LabError(f"{path} does not exist: build first (deploy/setup)")
        return path

    # ---- network

    def raise_network(self):
        for folder in ("manifests", "state", "logs", "captures", "bin"):
            os.makedirs(os.path.join(self.run_dir, folder), exist_ok=True)
        os.chmod(self.state, 0o700)
        if not os.path.exists(os.path.join(REFERENCE_PLUGINS, "bridge")):
            raise LabError(f"no CNI reference plugins in {REFERENCE_PLUGINS} (deploy/setup installs them)")
        self.cgroup_root = self._cgroup_base()
        os.makedirs(self.cgroup_root, exist_ok=True)
        self.nodes = [Node(self, 1), Node(self, 2)]
        hosts = {"control": [f"{CONTROL_IP}/32"], "outside": [f"{OUTSIDE_IP}/32", f"{OUTSIDE_IP6}/128"]}
        for namespace in [n.netns for n in self.nodes] + [self.prefix + h for h in hosts]:
            run(["ip", "netns", "add", namespace])
            script = "".join(f"{key} = {value}\n" for key, value in _SYSCTLS.items())
            run(in_netns(namespace, ["sysctl", "-q", "-p", "-"]), input=script)
            run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        one, two = self.nodes
        self._ip(one, f"link add link-node2 type veth peer name link-node1 netns {two.netns}")
        for node, other in ((one, two), (two, one)):
            link = f"link-{other.name}"
            self._ip(node, f"addr add {node.ip}/24 dev {link}", f"-6 addr add {node.ip6}/64 dev {link} nodad",
                     f"link set {link} up")
        for node, other in ((one, two), (two, one)):
            link = f"link-{other.name}"
            self._ip(node, f"route add {other.pod_cidr} via {other.ip} dev {link}",
                     f"-6 route add {other.pod_cidr6} via {other.ip6} dev {link}")
        for index, (host, addresses) in enumerate(hosts.items()):
            self._join_host(index, host, addresses)
        # culvertd runs the waypoints on node2.
        self._ip(one, f"route add {WAYPOINT_CIDR} via {two.ip}")
        self._ip(self.prefix + "control", f"route add {WAYPOINT_CIDR} via 10.20.02.1")
        self._ip(self.prefix + "outside", f"route add {WAYPOINT_CIDR} via 10.20.12.1")
        for node in self.nodes:
            self._prepare_node(node)

    @staticmethod
    def _ip(node, *commands):
        namespace = node if isinstance(node, str) else node.netns
        for command in commands:
            run(["ip", "-n", namespace, *command.split()])

    def _join_host(self, index, host, addresses):
        """A veth from `host` to each node and routes both ways."""
        namespace = self.prefix + host
        for address in addresses:
            self._ip(namespace, f"{'-6 ' if ':' in address else ''}addr add {address} dev lo")
        for node in self.nodes:
            near, far = f"10.20.{index}{node.number}.1", f"10.20.{index}{node.number}.2"
            near6, far6 = f"fd00:10:20:{index}{node.number}::1", f"fd00:10:20:{index}{node.number}::2"
            self._ip(node, f"link add link-{host} type veth peer name {node.name} netns {namespace}",
                     f"addr add {near}/30 dev link-{host}", f"-6 addr add {near6}/64 dev link-{host} nodad",
                     f"link set link-{host} up")
            self._ip(namespace, f"addr add {far}/30 dev {node.name}", f"-6 addr add {far6}/64 dev {node.name} nodad",
                     f"link set {node.name} up", f"route add {node.ip}/32 via {near}",
                     f"route add {node.pod_cidr} via {near}", f"-6 route add {node.ip6}/128 via {near6}",
                     f"-6 route add {node.pod_cidr6} via {near6}")
            for address in addresses:
                if ":" in address:
                    self._ip(node, f"-6 route add {address} via {far6}")
                else:
                    self._ip(node, f"route add {address} via {far}")

    def _prepare_node(self, node):
        for folder in (node.conf_dir, node.bin_dir, node.agent_dir, os.path.join(node.dir, "cni", "cache"),
                       os.path.join(node.dir, "cni", "ipam"), os.path.join(node.dir, "plugin-image")):
            os.makedirs(folder, exist_ok=True)
        node.write_conflist()
        # The agent finds kubelet's uid by its process: one per node with that name.
        kubelet = os.path.join(self.run_dir, "bin", "kubelet")
        if not os.path.exists(kubelet):
            os.symlink("/usr/bin/sleep", kubelet)
        self.programs.append(Program(self, f"{node.name}.kubelet", [kubelet, "infinity"], netns=node.netns))
        self.write("node-" + node.name, {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name, "labels": {
                "kubernetes.io/hostname": node.name, "topology.kubernetes.io/region": "lab",
                "topology.kubernetes.io/zone": f"lab-{node.number}"}},
            "spec": {"podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr, node.pod_cidr6]},
            "status": {"addresses": [{"type": "InternalIP", "address": node.ip},
                                     {"type": "InternalIP", "address": node.ip6},
                                     {"type": "Hostname", "address": node.name}],
                       "conditions": [{"type": "Ready", "status": "True"}]}})

    # ---- manifests (the lab is the API server's writers)

    def write(self, name, *documents):
        write_atomically(os.path.join(self.manifests, f"{name}.yaml"), to_yaml(*documents))

    def write_text(self, name, text):
        write_atomically(os.path.join(self.manifests, name), text)

    def remove(self, name):
        path = os.path.join(self.manifests, f"{name}.yaml")
        if os.path.exists(path):
            os.unlink(path)

    def namespace(self, name, labels=None):
        """Writes (or edits) a Namespace manifest."""
        self.namespaces_made[name] = dict(labels or {})
        self.write(f"namespace-{name}", {
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **(labels or {})}}})

    def accounts(self, namespace, *names):
        self.write(f"accounts-{namespace}", *[
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": n, "namespace": namespace}}
            for n in names])

    def service(self, namespace, name, selector, ports, vips=(), labels=None):
        """A Service; vips empty = headless. The lab's kube-proxy follows."""
        spec = {"selector": selector, "type": "ClusterIP",
                "ports": [{"name": label, "port": port, "targetPort": target, "protocol": "TCP"}
                          for label, port, target in ports]}
        if vips:
            spec["clusterIP"] = vips[0]
            spec["clusterIPs"] = list(vips)
            families = ["IPv6" if ":" in v else "IPv4" for v in vips]
        else:
            spec["clusterIP"] = "None"
            spec["clusterIPs"] = ["None"]
            families = ["IPv4", "IPv6"]
        spec["ipFamilies"] = families
        spec["ipFamilyPolicy"] = "PreferDualStack"
        self.services[(namespace, name)] = {"selector": selector, "ports": ports, "vips": list(vips)}
        self.write(f"service-{namespace}-{name}", {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "spec": spec})
        self.sync_services()

    def endpoints_of(self, namespace, selector):
        return [p for p in self.pods.values() if p.namespace == namespace and p.ready and p.ips
                and selector and all(p.labels.get(k) == v for k, v in selector.items())]

    def sync_services(self):
        """kube-proxy for pods that are not captured: DNAT of service addresses on each node."""
        rules = []
        for (namespace, _), service in sorted(self.services.items()):
            pods = self.endpoints_of(namespace, service["selector"])
            for vip in service["vips"]:
                v6 = ":" in vip
                backends = [p.ip6 if v6 else p.ip for p in pods]
                for _, port, target in service["ports"]:
                    match = f"{'ip6' if v6 else 'ip'} daddr {vip} tcp dport {port}"
                    if not backends:
                        rules.append(f"{match} drop")
                        continue
                    choice = ", ".join(f"{i} : {b}" for i, b in enumerate(backends))
                    rules.append(f"{match} dnat {'ip6' if v6 else 'ip'} to numgen inc mod {len(backends)} "
                                 f"map {{ {choice} }} : {target}")
        body = "\n".join("    " + rule for rule in rules)
        for node in self.nodes:
            # A client and its backend on one bridge: without masquerading the reply would bypass the node.
            text = (f"add table inet culvert-lab\ndelete table inet culvert-lab\ntable inet culvert-lab {{\n"
                    f"  chain services {{\n{body}\n  }}\n"
                    f"  chain prerouting {{ type nat hook prerouting priority -90; jump services; }}\n"
                    f"  chain output {{ type nat hook output priority -90; jump services; }}\n"
                    f"  chain postrouting {{ type nat hook postrouting priority 90;\n"
                    f"    ct status dnat ip saddr {node.pod_cidr} ip daddr {node.pod_cidr} masquerade\n"
                    f"    ct status dnat ip6 saddr {node.pod_cidr6} ip6 daddr {node.pod_cidr6} masquerade\n  }}\n}}\n")
            run(in_netns(node.netns, ["nft", "-f", "-"]), input=text)

    # ---- pods (the lab is kubelet and the container runtime)

    def create_pod(self, node, namespace, name, account, labels=None, ip=None, ready=True, attempts=1):
        """Sandbox, CNI ADD, manifest. `ip` asks host-local for one address; attempts > 1 retries as kubelet does."""
        pod = Pod(self, node, namespace, name, account, labels or {})
        self.pods[(namespace, name)] = pod
        self._write_pod(pod)
        run(["ip", "netns", "add", pod.netns])
        uid = pod.uid.replace("-", "_")
        pod.cgroup = os.path.join(self.cgroup_root, f"kubepods-pod{uid}.slice", f"cri-containerd-{pod.container_id}.scope")
        os.makedirs(pod.cgroup)
        pod.start("pause", ["sleep", "infinity"])
        args = pod.cni_args + (f";IP={ip}" if ip else "")
        for attempt in range(attempts):
            try:
                result = node.runtime.add(pod.container_id, pod.netns_path, args)
                break
            except CniError:
                node.runtime.delete(pod.container_id, pod.netns_path, args)
                if attempt + 1 == attempts:
                    raise
                time.sleep(0.5)
        pod.ips = [entry["address"].split("/")[0] for entry in result["ips"]]
        pod.ready = ready
        self._write_pod(pod)
        self.sync_services()
        return pod

    def _write_pod(self, pod):
        self.write(f"pod-{pod.namespace}-{pod.name}", pod.manifest())

    def update_pod(self, pod, *, labels=None, ready=None):
        if labels is not None:
            pod.labels = dict(labels)
        if ready is not None:
            pod.ready = ready
        self._write_pod(pod)
        self.sync_services()

    def delete_pod(self, pod, grace=2, forget=True):
        """Ends its processes, CNI DEL, removes the namespace; `forget` removes the manifest."""
        for program in pod.programs:
            program.signal(signal.SIGTERM)
        end = time.monotonic() + grace
        while any(p.alive() for p in pod.programs) and time.monotonic() < end:
            time.sleep(0.01)
        for program in pod.programs:
            if program.alive():
                program.kill()
        pod.node.runtime.delete(pod.container_id, pod.netns_path, pod.cni_args)
        run(["ip", "netns", "del", pod.netns])
        # The next owner of these addresses has another MAC; the bridge must not go on with the old one.
        for address in pod.ips:
            run(["ip", "-n", pod.node.netns, "neigh", "flush", "to", address], check=False)
        del self.pods[(pod.namespace, pod.name)]
        if forget:
            self.remove(f"pod-{pod.namespace}-{pod.name}")
        self.sync_services()

    def start_server(self, pod):
        """apps.py serve in a pod; returns its Program once it listens."""
        program = pod.start("apps", [PYTHON, APPS, "serve", pod.name])
        program.wait_for("listening", lambda: program.log().count('"listening"') == 5, 10)
        return program

    def start_nginx(self, pod_or_netns, name, text, port=8080):
        """nginx that answers with `text` and the address it sees."""
        folder = os.path.join(self.run_dir, "nginx", name)
        os.makedirs(os.path.join(folder, "tmp"), exist_ok=True)
        config = os.path.join(folder, "nginx.conf")
        write_atomically(config, f"""daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  log_format lab '$remote_addr $request_uri'; access_log {folder}/access.log lab;
  server {{ listen {port}; listen [::]:{port}; default_type text/plain;
    location / {{ return 200 "{text} sees $remote_addr\\n"; }} }}
}}
""")
        argv = ["nginx", "-c", config, "-e", os.path.join(folder, "error.log")]
        if isinstance(pod_or_netns, Pod):
            program, netns = pod_or_netns.start("nginx", argv), pod_or_netns.netns
        else:
            program, netns = Program(self, f"{name}.nginx", argv, netns=pod_or_netns), pod_or_netns
            self.programs.append(program)
        program.access_log_path = os.path.join(folder, "access.log")
        program.wait_for("listening", lambda: run(in_netns(netns, ["ss", "-Hltn", f"sport = :{port}"])).stdout, 10)
        return program

    # ---- control plane

    def start_control(self):
        # A machine's names are in /etc/hosts; these are the control host's.
        hosts = os.path.join(self.run_dir, "control.hosts")
        write_atomically(hosts, "127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in self.names.items()))
        self.culvertd = Program(self, "culvertd", [
            "unshare", "--mount", "--propagation", "slave", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts,
            self.binary("culvertd"), "--dir", self.manifests, "--state", self.state, "--listen", "[::]:15012",
            "--http", "0.0.0.0:8080", "--san", CONTROL_IP, "--run-waypoints", "--waypoint-binary",
            self.binary("waypoint"), "--waypoint-addresses", WAYPOINT_CIDR, "--waypoint-netns",
            self.prefix + "node2", "--waypoint-node", "node2", "--waypoint-control", f"{CONTROL_IP}:15012",
            "--waypoint-logs", os.path.join(self.run_dir, "logs"), "--waypoint-drain", "5s", *self.control_flags], netns=self.prefix + "control")
        self.programs.append(self.culvertd)
        self.culvertd.wait_for("ready", lambda: self.control_get("/ready")[0] == 200, 20)
        return self.culvertd

    def control_get(self, path):
        done = run(in_netns(self.prefix + "control", ["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}",
                                                      f"http://127.0.0.1:8080{path}"]), check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0), body

    def token(self, namespace, account, node=None, pod=None):
        argv = [self.binary("culvert"), "token", "--state", self.state, "--namespace", namespace,
                "--service-account", account]
        if node:
            argv += ["--node", node]
        if pod:
            argv += ["--pod", pod]
        return run(argv).stdout.strip() + "\n"

    def redirection(self, pod):
        """What the node agent says of a pod: enabled, pending or None."""
        path = os.path.join(self.manifests, "bindings", f"{pod.namespace}_{pod.name}.yaml")
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            match = re.search(r"redirection:\s*\"?(\w+)", file.read())
        return match.group(1) if match else None

    def capture(self, name, netns=None, interface="link-node2", expression="tcp"):
        return Capture(self, name, netns or self.nodes[0].netns, interface, expression)
