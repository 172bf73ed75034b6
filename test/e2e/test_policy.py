# SPDX-License-Identifier: Apache-2.0
"""Policies as written in manifests, observed as connections."""
import pytest

from lab.scene import wait_reaches

pytestmark = pytest.mark.sanitized
SELECT = {"selector": {"matchLabels": {"app": "api"}}}


def source(**fields):
    return {"from": [{"source": fields}]}


CASES = {
    "allow-principal": ("ALLOW", source(principals=["cluster.local/ns/production/sa/web"]), True, False),
    "allow-principal-suffix": ("ALLOW", source(principals=["*/sa/web"]), True, False),
    "allow-principal-prefix": ("ALLOW", source(principals=["cluster.local/ns/production/*"]), True, True),
    "allow-not-principal": ("ALLOW", source(notPrincipals=["cluster.local/ns/production/sa/web"]), False, True),
    "deny-namespace": ("DENY", source(namespaces=["production"]), False, False),
    "deny-not-namespace": ("DENY", source(notNamespaces=["production"]), True, True),
    "deny-port": ("DENY", {"to": [{"operation": {"ports": ["8080"]}}]}, False, False),
    "deny-other-port": ("DENY", {"to": [{"operation": {"ports": ["9001"]}}]}, True, True),
    "allow-nothing": ("ALLOW", None, False, False),
}


@pytest.mark.parametrize("name", CASES)
def test_authorization(mesh, policies, name):
    action, rule, web, batch = CASES[name]
    wait_reaches(mesh.web, mesh.api1.ip)
    policies("e2e", "AuthorizationPolicy", {**SELECT, "action": action, **({"rules": [rule]} if rule else {})})
    for pod, expected in sorted(((mesh.web, web), (mesh.batch, batch)), key=lambda p: p[1]):
        wait_reaches(pod, mesh.api1.ip, expected=expected)


def test_ip_blocks_in_both_families(mesh, policies):
    policies("e2e", "AuthorizationPolicy", {**SELECT, "action": "DENY", "rules": [
        source(ipBlocks=[f"{mesh.web.ip}/32", f"{mesh.web.ip6}/128"])]})
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)
    wait_reaches(mesh.web, mesh.api1.ip6, expected=False)
    wait_reaches(mesh.batch, mesh.api1.ip)


def test_deny_wins_over_allow(mesh, policies):
    policies("allow", "AuthorizationPolicy", {**SELECT, "action": "ALLOW", "rules": [source(namespaces=["production"])]})
    policies("deny", "AuthorizationPolicy", {**SELECT, "action": "DENY", "rules": [
        source(principals=["cluster.local/ns/production/sa/web"])]})
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)
    wait_reaches(mesh.batch, mesh.api1.ip)


def test_strict_in_one_namespace(mesh, policies):
    wait_reaches(mesh.intruder, mesh.api1.ip)
    policies("default", "PeerAuthentication", {"mtls": {"mode": "STRICT"}})
    wait_reaches(mesh.intruder, mesh.api1.ip, expected=False)
    wait_reaches(mesh.web, mesh.api1.ip)


def test_a_policy_with_http_attributes_does_not_open(mesh, policies):
    """An ALLOW whose only rule needs HTTP must not let plain TCP through as if it had matched."""
    policies("e2e", "AuthorizationPolicy", {**SELECT, "action": "ALLOW", "rules": [
        {"to": [{"operation": {"methods": ["GET"], "paths": ["/health"]}}]}]})
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)


def test_policy_that_becomes_invalid_keeps_its_last_good_form(mesh, policies):
    policies("e2e", "AuthorizationPolicy", {**SELECT, "action": "DENY", "rules": [
        source(principals=["cluster.local/ns/production/sa/web"])]})
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)
    mesh.policy("e2e", "AuthorizationPolicy", {**SELECT, "action": "NONSENSE", "rules": []})
    # A later good change proves that the bad one has been read.
    policies("later", "AuthorizationPolicy", {**SELECT, "action": "DENY", "rules": [
        source(principals=["cluster.local/ns/production/sa/batch"])]})
    wait_reaches(mesh.batch, mesh.api1.ip, expected=False)
    wait_reaches(mesh.web, mesh.api1.ip, expected=False)
    assert "policy-production-e2e" in mesh.lab.culvertd.log() or "e2e" in mesh.lab.culvertd.log()
