#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Requests through one L7 proxy: a waypoint (with the mesh around it) beside HAProxy and nginx as reverse proxies,
in turns within one run. 1 KB answers by nginx, HTTP/1.1 and HTTP/2 from the client.

  waypoint.py [--rounds N] [--seconds S] [--connections C] [--rate R] [--routes N] [--idle N] [--json]

The waypoint has an AuthorizationPolicy, metrics and an access log to a file; the others a log to a file. A
request through the waypoint passes two node proxies as well, with mutual TLS on both hops; CPU is told for the
process that proxies HTTP alone, and for the node proxies apart. Latency is told at a fixed rate, above that of a
direct run: what each way adds.
"""
import argparse
import json
import os
import re
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
from lab.l7_scene import AMBIENT, GATEWAY   # noqa: E402
from lab.lab import Lab   # noqa: E402
from lab.scene import Scene   # noqa: E402
from lab.sh import wait_until   # noqa: E402
from lab.yamlout import write_atomically   # noqa: E402

VIP = "10.96.0.30"
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


class Field:
    def __init__(self, lab):
        self.lab, self.scene = lab, Scene(lab)

    def raise_all(self):
        lab, scene = self.lab, self.scene
        scene.raise_mesh()
        one, two = lab.nodes
        lab.namespace("production", AMBIENT)
        lab.accounts("production", "client", "server")
        lab.namespace("plain")
        lab.accounts("plain", "plain")
        self.client = lab.create_pod(one, "production", "client", "client", {"app": "client"}, attempts=5)
        self.server = lab.create_pod(two, "production", "server", "server", {"app": "server"}, attempts=5)
        self.plain_client = lab.create_pod(one, "plain", "client", "plain", {"app": "client"}, attempts=5)
        self.plain_server = lab.create_pod(two, "plain", "server", "plain", {"app": "server"}, attempts=5)
        self.proxy = lab.create_pod(two, "plain", "proxy", "plain", {"app": "proxy"}, attempts=5)
        for pod in (self.server, self.plain_server):
            self.start_backend(pod)
        lab.service("production", "server", {"app": "server"}, [("http", 80, 8080)], [VIP])
        self.start_haproxy()
        self.start_nginx_proxy()
        lab.write("authz", {
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "server", "namespace": "production"},
            "spec": {"targetRefs": [{"kind": "Service", "group": "", "name": "server"}], "action": "ALLOW",
                     "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/client"]}}],
                                "to": [{"operation": {"methods": ["GET"], "paths": ["/*"]}}]}]}})
        lab.write("meshconfig", {
            "apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator",
            "metadata": {"name": "mesh", "namespace": "istio-system"},
            "spec": {"meshConfig": {"accessLogFile": os.path.join(lab.run_dir, "waypoint.access")}}})
        lab.write("gateway-waypoint", GATEWAY)
        lab.namespace("production", {**AMBIENT, "istio.io/use-waypoint": "waypoint"})
        self.waypoint_pid = wait_until("the waypoint is ready", self.find_waypoint, 30)
        wait_until("requests pass", lambda: self.client.curl(f"http://{VIP}/")[0] == 200, 20)

    def find_waypoint(self):
        code, body = self.lab.control_get("/debug/waypoints")
        rows = json.loads(body)["waypoints"] if code == 200 else []
        return next((row["process"]["pid"] for row in rows if row["programmed"]), None)

    def folder(self, name):
        folder = os.path.join(self.lab.run_dir, "nginx", name)
        os.makedirs(os.path.join(folder, "tmp"), exist_ok=True)
        return folder

    def nginx(self, pod, name, body):
        folder = self.folder(name)
        config = os.path.join(folder, "nginx.conf")
        write_atomically(config, f"""daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 20000; }}
http {{ client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp; keepalive_requests 1000000000;
  {body.replace("FOLDER", folder)} }}
""")
        program = pod.start(name, ["nginx", "-c", config, "-e", os.path.join(folder, "error.log")])
        return program

    def start_backend(self, pod):
        text = "x" * 1024
        program = self.nginx(pod, f"backend-{pod.namespace}", f"""access_log off;
  server {{ listen 8080; location / {{ default_type text/plain; return 200 "{text}"; }} }}""")
        program.wait_for("listening", lambda: pod.run(["ss", "-Hltn", "sport = :8080"]).stdout, 10)

    def start_nginx_proxy(self):
        self.nginx_proxy = self.nginx(self.proxy, "proxy", f"""access_log FOLDER/access.log;
  upstream backend {{ server {self.plain_server.ip}:8080; keepalive 256; }}
  server {{ listen 9080; listen 9081 http2; location / {{ proxy_pass http://backend; proxy_http_version 1.1;
    proxy_set_header connection ""; }} }}""")
        self.nginx_proxy.wait_for("listening", lambda: self.proxy.run(["ss", "-Hltn", "sport = :9080"]).stdout, 10)

    def start_haproxy(self):
        config = os.path.join(self.lab.run_dir, "haproxy.cfg")
        write_atomically(config, f"""global
  nbthread 2
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option httplog
  log stdout format raw local0
frontend h1
  bind :9082
  default_backend app
frontend h2
  bind :9083 proto h2
  default_backend app
backend app
  server one {self.plain_server.ip}:8080
""")
        self.haproxy = self.proxy.start("haproxy", ["haproxy", "-f", config])
        self.haproxy.wait_for("listening", lambda: self.proxy.run(["ss", "-Hltn", "sport = :9082"]).stdout, 10)

    def hold(self, count):
        """The waypoint's memory with so many idle connections."""
        holder = self.client.start("holder", ["python3", "-c", HOLD, VIP, str(count)])
        holder.wait_for("held", lambda: "held " in holder.log(), 180)
        kib = rss_kib(self.waypoint_pid)
        holder.stop()
        return kib

    def subjects(self, version):
        """(name, client pod, url, pid of the proxy, pids of what is around it)"""
        h2 = version == "h2"
        nodes = [node.ztunnel.program.pid for node in self.lab.nodes]
        return [("waypoint", self.client, f"http://{VIP}/", self.waypoint_pid, nodes),
                ("haproxy", self.plain_client, f"http://{self.proxy.ip}:{9083 if h2 else 9082}/", self.haproxy.pid, []),
                ("nginx", self.plain_client, f"http://{self.proxy.ip}:{9081 if h2 else 9080}/", self.nginx_proxy.pid, []),
                ("direct", self.plain_client, f"http://{self.plain_server.ip}:8080/", None, [])]


def measure(client, url, pid, around, version, seconds, connections):
    argv = ["h2load", "-t1", f"-c{connections}", f"-D{seconds}", "--warm-up-time=1"]
    argv += ["-m10"] if version == "h2" else ["--h1"]
    before = [cpu_seconds(p) for p in [pid, *around] if p]
    text = client.run([*argv, url], timeout=seconds + 60).stdout
    after = [cpu_seconds(p) for p in [pid, *around] if p]
    done = int(re.search(r"requests: (\d+) total.*?(\d+) succeeded, (\d+) failed", text, re.S).group(2))
    failed = int(re.search(r"(\d+) failed", text).group(1))
    rate = float(re.search(r"([\d.]+) req/s", text).group(1))
    mean = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", text).group(3)
    spent = [b - a for a, b in zip(before, after)]
    # Warm-up requests cost CPU and are not counted.
    share = seconds / (seconds + 1)
    return {"rate": rate, "failed": failed, "mean": mean,
            "cpu_us": spent[0] / max(done, 1) * 1e6 * share if spent else 0,
            "around_us": sum(spent[1:]) / max(done, 1) * 1e6 * share}


# The generator takes turns among its connections, and with many is late itself.
LATENCY_CONNECTIONS = 4


def latency(client, url, rate, seconds, log):
    """(p50, p99) in microseconds at a fixed rate."""
    connections = LATENCY_CONNECTIONS
    client.run(["h2load", "-t1", "--h1", f"-c{connections}", f"-D{seconds}", f"--rps={rate / connections}",
                f"--log-file={log}", url], timeout=seconds + 60)
    with open(log, encoding="ascii") as lines:
        times = sorted(int(line.split()[2]) for line in lines)
    return times[len(times) // 2], times[len(times) * 99 // 100]


# Opens connections, has one answer on each, says so and keeps them.
HOLD = """
import resource, signal, socket, sys
host, count = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
held = []
for _ in range(count):
    one = socket.create_connection((host, 80), 10)
    one.sendall(b"GET / HTTP/1.1\\r\\nhost: server\\r\\n\\r\\n")
    got = b""
    while len(got) < 1024:
        got += one.recv(65536)
    held.append(one)
print("held", len(held), flush=True)
signal.pause()
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=int, default=1000, help="requests per second at which latency is told")
    parser.add_argument("--idle", type=int, default=10000, help="idle connections for the figure of memory")
    parser.add_argument("--routes", type=int, default=1000, help="routes in the configuration for the figure of memory")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results, latencies = {}, {}
    with Lab("bench", progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True)) as lab:
        field = Field(lab)
        field.raise_all()
        memory = {"idle": rss_kib(field.waypoint_pid)}
        for _ in range(args.rounds):
            for version in ("h1", "h2"):
                for name, client, url, pid, around in field.subjects(version):
                    if version == "h2" and name == "direct":
                        continue   # this backend speaks HTTP/1.1 only
                    row = measure(client, url, pid, around, version, args.seconds, args.connections)
                    results.setdefault((version, name), []).append(row)
            for name, client, url, _, _ in field.subjects("h1"):
                pair = latency(client, url, args.rate, args.seconds, os.path.join(lab.run_dir, "latency.log"))
                latencies.setdefault(name, []).append(pair)
        if args.idle:
            memory[f"{args.idle} idle connections"] = field.hold(args.idle)
        lab.write("many-routes", {
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "many", "namespace": "production"},
            "spec": {"hosts": ["server"], "http": [
                {"match": [{"uri": {"prefix": f"/r{i}/"}}], "route": [{"destination": {"host": "server"}}]}
                for i in range(args.routes)] + [{"route": [{"destination": {"host": "server"}}]}]}})
        time.sleep(3)
        memory[f"{args.routes} routes"] = rss_kib(field.waypoint_pid)
    rows = []
    for (version, name), runs in results.items():
        rows.append({"version": version, "subject": name,
                     **{key: statistics.median(run[key] for run in runs) for key in ("rate", "cpu_us", "around_us")},
                     "rates": [run["rate"] for run in runs], "mean": runs[-1]["mean"],
                     "failed": sum(run["failed"] for run in runs)})
    medians = {name: [statistics.median(values) for values in zip(*pairs)] for name, pairs in latencies.items()}
    if args.json:
        print(json.dumps({"rows": rows, "rss_kib": memory, "latency_us": medians}))
        return
    print("| client | subject | requests/s (range) | CPU us per request | node proxies' CPU us | mean | failed |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['version']} | {row['subject']} | {row['rate']:.0f} ({min(row['rates']):.0f}-{max(row['rates']):.0f}) "
              f"| {row['cpu_us']:.0f} | {row['around_us']:.0f} | {row['mean']} | {row['failed']} |")
    direct = medians["direct"]
    print(f"\nAdded at {args.rate} requests/s, p50 and p99 (direct {direct[0]:.0f} and {direct[1]:.0f} us): " + ", ".join(
        f"{name} {p50 - direct[0]:.0f} and {p99 - direct[1]:.0f} us" for name, (p50, p99) in medians.items()
        if name != "direct"))
    print("RSS of the waypoint: " + ", ".join(f"{what} {kib / 1024:.1f} MiB" for what, kib in memory.items()))


if __name__ == "__main__":
    main()
