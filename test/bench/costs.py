# SPDX-License-Identifier: Apache-2.0
"""What is measured once on our own proxies: memory, fairness, slow readers, policies, start-up state, system calls,
and the long run."""
import json
import os
import re
import subprocess
import time

from lab.scene import wait_reaches
from lab.sh import run, wait_until
from subjects import PORT


def ztunnels(bench):
    return [node.ztunnel.program for node in bench.lab.nodes]


def descriptors(program):
    return len(os.listdir(f"/proc/{program.pid}/fd"))


def load(bench, pod, *arguments, timeout=120):
    return json.loads(pod.run([bench.load, *map(str, arguments)], timeout=timeout).stdout)


def sizes(bench):
    lab = bench.lab
    one, two = lab.nodes
    programs = {"culvertd": lab.culvertd, "agent": one.agent, "ztunnel.client": one.ztunnel.program,
                "ztunnel.server": two.ztunnel.program}
    found = {f"rss_mib.{name}": round(program.rss_kib() / 1024, 1) for name, program in programs.items()}
    for name in ("ztunnel", "istio-cni", "install-cni", "culvertd", "culvert"):
        found[f"binary_mib.{name}"] = round(os.path.getsize(lab.binary(name)) / 2**20, 1)
    return found


def idle(bench):
    """10,000 connections that do nothing."""
    scene, count = bench.scene, bench.options.idle
    if not count:
        return {}
    before = [z.rss_kib() for z in ztunnels(bench)]
    client = scene.web.start("idle", [bench.load, "idle", scene.api1.ip, str(PORT), str(count)])
    wait_until("idle connections open", lambda: "open" in client.log(), 180)
    opened = json.loads(client.log().strip().splitlines()[-1])["open"]
    time.sleep(1)   # until buffers of the opening have been given back
    after = [z.rss_kib() for z in ztunnels(bench)]
    client.kill()
    found = {"idle.connections": opened}
    for side, first, last in zip(("client", "server"), before, after):
        found[f"idle.kib_per_connection.{side}"] = round((last - first) / max(1, opened), 2)
    return found


def mice(bench):
    """100 connections with 1,000 exchanges a second on the tunnel that an elephant fills."""
    scene = bench.scene
    ip, seconds = scene.api1.ip, max(3, bench.seconds)
    quiet = load(bench, scene.web, "open", ip, PORT, seconds, 1000, 1024, 100)
    elephant = scene.web.start("elephant", [bench.load, "stream", ip, str(PORT), str(seconds + 4)])
    time.sleep(1)   # until it runs at full speed
    beside = load(bench, scene.web, "open", ip, PORT, seconds, 1000, 1024, 100)
    elephant.process.wait(timeout=30)
    return {"mice.quiet_p99_us": quiet["p99_us"], "mice.beside_elephant_p50_us": beside["p50_us"],
            "mice.beside_elephant_p99_us": beside["p99_us"], "mice.beside_elephant_max_us": beside["max_us"],
            "mice.ratio_p99": round(beside["p99_us"] / quiet["p99_us"], 2)}


def slow_readers(bench):
    """16 streams to a server that reads nothing: what waits is bounded, and the neighbours do not notice."""
    scene = bench.scene
    before = [z.rss_kib() for z in ztunnels(bench)]
    client = scene.web.start("stall", [bench.load, "stall", scene.api1.ip, str(PORT), "16"])
    time.sleep(3)   # until every buffer on the way is full
    after = [z.rss_kib() for z in ztunnels(bench)]
    beside = load(bench, scene.web, "open", scene.api1.ip, PORT, 2, 1000, 1024, 1)
    client.kill()
    return {"slow_reader.kib_per_stream.client": round((after[0] - before[0]) / 16, 1),
            "slow_reader.kib_per_stream.server": round((after[1] - before[1]) / 16, 1),
            "slow_reader.neighbour_p99_us": beside["p99_us"]}


def policies(bench):
    """Enforcement time of a change; then a policy with 10,000 rules of which the last lets us in."""
    scene, found, changes = bench.scene, {}, []
    for _ in range(5):
        began = scene.policy("bench", "AuthorizationPolicy", {
            "selector": {"matchLabels": {"app": "api"}}, "action": "DENY",
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/web"]}}]}]})
        wait_until("the policy is enforced", lambda: scene.web.curl(f"http://{scene.api1.ip}:8080/")[0] == 0, 10, 0.001)
        changes.append(time.monotonic() - began)
        scene.drop_policy("bench")
        wait_reaches(scene.web, scene.api1.ip)
    found["enforcement_ms_median"] = round(sorted(changes)[2] * 1000, 1)
    plain = load(bench, scene.web, "conn", scene.api1.ip, PORT, bench.seconds, 16)["per_second"]
    names = [f"cluster.local/ns/other/sa/s{n}" for n in range(9999)] + ["cluster.local/ns/production/sa/web"]
    scene.policy("many", "AuthorizationPolicy", {
        "selector": {"matchLabels": {"app": "api"}}, "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": [name]}}]} for name in names]})
    wait_until("the many rules are enforced", lambda: scene.batch.curl(f"http://{scene.api1.ip}:8080/")[0] == 0, 20, 0.05)
    ruled = load(bench, scene.web, "conn", scene.api1.ip, PORT, bench.seconds, 16)["per_second"]
    scene.drop_policy("many")
    wait_reaches(scene.batch, scene.api1.ip)
    found.update({"rules_10000.connections_per_second": ruled, "rules_10000.ratio": round(ruled / plain, 2)})
    return found


def ingest(bench):
    """Workloads from wire bytes to a published view, and single changes of them, in a process of its own."""
    found = {}
    for count in bench.options.workloads:
        done = run([os.path.join(bench.lab.build_dir, "test", "bench", "bench_ingest"), str(count)], timeout=600)
        row = json.loads(done.stdout.strip().splitlines()[-1])
        seconds = row["decode_s"] + row["apply_s"]
        found.update({f"workloads_{count}.seconds": round(seconds, 2), f"workloads_{count}.mib": round(row["resident_bytes"] / 2**20, 1),
                      f"workloads_{count}.change_p99_us": row["change_p99_us"],
                      # 1 % of them changing every second, one by one: the share of a core that takes
                      f"workloads_{count}.churn_cpu_share": round(count / 100 * row["change_p50_us"] / 1e6, 3)})
    return found


def system_calls(bench):
    """Per 1,000 exchanges of 1 KiB and per GB of one stream, of each proxy, in a run of their own."""
    scene, found = bench.scene, {}
    cases = {"1000_exchanges": (("open", scene.api1.ip, PORT, 3, 1000, 1024, 1), lambda a: a["count"] / 1000),
             "gb": (("stream", scene.api1.ip, PORT, 3, 1, "up"), lambda a: a["bytes"] / 1e9)}
    for name, (arguments, units) in cases.items():
        watch = [subprocess.Popen(["strace", "-f", "-qq", "-c", "-p", str(z.pid)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True) for z in ztunnels(bench)]
        time.sleep(0.5)   # until strace has taken hold of every thread
        answer = load(bench, scene.web, *arguments)
        for side, one in zip(("client", "server"), watch):
            one.terminate()
            table = one.communicate(timeout=20)[1]
            for line in table.splitlines():
                row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)\s*$", line)
                if row and row.group(2) == "total":
                    found[f"syscalls_per_{name}.{side}"] = round(int(row.group(1)) / units(answer))
    return found


def long_run(bench):
    """Half of what the pair can do for `--soak` minutes: neither memory nor descriptors grow."""
    minutes = bench.options.soak
    if not minutes:
        return {}
    scene = bench.scene
    most = load(bench, scene.web, "open", scene.api1.ip, PORT, 2, 0, 1024, 16)["per_second"]
    rows, end = [], time.monotonic() + minutes * 60
    while time.monotonic() < end:
        load(bench, scene.web, "open", scene.api1.ip, PORT, 8, round(most / 2), 1024, 16)
        load(bench, scene.web, "conn", scene.api1.ip, PORT, 1, 4)
        rows.append([(z.rss_kib(), descriptors(z)) for z in ztunnels(bench)])
    half = len(rows) // 2   # the first half warms up
    found = {}
    for index, side in enumerate(("client", "server")):
        found[f"soak.rss_kib_per_minute.{side}"] = round(slope([r[index][0] for r in rows[half:]]) * len(rows) / minutes, 1)
        found[f"soak.fds_per_minute.{side}"] = round(slope([r[index][1] for r in rows[half:]]) * len(rows) / minutes, 2)
    return found


def slope(values):
    """Of the straight line that fits best, per step."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    return sum((i - middle) * (v - mean) for i, v in enumerate(values)) / sum((i - middle) ** 2 for i in range(count))


COSTS = [sizes, idle, mice, slow_readers, policies, ingest, system_calls, long_run]
