# SPDX-License-Identifier: Apache-2.0
"""Restarts, bad manifests, exhausted descriptors, hostile bytes: named in the log, survived."""
import os
import signal
import time

import pytest

from lab.checks_failure import first_ok_after, start_load
from lab.lab import APPS, CONTROL_IP, PYTHON
from lab.scene import API_VIP, events, finish_client, reaches, wait_reaches
from lab.sh import in_netns, run, wait_until


@pytest.mark.sanitized
def test_bad_manifest_is_reported_and_the_rest_served(mesh):
    lab = mesh.lab
    offset = lab.culvertd.log_size()
    lab.write_text("broken.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [\n")
    wait_until("culvertd names the bad file", lambda: "broken.yaml" in lab.culvertd.log(offset), 5)
    mesh.policy("probe", "AuthorizationPolicy", {"selector": {"matchLabels": {"app": "api"}}, "action": "DENY", "rules": [{}]})
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)
    mesh.drop_policy("probe")
    wait_reaches(mesh.web, mesh.api1.ip)
    os.unlink(os.path.join(lab.manifests, "broken.yaml"))


@pytest.mark.sanitized
def test_service_that_becomes_bad_keeps_its_last_good_form(mesh):
    lab = mesh.lab
    path = os.path.join(lab.manifests, "service-production-api.yaml")
    with open(path, encoding="utf-8") as file:
        good = file.read()
    offset = lab.culvertd.log_size()
    lab.write_text("service-production-api.yaml", good.replace("ports:", "ports: nonsense\nports:"))
    wait_until("culvertd reports it", lambda: "service-production-api" in lab.culvertd.log(offset), 5)
    assert reaches(mesh.web, API_VIP, 9001)
    lab.write_text("service-production-api.yaml", good)


@pytest.mark.sanitized
def test_ztunnel_killed_and_restarted(mesh):
    one = mesh.lab.nodes[0]
    load = start_load(mesh.web, API_VIP, "e2e-kill")
    one.ztunnel.program.kill()
    killed = time.time()
    wait_until("connections fail", lambda: [e for e in events(load, "failed") if e["began"] > killed], 10)
    one.ztunnel.start()
    first_ok_after(load, time.time(), "connections work again", 10)
    one.ztunnel.wait_ready()
    assert finish_client(load)["wrong"] == 0


@pytest.mark.sanitized
def test_ztunnel_ends_on_sigterm(mesh):
    one = mesh.lab.nodes[0]
    assert one.ztunnel.program.stop(15) == 0
    one.ztunnel.start()
    one.ztunnel.wait_ready()
    wait_reaches(mesh.web, mesh.api1.ip)


@pytest.mark.sanitized
def test_culvertd_restart_keeps_its_state(mesh):
    lab = mesh.lab
    root = os.path.join(lab.state, "ca", "root-cert.pem")
    with open(root, encoding="utf-8") as file:
        before = file.read()
    assert lab.culvertd.stop() == 0
    lab.start_control()
    with open(root, encoding="utf-8") as file:
        assert file.read() == before
    for folder, _, files in os.walk(lab.state):
        for name in files:
            mode = os.stat(os.path.join(folder, name)).st_mode & 0o777
            assert not name.endswith("key.pem") or mode == 0o600, (name, oct(mode))
    pod = lab.create_pod(lab.nodes[0], "production", "fresh", "fresh", {"app": "fresh"}, attempts=10)
    wait_reaches(pod, mesh.api1.ip, timeout=15)
    lab.delete_pod(pod)


def test_agent_sigterm_leaves_running_pods_captured(mesh):
    two = mesh.lab.nodes[1]
    two.agent.stop(10)
    assert reaches(mesh.web, mesh.api1.ip)
    assert "istio-ambient-nat" in mesh.api1.run(["nft", "list", "tables"]).stdout
    two.start_agent()
    wait_until("ztunnel is ready again", two.ztunnel.ready, 20)
    wait_reaches(mesh.web, mesh.api1.ip)


def test_out_of_descriptors_is_survived(mesh):
    """ztunnel with few descriptors under many connections: refuses some, serves again afterwards."""
    one = mesh.lab.nodes[0]
    offset = one.ztunnel.program.log_size()
    pid = one.ztunnel.program.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    usual = run(["prlimit", f"--pid={pid}", "--nofile", "--output=SOFT", "--noheadings"]).stdout.strip()
    run(["prlimit", f"--pid={pid}", f"--nofile={used + 40}:"])
    client = mesh.web.start("many", [PYTHON, APPS, "parallel", mesh.api1.ip, "--count", "200"])
    wait_until("the log names the shortage", lambda: any(
        word in one.ztunnel.program.log(offset).lower() for word in ("emfile", "too many open files", "descriptor")), 20)
    before = _cpu_seconds(pid)
    time.sleep(1.0)
    assert _cpu_seconds(pid) - before < 0.6, "it spins while no descriptor is free"
    client.kill()
    run(["prlimit", f"--pid={pid}", f"--nofile={usual}:"])
    wait_reaches(mesh.web, mesh.api1.ip, timeout=15)
    assert one.ztunnel.program.alive()


def _cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


HOSTILE = {
    "nothing": b"", "zeros": b"\0" * 4096, "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 512,
    "hello": b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"A" * 9000, "record": b"\x16\x03\x01\xff\xff" + b"B" * 100,
}


@pytest.mark.sanitized
@pytest.mark.parametrize("port", [15001, 15006, 15008, 15000, 15020, 15021])
def test_hostile_bytes_do_not_hurt_ztunnel(mesh, port):
    two = mesh.lab.nodes[1]
    target = two.ztunnel.pod.ip if port in (15000, 15020, 15021) else mesh.api1.ip
    for data in HOSTILE.values():
        _send(mesh.intruder.netns, target, port, data)
    assert two.ztunnel.program.alive()
    wait_reaches(mesh.web, mesh.api1.ip)


@pytest.mark.sanitized
@pytest.mark.parametrize("port", [15012, 8080])
def test_hostile_bytes_do_not_hurt_culvertd(mesh, port):
    for data in HOSTILE.values():
        _send(mesh.lab.nodes[0].netns, CONTROL_IP, port, data)
    assert mesh.lab.culvertd.alive() and mesh.lab.control_get("/ready")[0] == 200


def _send(netns, address, port, data):
    script = ("import socket,sys\ntry:\n s=socket.create_connection((sys.argv[1],int(sys.argv[2])),3)\n"
              " s.settimeout(1)\n s.sendall(sys.stdin.buffer.read())\n s.shutdown(1)\n s.recv(4096)\nexcept OSError: pass\n")
    import subprocess
    subprocess.run(in_netns(netns, [PYTHON, "-c", script, address, port]), input=data, timeout=20, check=False)


@pytest.mark.sanitized
def test_hostile_zds_packets_do_not_hurt_the_agent(mesh):
    import socket
    node = mesh.lab.nodes[1]
    for data in (b"", b"\xff" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"x" * 2000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(3)
            try:
                sock.connect(node.zds)
                sock.send(data)
                sock.recv(1024)
            except OSError:
                pass
    assert node.agent.alive()
    wait_until("ztunnel stays connected", node.ztunnel.ready, 15)
    pod = mesh.lab.create_pod(node, "production", "after-zds", "web", {"app": "x"}, attempts=20)
    wait_reaches(pod, mesh.api1.ip)
    mesh.lab.delete_pod(pod)


@pytest.mark.sanitized
def test_agent_socket_refuses_bad_requests(mesh):
    node = mesh.lab.nodes[0]
    path = os.path.join(node.agent_dir, "pluginevent.sock")
    for options, wanted in ((["-X", "POST", "-d", ""], "400"), (["-X", "POST", "-d", "{"], "400"),
                            (["-X", "POST", "-d", '{"PodName":"no","PodNamespace":"such"}'], ("400", "500"))):
        done = run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "--unix-socket", path,
                    "-H", "Content-Type: application/json", *options, "http://agent/cmdadd"], check=False)
        assert done.stdout in wanted, (options, done.stdout, done.stderr)
    assert node.agent.alive()


def test_signals_to_agent_and_culvertd_end_them_cleanly(mesh):
    lab = mesh.lab
    lab.culvertd.signal(signal.SIGINT)
    assert lab.culvertd.process.wait(timeout=10) == 0
    lab.start_control()


def test_full_conntrack_is_named_and_survived(mesh):
    """A pod whose table of connections is full: the node agent says so, and all is well afterwards."""
    knob = "/proc/sys/net/netfilter/nf_conntrack_max"
    if not os.path.exists(knob):
        pytest.skip("this kernel has no nf_conntrack_max")
    one = mesh.lab.nodes[0]
    offset = one.agent.log_size()
    with open(knob, encoding="utf-8") as file:
        usual = file.read().strip()
    client = None
    try:
        with open(knob, "w", encoding="utf-8") as file:
            file.write("16")   # of each namespace; the kernel compares every one with the same bound
        client = mesh.web.start("crowd", [PYTHON, APPS, "parallel", mesh.api1.ip, "--count", "200"])
        wait_until("the agent names the full table", lambda: "nf_conntrack_max" in one.agent.log(offset), 30)
    finally:
        with open(knob, "w", encoding="utf-8") as file:
            file.write(usual)
        if client:
            client.kill()
    wait_reaches(mesh.web, mesh.api1.ip, timeout=20)
    assert one.ztunnel.program.alive() and one.agent.alive()


def test_name_server_down_is_named_and_survived(mesh):
    """A service behind a name that cannot be resolved: its connections fail in words, others do not."""
    lab, one = mesh.lab, mesh.lab.nodes[0]
    lab.write("nowhere", {
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "nowhere", "namespace": "production"},
        "spec": {"hosts": ["db.nowhere.test"], "addresses": ["240.240.7.7"], "resolution": "DNS",
                 "ports": [{"number": 5432, "name": "tcp-db", "protocol": "TCP"}]}})
    offset = one.ztunnel.program.log_size()

    def refused():
        reaches(mesh.web, "240.240.7.7", 5432)
        log = one.ztunnel.program.log(offset)
        return "db.nowhere.test" in log and "resolve" in log
    wait_until("the proxy's log names the host it cannot resolve", refused, 40, interval=0.5)
    assert reaches(mesh.web, mesh.api1.ip)
    lab.remove("nowhere")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, and a file that fills it."""
    place = tmp_path / "disk"
    place.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "culvert-e2e-disk", place])

    def fill():
        with open(place / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
    yield place, fill
    run(["umount", "-l", place], check=False)


def test_culvertd_on_a_full_disk_does_not_start_and_says_why(mesh, small_disk, tmp_path):
    place, fill = small_disk
    (tmp_path / "manifests").mkdir()
    fill()
    done = run([mesh.lab.binary("culvertd"), "--dir", tmp_path / "manifests", "--state", place / "state",
                "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], check=False, timeout=20)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr and str(place) in done.stderr


def test_culvertd_goes_on_when_the_disk_fills(mesh, small_disk, tmp_path):
    import subprocess
    place, fill = small_disk
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        daemon = subprocess.Popen([mesh.lab.binary("culvertd"), "--dir", str(manifests), "--state", str(place / "state"),
                                   "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], stdout=log, stderr=log)
        try:
            def said(text):
                with open(tmp_path / "log", encoding="utf-8") as file:
                    return text in file.read()
            wait_until("culvertd is ready", lambda: said("ready"), 15)
            fill()
            # Needs a virtual address, which cannot be kept now.
            (manifests / "entry.yaml").write_text(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: d}\n"
                "spec: {hosts: [e.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n")
            wait_until("it says what it could not write", lambda: said("No space left on device"), 15)
            assert daemon.poll() is None
        finally:
            daemon.terminate()
            assert daemon.wait(10) == 0
