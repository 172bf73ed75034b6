# SPDX-License-Identifier: Apache-2.0
"""A waypoint between peers of other makes: curl, nghttp, nginx, gRPC, WebSocket; and on its bad days."""
import json
import os
import re
import signal

import pytest
from lab.l7_scene import GATEWAY, L7Scene, URL
from lab.lab import PYTHON
from lab.sh import wait_until

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
PEER_VIP = "10.96.0.21"


@pytest.fixture(scope="module")
def l7(mesh):
    l7 = L7Scene(mesh)
    l7.raise_pods()
    lab = mesh.lab
    lab.accounts("production", "web", "api", "batch", "web-service", "other-service", "api-service", "peer")
    peer = lab.create_pod(lab.nodes[1], "production", "peer", "peer", {"app": "peer"}, ready=False)
    for what, port in (("grpc", 9100), ("ws", 9101), ("stream", 9102)):
        program = peer.start(what, [PYTHON, PEERS, f"{what}-serve", str(port)])
        program.wait_for("listening", lambda p=port: peer.run(["ss", "-Hltn", f"sport = :{p}"]).stdout, 20)
    lab.start_server(peer)
    lab.start_nginx(peer, "peer", "nginx")
    lab.update_pod(peer, ready=True)
    lab.service("production", "peer", {"app": "peer"},
                [("grpc-a", 9100, 9100), ("http-ws", 9101, 9101), ("http-stream", 9102, 9102), ("http-nginx", 80, 8080),
                 ("tcp-sink", 9002, 9002), ("tcp-source", 9004, 9004), ("tcp-greets", 9001, 9001)], [PEER_VIP])
    l7.peer = peer
    mesh.wait_known([peer])
    l7.raise_waypoint()
    yield l7
    log = l7.log()
    assert "AddressSanitizer" not in log and "runtime error:" not in log, log[-3000:]


def waypoint_rss_mib(l7):
    pid = l7.waypoint()["process"]["pid"]
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024


def test_grpc_keeps_trailers_statuses_streams_and_deadlines(l7):
    done = l7.web.run([PYTHON, PEERS, "grpc-call", f"{PEER_VIP}:9100"], timeout=60)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["unary"] == "got hello"
    assert result["trailers"].get("x-done") == "yes"
    assert result["error"] == ["NOT_FOUND", "no such thing: 50% off"]
    assert result["stream"] == 5 and result["spread"] > 0.15, "the parts came at once"
    assert result["deadline"] == "DEADLINE_EXCEEDED"
    assert result["chat"] == ["A", "B"]
    assert result["unknown"] == "UNIMPLEMENTED"
    assert 'request_protocol="grpc"' in l7.page("/stats/prometheus", 15020)


def test_websocket(l7):
    done = l7.web.run([PYTHON, PEERS, "ws-talk", f"ws://{PEER_VIP}:9101/chat"], timeout=60)
    assert json.loads(done.stdout.strip().splitlines()[-1]) == {"text": "hello", "bytes": 1 << 20}


def test_server_sent_events_arrive_as_they_are_sent(l7):
    done = l7.web.run(["curl", "-sSN", "--max-time", "10", "-w", "\n%{time_starttransfer} %{time_total}",
                       f"http://{PEER_VIP}:9102/events"])
    body, _, times = done.stdout.rpartition("\n")
    first, total = (float(t) for t in times.split())
    assert body.count("data: ") == 5
    assert first < 0.5 and total > 0.9, times


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_both_versions_from_the_client(l7, options):
    status, answer, words = l7.get("/health", *options)
    assert status == 200 and answer["method"] == "GET", words
    status, body, words = l7.web.curl(f"http://{PEER_VIP}/", *options)
    assert status == 200 and "nginx sees" in body, words


def test_nghttp_multiplexes(l7):
    done = l7.web.run(["nghttp", "-nv", "-m", "20", f"{URL}/health"], timeout=30)
    assert done.stdout.count(":status: 200") == 20


def test_expect_100_continue(l7):
    done = l7.web.run(["curl", "-sSv", "--max-time", "20", "-H", "expect: 100-continue", "-X", "PUT",
                       "--data-binary", "@/bin/bash", f"http://{PEER_VIP}:9102/up"], timeout=30)
    assert json.loads(done.stdout)["bytes"] == os.path.getsize("/bin/bash")
    assert "100 Continue" in done.stderr


# Not with ASan: what it keeps of freed memory is what would be measured.
def test_a_large_upload_needs_little_memory(l7):
    mib = 2048
    before = waypoint_rss_mib(l7)
    command = f"head -c {mib << 20} /dev/zero | curl -sS --max-time 120 -T - http://{PEER_VIP}:9102/up"
    done = l7.web.run(["sh", "-c", command], timeout=150)
    assert json.loads(done.stdout)["bytes"] == mib << 20
    grown = waypoint_rss_mib(l7) - before
    assert grown < 64, f"{grown:.0f} MiB more after {mib} MiB"


def test_tcp_goes_through_as_bytes(l7):
    for kind in ("upload", "download"):
        result = l7.web.client(kind, PEER_VIP, "--bytes", "20000000")
        assert result.get("same"), result
    assert "istio_tcp_connections_opened_total" in l7.page("/stats/prometheus", 15020)


def test_a_server_that_speaks_first(l7):
    result = l7.web.client("banner", PEER_VIP)
    assert result.get("hello") == "peer", result


RAW = r"""
import socket, sys
s = socket.create_connection(("10.96.0.21", int(sys.argv[2])), timeout=5)
s.sendall(bytes.fromhex(sys.argv[1]))
out = b""
try:
    while True:
        part = s.recv(65536)
        if not part:
            break
        out += part
except OSError as error:
    out += f"<{error}>".encode()
sys.stdout.buffer.write(out)
"""


@pytest.mark.sanitized
@pytest.mark.parametrize("name,request_bytes", [
    ("both lengths", b"POST / HTTP/1.1\r\nhost: peer\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /a"),
    ("two lengths", b"POST / HTTP/1.1\r\nhost: peer\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    ("unknown coding", b"POST / HTTP/1.1\r\nhost: peer\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("space before colon", b"GET / HTTP/1.1\r\nhost : peer\r\n\r\n"),
    ("folded line", b"GET / HTTP/1.1\r\nhost: peer\r\nx: a\r\n b\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nhost: peer\r\nhost: other\r\n\r\n"),
], ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "")
def test_requests_that_could_be_read_two_ways_are_refused(l7, name, request_bytes):
    with open(l7.lab.run_dir + "/nginx/peer/access.log", encoding="utf-8") as log:
        before = len(log.readlines())
    done = l7.web.run([PYTHON, "-c", RAW, request_bytes.hex(), "80"], timeout=20)
    assert done.stdout.startswith("HTTP/1.1 400"), f"{name}: {done.stdout[:200]}"
    assert done.stdout.count("HTTP/1.1") == 1, f"{name}: {done.stdout[:400]}"
    with open(l7.lab.run_dir + "/nginx/peer/access.log", encoding="utf-8") as log:
        after = log.readlines()[before:]
    assert not any(" 200" in line for line in after), f"{name} reached nginx: {after}"


def test_a_body_that_turns_out_malformed_is_refused(l7):
    request = b"PUT / HTTP/1.1\r\nhost: peer\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5x\r\nhello\r\n0\r\n\r\n"
    done = l7.web.run([PYTHON, "-c", RAW, request.hex(), "9102"], timeout=20)
    assert done.stdout.startswith("HTTP/1.1 400") and done.stdout.count("HTTP/1.1") == 1, done.stdout


@pytest.mark.sanitized
def test_a_waypoint_that_is_killed_comes_back_and_nothing_goes_around_it(l7):
    old = l7.waypoint()["process"]["pid"]
    load = l7.start_load("/health", threads=2, interval=0.01)
    served = l7.seen(l7.v1)["count"] + l7.seen(l7.v2)["count"]
    wait_until("the load runs", lambda: l7.seen(l7.v1)["count"] + l7.seen(l7.v2)["count"] > served + 20, 10)
    os.kill(old, signal.SIGKILL)
    wait_until("culvertd starts it again",
               lambda: (l7.waypoint() or {"process": {"pid": old}})["process"]["pid"] not in (old, 0), 20)
    l7.wait_status("/health", 200, timeout=20)
    result = l7.finish_load(load)
    answered = sum(count for key, count in result["by"].items() if key.startswith("200"))
    assert answered > 20
    now = l7.seen(l7.v1)["count"] + l7.seen(l7.v2)["count"]
    # Every request the applications saw came with what only a waypoint adds.
    assert now - served >= answered
    status, answer, _ = l7.get("/health")
    assert status == 200 and "x-request-id" in answer["headers"]


def test_a_gateway_that_goes_takes_its_waypoint_along_without_a_failed_request(l7):
    load = l7.start_load("/health", threads=2, interval=0.01)
    wait_until("the load runs", lambda: l7.seen(l7.v1)["count"] > 0, 5)
    l7.lab.namespace("production", {"istio.io/dataplane-mode": "ambient"})

    def direct():
        status, answer, _ = l7.get("/health")
        return status == 200 and "x-request-id" not in answer["headers"]
    wait_until("requests go direct", direct, 10)
    l7.lab.remove("gateway-waypoint")
    wait_until("the process has ended", lambda: not l7.waypoints(), 20)
    result = l7.finish_load(load)
    bad = {key: count for key, count in result["by"].items() if not key.startswith("200")}
    assert not bad and result["failures"] <= 4, result   # at most the connections that were open
    l7.lab.write("gateway-waypoint", GATEWAY)
    l7.raise_waypoint()
