# SPDX-License-Identifier: Apache-2.0
"""ztunnel told to live without IPv6: IPv4 works, nothing crashes."""
from lab.scene import API_VIP, wait_reaches

ZTUNNEL_ENV = {"IPV6_ENABLED": "false"}


def test_ipv4_works_without_ipv6(mesh):
    wait_reaches(mesh.web, mesh.api1.ip)
    wait_reaches(mesh.web, API_VIP, 9001)
    for node in mesh.lab.nodes:
        assert node.ztunnel.program.alive()


def test_listeners_are_ipv4_only(mesh):
    listing = mesh.api1.run(["ss", "-Hltn", "sport = :15008"]).stdout
    assert "0.0.0.0:15008" in listing, listing
