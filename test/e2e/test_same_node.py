# SPDX-License-Identifier: Apache-2.0
"""Pods of one node with the local path off: the tunnel, as upstream has it."""
import pytest
from lab.capture import carrying, streams

ZTUNNEL_ENV = {"CULVERT_LOCAL_PATH": "false"}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_same_node_is_tls(mesh, family):
    address, seen_as = (mesh.api2.ip6, mesh.web.ip6) if family == "IPv6" else (mesh.api2.ip, mesh.web.ip)
    capture = mesh.lab.capture(f"same-{family}", netns=mesh.api2.netns, interface="eth0")
    result = mesh.web.client("banner", address, "--text", "needle-e2e")
    segments = capture.stop()
    assert result.get("you") == seen_as, result
    assert streams(segments) and all(15008 in (k[1], k[3]) for k in streams(segments))
    assert not carrying(segments, b"needle-e2e")
    assert "local=true" not in mesh.lab.nodes[0].ztunnel.program.log()
