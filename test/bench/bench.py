#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark: the same loads sent directly, through two ztunnels, and through an HAProxy mTLS pair."""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
from lab.lab import Lab   # noqa: E402
from lab.scene import Scene, wait_reaches   # noqa: E402
from lab.sh import run, wait_until   # noqa: E402
from lab.yamlout import write_atomically   # noqa: E402

SERVER_PORT, HAPROXY_PORT, LOCAL_PORT = 7000, 7443, 7001
MEASURES = {   # name: (arguments after address and port, field, unit, higher is better)
    "stream": ("gbit", "Gbit/s one stream", True),
    "rtt_p50": ("p50_us", "us 1 KiB round trip, p50", False),
    "rtt_p99": ("p99_us", "us 1 KiB round trip, p99", False),
    "conn": ("per_second", "connections/s", True),
}


class Bench:
    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        self.scene = Scene(lab)
        self.load = os.path.join(lab.build_dir, "test", "bench", "bench_load")
        self.results = {}

    def raise_all(self):
        lab, scene = self.lab, self.scene
        scene.raise_mesh({})
        scene.raise_pods()
        one, two = lab.nodes
        lab.namespace("plain")
        lab.accounts("plain", "plain")
        self.plain_client = lab.create_pod(one, "plain", "client", "plain", {"app": "client"}, attempts=5)
        self.plain_server = lab.create_pod(two, "plain", "server", "plain", {"app": "server"}, attempts=5)
        scene.enrol_production()
        for pod in (scene.api1, self.plain_server):
            program = pod.start("load", [self.load, "serve", str(SERVER_PORT)])
            program.wait_for("listening", lambda p=pod: p.run(["ss", "-Hltn", f"sport = :{SERVER_PORT}"]).stdout, 5)
        self.start_haproxy()
        wait_reaches(scene.web, scene.api1.ip)
        # name -> (client pod, address, port)
        self.subjects = {
            "direct": (self.plain_client, self.plain_server.ip, SERVER_PORT),
            "culvert": (scene.web, scene.api1.ip, SERVER_PORT),
            "haproxy": (self.plain_client, "127.0.0.1", LOCAL_PORT),
        }

    def start_haproxy(self):
        folder = os.path.join(self.lab.run_dir, "haproxy")
        os.makedirs(folder)
        key, cert, both = (os.path.join(folder, n) for n in ("key.pem", "cert.pem", "both.pem"))
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=bench", "-keyout", key, "-out", cert])
        with open(both, "w", encoding="utf-8") as out:
            for path in (cert, key):
                with open(path, encoding="utf-8") as part:
                    out.write(part.read())
        common = "global\n  nbthread 2\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        client = common + (f"listen out\n  bind 127.0.0.1:{LOCAL_PORT}\n  server s {self.plain_server.ip}:{HAPROXY_PORT} ssl crt {both} "
                           f"ca-file {cert} verify required ssl-min-ver TLSv1.3\n")
        server = common + (f"listen in\n  bind :{HAPROXY_PORT} ssl crt {both} ca-file {cert} verify required ssl-min-ver TLSv1.3\n"
                           f"  server s 127.0.0.1:{SERVER_PORT}\n")
        for pod, text, port in ((self.plain_client, client, LOCAL_PORT), (self.plain_server, server, HAPROXY_PORT)):
            path = os.path.join(folder, f"{pod.name}.cfg")
            write_atomically(path, text)
            program = pod.start("haproxy", ["haproxy", "-db", "-f", path])
            program.wait_for("listening", lambda p=pod, n=port: p.run(["ss", "-Hltn", f"sport = :{n}"]).stdout, 5)

    def one(self, kind, subject, *more):
        pod, address, port = self.subjects[subject]
        done = pod.run([self.load, kind, address, str(port), str(self.options.seconds), *more], timeout=60)
        return json.loads(done.stdout)

    def rounds(self):
        for number in range(self.options.rounds):
            for subject in self.subjects:
                stream = self.one("stream", subject)
                rtt = self.one("rtt", subject)
                conn = self.one("conn", subject, "16")
                for measure, value in (("stream", stream["gbit"]), ("rtt_p50", rtt["p50_us"]), ("rtt_p99", rtt["p99_us"]),
                                       ("conn", conn["per_second"])):
                    self.results.setdefault((subject, measure), []).append(value)
                if conn["bad"]:
                    print(f"  note: {subject}: {conn['bad']} of {conn['bad'] + conn['good']} connections failed", flush=True)
            print(f"  round {number + 1} of {self.options.rounds}", flush=True)

    def table(self):
        print(f"\n{'':28}" + "".join(f"{s:>22}" for s in self.subjects))
        medians = {}
        for measure, (_, unit, _) in MEASURES.items():
            cells = ""
            base = statistics.median(self.results[("direct", measure)])
            for subject in self.subjects:
                value = statistics.median(self.results[(subject, measure)])
                medians[f"{subject}.{measure}"] = round(value, 3)
                cells += f"{value:>13.2f} ({value / base:5.2f}x)" if subject != "direct" else f"{value:>22.2f}"
            print(f"{unit:28}{cells}")
        return medians

    def costs(self):
        lab, scene = self.lab, self.scene
        figures = {}
        one, two = lab.nodes
        programs = {"culvertd": lab.culvertd, "agent": one.agent, "ztunnel.client": one.ztunnel.program,
                    "ztunnel.server": two.ztunnel.program}
        for name, program in programs.items():
            figures[f"rss_mib.{name}"] = round(program.rss_kib() / 1024, 1)
        for name in ("ztunnel", "istio-cni", "install-cni", "culvertd", "culvert"):
            figures[f"binary_mib.{name}"] = round(os.path.getsize(lab.binary(name)) / 2**20, 1)
        count = self.options.idle
        if count:
            before = [z.program.rss_kib() for z in (one.ztunnel, two.ztunnel)]
            client = scene.web.start("idle", [self.load, "idle", scene.api1.ip, str(SERVER_PORT), str(count)])
            wait_until("idle connections open", lambda: "open" in client.log(), 120)
            opened = json.loads(client.log().strip().splitlines()[-1])["open"]
            after = [z.program.rss_kib() for z in (one.ztunnel, two.ztunnel)]
            client.kill()
            if opened:
                figures["idle.connections"] = opened
                for side, first, last in zip(("client", "server"), before, after):
                    figures[f"idle.kib_per_connection.{side}"] = round((last - first) / opened, 2)
        changes = []
        for _ in range(5):
            began = scene.policy("bench", "AuthorizationPolicy", {
                "selector": {"matchLabels": {"app": "api"}}, "action": "DENY",
                "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/web"]}}]}]})
            wait_until("the policy is enforced", lambda: scene.web.curl(f"http://{scene.api1.ip}:8080/")[0] == 0, 10, 0.001)
            changes.append(time.monotonic() - began)
            scene.drop_policy("bench")
            wait_reaches(scene.web, scene.api1.ip)
        figures["enforcement_ms_median"] = round(statistics.median(changes) * 1000, 1)
        for name, value in figures.items():
            print(f"  {name:36} {value}")
        return figures

    def ingest(self):
        """`--workloads` pods in one manifest file: how fast they reach a ztunnel, and what all of them cost."""
        count = self.options.workloads
        if not count:
            return {}
        lab = self.lab
        zt = lab.nodes[0].ztunnel
        lab.namespace("many")
        parts = []
        for number in range(count):
            ip = f"10.{64 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"
            parts.append(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: many, uid: u{number}, labels: {{app: a{number % 1000}}}}}\n"
                         f"spec: {{nodeName: node9, serviceAccountName: s{number % 1000}, containers: [{{name: app, image: x}}]}}\n"
                         f"status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: \"True\"}}]}}\n")

        def seen():
            return sum(value for name, _, value in zt.metrics() if name == "istio_xds_message_bytes_total")
        before = [zt.program.rss_kib(), lab.culvertd.rss_kib()]
        start = last = seen()
        began = moved = time.monotonic()
        lab.write_text("many.yaml", "---\n".join(parts))
        first = None
        while time.monotonic() - began < 300:
            time.sleep(0.05)   # sampling
            now = seen()
            if now != last:
                first = first or time.monotonic() - began
                last, moved = now, time.monotonic()
            elif last != start and time.monotonic() - moved > 2:
                break
        known = sum(w["namespace"] == "many" for w in zt.config_dump()["workloads"])
        figures = {"ingest.workloads": known, "ingest.first_byte_s": round(first or -1, 2),
                   "ingest.seconds": round(moved - began, 2), "ingest.per_second": round(known / max(0.001, moved - began)),
                   "ingest.rss_mib.ztunnel": round(zt.program.rss_kib() / 1024, 1),
                   "ingest.rss_mib.culvertd": round(lab.culvertd.rss_kib() / 1024, 1),
                   "ingest.kib_per_workload.ztunnel": round((zt.program.rss_kib() - before[0]) / max(1, known), 2),
                   "ingest.kib_per_workload.culvertd": round((lab.culvertd.rss_kib() - before[1]) / max(1, known), 2)}
        for name, value in figures.items():
            print(f"  {name:36} {value}")
        return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=10000)
    parser.add_argument("--workloads", type=int, default=100000)
    options = parser.parse_args()
    with Lab("bench") as lab:
        bench = Bench(lab, options)
        if not os.path.exists(bench.load):
            run(["ninja", "-C", lab.build_dir, "test/bench/bench_load"], timeout=300)
        bench.raise_all()
        bench.rounds()
        medians = bench.table()
        print()
        figures = {**bench.costs(), **bench.ingest()}
        print(json.dumps({"medians": medians, "figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
