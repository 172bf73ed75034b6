// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cstdlib>

#include "waypoint/telemetry/span.h"

namespace culvert::waypoint {
namespace {

using namespace std::chrono_literals;
using model::TraceTag;

model::WorkloadRef workload(const std::string& name, const std::string& ns) {
  auto out = std::make_shared<model::Workload>();
  out->uid = "c//Pod/" + ns + "/" + name;
  out->name = name;
  out->ns = model::Name(ns);
  out->workload_name = "deploy";
  out->canonical_name = "canon";
  out->canonical_revision = "v2";
  out->cluster_id = "c1";
  return out;
}

SpanSource source() {
  config::WaypointConfig config;
  config.name = "waypoint";
  config.namespace_ = "shop";
  config.pod_name = "waypoint-1";
  config.instance_ip = *base::IpAddr::parse("10.0.9.9");
  config.cluster_id = "c1";
  return SpanSource::of(config);
}

RequestRecord record_of(uint16_t status) {
  RequestRecord out;
  auto client = std::make_shared<Client>();
  client->identity = {"cluster.local", "web", "browser"};
  client->address = *base::SocketAddr::parse("10.0.1.1:999");
  client->workload = workload("web-1", "web");
  out.client = client;
  out.times.end = out.times.start + 1500us;
  out.request = {{":method", "GET"},       {":authority", "api"}, {":path", "/a?b=1"},
                 {"x-request-id", "id-1"}, {"user-agent", "ua"},  {"x-forwarded-proto", "https"},
                 {"x-team", "blue"}};
  out.status = status;
  out.counts.body_bytes_in = 7;
  out.counts.body_bytes_out = 9;
  out.cluster = "outbound|80||api";
  out.upstream = workload("api-1", "shop");
  out.upstream_address = *base::SocketAddr::parse("10.0.3.1:8080");
  out.trace = RequestTrace{std::make_shared<model::TraceRule>(),
                           {std::string(32, 'a'), std::string(16, 'b'), "", "", true, false},
                           "api:80/*"};
  return out;
}

RequestRecord record_by(const model::TraceRule& rule) {
  RequestRecord out = record_of(200);
  out.trace->rule = std::make_shared<model::TraceRule>(rule);
  return out;
}

model::RouteTarget target(const std::string& host, uint16_t port) {
  model::RouteTarget out;
  out.service = {"shop", model::Name(host)};
  out.port = port;
  return out;
}

}  // namespace

TEST_CASE("a span has upstream's tags", "[waypoint][trace][5.5]") {
  Span span = make_span(record_of(200), source());
  CHECK(span.name == "api:80/*");
  CHECK(span.duration == 1500us);
  CHECK_FALSE(span.error);
  std::vector<std::pair<std::string, std::string>> wanted{
      {"component", "proxy"},
      {"node_id", source().node_id},
      {"guid:x-request-id", "id-1"},
      {"http.url", "https://api/a?b=1"},
      {"http.method", "GET"},
      {"downstream_cluster", "-"},
      {"user_agent", "ua"},
      {"http.protocol", "HTTP/1.1"},
      {"request_size", "7"},
      {"peer.address", "10.0.1.1"},
      {"http.status_code", "200"},
      {"response_size", "9"},
      {"response_flags", "-"},
      {"upstream_cluster", "outbound|80||api"},
      {"upstream_cluster.name", "outbound|80||api"},
      {"upstream_address", "10.0.3.1:8080"},
      {"istio.mesh_id", "cluster.local"},
      {"istio.namespace", "shop"},
      {"istio.cluster_id", "c1"},
      {"istio.canonical_service", "waypoint"},
      {"istio.canonical_revision", "latest"},
  };
  for (const char* side : {"source", "destination"}) {
    std::string prefix = std::string("istio.") + side;
    bool from = side == std::string("source");
    wanted.insert(wanted.end(), {{prefix + "_workload", "deploy"},
                                 {prefix + "_workload_type", "deployment"},
                                 {prefix + "_instance_name", from ? "web-1" : "api-1"},
                                 {prefix + "_namespace", from ? "web" : "shop"},
                                 {prefix + "_cluster_id", "c1"},
                                 {prefix + "_canonical_service", "canon"},
                                 {prefix + "_canonical_revision", "v2"},
                                 {prefix + "_app", "canon"},
                                 {prefix + "_app_version", "v2"}});
  }
  CHECK(span.tags == wanted);
  CHECK(source().service_name == "waypoint.shop");
}

TEST_CASE("what makes a span an error", "[waypoint][trace][5.5]") {
  auto row =
      GENERATE(table<uint16_t, bool>({{200, false}, {404, false}, {500, true}, {503, true}, {0, true}}));
  Span span = make_span(record_of(std::get<0>(row)), source());
  CHECK(span.error == std::get<1>(row));
  CHECK(span.tag("error") == (std::get<1>(row) ? "true" : ""));
}

TEST_CASE("a gRPC span says how the call ended", "[waypoint][trace][5.5]") {
  auto row = GENERATE(
      table<const char*, bool>({{"0", false}, {"5", false}, {"13", true}, {"14", true}, {"x", true}}));
  RequestRecord record = record_of(200);
  record.grpc = true;
  bool in_trailers = GENERATE(false, true);
  (in_trailers ? record.response_trailers : record.response) = {{"grpc-status", std::get<0>(row)},
                                                                {"grpc-message", "why"}};
  Span span = make_span(record, source());
  CHECK(span.tag("grpc.status_code") == std::get<0>(row));
  CHECK(span.tag("grpc.message") == "why");
  CHECK(span.tag("grpc.path") == "/a?b=1");
  CHECK(span.error == std::get<1>(row));
}

TEST_CASE("tags of the rule come last and win", "[waypoint][trace][2.9]") {
  ::setenv("CULVERT_TEST_TAG", "from env", 1);
  model::TraceRule rule;
  rule.istio_tags = false;
  rule.tags = {{"component", {TraceTag::Kind::kLiteral, "mine", ""}},
               {"env", {TraceTag::Kind::kEnvironment, "CULVERT_TEST_TAG", "none"}},
               {"no-env", {TraceTag::Kind::kEnvironment, "CULVERT_TEST_NO_TAG", "none"}},
               {"team", {TraceTag::Kind::kHeader, "x-team", "red"}},
               {"no-team", {TraceTag::Kind::kHeader, "x-no-team", "red"}},
               {"absent", {TraceTag::Kind::kHeader, "x-no-team", ""}}};
  Span span = make_span(record_by(rule), source());
  CHECK(span.tag("component") == "mine");
  CHECK(span.tag("env") == "from env");
  CHECK(span.tag("no-env") == "none");
  CHECK(span.tag("team") == "blue");
  CHECK(span.tag("no-team") == "red");
  for (const auto& [name, value] : span.tags) {
    CHECK(name != "absent");
    CHECK_FALSE(name.starts_with("istio."));
  }
}

TEST_CASE("a client without a workload is what it says, but for its namespace", "[waypoint][trace][5.5]") {
  RequestRecord record = record_of(200);
  auto client = std::make_shared<Client>(*record.client);
  client->workload = nullptr;
  client->baggage.ns = "forged";
  client->baggage.workload_name = "told";
  record.client = client;
  Span span = make_span(record, source());
  CHECK(span.tag("istio.source_namespace") == "web");
  CHECK(span.tag("istio.source_workload") == "told");
}

TEST_CASE("what peers send is bounded and valid in a span", "[waypoint][trace][5.5]") {
  RequestRecord record = record_of(200);
  record.request = {{":method", "GET"},
                    {":authority", "api"},
                    {":path", "/" + std::string(5000, 'p')},
                    {"x-forwarded-proto", "http"},
                    {"user-agent", std::string(5000, 'u') + "\xff"}};
  model::TraceRule rule;
  rule.path_bytes_max = 10;
  record.trace->rule = std::make_shared<model::TraceRule>(rule);
  record.trace->operation = std::string(5000, 'o');
  Span span = make_span(record, source());
  CHECK(span.tag("http.url") == "http://api/ppppppppp");
  CHECK(span.tag("user_agent").size() == kTagBytesMax);
  CHECK(span.name.size() == kSpanNameBytesMax);

  struct Row {
    std::string text, clean;
  };
  auto row = GENERATE(values<Row>({
      {"plain", "plain"},
      {"\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac"},
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
      {"a\xff z", "a? z"},
      {"\xc0\x80", "??"},                  // overlong
      {"\xe0\x80\x80", "???"},             // overlong
      {"\xed\xa0\x80", "???"},             // a surrogate
      {"\xf4\x90\x80\x80", "????"},        // too large
      {"\xe2\x82", "??"},                  // torn
      {"1234567\xe2\x82\xac", "1234567"},  // whole characters only
  }));
  CHECK(clean_text(row.text, 8) == row.clean);
}

TEST_CASE("a span is named after its route", "[waypoint][trace][5.5]") {
  using model::TextMatch;
  struct Row {
    std::optional<TextMatch> path;
    std::string name;
  };
  auto row = GENERATE(values<Row>({
      {std::nullopt, "api:8080/*"},
      {TextMatch::prefix("/v1"), "api:8080/v1*"},
      {TextMatch::exact("/one"), "api:8080/one"},
      {*TextMatch::make(TextMatch::Kind::kPathPrefix, "/v1"), "api:8080/v1/*"},
      {*TextMatch::make(TextMatch::Kind::kRegex, "/x.*"), "api:8080/x.*"},
  }));
  model::HttpRoute route;
  route.origin = "VirtualService shop/api-routes";
  route.targets = {target("api", 8080)};
  model::RouteMatch match;
  match.path = row.path;
  CHECK(span_operation(route, &match, 80) == row.name);
  route.targets[0].port = 0;
  CHECK(span_operation(route, nullptr, 80) == "api:80/*");
  route.targets.push_back(target("other", 1));
  CHECK(span_operation(route, &match, 80).starts_with("api-routes:80/"));

  Addressed addressed;
  addressed.port = 80;
  addressed.dialled = *base::SocketAddr::parse("10.0.3.1:80");
  CHECK(span_operation(addressed) == "10.0.3.1:80/*");
}

}  // namespace culvert::waypoint
