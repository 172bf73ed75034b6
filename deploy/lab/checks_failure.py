# SPDX-License-Identifier: Apache-2.0
"""Demo checks 6 to 8: crashes, takeover, restarts, rotation, IP reuse, byte counters."""
import time

from .capture import carrying, streams
from .lab import APPS, PYTHON
from .scene import API_VIP, events, finish_client, reaches, tidy, traffic_bytes, wait_reaches
from .sh import wait_until

MARK = "secret-load"


def start_load(pod, address, name, count=4, interval=0.05, text=MARK):
    program = pod.start(name, [PYTHON, APPS, "load", address, "--count", str(count), "--interval", str(interval),
                               "--text", text, "--verbose"], transient=True)
    wait_until(f"{name}: the load runs", lambda: len(events(program, "ok")) >= count, 10)
    return program


def first_ok_after(program, moment, what, timeout=10):
    """Seconds from `moment` to the begin of the first connection that succeeded after it."""
    found = wait_until(what, lambda: [e for e in events(program, "ok") if e["began"] > moment], timeout)
    return found[0]["t"] - moment


def no_failure(c, program):
    result = finish_client(program)
    failures = events(program, "failed")
    c.must(result["failed"] == 0, f"{result['failed']} of {result['failed'] + result['ok']} connections failed, "
                                  f"first: {failures[0] if failures else '?'}")
    c.must(result["wrong"] == 0, f"{result['wrong']} wrong answers")
    return result


def crashes(demo):
    report = demo.report
    report.heading("6. Bad days")
    kill_ztunnel(demo)
    take_over(demo)
    restart_agent(demo)
    without_control(demo)


@tidy
def kill_ztunnel(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    one = lab.nodes[0]
    with report.check("kill -9 of ztunnel under load: no plaintext, back within two seconds of its restart") as c:
        capture = lab.capture("kill")
        load = start_load(scene.web, API_VIP, "load-kill")
        one.ztunnel.program.kill()
        killed = time.time()
        wait_until("connections fail while ztunnel is dead",
                   lambda: len([e for e in events(load, "failed") if e["began"] > killed]) >= 8, 10)
        restarted = time.time()
        one.ztunnel.start()
        seconds = first_ok_after(load, restarted, "a new connection works after the restart")
        one.ztunnel.wait_ready()
        result = finish_client(load)
        segments = capture.stop()
        leaks = carrying(segments, MARK.encode())
        c.must(not leaks, f"plaintext on the link: {leaks[:2]}")
        direct = [s for s in segments if s.dport in (9001,) or s.sport in (9001,)]
        c.must(not direct, f"{len(direct)} packets of uncaptured connections on the link")
        size = sum(len(d) for d in streams(segments).values())
        c.must(seconds <= 2.0, f"the first new connection took {seconds:.2f} s")
        c.saw(f"dead for {restarted - killed:.1f} s: {result['failed']} connections refused, none in plaintext "
              f"({size} payload bytes on the link, all on 15008); first success {seconds:.2f} s after the restart")


@tidy
def take_over(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    one = lab.nodes[0]
    with report.check("a second ztunnel takes over with no failed new connection while the old drains") as c:
        held = scene.web.start("held", [PYTHON, APPS, "hold", scene.api1.ip], transient=True)
        wait_until("the long connection is up", lambda: events(held, "open"), 10)
        load = start_load(scene.web, API_VIP, "load-takeover", count=8, interval=0.02)
        old = one.ztunnel
        new = one.start_ztunnel()
        before = len(events(load, "ok"))
        wait_until("connections go on", lambda: len(events(load, "ok")) > before + 100, 10)
        import signal
        old.program.signal(signal.SIGTERM)
        asked = time.time()
        wait_until("connections go on after SIGTERM",
                   lambda: len([e for e in events(load, "ok") if e["began"] > asked]) > 300, 15)
        c.must(old.program.alive(), f"the old ztunnel left at once: {old.program.log_tail(1)}")
        c.must(held.alive() and not events(held, "closed"), f"the long connection was cut: {held.log_tail(1)}")
        result = finish_client(held)
        c.must(not result["error"], f"the long connection: {result['error']}")
        old.program.process.wait(timeout=12)
        drained = time.time() - asked
        sums = no_failure(c, load)
        c.saw(f"{sums['ok']} new connections, 0 failed; the long one made {result['rounds']} round trips and ended well; "
              f"the old ztunnel left {drained:.1f} s after SIGTERM with status {old.program.process.returncode}")
        c.must(new.program.alive(), f"the new ztunnel ended: {new.program.log_tail()}")
        lab.delete_pod(old.pod)
        one.ztunnels.remove(old)


@tidy
def restart_agent(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    two = lab.nodes[1]
    with report.check("a node agent restart changes nothing for traffic") as c:
        held = scene.web.start("held-agent", [PYTHON, APPS, "hold", scene.api1.ip], transient=True)
        wait_until("the long connection is up", lambda: events(held, "open"), 10)
        load = start_load(scene.web, scene.api1.ip, "load-agent")
        two.agent.kill()
        time.sleep(0.5)   # traffic without an agent is what is looked at
        two.start_agent()
        wait_until("the restarted agent has ztunnel's connection", lambda: two.ztunnel.ready(), 20)
        time.sleep(0.5)   # and with the new one
        sums = no_failure(c, load)
        result = finish_client(held)
        c.must(not result["error"], f"the long connection: {result['error']}")
        c.must(lab.redirection(scene.api1) == "enabled", f"api-v1 is {lab.redirection(scene.api1)}")
        c.saw(f"killed and started again under {sums['ok']} connections, 0 failed; a held one made {result['rounds']} round trips")
    with report.check("the restarted agent enrols new pods and un-enrols on a label") as c:
        pod = lab.create_pod(two, "staging", "late", "tester", {"app": "late"}, attempts=10)
        c.must(lab.redirection(pod) == "enabled", f"redirection {lab.redirection(pod)}")
        lab.update_pod(pod, labels={"app": "late", "istio.io/dataplane-mode": "none"})
        wait_until("the pod is un-enrolled", lambda: lab.redirection(pod) is None, 5)
        tables = pod.run(["nft", "list", "tables"]).stdout.strip()
        c.must("istio" not in tables, f"rules are left: {tables}")
        c.saw("pod created: enabled; labelled none: no binding, no rules in its namespace")
        lab.delete_pod(pod)


@tidy
def without_control(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    web, api1, batch = scene.web, scene.api1, scene.batch
    with report.check("culvertd stopped: traffic and new connections go on; started: changes flow") as c:
        held = web.start("held-control", [PYTHON, APPS, "hold", api1.ip], transient=True)
        wait_until("the long connection is up", lambda: events(held, "open"), 10)
        load = start_load(web, API_VIP, "load-control")
        lab.culvertd.stop()
        stopped = time.time()
        wait_until("new connections without culvertd",
                   lambda: len([e for e in events(load, "ok") if e["began"] > stopped]) >= 60, 15)
        lab.start_control()
        began = time.time()
        scene.policy("api", "AuthorizationPolicy", {
            "selector": {"matchLabels": {"app": "api"}}, "action": "DENY",
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/batch"]}}]}]})
        wait_reaches(batch, api1.ip, expected=False, timeout=20)
        flowed = time.time() - began
        scene.drop_policy("api")
        wait_reaches(batch, api1.ip, timeout=10)
        sums = no_failure(c, load)
        result = finish_client(held)
        c.must(not result["error"], f"the long connection: {result['error']}")
        c.saw(f"{sums['ok']} connections, 0 failed, across {began - stopped:.1f} s without culvertd; a policy written "
              f"after its start refused batch {flowed:.1f} s later")


def rotation_and_reuse(demo):
    report = demo.report
    report.heading("7. Rotation and reuse")
    rotation(demo)
    ip_reuse(demo)


def _serials(lab):
    found = {}
    for node in lab.nodes:
        for certificate in node.ztunnel.config_dump()["certificates"]:
            chain = certificate.get("certChain") or []
            if chain:
                found[(node.name, certificate["identity"])] = chain[0]["serialNumber"]
    return found


@tidy
def rotation(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    with report.check("one-minute certificates rotate under load without a failed connection") as c:
        wanted = {(lab.nodes[0].name, scene.web.identity), (lab.nodes[0].name, scene.api2.identity),
                  (lab.nodes[1].name, scene.api1.identity), (lab.nodes[1].name, scene.batch.identity)}
        held = scene.web.start("held-rotation", [PYTHON, APPS, "hold", scene.api1.ip], transient=True)
        load = start_load(scene.web, API_VIP, "load-rotation")
        before = _serials(lab)
        began = time.monotonic()
        c.must(wanted <= set(before), f"certificates missing: {wanted - set(before)}")
        wait_until("every certificate is replaced",
                   lambda: all(_serials(lab).get(key) not in (None, before[key]) for key in wanted), 75, 0.5)
        seconds = time.monotonic() - began
        mark = time.time()
        wait_until("connections with the new certificates",
                   lambda: len([e for e in events(load, "ok") if e["began"] > mark]) >= 40, 10)
        sums = no_failure(c, load)
        result = finish_client(held)
        c.must(not result["error"], f"the long connection: {result['error']}")
        sample = scene.api1.identity
        c.saw(f"{len(wanted)} identities got new serials within {seconds:.0f} s (api: {before[(lab.nodes[1].name, sample)][:10]}.. -> "
              f"{_serials(lab)[(lab.nodes[1].name, sample)][:10]}..); {sums['ok']} connections, 0 failed")


@tidy
def ip_reuse(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    two = lab.nodes[1]
    with report.check("a pod deleted and another given its IP: never a misdelivered byte") as c:
        lab.accounts("production", "web", "api", "batch", "old")
        old = lab.create_pod(two, "production", "old", "old", {"app": "old"}, ready=False, attempts=10)
        lab.start_server(old)
        lab.update_pod(old, ready=True)
        lab.service("production", "old", {"app": "old"}, [("greeting", 9001, 9001)], ["10.96.0.20"])
        scene.wait_known([old])
        wait_reaches(scene.web, "10.96.0.20", 9001)
        rounds, delivered = (3 if demo.quick else 5), 0
        address = old.ip
        load = start_load(scene.web, "10.96.0.20", "load-reuse", count=8, interval=0.01, text="for-old")
        for number in range(rounds):
            lab.delete_pod(old, grace=0)
            other = lab.create_pod(two, "staging", f"new-{number}", "tester", {"app": "new"}, ip=address, attempts=10)
            c.must(other.ip == address, f"host-local gave {other.ip} instead of {address}")
            server = lab.start_server(other)
            time.sleep(0.5)   # a window for misdelivery
            strangers = [e for e in events(server) if e.get("event") == "line" and e["line"].startswith("for-old")]
            c.must(not strangers, f"the new owner of {address} read {len(strangers)} lines, first: {strangers[:1]}")
            lab.delete_pod(other, grace=0)
            old = lab.create_pod(two, "production", "old", "old", {"app": "old"}, ip=address, ready=False, attempts=10)
            own = lab.start_server(old)
            lab.update_pod(old, ready=True)
            mark = time.time()
            first_ok_after(load, mark, "the service works again with its pod back", 10)
            delivered += len([e for e in events(own, "line") if e["line"].startswith("for-old")])
        result = finish_client(load)
        c.must(result["wrong"] == 0 and set(result["by_name"]) <= {"old"}, f"answers by others: {result['by_name']}")
        c.saw(f"{address} changed hands {2 * rounds} times under {result['ok'] + result['failed']} connections: "
              f"{result['ok']} answered, all by `old`, {result['failed']} refused; the others read 0 bytes of them")
        lab.delete_pod(old, grace=0)
        lab.remove("service-production-old")
        lab.services.pop(("production", "old"))
        lab.sync_services()


def counters(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    web, api1 = scene.web, scene.api1
    one, two = lab.nodes
    report.heading("8. Byte counters")
    with report.check("/metrics counts exactly the bytes the applications counted") as c:
        c.must(reaches(web, api1.ip), "web does not reach api")
        settle(demo)
        start = [traffic_bytes(one.ztunnel, "source", "web", "api-v1"),
                 traffic_bytes(two.ztunnel, "destination", "web", "api-v1")]
        sent = received = 0
        for kind, size in (("upload", 7_654_321), ("download", 9_876_543), ("upload", 1), ("download", 1)):
            result = web.client(kind, api1.ip, "--bytes", str(size))
            c.must(result.get("same"), result)
            sent, received = sent + result["sent"], received + result["received"]
        for _ in range(10):
            result = web.client("banner", api1.ip)
            sent, received = sent + result["sent"], received + result["received"]

        def deltas():
            now = [traffic_bytes(one.ztunnel, "source", "web", "api-v1"),
                   traffic_bytes(two.ztunnel, "destination", "web", "api-v1")]
            return [(n[0] - s[0], n[1] - s[1]) for n, s in zip(now, start)]
        try:
            wait_until("the counters agree", lambda: deltas() == [(sent, received)] * 2, 5, 0.1)
        finally:
            final = deltas()
            c.saw(f"applications: {sent} to api, {received} from api; source ztunnel {final[0][0]} and {final[0][1]}; "
                  f"destination ztunnel {final[1][0]} and {final[1][1]}")


def settle(demo):
    """Until no connection between web and api-v1 is still being counted."""
    last = [None]

    def still():
        now = [traffic_bytes(n.ztunnel, r, "web", "api-v1")
               for n, r in zip(demo.lab.nodes, ("source", "destination"))]
        same, last[0] = now == last[0], now
        return same
    wait_until("the counters come to rest", still, 10, 0.3)


def aftermath(demo):
    report, lab = demo.report, demo.lab
    report.heading("At the end")
    with report.check("every program of the mesh still runs and none crashed") as c:
        programs = [lab.culvertd] + [n.agent for n in lab.nodes] + [n.ztunnel.program for n in lab.nodes]
        dead = [f"{p.name} ended with {p.process.returncode}: {p.log_tail()}" for p in programs if not p.alive()]
        c.must(not dead, "; ".join(dead))
        bad = ("CHECK failed", "AddressSanitizer", "runtime error:", "LeakSanitizer", "ThreadSanitizer")
        cries = [f"{p.name}: {line[:200]}" for p in programs for line in p.log().splitlines()
                 if any(word in line for word in bad)]
        c.must(not cries, "; ".join(cries[:3]))
        c.saw(", ".join(f"{p.name} {p.rss_kib() / 1024:.1f} MiB" for p in programs))
