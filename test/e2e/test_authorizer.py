# SPDX-License-Identifier: Apache-2.0
"""A real waypoint that asks real authorizers, in both protocols."""
import json
import os

import pytest
from lab.l7_scene import L7Scene
from lab.lab import PYTHON
from lab.sh import wait_until

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "authorizer.py")
HOST = "production/opa.production.svc.cluster.local"
PROVIDERS = [
    {"name": "by-http", "envoyExtAuthzHttp": {
        "service": HOST, "port": 9191, "timeout": "1s", "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["x-pass"], "headersToUpstreamOnAllow": ["x-user"],
        "headersToDownstreamOnDeny": ["x-why"], "includeRequestBodyInCheck": {"maxRequestBytes": 100}}},
    {"name": "by-grpc", "envoyExtAuthzGrpc": {"service": HOST, "port": 9192, "timeout": "1s"}},
    {"name": "open", "envoyExtAuthzGrpc": {"service": HOST, "port": 9999, "timeout": "1s", "failOpen": True}},
]


@pytest.fixture(scope="module")
def l7(mesh):
    l7 = L7Scene(mesh)
    l7.raise_pods()
    lab = mesh.lab
    lab.accounts("production", "web", "api", "batch", "web-service", "other-service", "api-service", "opa")
    opa = lab.create_pod(lab.nodes[0], "production", "opa", "opa", {"app": "opa"}, ready=False)
    l7.notes_path = os.path.join(lab.run_dir, "logs", "authorizer.jsonl")
    program = opa.start("authorizer", [PYTHON, PROGRAM, l7.notes_path])
    for port in (9191, 9192, 9193):
        program.wait_for(f"listening on {port}", lambda p=port: opa.run(["ss", "-Hltn", f"sport = :{p}"]).stdout, 20)
    # Behind a waypoint itself, which questions of waypoints do not go through; nobody listens on 9999.
    lab.service("production", "opa", {"app": "opa"},
                [("http-authz", 9191, 9191), ("grpc-authz", 9192, 9192), ("grpc-limits", 9193, 9193),
                 ("grpc-gone", 9999, 9999)], ["10.96.0.23"])
    lab.update_pod(opa, ready=True)
    mesh.wait_known([opa])

    def providers(kinds):
        kinds["IstioOperator"]["spec"].setdefault("meshConfig", {})["extensionProviders"] = PROVIDERS
    l7.install.edited(providers)
    l7.raise_waypoint()
    yield l7
    log = l7.log()
    assert "AddressSanitizer" not in log and "runtime error:" not in log, log[-3000:]


def notes(l7, kind):
    if not os.path.exists(l7.notes_path):
        return []
    with open(l7.notes_path, encoding="utf-8") as file:
        return [one for one in map(json.loads, file) if one["kind"] == kind]


def ask(l7, provider):
    l7.lab.write("outside", {
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "outside", "namespace": "production"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "api-service"}], "action": "CUSTOM",
                 "provider": {"name": provider},
                 "rules": [{"to": [{"operation": {"paths": ["/data*", "/health"]}}]}]}})

    def asked():
        row = next(r for r in json.loads(l7.page("/config_dump"))["services"]
                   if r["service"] == "production/api-service.production.svc.cluster.local")
        return row["policies"] and row["policies"][0].get("provider") == provider
    wait_until(f"the waypoint asks {provider}", asked, 10)


def test_an_http_authorizer_decides(l7):
    ask(l7, "by-http")
    status, body, words = l7.get("/health", "-i")
    assert status == 401 and "say please" in str(body) and "x-why: manners" in str(body), (status, body, words)
    assert l7.get("/health", "-H", "x-pass: please")[0] == 200
    asked = notes(l7, "http")[-1]
    assert asked["path"] == "/check/health" and asked["method"] == "GET"
    assert asked["headers"]["host"] == "10.96.0.20" and asked["headers"]["x-pass"] == "please"
    assert l7.get("/health", "-H", "x-pass: please", "-d", "hello")[0] in (200, 404, 405, 501)
    assert notes(l7, "http")[-1]["body"] == "hello"
    assert l7.get("/health", "-H", "x-pass: please", "-d", "x" * 101)[0] == 413
    assert l7.get("/health", "-H", "x-pass: slowly")[0] == 403, "a late answer counts for none"
    page = l7.page("/stats/prometheus", 15020)
    assert 'mesh_waypoint_ext_authz_requests_total{provider="by-http",result="denied"} ' in page
    assert 'mesh_waypoint_ext_authz_duration_seconds_count{provider="by-http"} ' in page


def test_a_grpc_authorizer_decides(l7):
    ask(l7, "by-grpc")
    status, body, _ = l7.get("/health")
    assert status == 403 and "say please" in str(body)
    assert l7.get("/health", "-H", "x-pass: please")[0] == 200
    assert notes(l7, "grpc")[-1]["principal"].endswith("/sa/web-service")


def test_failing_open_and_unknown(l7):
    ask(l7, "open")
    assert l7.get("/health")[0] == 200
    ask(l7, "nobody")
    assert l7.get("/health")[0] == 403


def test_a_rate_limit_service_counts_for_all(l7):
    l7.lab.remove("outside")
    l7.lab.write("limits", {
        "apiVersion": "policy.culvert.dev/v1alpha1", "kind": "RateLimitPolicy",
        "metadata": {"name": "limits", "namespace": "production"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "api-service"}],
                 "rules": [{"name": "all", "scope": "Global", "limit": {"requests": 3, "per": "1h"}}],
                 "global": {"backendRef": {"name": "opa", "port": 9193}, "domain": "shop", "timeout": "2s"}}})
    statuses = []

    def limited():
        statuses.append(l7.get("/health")[0])
        return statuses[-1] == 429
    wait_until("the service says that it is enough", limited, 20)
    assert len(notes(l7, "limit")) == 4 and notes(l7, "limit")[0]["domain"] == "shop"
    status, body, words = l7.get("/health", "-i")
    assert status == 429 and "x-limited-by: peer" in str(body), (status, body, words)
    page = l7.page("/stats/prometheus", 15020)
    assert ('mesh_ratelimit_requests_total{policy="production/limits",rule="all",scope="global",decision="reject"} 2'
            in page)
