# SPDX-License-Identifier: Apache-2.0
"""Spans of a real waypoint at a real collector, in each protocol."""
import json
import os
import secrets

import pytest
from lab.l7_scene import L7Scene
from lab.lab import PYTHON, parse_metrics
from lab.sh import wait_until

COLLECTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "collector.py")
HOST = "tracer.production.svc.cluster.local"
PROVIDERS = [
    {"name": "by-zipkin", "zipkin": {"service": HOST, "port": 9411}},
    {"name": "by-otlp", "opentelemetry": {"service": HOST, "port": 4317}},
    {"name": "by-otlp-http", "opentelemetry": {"service": HOST, "port": 4318, "http": {"path": "/v1/traces"}}},
]
PATHS = {"by-zipkin": "/api/v2/spans", "by-otlp-http": "/v1/traces",
         "by-otlp": "/opentelemetry.proto.collector.trace.v1.TraceService/Export"}


@pytest.fixture(scope="module")
def l7(mesh):
    l7 = L7Scene(mesh)
    l7.raise_pods()
    lab = mesh.lab
    lab.accounts("production", "web", "api", "batch", "web-service", "other-service", "api-service", "tracer")
    tracer = lab.create_pod(lab.nodes[0], "production", "tracer", "tracer", {"app": "tracer"}, ready=False)
    l7.batches_path = os.path.join(lab.run_dir, "logs", "spans.jsonl")
    program = tracer.start("collector", [PYTHON, COLLECTOR, l7.batches_path])
    for port in (9411, 4317, 4318):
        program.wait_for(f"listening on {port}",
                         lambda p=port: tracer.run(["ss", "-Hltn", f"sport = :{p}"]).stdout, 20)
    lab.service("production", "tracer", {"app": "tracer"},
                [("http-zipkin", 9411, 9411), ("grpc-otlp", 4317, 4317), ("http-otlp", 4318, 4318)], ["10.96.0.22"])
    lab.update_pod(tracer, ready=True)
    l7.tracer = tracer
    mesh.wait_known([tracer])

    def providers(kinds):
        kinds["IstioOperator"]["spec"].setdefault("meshConfig", {})["extensionProviders"] = PROVIDERS
    l7.install.edited(providers)
    l7.raise_waypoint()
    yield l7
    log = l7.log()
    assert "AddressSanitizer" not in log and "runtime error:" not in log, log[-3000:]


def batches(l7):
    if not os.path.exists(l7.batches_path):
        return []
    with open(l7.batches_path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


@pytest.mark.parametrize("provider", list(PATHS))
def test_a_collector_gets_the_span_that_the_application_continues(l7, provider):
    l7.lab.write("tracing", {
        "apiVersion": "telemetry.istio.io/v1alpha1", "kind": "Telemetry",
        "metadata": {"name": "tracing", "namespace": "production"},
        "spec": {"tracing": [{"providers": [{"name": provider}], "randomSamplingPercentage": 100}]}})
    parent = "00f067aa0ba902b7"

    def ask():
        """(trace, our span as the application saw it), or None while requests are not traced so."""
        trace = secrets.token_hex(16)
        zipkin = provider == "by-zipkin"
        context = f"b3: {trace}-{parent}-1" if zipkin else f"traceparent: 00-{trace}-{parent}-01"
        status, answer, words = l7.get("/traced", "-H", context)
        assert status == 200, words
        headers = answer["headers"]
        if not zipkin:
            seen_trace, span = headers["traceparent"].split("-")[1:3]
        elif "x-b3-spanid" in headers:
            seen_trace, span = headers["x-b3-traceid"], headers["x-b3-spanid"]
        else:
            return None
        assert seen_trace == trace
        if span == parent or zipkin != ("x-b3-spanid" in headers):
            return None
        return trace, span

    def exported(trace, span):
        for batch in batches(l7):
            body = bytes.fromhex(batch["hex"])
            ids = [trace, span, parent]
            if all((i.encode() if b"traceId" in body else bytes.fromhex(i)) in body for i in ids):
                return batch["path"], body
        return None

    def arrived():
        # Until the new rule is live the old one's collector gets the span.
        found = ask()
        path, body = wait_until("the span is exported", lambda: exported(*found), 10) if found else (None, None)
        return body if path == PATHS[provider] else None

    body = wait_until(f"a span comes by {provider}", arrived, 40)
    for text in (b"api-service.production.svc.cluster.local:80/", b"guid:x-request-id", b"waypoint.production",
                 b"istio.source_workload", b"web-service"):
        assert text in body, text
    metrics = parse_metrics(l7.page("/stats/prometheus", 15020))
    assert sum(value for name, _, value in metrics if name == "mesh_waypoint_spans_sent_total") >= 1
    assert sum(value for name, _, value in metrics if name == "mesh_waypoint_spans_dropped_total") == 0
