# SPDX-License-Identifier: Apache-2.0
"""Demo checks 1 to 3: before enrolment, enrolment, and what applications see afterwards."""
import time

from .capture import carrying, looks_like_tls, streams
from .lab import APPS, OUTSIDE_IP, OUTSIDE_IP6, PYTHON
from .scene import API_VIP, API_VIP6, access_records, events, finish_client, tidy, wait_access
from .sh import run, in_netns, wait_until

NEEDLE = "needle-7f3a"


def before_enrolment(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    report.heading("1. Before enrolment")
    with report.check("web reaches api by Service IP, readable on the inter-node link") as c:
        capture = lab.capture("before")
        answers = [scene.web.curl(f"http://{API_VIP}/{NEEDLE}") for _ in range(4)]
        segments = capture.stop()
        for status, body, words in answers:
            c.must(status == 200, f"curl got {status}: {words or body}")
        names = sorted({body.split()[0] for _, body, _ in answers})
        flows = carrying(segments, f"GET /{NEEDLE}".encode())
        c.must(flows, f"`GET /{NEEDLE}` was not seen on the link ({len(segments)} segments captured)")
        src, _, dst, port = flows[0]
        c.saw(f"200 from {' and '.join(names)} via {API_VIP}; tcpdump reads `GET /{NEEDLE}` from {src} to {dst}:{port}")


def enrolment(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    report.heading("2. Enrolment")
    pids = {p.name: p.programs[-1].pid for p in (scene.web, scene.api1, scene.api2)}
    with report.check("labelling the namespace enrols the running pods within a second") as c:
        enabled, known = scene.enrol_production()
        c.saw(f"4 pods enabled after {enabled * 1000:.0f} ms, both ztunnels route to them by HBONE after {known * 1000:.0f} ms")
        c.must(known <= 1.0, f"it took {known:.2f} s")
        same = all(p.programs[-1].pid == pids[p.name] and p.programs[-1].alive()
                   for p in (scene.web, scene.api1, scene.api2))
        c.must(same, "an application was restarted or died")
        c.saw("no application restarted")
    with report.check("a pod created in an enrolled namespace is captured before it starts") as c:
        lab.namespace("staging", {"istio.io/dataplane-mode": "ambient"})
        lab.accounts("staging", "tester")
        demo.tester = lab.create_pod(lab.nodes[1], "staging", "tester", "tester", {"app": "tester"}, attempts=10)
        state = lab.redirection(demo.tester)
        c.must(state == "enabled", f"its redirection after CNI ADD is {state}")
        table = demo.tester.run(["nft", "list", "tables"]).stdout.split("\n")[0]
        c.saw(f"CNI ADD returned with redirection enabled, `{table}` in its namespace")
        scene.wait_known([demo.tester])
    wire(demo)


def wire(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    with report.check("the same request crosses the link only as TLS on 15008") as c:
        offsets = [node.ztunnel.program.log_size() for node in lab.nodes]
        capture = lab.capture("after")
        answers = [scene.web.curl(f"http://{API_VIP}/{NEEDLE}") for _ in range(8)]
        segments = capture.stop()
        for status, body, words in answers:
            c.must(status == 200, f"curl got {status}: {words or body}")
        flows = streams(segments)
        tunnel = {key: data for key, data in flows.items() if 15008 in (key[1], key[3])}
        other = [key for key in flows if key not in tunnel]
        c.must(tunnel, f"nothing on port 15008 among {len(segments)} segments")
        c.must(not other, f"payload outside 15008: {other[:3]}")
        unlike = [key for key, data in tunnel.items() if not looks_like_tls(data)]
        c.must(not unlike, f"not TLS: {unlike[:2]}")
        everything = b"".join(flows.values())
        for word in (NEEDLE, "HTTP/1.1", "api-v1", "User-Agent"):
            c.must(word.encode() not in everything, f"`{word}` is readable on the link")
        c.saw(f"{len(answers)} answers, {sum(map(len, tunnel.values()))} payload bytes in {len(tunnel)} flows, all TLS on "
              f"15008; none of `{NEEDLE}`, `HTTP/1.1`, `api-v1` visible")
    with report.check("both ztunnels log the connection with both identities") as c:
        one, two = lab.nodes
        for node, offset, direction in ((one, offsets[0], "outbound"), (two, offsets[1], "inbound")):
            def whole(node=node, offset=offset, direction=direction):
                return [r for r in access_records(node.ztunnel, offset, direction=direction)
                        if r.get("src.identity") == scene.web.identity and r.get("dst.identity") == scene.api1.identity
                        and r.get("message") == "connection complete"]
            found = wait_until(f"{node.ztunnel.pod.name} logs an {direction} connection with {scene.web.identity} and "
                               f"{scene.api1.identity}", whole, 5)
            record = found[0]
            c.saw(f"{node.name} {direction} {record['src.identity'][9:]} -> {record['dst.identity'][9:]} "
                  f"sent {record.get('bytes_sent')} received {record.get('bytes_recv')}")


def what_the_apps_see(demo):
    report, scene = demo.report, demo.scene
    web, api1, api2 = scene.web, scene.api1, scene.api2
    report.heading("3. What the applications see")
    with report.check("an hour's worth of idle keepalive (begun here, judged below)") as c:
        demo.idle = web.start("idle", [PYTHON, APPS, "hold", api1.ip, "--interval", "3600"])
        demo.idle_began = time.monotonic()
        wait_until("the idle connection opens", lambda: events(demo.idle, "open"), 10)
        c.saw("connection open, keepalive every second instead of every 180 s")
    with report.check("the app sees the client pod's own IP") as c:
        for address, own in ((api1.ip, web.ip), (API_VIP, web.ip), (api1.ip6, web.ip6), (API_VIP6, web.ip6)):
            result = web.client("banner", address)
            c.must(result.get("you") == own, f"via {address}: {result}")
            c.saw(f"{result['hello']} via {address} sees {result['you']}")
    with report.check("IPv6") as c:
        status, body, words = web.curl(f"http://[{API_VIP6}]/")
        c.must(status == 200, f"{status} {words}")
        c.saw(f"[{API_VIP6}]:80 answers `{body.strip()}`")
    with report.check("server-first protocol") as c:
        result = web.client("banner", API_VIP)
        c.must("hello" in result, result)
        c.saw(f"greeted by {result['hello']} before sending a byte, then answered `{result['answer']}`")
    with report.check("half-close by the client, answer afterwards") as c:
        result = web.client("upload", api1.ip, "--bytes", "1000003")
        c.must(result.get("same"), result)
        c.saw(f"api counted {result['counted']} bytes to the end and then answered {result['received']} bytes")
    with report.check("half-close by the server, client goes on sending") as c:
        before = len(events(scene.servers["api-v1"], "after-half-close"))
        result = web.client("server-half-close", api1.ip, "--bytes", "3000017")
        c.must(result.get("received") == 1 << 20, result)
        tail = wait_until("api reads to the end", lambda: events(scene.servers["api-v1"], "after-half-close")[before:], 10)[0]
        c.must(tail["bytes"] == 3000017 and tail["sha256"] == result["sha256"], f"api read {tail}")
        c.saw(f"client read {result['received']} bytes and end of stream, api then read {tail['bytes']} more, same sha256")
    big_transfers(demo)
    many_connections(demo)
    destinations(demo)


def big_transfers(demo):
    report, scene = demo.report, demo.scene
    size = (64 << 20) if demo.quick else (1 << 30)
    label = f"{size >> 20} MiB" if demo.quick else "1 GiB"
    for kind, words in (("upload", "to api"), ("download", "from api")):
        with report.check(f"{label} {words} with a checksum") as c:
            result = scene.web.client(kind, scene.api1.ip, "--bytes", str(size))
            c.must("error" not in result, f"{result.get('error')}")
            moved = result["counted"] if kind == "upload" else result["received"]
            c.must(moved == size and result["same"], f"moved {moved} of {size}, same sha256: {result['same']}")
            c.saw(f"{moved} bytes in {result['seconds']:.1f} s ({moved * 8 / result['seconds'] / 1e9:.2f} Gbit/s), "
                  f"sha256 {result['sha256'][:12]} on both sides")
    with report.check("iperf3, 4 streams for a second, both ways at once") as c:
        server = scene.api1.start("iperf3", ["iperf3", "-s", "-1"])
        server.wait_for("listening", lambda: scene.api1.run(["ss", "-Hltn", "sport = :5201"]).stdout, 5)
        import json
        done = scene.web.run(["iperf3", "-c", scene.api1.ip, "-P", "4", "-t", "1", "--bidir", "-J"], check=False, timeout=30)
        answer = json.loads(done.stdout)
        c.must("error" not in answer, answer.get("error"))
        up = answer["end"]["sum_received"]["bits_per_second"]
        down = answer["end"]["sum_received_bidir_reverse"]["bits_per_second"]
        c.must(up > 1e6 and down > 1e6, f"{up:.0f} and {down:.0f} bit/s")
        c.saw(f"{up / 1e9:.2f} Gbit/s to api, {down / 1e9:.2f} Gbit/s from api")


@tidy
def many_connections(demo):
    report, scene = demo.report, demo.scene
    with report.check("200 parallel connections over few tunnels") as c:
        client = scene.web.start("parallel", [PYTHON, APPS, "parallel", scene.api1.ip, "--count", "200"], transient=True)
        opened = wait_until("200 connections open", lambda: events(client, "open"), 30)[0]
        c.must(opened["open"] == 200, f"{opened['open']} opened, {opened['failed']} failed: {opened['errors']}")
        listing = scene.web.run(["ss", "-Htn", "state", "established", "dport = :15008", "and", "dst", scene.api1.ip]).stdout
        tunnels = len([line for line in listing.splitlines() if line.strip()])
        finish_client(client)
        c.must(1 <= tunnels <= 8, f"{tunnels} tunnels to {scene.api1.ip}:15008")
        c.saw(f"{opened['open']} connections answered and open at once over {tunnels} tunnels to {scene.api1.ip}:15008")


def destinations(demo):
    report, scene, lab = demo.report, demo.scene, demo.lab
    web, api1, api2 = scene.web, scene.api1, scene.api2
    one, two = lab.nodes
    with report.check("a headless Service") as c:
        offset = two.ztunnel.program.log_size()
        dump = one.ztunnel.config_dump()
        service = next((s for s in dump["services"] if s["hostname"].startswith("api-headless.production.")), None)
        c.must(service, "ztunnel does not know the headless service")
        c.must(len(service.get("endpoints", {})) == 2 and not service.get("vips"), f"ztunnel has {service}")
        names = []
        for pod in (api1, api2):
            result = web.client("banner", pod.ip)
            c.must(result.get("hello") == pod.name, f"{pod.ip}: {result}")
            names.append(f"{pod.ip} {result['hello']}")
        wait_access(two.ztunnel, offset, "the inbound connection", direction="inbound", src_identity=web.identity)
        c.saw(f"{service['hostname']} has 2 endpoints and no address; by endpoint: {', '.join(names)}")
    with report.check("a pod IP") as c:
        status, body, words = web.curl(f"http://{api1.ip}:8080/")
        c.must(status == 200 and body.startswith("api-v1"), f"{status} {body} {words}")
        c.saw(f"{api1.ip}:8080 answers `{body.strip()}`")
    with report.check("an unknown external address is passed through") as c:
        offset = one.ztunnel.program.log_size()
        seen = []
        for url, own in ((f"http://{OUTSIDE_IP}:8088/", web.ip), (f"http://[{OUTSIDE_IP6}]:8088/", web.ip6)):
            status, body, words = web.curl(url)
            c.must(status == 200 and body.strip() == f"outside sees {own}", f"{url}: {status} {body} {words}")
            seen.append(body.strip())
        record = wait_access(one.ztunnel, offset, "the passed-through connection", direction="outbound",
                             dst_addr=OUTSIDE_IP)[0]
        c.must("dst.identity" not in record, f"an identity was claimed: {record}")
        c.saw(f"`{seen[0]}`, `{seen[1]}`; logged without identity")
    with report.check("pods of one node are joined within its proxy, after the same checks and records") as c:
        offset = lab.nodes[0].ztunnel.program.log_size()
        capture = lab.capture("same-node", netns=api2.netns, interface="eth0")
        result = web.client("banner", api2.ip, "--text", NEEDLE)
        segments = capture.stop()
        c.must(result.get("hello") == "api-v2" and result.get("you") == web.ip, result)
        flows = streams(segments)
        c.must(not carrying(segments, NEEDLE.encode()), "the payload is readable on the wire between pods of one node")
        c.must(not flows, f"flows at api-v2's own interface: {list(flows)[:4]}")
        records = [wait_access(lab.nodes[0].ztunnel, offset, f"the {direction} connection", direction=direction,
                               local="true")[-1] for direction in ("outbound", "inbound")]
        c.must(all(r["src.identity"].endswith("/sa/web") and r["dst.identity"].endswith("/sa/api") for r in records),
               records)
        c.saw(f"api-v2 sees {result['you']}; nothing crosses the pods' interfaces; logged on both sides with both "
              "identities, local=true")


def idle_keepalive(demo):
    """The end of the idle connection begun in section 3."""
    report, scene = demo.report, demo.scene
    with report.check("the idle connection outlives an hour's worth of keepalives") as c:
        wanted = 21.0   # an hour at one probe every 180 s is 20 of them
        left = wanted - (time.monotonic() - demo.idle_began)
        if left > 0:
            time.sleep(left)   # the passing of time is what is tested
        idle = time.monotonic() - demo.idle_began
        c.must(demo.idle.alive() and not events(demo.idle, "closed"), f"it ended: {demo.idle.log_tail()}")
        timers = run(in_netns(scene.web.netns, ["ss", "-Htno", "state", "established", "sport = :15001", "or", "dport = :15008"])).stdout
        c.must("keepalive" in timers, f"no keepalive timer on ztunnel's sockets: {timers.strip()[:300]}")
        result = finish_client(demo.idle)
        c.must(not result["error"], result["error"])
        c.saw(f"idle for {idle:.0f} s with a keepalive each second (an hour at 180 s has 20), then closed well")
