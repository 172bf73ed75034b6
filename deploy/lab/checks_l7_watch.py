# SPDX-License-Identifier: Apache-2.0
"""Demo check 14: what a waypoint tells: Prometheus and the user's dashboard, access logs, spans."""
import json
import os
import re
import urllib.parse

import yaml

from .checks_l7 import knobs, l7_scene
from .l7_scene import HOST, HTTP_APPS
from .lab import PYTHON, parse_metrics
from .programs import Program
from .sh import in_netns, run, wait_until
from .yamlout import write_atomically

PROMETHEUS_PORT = 9090


class Prometheus:
    """Debian's Prometheus on the control host; scrapes the waypoint every second."""

    def __init__(self, lab, address):
        self.lab = lab
        folder = os.path.join(lab.run_dir, "prometheus")
        os.makedirs(folder, exist_ok=True)
        config = os.path.join(folder, "prometheus.yml")
        write_atomically(config, json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "waypoint", "metrics_path": "/stats/prometheus",
                                "static_configs": [{"targets": [f"{address}:15020"]}]}]}))
        self.program = Program(lab, "prometheus", [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"], netns=lab.prefix + "control")
        lab.programs.append(self.program)
        self.program.wait_for("ready", lambda: self.get("/-/ready")[0] == 200, 20)

    def get(self, path):
        done = run(in_netns(self.lab.prefix + "control", [
            "curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", f"http://127.0.0.1:{PROMETHEUS_PORT}{path}"]),
            check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0), body

    def query(self, expression):
        """[(labels, value)], without what is no number."""
        code, body = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if code != 200:
            raise AssertionError(f"{expression}: {code} {body[:200]}")
        rows = [(row["metric"], float(row["value"][1])) for row in json.loads(body)["data"]["result"]]
        return [(labels, value) for labels, value in rows if value == value]


def dashboard_expressions(l7):
    """The expressions of the user's Grafana dashboard."""
    board = next(o for o in yaml.safe_load_all(l7.watching.text) if o and o["kind"] == "ConfigMap")
    panels = json.loads(board["data"]["istio-mesh.json"])["dashboard"]["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def requests(l7, **wanted):
    """The sum of istio_requests_total over the series with these labels, as the waypoint tells it."""
    return sum(value for name, labels, value in parse_metrics(l7.page("/stats/prometheus", 15020))
               if name == "istio_requests_total" and all(labels.get(k) == v for k, v in wanted.items()))


def metrics(demo):
    report = demo.report
    l7 = l7_scene(demo)
    report.heading("14. What the waypoint tells")
    l7.routes.apply()
    with report.check("istio_requests_total counts each request once, with who asked whom") as c:
        l7.load("/health", count=5)
        wanted = {"reporter": "waypoint", "source_principal": l7.web.identity, "destination_service": HOST,
                  "destination_workload": "api-service-v1", "response_code": "200",
                  "connection_security_policy": "mutual_tls", "request_protocol": "http"}
        before = requests(l7, **wanted)
        l7.load("/health", count=100, threads=4)
        after = requests(l7, **wanted)
        c.must(after - before == 100, f"{after - before} for 100 requests")
        c.saw("100 requests, 100 counted: " + " ".join(f"{k}={v}" for k, v in wanted.items()))
    with report.check("Prometheus answers the three expressions of the user's dashboard") as c:
        prometheus = Prometheus(l7.lab, l7.waypoint()["address"])
        try:
            expressions = dashboard_expressions(l7)
            c.must(len(expressions) == 3, expressions)
            load = l7.start_load("/health", threads=2, interval=0.01)
            def rising(expression, code):
                return [r for r in prometheus.query(expression) if r[0].get("response_code") == code and r[1] > 0]
            wait_until("Prometheus sees the requests", lambda: rising(expressions[0], "200"), 15)
            with knobs(l7, l7.v1, status=500):
                wait_until("Prometheus sees the errors", lambda: rising(expressions[1], "500"), 20)
            l7.finish_load(load)
            rate = rising(expressions[0], "200")
            errors = [r for r in prometheus.query(expressions[1]) if r[1] > 0]
            latency = [r for r in prometheus.query(expressions[2]) if r[0].get("response_code") == "200"]
            c.must(rate and errors and latency, f"{rate} {errors} {latency}")
            c.must(all(r[0]["response_code"].startswith("5") for r in errors), errors)
            worst = max(value for _, value in latency)
            c.must(0 < worst < 1000, f"P95 {worst} ms")
            counted = sum(value for _, value in prometheus.query("sum(istio_requests_total)"))
            told = requests(l7)
            c.must(abs(counted - told) <= 0.02 * told, f"Prometheus has {counted} requests, the waypoint {told}")
            c.saw(f"`{expressions[0]}`: {len(rate)} series; `{expressions[1]}`: {len(errors)}; P95 {worst:.1f} ms; "
                  f"{counted:.0f} requests")
        finally:
            prometheus.program.stop()


def access_log(demo):
    report = demo.report
    l7 = l7_scene(demo)
    with report.check("accessLogFormat of the user's install file is honoured, in milliseconds") as c:
        l7.install.apply()
        offset = l7.log_size()

        def line():
            l7.get("/health", "-A", "log/1")
            return re.search(r'^\s*\[(\S+)\] "GET /health HTTP/[\d.]+"\n\s*200 - 0 (\d+)\n\s*"(\d+)" "(\d+)"',
                             l7.log(offset), re.M)
        match = wait_until("a line in the seed's format", line, 10)
        c.saw(" / ".join(match.group(0).strip().split("\n")))


def telemetry(demo):
    """The seed's Telemetry: labels of its own on every series, and spans to the collector called jaeger."""
    report = demo.report
    l7 = l7_scene(demo)
    spans_path = os.path.join(l7.lab.run_dir, "spans.json")
    collector = Program(l7.lab, "collector", [PYTHON, HTTP_APPS, "spans", spans_path, "9411"],
                        netns=l7.lab.nodes[0].netns)
    l7.lab.programs.append(collector)
    with report.check("dimensions of the user's Telemetry are labels of istio_requests_total") as c:
        l7.watching.apply()

        def series():
            l7.get("/health?from=telemetry")
            return next((labels for name, labels, _ in parse_metrics(l7.page("/stats/prometheus", 15020))
                         if name == "istio_requests_total" and labels.get("request_path", "").startswith("/health")), None)
        labels = wait_until("a series with the user's labels", series, 10)
        c.must(labels.get("response_code") == "200" and labels.get("destination_service_name") == "api-service", labels)
        c.saw(f"request_path={labels['request_path']} response_code={labels['response_code']} "
              f"destination_service_name={labels['destination_service_name']}")
    with report.check("every request is a span at the collector called jaeger, in the client's trace") as c:
        trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        status, answer, words = l7.get("/health", "-H", f"traceparent: 00-{trace}-{parent}-01",
                                       "-H", f"x-b3-traceid: {trace}", "-H", f"x-b3-spanid: {parent}",
                                       "-H", "x-b3-sampled: 1")
        c.must(status == 200, f"{status} {words}")
        seen = answer["headers"]
        c.must(seen.get("x-b3-traceid") == trace and seen.get("x-b3-spanid") != parent, f"the application saw {seen}")

        def reported():
            if not os.path.exists(spans_path):
                return None
            with open(spans_path, encoding="utf-8") as file:
                spans = [span for line in file for span in json.loads(line)]
            return next((s for s in spans if s["traceId"] == trace), None)
        span = wait_until("the span arrives", reported, 15)
        c.must(span["parentId"] in (parent, seen.get("x-b3-parentspanid")), span)
        c.must(span["tags"].get("http.status_code") == "200", span)
        c.saw(f"span `{span['name']}` of trace {trace[:8]}..., http.status_code={span['tags']['http.status_code']}, "
              f"{len(span['tags'])} tags; the application's parent is {seen.get('x-b3-spanid')}")
    l7.watching.remove()
    collector.stop()


__all__ = ["access_log", "metrics", "telemetry"]
