// SPDX-License-Identifier: Apache-2.0
// What a finished request becomes: series, labels, log lines (spec waypoint sections 2.9, 5.1, 5.4).
#include "waypoint/telemetry/reporter.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "test/unit/waypoint/records.h"
#include "waypoint/telemetry/attributes.h"
#include "waypoint/telemetry/traffic_labels.h"

using namespace culvert;
using namespace culvert::waypoint;
using Catch::Contains;

namespace {

constexpr const char* kLabels =
    R"(reporter="waypoint",source_workload="web",source_canonical_service="web",)"
    R"(source_canonical_revision="v7",source_workload_namespace="shop",)"
    R"(source_principal="spiffe://cluster.local/ns/shop/sa/web",source_app="web",source_version="v7",)"
    R"(source_cluster="cluster1",destination_workload="api-v1",destination_workload_namespace="shop",)"
    R"(destination_principal="spiffe://cluster.local/ns/shop/sa/api",destination_app="api",)"
    R"(destination_version="v1",destination_service="api.shop.svc.cluster.local",)"
    R"(destination_canonical_service="api",destination_canonical_revision="v1",)"
    R"(destination_service_name="api",destination_service_namespace="shop",destination_cluster="cluster1",)"
    R"(request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",)"
    R"(connection_security_policy="mutual_tls")";

class Lines final : public base::Log {
 public:
  bool enabled(base::Level, std::string_view) const override { return true; }
  void write(base::Level, std::string_view, std::string_view message, std::span<const base::Field>) override {
    said.emplace_back(message);
  }
  std::vector<std::string> said;
};

struct World {
  Lines log;
  std::vector<std::pair<std::string, std::string>> lines;
  bool disk_full = false;
  Reporter reporter{log, [this](const std::string& path, std::string line) {
                      if (disk_full) return false;
                      lines.emplace_back(path, std::move(line));
                      return true;
                    }};
  MeshState state;
  RequestRecord record = test::make_record();

  std::string metrics() { return reporter.render_metrics(*record.times.end); }
  void log_to(std::string file, std::string format = "") {
    model::WaypointSettings settings;
    settings.access_log_file = std::move(file);
    settings.access_log_format = std::move(format);
    reporter.set_settings(settings);
  }
};

std::string labels_of(const RequestRecord& record) {
  return TrafficLabels::text(TrafficLabels(record).list());
}

}  // namespace

TEST_CASE("labels of a request, in upstream's order", "[waypoint-5.1]") {
  CHECK(labels_of(test::make_record()) == kLabels);
}

TEST_CASE("labels of what is not known", "[waypoint-5.1]") {
  RequestRecord record = test::make_record();
  record.upstream = nullptr;
  auto client = std::make_shared<Client>(*record.client);
  client->workload = nullptr;
  client->addressed.service = nullptr;
  client->baggage.workload_name = "said";
  client->baggage.ns = "elsewhere";
  record.client = client;
  record.status = 0;
  record.flags.add(Flag::kNoHealthyUpstream);
  std::string labels = labels_of(record);
  CHECK_THAT(labels, Contains("source_workload=\"said\""));
  // What a certificate proves is not what baggage says.
  CHECK_THAT(labels, Contains("source_workload_namespace=\"shop\""));
  CHECK_THAT(labels, Contains("source_canonical_revision=\"latest\""));
  CHECK_THAT(labels, Contains("destination_workload=\"unknown\""));
  CHECK_THAT(labels, Contains("destination_principal=\"unknown\""));
  CHECK_THAT(labels, Contains("destination_canonical_revision=\"unknown\""));
  CHECK_THAT(labels, Contains("destination_service=\"unknown\""));
  CHECK_THAT(labels, Contains("response_code=\"0\""));
  CHECK_THAT(labels, Contains("response_flags=\"UH\""));
}

TEST_CASE("gRPC and TCP have their own labels", "[waypoint-5.1]") {
  RequestRecord record = test::make_record();
  record.grpc = true;
  record.response_trailers = {{"grpc-status", "14"}};
  CHECK_THAT(labels_of(record),
             Contains("request_protocol=\"grpc\"") && Contains("grpc_response_status=\"14\""));
  record.response_trailers.clear();
  CHECK_THAT(labels_of(record), Contains("grpc_response_status=\"2\""));
  record.tcp = true;
  CHECK_THAT(labels_of(record), Contains("request_protocol=\"tcp\"") && !Contains("response_code") &&
                                    !Contains("grpc_response_status"));
}

TEST_CASE("a request counts once in each family", "[waypoint-5.1]") {
  World world;
  world.reporter.finished(world.record, nullptr, world.state);
  world.reporter.finished(world.record, nullptr, world.state);
  std::string text = world.metrics();
  auto line = [&](std::string_view name, std::string_view more, std::string_view value) {
    return Contains(fmt::format("\n{}{{{}{}}} {}\n", name, kLabels, more, value));
  };
  CHECK_THAT(text, line("istio_requests_total", "", "2"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_bucket", ",le=\"10\"", "0"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_bucket", ",le=\"0.5\"", "0"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_bucket", ",le=\"25\"", "2"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_bucket", ",le=\"3600000\"", "2"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_bucket", ",le=\"+Inf\"", "2"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_sum", "", "24"));
  CHECK_THAT(text, line("istio_request_duration_milliseconds_count", "", "2"));
  CHECK_THAT(text, line("istio_request_bytes_sum", "", "240"));
  CHECK_THAT(text, line("istio_response_bytes_sum", "", "2100"));
  CHECK_THAT(text, Contains("# TYPE istio_requests_total counter\n") &&
                       Contains("# TYPE istio_request_bytes histogram\n") && !Contains("istio_tcp_") &&
                       !Contains("istio_request_messages_total"));
  CHECK_THAT(text, Contains("istio_build{component=\"proxy\",tag="));
}

TEST_CASE("TCP streams are counted when they open, while they run, when they end", "[waypoint-5.1]") {
  World world;
  world.record.tcp = true;
  world.reporter.tcp_opened(world.record, nullptr, world.state);
  world.reporter.tcp_bytes(world.record, nullptr, world.state, 10, 200);
  world.reporter.tcp_bytes(world.record, nullptr, world.state, 1, 2);
  world.reporter.finished(world.record, nullptr, world.state);
  std::string text = world.metrics();
  for (const char* row : {"istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total",
                          "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"}) {
    CHECK_THAT(text, Contains(row));
  }
  CHECK_THAT(text, Contains("connection_security_policy=\"mutual_tls\"} 202\n") &&
                       Contains("connection_security_policy=\"mutual_tls\"} 11\n"));
  CHECK_THAT(text, !Contains("istio_requests_total"));
}

TEST_CASE("series that nobody writes are rendered once more, then dropped", "[waypoint-5.1]") {
  TrafficMetrics metrics;
  TrafficMetrics::Observation one{Metric::kRequests, 1};
  base::TimePoint start{};
  metrics.record("a=\"1\"", {&one, 1}, start);
  metrics.record("a=\"2\"", {&one, 1}, start + std::chrono::minutes(30));
  base::TimePoint later = start + std::chrono::minutes(61);
  CHECK_THAT(metrics.render(later), Contains("a=\"1\"") && Contains("a=\"2\""));
  CHECK_THAT(metrics.render(later), !Contains("a=\"1\"") && Contains("a=\"2\""));
}

TEST_CASE("beyond the bound series share one", "[waypoint-5.1]") {
  TrafficMetrics metrics;
  TrafficMetrics::Observation one{Metric::kRequests, 1};
  for (size_t i = 0; i < TrafficMetrics::kSeriesMax + 5; ++i) {
    metrics.record(fmt::format("a=\"{}\"", i), {&one, 1}, {});
  }
  CHECK(metrics.overflows() == 5);
  CHECK_THAT(metrics.render({}), Contains("{reporter=\"waypoint\",overflow=\"true\"} 5\n"));
}

TEST_CASE("tags are added, replaced and removed, by metric", "[waypoint-2.9]") {
  World world;
  model::Telemetry source;
  source.metrics = {
      {"", false, {{"path", "request.url_path"}, {"source_app", ""}}},
      {"istio_requests_total", false, {{"response_code", "response.code >= 500 ? 'bad' : 'good'"}}},
      {"istio_request_bytes", true, {}},
  };
  TelemetryRules rules(source);
  CHECK(rules.problems().empty());
  world.reporter.finished(world.record, &rules, world.state);
  std::string text = world.metrics();
  CHECK_THAT(text, Contains("response_code=\"good\"") && Contains(",path=\"/v2/items\"} 1\n"));
  CHECK_THAT(text, !Contains("source_app") && !Contains("istio_request_bytes"));
  CHECK_THAT(text, Contains("istio_response_bytes_count"));
}

TEST_CASE("a tag that cannot be read is unknown, and said", "[waypoint-2.9]") {
  model::Telemetry source;
  source.metrics = {{"istio_requests_total", false, {{"x", "request.path.upper("}}}};
  TelemetryRules rules(source);
  REQUIRE(rules.problems().size() == 1);
  CHECK_THAT(rules.problems()[0], Contains("request.path.upper("));
  World world;
  world.reporter.finished(world.record, &rules, world.state);
  CHECK_THAT(world.metrics(), Contains(",x=\"unknown\"} 1\n"));
}

TEST_CASE("attributes of expressions", "[waypoint-2.9]") {
  struct Row {
    const char* text;
    const char* value;
  };
  const Row rows[] = {
      {"request.path", "/v2/items?a=1"},
      {"request.url_path", "/v2/items"},
      {"request.query", "a=1"},
      {"request.host", "api.shop"},
      {"request.method", "GET"},
      {"request.protocol", "HTTP/1.1"},
      {"request.id", "rid-1"},
      {"request.useragent", "curl \"8\""},
      {"request.headers['User-Agent']", "curl \"8\""},
      {"request.headers['none']", "unknown"},
      {"request.duration", "0.012"},
      {"request.size", "20"},
      {"request.total_size", "120"},
      {"response.code", "200"},
      {"response.flags", "-"},
      {"response.headers['x-envoy-upstream-service-time']", "9"},
      {"response.size", "1000"},
      {"response.grpc_status", "unknown"},
      {"connection.mtls", "true"},
      {"connection.id", "7"},
      {"connection.uri_san_peer_certificate", "spiffe://cluster.local/ns/shop/sa/web"},
      {"source.address", "10.0.0.5:40001"},
      {"source.principal", "spiffe://cluster.local/ns/shop/sa/web"},
      {"source.namespace", "shop"},
      {"source.workload.name", "web"},
      {"source.labels['app']", "shopfront"},
      {"source.labels['none']", "unknown"},
      {"destination.service.name", "api"},
      {"destination.service.host", "api.shop.svc.cluster.local"},
      {"destination.address", "10.0.0.9:8080"},
      {"destination.workload.name", "api-v1"},
      {"upstream.address", "10.0.0.9:8080"},
      {"upstream.request_attempt_count", "1"},
      {"xds.route_name", "items"},
      {"filter_state['io.istio.peer_principal']", "spiffe://cluster.local/ns/shop/sa/web"},
      {"request", "unknown"},
      {"nothing.at.all", "unknown"},
  };
  RequestRecord record = test::make_record();
  MeshState state;
  model::WaypointUpdate update;
  update.labels = {{"cluster1//Pod/shop/web-1", {{"app", "shopfront"}}}};
  state.l7 = state.l7->with(std::move(update));
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(decide::Expression::parse(row.text)->text(RecordAttributes(record, state)) == row.value);
  }
}

TEST_CASE("the access log is the mesh's, or the service's", "[waypoint-5.4]") {
  World world;
  world.reporter.finished(world.record, nullptr, world.state);
  CHECK(world.lines.empty());

  world.log_to("/var/log/x", "%REQ(:METHOD)% %RESPONSE_CODE%");
  world.reporter.finished(world.record, nullptr, world.state);
  REQUIRE(world.lines.size() == 1);
  CHECK(world.lines[0] == std::pair<std::string, std::string>("/var/log/x", "GET 200\n"));

  model::Telemetry source;
  source.access_logs = {{true, "response.code >= 400"}};
  TelemetryRules errors_only(source);
  world.reporter.finished(world.record, &errors_only, world.state);
  CHECK(world.lines.size() == 1);
  world.record.status = 404;
  world.reporter.finished(world.record, &errors_only, world.state);
  CHECK(world.lines.size() == 2);

  source.access_logs = {{false, ""}};
  TelemetryRules off(source);
  world.reporter.finished(world.record, &off, world.state);
  CHECK(world.lines.size() == 2);

  // A service that wants lines in a mesh that says nothing gets them on standard output.
  world.log_to("");
  source.access_logs = {{true, ""}};
  TelemetryRules on(source);
  world.reporter.finished(world.record, &on, world.state);
  REQUIRE(world.lines.size() == 3);
  CHECK(world.lines[2].first == "/dev/stdout");
}

TEST_CASE("a format that cannot be read is an error, and lines keep coming", "[waypoint-5.4]") {
  World world;
  world.log_to("/dev/stdout", "%NOTHING%");
  REQUIRE(world.log.said.size() == 1);
  world.log_to("/dev/stdout", "%NOTHING%");
  CHECK(world.log.said.size() == 1);
  world.reporter.finished(world.record, nullptr, world.state);
  REQUIRE(world.lines.size() == 1);
  CHECK_THAT(world.lines[0].second, Contains("\"GET /v2/items?a=1 HTTP/1.1\" 200 - "));
}

TEST_CASE("dropped lines are counted", "[waypoint-5.4]") {
  World world;
  world.log_to("/dev/stdout");
  world.disk_full = true;
  world.reporter.finished(world.record, nullptr, world.state);
  CHECK_THAT(world.metrics(), Contains("\nmesh_waypoint_access_log_lines_dropped_total 1\n"));
}

TEST_CASE("a refusal is told in words, ten a second", "[waypoint-5.2]") {
  World world;
  world.record.status = 403;
  world.record.denied_by = "shop/only-web, rule 1";
  for (int i = 0; i < 15; ++i) world.reporter.finished(world.record, nullptr, world.state);
  CHECK(world.log.said.size() == Reporter::kRefusalsToldMax);
  CHECK(world.log.said[0] == "request refused by policy");
  *world.record.times.end += std::chrono::seconds(1);
  world.reporter.finished(world.record, nullptr, world.state);
  CHECK(world.log.said.size() == Reporter::kRefusalsToldMax + 1);
  CHECK_THAT(world.metrics(), Contains("mesh_waypoint_denied_total{code=\"403\"} 16\n"));
}

TEST_CASE("rate limits are counted by rule and decision", "[waypoint-4.3]") {
  World world;
  model::RateLimitPolicy policy;
  policy.ns = "shop";
  policy.name = "slow";
  model::RateLimitRule rule;
  rule.name = "per-client";
  decide::RateLimitNote note{&policy, &rule, {}};
  world.reporter.rate_limited(note, true);
  world.reporter.rate_limited(note, false);  // given back
  note.state.admitted = false;
  world.reporter.rate_limited(note, false);
  policy.shadow = true;
  world.reporter.rate_limited(note, true);
  std::string text = world.metrics();
  for (const char* decision : {"admit", "reject", "shadow_reject"}) {
    CHECK_THAT(text,
               Contains(fmt::format("mesh_ratelimit_requests_total{{policy=\"shop/slow\",rule=\"per-client\","
                                    "scope=\"local\",decision=\"{}\"}} 1\n",
                                    decision)));
  }
}
