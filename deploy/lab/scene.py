# SPDX-License-Identifier: Apache-2.0
"""The scene of the demo and of the end-to-end tests: who runs where, and how to ask them things."""
import functools
import json
import os
import time

from .lab import OUTSIDE_IP, Lab, parse_access_log
from .sh import LabError, wait_until
from .tokens import HOST as ISSUER_HOST
from .tokens import Issuer

API_VIP, API_VIP6 = "10.96.0.10", "fd00:10:96::10"
PORTS = [("http", 80, 8080), ("greeting", 9001, 9001), ("sink", 9002, 9002), ("half", 9003, 9003),
         ("source", 9004, 9004), ("echo", 9006, 9006)]


class Scene:
    """web and api-v2 on node1, api-v1 and batch on node2, an intruder on node1, all un-enrolled at first."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.web = self.batch = self.api1 = self.api2 = self.intruder = None
        self.servers = {}
        self.nginx = {}
        self.issuer = None

    def raise_mesh(self, ztunnel_env=None):
        lab = self.lab
        lab.ztunnel_env.update(ztunnel_env or {})
        lab.progress("two nodes, a control host and a host outside, as network namespaces")
        lab.raise_network()
        lab.namespace("istio-system")
        lab.accounts("istio-system", "ztunnel")
        lab.namespace("default")
        lab.accounts("default", "intruder")
        lab.namespace("production")
        lab.accounts("production", "web", "api", "batch")
        lab.progress("culvertd on the control host")
        self.issuer = Issuer(os.path.join(lab.run_dir, "issuer"))
        lab.names[ISSUER_HOST] = lab.nodes[0].ip
        lab.control_flags = ["--jwks-ca", self.issuer.path["ca.pem"], "--jwks-refresh", "1s",
                             "--trace-collector", f"jaeger=zipkin://{lab.nodes[0].ip}:9411"]
        lab.start_control()
        for node in lab.nodes:
            node.start_agent()
        chain = [p["type"] for p in lab.nodes[0].runtime.conflist()["plugins"]]
        lab.progress(f"node agents: ready, CNI chain {' -> '.join(chain)}")
        for node in lab.nodes:
            node.start_ztunnel()
        lab.progress("ztunnels: ready")

    def raise_pods(self):
        lab = self.lab
        one, two = lab.nodes
        self.web = lab.create_pod(one, "production", "web", "web", {"app": "web"})
        self.api1 = lab.create_pod(two, "production", "api-v1", "api", {"app": "api", "version": "v1"}, ready=False)
        self.api2 = lab.create_pod(one, "production", "api-v2", "api", {"app": "api", "version": "v2"}, ready=False)
        self.batch = lab.create_pod(two, "production", "batch", "batch", {"app": "batch"})
        self.intruder = lab.create_pod(one, "default", "intruder", "intruder", {"app": "intruder"})
        for pod in (self.api1, self.api2):
            self.servers[pod.name] = lab.start_server(pod)
            self.nginx[pod.name] = lab.start_nginx(pod, pod.name, pod.name)
            lab.update_pod(pod, ready=True)
        lab.service("production", "api", {"app": "api"}, PORTS, [API_VIP, API_VIP6])
        lab.service("production", "api-headless", {"app": "api"}, PORTS)
        self.nginx["outside"] = lab.start_nginx(lab.prefix + "outside", "outside", "outside", 8088)
        lab.progress("pods: " + ", ".join(f"{p.name} {p.ip} on {p.node.name}" for p in lab.pods.values()
                                          if p.namespace != "istio-system"))

    def enrol_production(self):
        """Labels the namespace and waits until all know; (seconds to enabled, seconds to known)."""
        began = time.monotonic()
        self.lab.namespace("production", {"istio.io/dataplane-mode": "ambient"})
        pods = [self.web, self.api1, self.api2, self.batch]
        wait_until("the node agents enrol the four running pods",
                   lambda: all(self.lab.redirection(p) == "enabled" for p in pods), 10, 0.005)
        enabled = time.monotonic() - began
        self.wait_known([p for p in pods])
        return enabled, time.monotonic() - began

    def wait_known(self, pods, timeout=10):
        """Until every node's ztunnel holds these pods as HBONE workloads."""
        def known():
            for node in self.lab.nodes:
                dump = node.ztunnel.config_dump()
                have = {(w["namespace"], w["name"]): w for w in dump["workloads"]}
                for pod in pods:
                    entry = have.get((pod.namespace, pod.name))
                    if not entry or entry.get("protocol") != "HBONE":
                        return False
                    if pod.ip not in entry.get("workloadIps", []):
                        return False
            return True
        wait_until("both ztunnels know the pods as HBONE workloads", known, timeout)

    def policy(self, name, kind, spec, namespace="production", annotations=None, version=None):
        """Writes an AuthorizationPolicy or PeerAuthentication; returns when it was written."""
        metadata = {"name": name, "namespace": namespace}
        if annotations:
            metadata["annotations"] = annotations
        self.lab.write(f"policy-{namespace}-{name}", {
            "apiVersion": f"security.istio.io/{version or 'v1'}", "kind": kind, "metadata": metadata, "spec": spec})
        return time.monotonic()

    def drop_policy(self, name, namespace="production"):
        self.lab.remove(f"policy-{namespace}-{name}")
        return time.monotonic()


def tidy(section):
    """Decorator of a demo section: whatever it leaves after a failed check must not disturb the next one."""
    @functools.wraps(section)
    def run_and_tidy(demo):
        try:
            section(demo)
        finally:
            for pod in demo.lab.pods.values():
                for program in pod.programs:
                    if program.transient and program.alive():
                        program.kill()
            for name in ("api", "api-ports"):
                demo.scene.drop_policy(name)
    return run_and_tidy


def reaches(pod, address, port=8080):
    """True if one new connection from `pod` gets its answer; HTTP on 8080, a greeting on 9001."""
    if port == 9001:
        return "hello" in pod.client("banner", address)
    url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
    return pod.curl(url, timeout=4)[0] == 200


def wait_reaches(pod, address, port=8080, expected=True, timeout=5.0):
    """Waits until connections from pod succeed (or fail), and did so twice in a row; the seconds it took."""
    began = time.monotonic()
    verb = "reach" if expected else "be refused at"

    def settled():
        return reaches(pod, address, port) == expected

    wait_until(f"{pod.name} must {verb} {address}:{port}", settled, timeout)
    seconds = time.monotonic() - began
    if reaches(pod, address, port) != expected:
        raise LabError(f"{pod.name} did {verb} {address}:{port} once, then not again")
    return seconds


def events(program, kind=None):
    """JSON lines an application told so far."""
    found = []
    for line in program.log().splitlines():
        if line.startswith("{"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if kind is None or record.get("event") == kind:
                found.append(record)
    return found


def finish_client(program, timeout=20):
    """SIGTERM to a load or hold client; its result line."""
    program.stop(timeout)
    results = [e for e in events(program) if "result" in e]
    if not results:
        raise LabError(f"{program.name} told no result: {program.log_tail()}")
    return results[-1]


def access_records(ztunnel, offset, **wanted):
    """Access-log records since offset whose fields begin with the wanted values (dots as _)."""
    found = []
    for record in parse_access_log(ztunnel.program.log(offset)):
        if all(str(record.get(key.replace("_", "."), "")).startswith(value) for key, value in wanted.items()):
            found.append(record)
    return found


def wait_access(ztunnel, offset, what, timeout=5, **wanted):
    return wait_until(f"the access log of {ztunnel.pod.name} tells {what}",
                      lambda: access_records(ztunnel, offset, **wanted), timeout)


def traffic_bytes(ztunnel, reporter, source, destination):
    """(received, sent) of the byte counters for one pair of workloads."""
    sums = {"istio_tcp_received_bytes_total": 0, "istio_tcp_sent_bytes_total": 0}
    for name, labels, value in ztunnel.metrics():
        if name in sums and labels.get("reporter") == reporter and labels.get("source_workload") == source \
                and labels.get("destination_workload") == destination:
            sums[name] += int(value)
    return sums["istio_tcp_received_bytes_total"], sums["istio_tcp_sent_bytes_total"]


__all__ = ["API_VIP", "API_VIP6", "OUTSIDE_IP", "PORTS", "Scene", "access_records", "events", "finish_client",
           "reaches", "tidy", "traffic_bytes", "wait_access", "wait_reaches"]
