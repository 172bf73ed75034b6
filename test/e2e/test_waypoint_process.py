# SPDX-License-Identifier: Apache-2.0
"""Waypoints as processes of culvertd: their place, their privileges, and what happens when culvertd goes and comes."""
import json
import re
import time

import pytest
from lab.l7_scene import GATEWAY, L7Scene
from lab.lab import WAYPOINT_CIDR
from lab.sh import wait_until


@pytest.fixture(scope="module")
def l7(mesh):
    l7 = L7Scene(mesh)
    l7.raise_pods()
    l7.raise_waypoint()
    return l7


def loopback(node):
    """The addresses of the waypoint range on the node's loopback interface."""
    shown = json.loads(node.run(["ip", "-j", "addr", "show", "dev", "lo"]).stdout)
    prefix = WAYPOINT_CIDR.rsplit(".", 1)[0] + "."
    return {a["local"] for a in shown[0]["addr_info"] if a["local"].startswith(prefix)}


def pid_of(l7, name="waypoint"):
    rows = [w for w in l7.waypoints() if w["name"] == name and w["programmed"] and w["process"]["phase"] == "ready"]
    return rows[0]["process"]["pid"] if rows else None


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def counts(l7):
    """(requests the applications saw, those among them that no waypoint had seen)"""
    seen = [l7.seen(pod) for pod in (l7.v1, l7.v2)]
    return sum(s["count"] for s in seen), sum(s["bare"] for s in seen)


def through_waypoint(l7):
    status, answer, _ = l7.get("/health")
    return status == 200 and "x-request-id" in answer["headers"]


def test_it_runs_in_its_node_at_its_address_without_privileges(l7):
    row = l7.waypoint()
    node = l7.lab.nodes[1]
    assert loopback(node) == {row["address"]}
    assert not loopback(l7.lab.nodes[0])
    facts = status_of(row["process"]["pid"])
    assert facts["CapEff"] == facts["CapPrm"] == "0000000000000000" and facts["NoNewPrivs"] == "1", facts
    listening = node.run(["ss", "-Hltnp"]).stdout
    mine = re.findall(rf"(\S+):(\d+)\s+\S+\s+users:\(\(\"waypoint\",pid={row['process']['pid']},", listening)
    assert {int(port) for address, port in mine if address == row["address"]} == {15008, 15020, 15021, 15090}
    assert {address for address, _ in mine} == {row["address"], "127.0.0.1"}


def test_two_waypoints_share_a_node(l7):
    second = {**GATEWAY, "metadata": {"name": "second", "namespace": "default"}}
    l7.lab.write("gateway-second", second)
    try:
        wait_until("the second is ready", lambda: pid_of(l7, "second"), 20)
        rows = l7.waypoints()
        assert len({w["address"] for w in rows}) == len({w["process"]["adminPort"] for w in rows}) == 2
        assert loopback(l7.lab.nodes[1]) == {w["address"] for w in rows}
        assert through_waypoint(l7)
    finally:
        l7.lab.remove("gateway-second")
    wait_until("the second is gone", lambda: len(l7.waypoints()) == 1 and len(loopback(l7.lab.nodes[1])) == 1, 20)


def test_a_gateway_that_cannot_be_run_says_why(l7):
    wrong = {**GATEWAY, "metadata": {"name": "wrong", "namespace": "default"},
             "spec": {**GATEWAY["spec"], "listeners": [{"name": "mesh", "port": 80, "protocol": "HTTP"}]}}
    l7.lab.write("gateway-wrong", wrong)
    try:
        findings = wait_until("the finding is there", lambda: [
            f for f in json.loads(l7.lab.control_get("/debug/config_errors")[1])["findings"]
            if f["object"] == "Gateway default/wrong"], 10)
        assert "ListenersNotValid" in findings[0]["message"]
        assert [w["name"] for w in l7.waypoints() if w["programmed"]] == ["waypoint"]
    finally:
        l7.lab.remove("gateway-wrong")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_goes_around_a_waypoint_while_culvertd_is_away(l7, how):
    """Its waypoints end with culvertd; node proxies refuse until they are back, at the same address."""
    address, old = l7.waypoint()["address"], pid_of(l7)
    count, bare = counts(l7)
    load = l7.start_load("/health", threads=2, interval=0.01)
    time.sleep(0.3)
    if how == "stop":
        l7.lab.culvertd.stop(20)
        assert not loopback(l7.lab.nodes[1])
    else:
        l7.lab.culvertd.kill()
    wait_until("the waypoint has ended too", lambda: "waypoint" not in l7.lab.nodes[1].run(["ss", "-Hltnp"]).stdout, 20)
    assert l7.get("/health", timeout=2)[0] != 200
    l7.lab.start_control()
    wait_until("it is back", lambda: pid_of(l7) not in (None, old), 20)
    l7.wait_status("/health", 200, timeout=20)
    result = l7.finish_load(load)
    assert l7.waypoint()["address"] == address
    answered = sum(count for key, count in result["by"].items() if key.startswith("200"))
    assert answered > 10
    assert through_waypoint(l7)
    now, bare_now = counts(l7)
    assert now - count >= answered and bare_now == bare
