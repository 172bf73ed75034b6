# SPDX-License-Identifier: Apache-2.0
"""Demo checks 4 and 5: PeerAuthentication and AuthorizationPolicy."""
import os
import time

from .lab import APPS, PROBE_IP, PYTHON
from .scene import API_VIP, access_records, events, finish_client, reaches, tidy, wait_access, wait_reaches
from .sh import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


def _why(ztunnel, offset, source_ip):
    """The reason an inbound refusal was logged with."""
    def refused():
        return [r for r in access_records(ztunnel, offset, direction="inbound", src_addr=source_ip) if r.get("error")]
    return wait_until(f"{ztunnel.pod.name} logs why it refused {source_ip}", refused, 5)[-1]["error"]


@tidy
def strict(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    api1, intruder, web = scene.api1, scene.intruder, scene.web
    two = lab.nodes[1]
    report.heading("4. PeerAuthentication")
    with report.check("without a policy the intruder's plaintext is accepted") as c:
        status, body, words = intruder.curl(f"http://{api1.ip}:8080/")
        c.must(status == 200, f"{status} {words}")
        c.saw(f"intruder {intruder.ip} gets `{body.strip()}`")
    with report.check("STRICT refuses the intruder's plaintext, and the log says why") as c:
        offset = two.ztunnel.program.log_size()
        with open(os.path.join(HERE, "manifests", "security-config.yaml"), encoding="utf-8") as file:
            lab.write_text("security-config.yaml", file.read())
        seconds = wait_reaches(intruder, api1.ip, expected=False)
        with open(scene.nginx["api-v1"].access_log_path, encoding="utf-8") as log:
            before = len(log.readlines())
        status, body, words = intruder.curl(f"http://{api1.ip}:8080/after-strict")
        with open(scene.nginx["api-v1"].access_log_path, encoding="utf-8") as log:
            after = log.readlines()
        c.must(status == 0 and len(after) == before, f"curl got {status}, api's log has {after[before:]}")
        c.saw(f"refused {seconds * 1000:.0f} ms after the file was written ({words}); api saw nothing")
        c.saw(f"log: `{_why(two.ztunnel, offset, intruder.ip)}`")
    with report.check("enrolled clients go on under STRICT") as c:
        for address in (api1.ip, scene.api2.ip, API_VIP):
            result = web.client("banner", address)
            c.must("hello" in result, f"{address}: {result}")
            c.saw(f"{result['hello']} via {address}")
    with report.check("a node-local health probe still passes") as c:
        done = two.run(["curl", "-sS", "--max-time", "5", f"http://{api1.ip}:8080/healthz"], check=False)
        c.must(done.returncode == 0, f"curl from {two.name}: {done.stderr.strip()}")
        c.must(PROBE_IP in done.stdout, f"api sees `{done.stdout.strip()}`, not {PROBE_IP}")
        done6 = two.run(["curl", "-sS", "-g", "--max-time", "5", f"http://[{api1.ip6}]:8080/healthz"], check=False)
        c.must(done6.returncode == 0, f"curl over IPv6 from {two.name}: {done6.stderr.strip()}")
        c.saw(f"from {two.name}: `{done.stdout.strip()}`, `{done6.stdout.strip()}`")
    with report.check("PERMISSIVE with a strict port") as c:
        scene.policy("api-ports", "PeerAuthentication", {
            "selector": {"matchLabels": {"app": "api"}}, "mtls": {"mode": "PERMISSIVE"},
            "portLevelMtls": {"9001": {"mode": "STRICT"}}})
        wait_reaches(intruder, api1.ip, 8080, True)
        wait_reaches(intruder, api1.ip, 9001, False)
        c.must(reaches(web, api1.ip, 9001), "web is refused at 9001 as well")
        c.saw("intruder: 8080 answers, 9001 refuses; web: 9001 answers")
    with report.check("STRICT with a permissive port") as c:
        scene.policy("api-ports", "PeerAuthentication", {
            "selector": {"matchLabels": {"app": "api"}}, "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"9001": {"mode": "PERMISSIVE"}}})
        wait_reaches(intruder, api1.ip, 9001, True)
        wait_reaches(intruder, api1.ip, 8080, False)
        c.must(reaches(web, api1.ip, 8080), "web is refused at 8080 as well")
        c.saw("intruder: 9001 answers, 8080 refuses; web: 8080 answers")
    scene.drop_policy("api-ports")


SELECT_API = {"selector": {"matchLabels": {"app": "api"}}}


@tidy
def authorization(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    web, batch, tester, api1 = scene.web, scene.batch, demo.tester, scene.api1
    two = lab.nodes[1]
    report.heading("5. AuthorizationPolicy")

    def matrix(c, allowed, refused):
        """[(pod, port)] that must get through and that must not, each within 5 s of the change."""
        for pod, port in refused:
            wait_reaches(pod, api1.ip, port, False)
        for pod, port in allowed:
            wait_reaches(pod, api1.ip, port, True)
        c.saw("allowed " + ", ".join(f"{p.namespace}/{p.account} at {port}" for p, port in allowed))
        c.saw("refused " + ", ".join(f"{p.namespace}/{p.account} at {port}" for p, port in refused))

    def apply(name, action, rules, **more):
        scene.policy(name, "AuthorizationPolicy", {**SELECT_API, "action": action, "rules": rules}, **more)

    with report.check("ALLOW by principal") as c:
        offset = two.ztunnel.program.log_size()
        apply("api", "ALLOW", [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/web"]}}]}])
        matrix(c, [(web, 8080)], [(batch, 8080), (tester, 8080)])
        c.saw(f"log: `{_why(two.ztunnel, offset, batch.ip)}`")
    with report.check("ALLOW by namespace") as c:
        apply("api", "ALLOW", [{"from": [{"source": {"namespaces": ["production"]}}]}])
        matrix(c, [(web, 8080), (batch, 8080)], [(tester, 8080)])
    with report.check("ALLOW by source IP") as c:
        apply("api", "ALLOW", [{"from": [{"source": {"ipBlocks": [f"{tester.ip}/32"]}}]}])
        matrix(c, [(tester, 8080)], [(web, 8080), (batch, 8080)])
    with report.check("ALLOW by port") as c:
        apply("api", "ALLOW", [{"to": [{"operation": {"ports": ["9001"]}}]}])
        matrix(c, [(web, 9001), (batch, 9001)], [(web, 8080), (batch, 8080)])
    with report.check("DENY beside everything else") as c:
        apply("api", "DENY", [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/batch"]}}]}])
        matrix(c, [(web, 8080), (tester, 8080)], [(batch, 8080)])
    with report.check("dry-run changes nothing and is logged") as c:
        offset = two.ztunnel.program.log_size()
        apply("api", "DENY", [{"from": [{"source": {"namespaces": ["production"]}}]}],
              annotations={"istio.io/dry-run": "true"})
        matrix(c, [(web, 8080), (batch, 8080)], [])
        def logged():
            web.curl(f"http://{api1.ip}:8080/")
            return [line for line in two.ztunnel.program.log(offset).splitlines() if "dry" in line.lower()]
        line = wait_until("ztunnel logs the dry-run match", logged, 5)[0]
        c.saw(f"log: `{line.strip()[-160:]}`")
        scene.drop_policy("api")
    with report.check("a change that forbids a live connection closes it within a second") as c:
        wait_reaches(web, api1.ip)
        mine = web.start("live", [PYTHON, APPS, "hold", api1.ip], transient=True)
        other = batch.start("live", [PYTHON, APPS, "hold", api1.ip], transient=True)
        for program in (mine, other):
            wait_until("the connections are up", lambda p=program: events(p, "open"), 10)
        began = time.time()
        apply("api", "DENY", [{"from": [{"source": {"principals": ["cluster.local/ns/production/sa/web"]}}]}])
        closed = wait_until("web's connection ends", lambda: events(mine, "closed"), 5)[0]
        seconds = closed["t"] - began
        c.must(seconds <= 1.0, f"it ended after {seconds:.2f} s")
        c.must(other.alive() and not events(other, "closed"), "batch's connection was closed as well")
        result = finish_client(other)
        c.must(not result["error"], f"batch's connection: {result['error']}")
        c.saw(f"web's connection ended {seconds * 1000:.0f} ms after the file was written ({closed['error']}); "
              f"batch's went on for {result['rounds']} round trips")
    scene.drop_policy("api")
    wait_access_reset(demo)


def wait_access_reset(demo):
    """Policies of this section are gone before the next begins; a failure shows there."""
    scene = demo.scene
    try:
        wait_reaches(scene.web, scene.api1.ip)
    except Exception as error:   # the next section's checks will say so as well
        demo.report.progress(f"after removing the policies: {error}")


__all__ = ["authorization", "strict", "wait_access"]
