# SPDX-License-Identifier: Apache-2.0
"""Who may be whom: tokens, certificates, and addresses that change hands."""
import pytest

from lab.checks_failure import start_load
from lab.scene import events, finish_client, wait_reaches
from lab.sh import run

pytestmark = pytest.mark.sanitized


def test_certificates_name_the_workloads(mesh):
    for node, pods in ((mesh.lab.nodes[0], (mesh.web, mesh.api2)), (mesh.lab.nodes[1], (mesh.api1, mesh.batch))):
        dump = {c["identity"]: c for c in node.ztunnel.config_dump()["certificates"]}
        for pod in pods:
            wait_reaches(pod, mesh.api1.ip if pod is not mesh.api1 else mesh.api2.ip)
            entry = dump.get(pod.identity) or {c["identity"]: c for c in node.ztunnel.config_dump()["certificates"]}[pod.identity]
            assert entry["state"] == "Available" and entry["certChain"] and entry["rootCerts"]


def test_no_certificates_for_pods_of_other_nodes(mesh):
    for node, other in ((mesh.lab.nodes[0], mesh.batch), (mesh.lab.nodes[1], mesh.web)):
        assert other.identity not in [c["identity"] for c in node.ztunnel.config_dump()["certificates"]]


def test_tls_client_without_certificate_is_refused(mesh):
    done = mesh.intruder.run(["curl", "-sSk", "--http2-prior-knowledge", "--max-time", "5", f"https://{mesh.api1.ip}:15008/"],
                             check=False)
    assert done.returncode != 0


def test_token_names_its_account(mesh):
    token = mesh.lab.token("production", "web").strip()
    assert token.count(".") == 2
    bad = run([mesh.lab.binary("culvert"), "token", "--state", "/nonexistent", "--namespace", "a", "--service-account", "b"],
              check=False)
    assert bad.returncode != 0 and bad.stderr.strip()


def test_address_reuse_never_misdelivers(mesh):
    lab = mesh.lab
    two = lab.nodes[1]
    old = lab.create_pod(two, "production", "old", "old", {"app": "old"}, attempts=10)
    lab.start_server(old)
    mesh.wait_known([old])
    wait_reaches(mesh.web, old.ip, 9001)
    address = old.ip
    load = start_load(mesh.web, address, "reuse", text="for-old", count=4, interval=0.01)
    lab.delete_pod(old, grace=0)
    other = lab.create_pod(two, "production", "other", "batch", {"app": "other"}, ip=address, attempts=10)
    server = lab.start_server(other)
    mesh.wait_known([other])
    result = finish_client(load)
    # By pod IP the new owner is a legitimate answer once it is known; a stale identity must never be used.
    assert set(result["by_name"]) <= {"old", "other"}
    inbound = [e for e in events(server, "line")]
    assert all(e["peer"] == mesh.web.ip for e in inbound)
    lab.delete_pod(other, grace=0)
