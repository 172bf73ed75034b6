# SPDX-License-Identifier: Apache-2.0
"""Enrolment: labels, the plugin's commands, rules in the namespace, and their removal."""
import json
import os

import pytest

from lab.cni import CniError
from lab.scene import reaches, wait_reaches
from lab.sh import run, wait_until

pytestmark = pytest.mark.sanitized


def tables(pod):
    return pod.run(["nft", "list", "tables"]).stdout


def rules(pod):
    """The ruleset without counters and handles; tables in any order."""
    text = pod.run(["nft", "-s", "list", "ruleset"]).stdout
    return sorted(part.removeprefix("table ").strip() for part in text.split("\ntable "))


def test_conflist_is_chained_and_keeps_the_rest(mesh):
    for node in mesh.lab.nodes:
        config = node.runtime.conflist()
        assert [p["type"] for p in config["plugins"]] == ["bridge", "istio-cni"]
        assert config["name"] == "lab" and config["plugins"][0]["bridge"] == "cni0"


def test_removed_entry_is_repaired(mesh):
    node = mesh.lab.nodes[0]
    node.write_conflist()
    wait_until("the installer chains the plugin again", node.chained, 10)


def test_removed_binary_is_repaired(mesh):
    node = mesh.lab.nodes[0]
    binary = os.path.join(node.bin_dir, "istio-cni")
    os.unlink(binary)
    wait_until("the installer copies the plugin again", lambda: os.path.exists(binary), 10)


def test_version_and_about(mesh):
    node = mesh.lab.nodes[0]
    answer = node.runtime.call("VERSION", "istio-cni", {})
    assert answer["cniVersion"] == "1.1.0" and "0.3.1" in answer["supportedVersions"]


def test_cni_check_passes(mesh):
    mesh.lab.nodes[0].runtime.check(mesh.web.container_id)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cniVersion":"9.9.9","name":"x","type":"istio-cni"}',
                                  '{"cniVersion":"1.0.0","name":"x"' + "," * 2000, "\u0000" * 64],
                         ids=["empty", "cut", "list", "null", "version", "commas", "zeros"])
def test_bad_stdin_is_an_error_object(mesh, text):
    node = mesh.lab.nodes[0]
    env = {"PATH": "/usr/bin", "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "x", "CNI_NETNS": mesh.web.netns_path,
           "CNI_IFNAME": "eth0", "CNI_PATH": node.bin_dir}
    done = run([os.path.join(node.bin_dir, "istio-cni")], input=text, env=env, check=False)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["code"] and answer["msg"]


def test_pod_label_none_opts_out_and_back(mesh):
    lab, pod = mesh.lab, mesh.batch
    lab.update_pod(pod, labels={"app": "batch", "istio.io/dataplane-mode": "none"})
    wait_until("batch is un-enrolled", lambda: lab.redirection(pod) is None and "istio" not in tables(pod), 10)
    assert "100" not in pod.run(["ip", "rule"]).stdout.replace("1001", "")
    wait_reaches(pod, mesh.api1.ip)
    lab.update_pod(pod, labels={"app": "batch"})
    wait_until("batch is enrolled again", lambda: lab.redirection(pod) == "enabled", 10)
    wait_reaches(pod, mesh.api1.ip)


def test_namespace_unlabelled_and_labelled_again(mesh):
    lab = mesh.lab
    pods = [mesh.web, mesh.api1, mesh.api2, mesh.batch]
    lab.namespace("production")
    wait_until("all are un-enrolled", lambda: all(lab.redirection(p) is None for p in pods), 10)
    assert all("istio" not in tables(p) for p in pods)
    wait_reaches(mesh.web, mesh.api1.ip)
    mesh.enrol_production()
    wait_reaches(mesh.web, mesh.api1.ip)


def test_drifted_rules_are_repaired_by_an_agent_restart(mesh):
    node, pod = mesh.lab.nodes[1], mesh.api1
    before = rules(pod)
    pod.run(["nft", "delete", "table", "inet", "istio-ambient-nat"])
    node.agent.kill()
    node.start_agent()
    wait_until("the rules are back", lambda: rules(pod) == before, 10)
    wait_reaches(mesh.web, pod.ip)


def test_pod_created_while_agent_is_dead_does_not_start(mesh):
    lab = mesh.lab
    node = lab.nodes[1]
    node.agent.kill()
    with pytest.raises(CniError):
        lab.create_pod(node, "production", "early", "web", {"app": "early"})
    pod = lab.pods[("production", "early")]
    node.start_agent()
    lab.delete_pod(pod)
    pod = lab.create_pod(node, "production", "early", "web", {"app": "early"}, attempts=20)
    assert lab.redirection(pod) == "enabled"
    wait_reaches(pod, mesh.api1.ip)
    lab.delete_pod(pod)


def test_probe_set_follows_the_pods(mesh):
    lab = mesh.lab
    node = lab.nodes[0]
    pod = lab.create_pod(node, "production", "probed", "web", {"app": "probed"}, attempts=10)
    def listed():
        return pod_ip in node.run(["nft", "list", "ruleset"]).stdout
    pod_ip = pod.ip
    assert listed()
    lab.delete_pod(pod)
    wait_until("the address leaves the probe set", lambda: not listed(), 10)


def test_unenrolled_pods_have_no_rules(mesh):
    assert "istio" not in tables(mesh.intruder)
    assert mesh.lab.redirection(mesh.intruder) is None
    assert reaches(mesh.intruder, mesh.api1.ip)
