# SPDX-License-Identifier: Apache-2.0
"""Traffic through two ztunnels: both families, every shape of a connection, and the packets on the wire."""
import pytest

from lab.capture import carrying, looks_like_tls, streams
from lab.scene import API_VIP, API_VIP6, reaches, wait_access

pytestmark = pytest.mark.sanitized
BOTH = pytest.mark.parametrize("family", ["IPv4", "IPv6"])


def own(pod, family):
    return pod.ip6 if family == "IPv6" else pod.ip


@BOTH
def test_cross_node_is_tls_and_keeps_the_client_address(mesh, family):
    capture = mesh.lab.capture(f"wire-{family}")
    result = mesh.web.client("banner", own(mesh.api1, family), "--text", "needle-e2e")
    segments = capture.stop()
    assert result.get("you") == own(mesh.web, family), result
    flows = streams(segments)
    assert flows and all(15008 in (k[1], k[3]) and looks_like_tls(v) for k, v in flows.items()), list(flows)
    assert not carrying(segments, b"needle-e2e")


@BOTH
def test_same_node_leaves_the_wire_alone(mesh, family):
    """The local path: no packet at all between the two pods, the same lines, marked."""
    captures = [mesh.lab.capture(f"local-{p.name}-{family}", netns=p.netns, interface="eth0") for p in (mesh.web, mesh.api2)]
    result = mesh.web.client("banner", own(mesh.api2, family), "--text", "needle-e2e")
    segments = [s for c in captures for s in c.stop()]
    assert result.get("you") == own(mesh.web, family), result
    assert not streams(segments) and not carrying(segments, b"needle-e2e")
    ztunnel = mesh.lab.nodes[0].ztunnel
    assert [line for line in ztunnel.program.log().splitlines() if "connection complete" in line and "local=true" in line]


@pytest.mark.parametrize("address", [API_VIP, API_VIP6])
def test_service_address_reaches_both_versions(mesh, address):
    names = {mesh.web.client("banner", address).get("hello") for _ in range(40)}
    assert names == {"api-v1", "api-v2"}


@BOTH
@pytest.mark.parametrize("kind", ["upload", "download"])
def test_64_mib_with_checksum(mesh, family, kind):
    result = mesh.web.client(kind, own(mesh.api1, family), "--bytes", str(64 << 20))
    assert result.get("same"), result


@BOTH
def test_half_close_by_server(mesh, family):
    result = mesh.web.client("server-half-close", own(mesh.api1, family), "--bytes", "2000003")
    assert result.get("received") == 1 << 20 and result.get("sent") == 2000003, result


def test_pod_reaches_itself_by_its_own_address(mesh):
    assert reaches(mesh.api1, mesh.api1.ip), "traffic to oneself stays inside the pod"


def test_closed_port_ends_the_connection(mesh):
    offset = mesh.lab.nodes[1].ztunnel.program.log_size()
    status, _, _ = mesh.web.curl(f"http://{mesh.api1.ip}:7777/")
    assert status == 0
    records = wait_access(mesh.lab.nodes[1].ztunnel, offset, "the failed connection", direction="inbound",
                          src_addr=mesh.web.ip)
    assert any(r.get("error") for r in records), records


def test_unenrolled_client_to_enrolled_server_is_plaintext(mesh):
    status, body, words = mesh.intruder.curl(f"http://{mesh.api1.ip}:8080/")
    assert status == 200 and mesh.intruder.ip in body, (status, body, words)


def test_enrolled_client_to_unenrolled_server(mesh):
    lab = mesh.lab
    server = lab.create_pod(lab.nodes[1], "default", "plain", "intruder", {"app": "plain"})
    lab.start_server(server)
    result = mesh.web.client("banner", server.ip)
    assert result.get("hello") == "plain" and result.get("you") == mesh.web.ip, result
    lab.delete_pod(server)


def test_service_without_endpoints_refuses(mesh):
    lab = mesh.lab
    lab.service("production", "nobody", {"app": "nobody"}, [("http", 80, 8080)], ["10.96.0.66"])
    status, _, _ = mesh.web.curl("http://10.96.0.66/", timeout=5)
    assert status == 0
    lab.remove("service-production-nobody")
    lab.services.pop(("production", "nobody"))
    lab.sync_services()
