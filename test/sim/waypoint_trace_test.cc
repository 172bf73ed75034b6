// SPDX-License-Identifier: Apache-2.0
// Traced requests, from the client's headers to the collector that has the span.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "mesh/hbone/tunnel_server.h"
#include "net/conn/tls_stream.h"
#include "net/wire/grpc_frame.h"
#include "proto/otlp.pb.h"
#include "test/sim/waypoint_world.h"
#include "waypoint/client_stream.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using async::Task;
using model::TraceRule;
using Protocol = TraceRule::Protocol;
namespace pb = opentelemetry::proto::collector::trace::v1;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpan[] = "00f067aa0ba902b7";
constexpr uint16_t kPort = 9411;

struct SeenSpan {
  std::string trace_id, span_id, parent_id, name, status_code;
};

std::string hex(const std::string& bytes) {
  std::string out;
  for (unsigned char c : bytes) {
    out += "0123456789abcdef"[c >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

// A collector of every protocol on one port; through HBONE too, as the identity of its workload.
class CollectorHost final : public hbone::TunnelHandler {
 public:
  CollectorHost(WaypointWorld& world, Protocol protocol, const std::string& ip)
      : world_(world),
        protocol_(protocol),
        host_(world.network.add_host("collector", "n4", {*base::IpAddr::parse(ip)})),
        network_(world.network.process(host_)),
        tasks_(world.loop) {}
  ~CollectorHost() override { tasks_.cancel_all(); }

  void listen_plain() { listen(kPort, &CollectorHost::serve_plain); }
  void listen_hbone() {
    certificate_ = world_.issue(identity);
    listen(model::kHbonePort, &CollectorHost::serve_tls);
  }
  void close() { listeners_.clear(); }

  std::vector<SeenSpan> spans() const {
    std::vector<SeenSpan> out;
    for (const std::string& body : bodies) {
      if (protocol_ == Protocol::kZipkin) {
        for (const auto& one : nlohmann::json::parse(body)) {
          out.push_back({one["traceId"], one["id"], one.value("parentId", ""), one["name"],
                         one["tags"]["http.status_code"]});
        }
        continue;
      }
      pb::ExportTraceServiceRequest request;
      REQUIRE(request.ParseFromString(body));
      for (const pb::Span& one : request.resource_spans(0).scope_spans(0).spans()) {
        SeenSpan& seen = out.emplace_back(
            SeenSpan{hex(one.trace_id()), hex(one.span_id()), hex(one.parent_span_id()), one.name(), ""});
        for (const pb::KeyValue& tag : one.attributes()) {
          if (tag.key() == "http.status_code") seen.status_code = tag.value().string_value();
        }
      }
    }
    return out;
  }

  const model::Identity identity{"cluster.local", "tracing", "collector"};
  std::vector<wire::Headers> requests;
  std::vector<std::string> bodies;  // of those that were taken
  std::vector<std::string> authorities;
  int connections = 0;
  int status = 200;
  std::string grpc_status = "0";
  base::Duration delay{0};

 private:
  using Serve = Task<void> (*)(CollectorHost&, std::unique_ptr<io::ByteStream>);

  void listen(uint16_t port, Serve serve) {
    listeners_.push_back(std::move(*network_->listen({base::IpAddr::any_v4(), port}, {})));
    tasks_.spawn(accept_loop(*this, *listeners_.back(), serve));
  }
  static Task<void> accept_loop(CollectorHost& host, io::Listener& listener, Serve serve) {
    for (;;) {
      base::Result<io::Accepted> accepted = co_await io::accept(listener);
      if (!accepted) co_return;
      ++host.connections;
      host.tasks_.spawn(serve(host, std::move(accepted->stream)));
    }
  }
  static Task<void> serve_tls(CollectorHost& host, std::unique_ptr<io::ByteStream> stream) {
    conn::TlsServerOptions options;
    options.identity = host.certificate_;
    auto tls = co_await conn::tls_accept(host.world_.loop, std::move(stream), std::move(options),
                                         async::Deadline::in(host.world_.loop, 5s));
    if (!tls) co_return;
    hbone::TunnelServer server(host.world_.loop, std::move(*tls), {}, host);
    co_await server.run();
  }
  Task<void> serve(std::unique_ptr<hbone::ServerStream> stream) override {
    authorities.push_back(*wire::find_header(stream->headers(), ":authority"));
    return tunnelled(*this, std::move(stream));
  }
  static Task<void> tunnelled(CollectorHost& host, std::unique_ptr<hbone::ServerStream> stream) {
    io::ByteStream& bytes = stream->accept({});
    auto owned = std::make_unique<waypoint::ClientStream>(host.world_.loop, std::move(stream), bytes);
    co_await serve_plain(host, std::move(owned));
  }
  static Task<void> serve_plain(CollectorHost& host, std::unique_ptr<io::ByteStream> stream) {
    if (host.protocol_ == Protocol::kOtlpGrpc) {
      conn::Http2Conn connection(host.world_.loop, std::move(stream), wire::H2Engine::Role::kServer, {});
      for (;;) {
        std::unique_ptr<conn::Http2Stream> request = co_await connection.accept();
        if (!request) co_return;
        host.tasks_.spawn(answer(host, std::move(request)));
      }
    }
    conn::Http1ServerConn connection(host.world_.loop, std::move(stream), {});
    for (;;) {
      std::unique_ptr<conn::HttpStream> request = co_await connection.accept();
      if (!request) co_return;
      co_await answer(host, std::move(request));
    }
  }
  static Task<void> answer(CollectorHost& host, std::unique_ptr<conn::HttpStream> stream) {
    conn::HttpStream& request = *stream;
    host.requests.push_back(request.headers());
    std::string body;
    std::vector<uint8_t> block(16 * 1024);
    for (;;) {
      base::Result<size_t> got = co_await io::read_some(request, block);
      if (!got) co_return;
      if (*got == 0) break;
      body.append(reinterpret_cast<char*>(block.data()), *got);
    }
    if (host.delay.count() > 0) co_await async::sleep_for(host.world_.loop, host.delay);
    bool grpc = host.protocol_ == Protocol::kOtlpGrpc;
    if (grpc) {
      base::ByteQueue queue;
      queue.append(base::as_bytes(body));
      auto message = wire::take_grpc_message(queue, 1 << 24);
      REQUIRE((message && *message));
      body = **message;
    }
    bool taken = host.status < 300 && host.grpc_status == "0";
    if (taken) host.bodies.push_back(body);
    request.respond({{":status", std::to_string(host.status)},
                     {"content-type", grpc ? "application/grpc" : "application/x-protobuf"}},
                    false);
    if (grpc) {
      base::Result<> wrote = co_await io::write_all(request, base::as_bytes(wire::grpc_frame("")));
      if (wrote) request.send_trailers({{"grpc-status", host.grpc_status}});
    } else {
      request.shutdown_write();
    }
    co_await io::flush(request);
  }

  WaypointWorld& world_;
  Protocol protocol_;
  SimHost& host_;
  std::unique_ptr<io::Network> network_;
  wire::TlsIdentityRef certificate_;
  std::list<std::unique_ptr<io::Listener>> listeners_;
  async::Scope tasks_;
};

TraceRule rule_to(Protocol protocol, const std::string& host) {
  TraceRule out;
  out.protocol = protocol;
  out.host = host;
  out.port = kPort;
  out.sampling_percent = 100;
  return out;
}

void set_trace(WaypointWorld& world, TraceRule rule) {
  model::WaypointService rules = rules_of({route_to("/api", {{"", 1}})});
  rules.telemetry.trace = std::move(rule);
  world.set_rules(std::move(rules));
}

std::string header(const wire::Headers& headers, std::string_view name) {
  const std::string* found = wire::find_header(headers, name);
  return found ? *found : "(none)";
}

// The collector as a service of the mesh, by its workload.
void add_service(WaypointWorld& world, model::TunnelProtocol protocol) {
  model::Service service;
  service.name = "collector";
  service.ns = "tracing";
  service.hostname = "collector.tracing.svc.cluster.local";
  service.vips = {{"", *base::IpAddr::parse("10.96.0.99")}};
  service.ports = {{kPort, kPort, model::AppProtocol::kUnknown}};
  model::Workload workload;
  workload.uid = "c//Pod/tracing/collector";
  workload.name = "collector";
  workload.ns = "tracing";
  workload.trust_domain = "cluster.local";
  workload.service_account = "collector";
  workload.protocol = protocol;
  workload.addresses = {*base::IpAddr::parse("10.0.4.1")};
  workload.services = {{service.key(), {{kPort, kPort}}}};
  world.add(std::move(service), std::move(workload));
}

}  // namespace

TEST_CASE("a collector gets a span of each protocol, with the trace that the upstream sees too",
          "[sim][waypoint][trace][5.5]") {
  auto protocol = GENERATE(Protocol::kZipkin, Protocol::kOtlpHttp, Protocol::kOtlpGrpc);
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, protocol, "10.0.4.1");
  collector.listen_plain();
  set_trace(world, rule_to(protocol, "10.0.4.1"));
  bool zipkin = protocol == Protocol::kZipkin;
  wire::Headers context{{"traceparent", std::string("00-") + kTrace + "-" + kSpan + "-01"}};
  if (zipkin) context = {{"b3", std::string(kTrace) + "-" + kSpan + "-1"}};
  CHECK(world.get("/api/x", context).status == 200);
  CHECK(world.get("/other").status == 404);
  world.loop.run_for(2s);

  REQUIRE(collector.requests.size() == 1);
  const wire::Headers& request = collector.requests[0];
  CHECK(header(request, ":method") == "POST");
  CHECK(header(request, ":path") == (zipkin ? "/api/v2/spans"
                                     : protocol == Protocol::kOtlpHttp
                                         ? "/v1/traces"
                                         : "/opentelemetry.proto.collector.trace.v1.TraceService/Export"));
  CHECK(header(request, "content-type") == (zipkin                            ? "application/json"
                                            : protocol == Protocol::kOtlpHttp ? "application/x-protobuf"
                                                                              : "application/grpc"));
  std::vector<SeenSpan> spans = collector.spans();
  REQUIRE(spans.size() == 2);
  CHECK(spans[0].trace_id == kTrace);
  CHECK(spans[0].parent_id == kSpan);
  CHECK(spans[0].name == "api.shop.svc.cluster.local:80/api*");
  CHECK(spans[0].status_code == "200");
  CHECK(spans[1].trace_id != kTrace);
  CHECK(spans[1].parent_id.empty());
  CHECK(spans[1].status_code == "404");

  // What is behind us is our span's child, in the provider's format and the one that came.
  REQUIRE(pod.requests.size() == 1);
  if (zipkin) {
    CHECK(header(pod.requests[0], "x-b3-traceid") == kTrace);
    CHECK(header(pod.requests[0], "x-b3-spanid") == spans[0].span_id);
    CHECK(header(pod.requests[0], "x-b3-parentspanid") == kSpan);
    CHECK(header(pod.requests[0], "x-b3-sampled") == "1");
    CHECK(header(pod.requests[0], "b3") == std::string(kTrace) + "-" + spans[0].span_id + "-1-" + kSpan);
    CHECK(header(pod.requests[0], "traceparent") == "(none)");
  } else {
    CHECK(header(pod.requests[0], "traceparent") ==
          std::string("00-") + kTrace + "-" + spans[0].span_id + "-01");
    CHECK(header(pod.requests[0], "x-b3-traceid") == "(none)");
  }
  CHECK(header(pod.requests[0], "x-envoy-decorator-operation") == spans[0].name);
  CHECK(world.telemetry.records[0].trace->context.trace_id == kTrace);
  CHECK(world.spans().counts().sent == 2);
  CHECK(world.spans().queued() == 0);
}

TEST_CASE("what is not traced, not sampled or not to be reported", "[sim][waypoint][trace][2.9]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kOtlpHttp, "10.0.4.1");
  collector.listen_plain();
  TraceRule rule = rule_to(Protocol::kOtlpHttp, "10.0.4.1");
  wire::Headers context{{"traceparent", std::string("00-") + kTrace + "-" + kSpan + "-01"}};
  SECTION("no rule: headers pass as they are") {
    world.set_rules(rules_of({route_to("/api", {{"", 1}})}));
    world.get("/api", context);
    CHECK(header(pod.requests[0], "traceparent") == context[0].second);
    CHECK_FALSE(world.telemetry.records[0].trace.has_value());
  }
  SECTION("no provider") {
    rule.protocol = Protocol::kNone;
    set_trace(world, rule);
    world.get("/api", context);
    CHECK(header(pod.requests[0], "traceparent") == context[0].second);
  }
  SECTION("not sampled: the context goes on, and says so") {
    rule.sampling_percent = 0;
    set_trace(world, rule);
    world.get("/api");
    CHECK(header(pod.requests[0], "traceparent").ends_with("-00"));
  }
  SECTION("not reported: the context goes on") {
    rule.disabled = true;
    set_trace(world, rule);
    world.get("/api", context);
    CHECK(header(pod.requests[0], "traceparent").starts_with(std::string("00-") + kTrace));
    CHECK(header(pod.requests[0], "traceparent") != context[0].second);
  }
  world.loop.run_for(5s);
  CHECK(collector.connections == 0);
}

TEST_CASE("without propagation the span is reported, and the request goes on as it came",
          "[sim][waypoint][trace][2.9]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kOtlpHttp, "10.0.4.1");
  collector.listen_plain();
  TraceRule rule = rule_to(Protocol::kOtlpHttp, "10.0.4.1");
  rule.propagate = false;
  rule.path = "/custom";
  rule.headers = {{"authorization", {model::TraceTag::Kind::kLiteral, "Bearer x", ""}}};
  set_trace(world, rule);
  wire::Headers context{{"traceparent", std::string("00-") + kTrace + "-" + kSpan + "-01"}};
  world.get("/api", context);
  world.loop.run_for(2s);
  CHECK(header(pod.requests[0], "traceparent") == context[0].second);
  REQUIRE(collector.spans().size() == 1);
  CHECK(collector.spans()[0].parent_id == kSpan);
  CHECK(header(collector.requests[0], ":path") == "/custom");
  CHECK(header(collector.requests[0], "authorization") == "Bearer x");
}

TEST_CASE("every attempt belongs to the one span, and the upstream may name it",
          "[sim][waypoint][trace][5.5]") {
  WaypointWorld world;
  HttpPod& pod = world.add_pod("a", "10.0.3.1", "v1");
  pod.status = 503;
  pod.headers = {{"x-envoy-decorator-operation", "renamed"}};
  CollectorHost collector(world, Protocol::kZipkin, "10.0.4.1");
  collector.listen_plain();
  model::HttpRoute route = route_to("/api", {{"", 1}});
  route.retries = model::RetryPolicy{};
  route.retries->attempts = 2;
  route.retries->on = model::kRetry5xx;
  model::WaypointService rules = rules_of({route});
  rules.telemetry.trace = rule_to(Protocol::kZipkin, "10.0.4.1");
  world.set_rules(std::move(rules));
  HttpAnswer answer = world.get("/api");
  CHECK(answer.header("x-envoy-decorator-operation").empty());
  world.loop.run_for(2s);
  REQUIRE(pod.requests.size() == 3);
  std::vector<SeenSpan> spans = collector.spans();
  REQUIRE(spans.size() == 1);
  for (const wire::Headers& request : pod.requests) CHECK(header(request, "x-b3-spanid") == spans[0].span_id);
  CHECK(spans[0].name == "renamed");
  CHECK(spans[0].status_code == "503");
}

TEST_CASE("a collector of the mesh is reached by HBONE where it speaks that, and only so",
          "[sim][waypoint][trace][R1.13]") {
  std::string host = GENERATE("collector.tracing.svc.cluster.local", "collector.tracing",
                              "tracing/collector.tracing.svc.cluster.local", "10.96.0.99", "10.0.4.1");
  bool hbone = GENERATE(true, false);
  bool plaintext = false;  // outlives the world, which goes on talking while it ends
  INFO(host << (hbone ? " through HBONE" : " in plaintext"));
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kOtlpGrpc, "10.0.4.1");
  collector.listen_plain();
  collector.listen_hbone();
  add_service(world, hbone ? model::TunnelProtocol::kHbone : model::TunnelProtocol::kNone);
  set_trace(world, rule_to(Protocol::kOtlpGrpc, host));
  world.network.set_tap([&](const SimFlow& flow, base::ByteView) {
    plaintext = plaintext || flow.to.port == kPort || flow.from.port == kPort;
  });
  world.get("/api");
  world.loop.run_for(2s);
  CHECK(collector.spans().size() == 1);
  CHECK(plaintext == !hbone);
  CHECK(collector.authorities ==
        (hbone ? std::vector<std::string>{"10.0.4.1:9411"} : std::vector<std::string>{}));
}

TEST_CASE("a name that the mesh does not know is resolved", "[sim][waypoint][trace][5.5]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kZipkin, "10.0.4.1");
  collector.listen_plain();
  world.network.names["zipkin.example.com"] = {*base::IpAddr::parse("10.0.4.9"),
                                               *base::IpAddr::parse("10.0.4.1")};
  set_trace(world, rule_to(Protocol::kZipkin, "zipkin.example.com"));
  world.get("/api");
  // Nobody is at the first address; the second is tried next.
  world.loop.run_for(20s);
  CHECK(collector.spans().size() == 1);
  CHECK(header(collector.requests[0], ":authority") == "zipkin.example.com:9411");
}

TEST_CASE("spans wait while their collector is away", "[sim][waypoint][trace][5.5]") {
  auto protocol = GENERATE(Protocol::kZipkin, Protocol::kOtlpHttp, Protocol::kOtlpGrpc);
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, protocol, "10.0.4.1");
  collector.listen_plain();
  set_trace(world, rule_to(protocol, "10.0.4.1"));
  using Spans = waypoint::SpanExporter;
  auto set_busy = [&](bool busy) {
    collector.status = busy && protocol != Protocol::kOtlpGrpc ? 503 : 200;
    collector.grpc_status = busy && protocol == Protocol::kOtlpGrpc ? "14" : "0";
  };
  set_busy(true);
  world.get("/api");
  SECTION("it comes back in time") {
    world.loop.run_for(3s);
    CHECK(collector.spans().empty());
    CHECK(world.spans().counts().export_failures >= 1);
    CHECK(world.spans().queued() == 1);
    set_busy(false);
    world.loop.run_for(20s);
    CHECK(collector.spans().size() == 1);
    CHECK(world.spans().counts().sent == 1);
  }
  SECTION("it does not") {
    world.loop.run_for(2min);
    CHECK(collector.requests.size() == Spans::kAttemptsMax);
    CHECK(world.spans().counts().dropped_failed == 1);
    CHECK(world.spans().counts().sent == 0);
  }
  SECTION("it refuses for good") {
    collector.status = 400;
    collector.grpc_status = "3";
    if (protocol == Protocol::kOtlpGrpc) collector.status = 200;
    world.loop.run_for(2min);
    CHECK(collector.requests.size() == 1);
    CHECK(world.spans().counts().rejected == 1);
  }
  SECTION("it takes too long") {
    set_busy(false);
    collector.delay = 60s;
    world.loop.run_for(10s);
    CHECK(world.spans().counts().export_failures >= 1);
    collector.delay = 0s;
    world.loop.run_for(20s);
    CHECK(world.spans().counts().sent == 1);
  }
  CHECK(world.spans().queued() == 0);
}

TEST_CASE("the queue is bounded, and batches are", "[sim][waypoint][trace][5.5]") {
  using Spans = waypoint::SpanExporter;
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kOtlpHttp, "10.0.4.1");
  collector.listen_plain();
  set_trace(world, rule_to(Protocol::kOtlpHttp, "10.0.4.1"));
  world.get("/api");
  world.loop.run_for(2s);
  REQUIRE(collector.spans().size() == 1);
  waypoint::RequestRecord record = world.telemetry.records[0];
  SECTION("above kWaitingMax they are dropped, and counted") {
    for (size_t i = 0; i < Spans::kWaitingMax + 10; ++i) world.spans().finished(record);
    world.loop.run_for(10s);
    CHECK(collector.spans().size() == Spans::kWaitingMax + 1);
    CHECK(collector.requests.size() == 1 + Spans::kWaitingMax / Spans::kBatchMax);
    CHECK(world.spans().counts().dropped_full == 10);
  }
  SECTION("before they are looked at, above kQueuedMax") {
    for (size_t i = 0; i < Spans::kQueuedMax + 10; ++i) world.spans().finished(record);
    CHECK(world.spans().queued() == Spans::kQueuedMax);
    CHECK(world.spans().counts().dropped_full == 10);
  }
  SECTION("rules that name too many collectors") {
    for (size_t i = 0; i < Spans::kCollectorsMax + 3; ++i) {
      TraceRule other = rule_to(Protocol::kOtlpHttp, "10.0.4." + std::to_string(1 + i));
      record.trace->rule = std::make_shared<TraceRule>(other);
      world.spans().finished(record);
    }
    world.loop.run_for(1s);
    CHECK(world.spans().counts().dropped_full == 3);
    // Those that nobody asks for any more make room.
    world.loop.run_for(Spans::kIdleMax + 5min);
    uint64_t sent = world.spans().counts().sent;
    world.spans().finished(world.telemetry.records[0]);
    record.trace->rule = std::make_shared<TraceRule>(rule_to(Protocol::kOtlpHttp, "10.0.4.99"));
    world.spans().finished(record);
    world.loop.run_for(2s);
    CHECK(world.spans().counts().sent == sent + 1);
    CHECK(world.spans().counts().dropped_full == 3);
    world.loop.run_for(5min);
  }
  std::string text = world.spans().render_metrics();
  CHECK(text.find("mesh_waypoint_spans_dropped_total{reason=\"queue_full\"} " +
                  std::to_string(world.spans().counts().dropped_full.load())) != std::string::npos);
}

TEST_CASE("closing sends what waits, within its deadline", "[sim][waypoint][trace][5.5]") {
  WaypointWorld world;
  world.add_pod("a", "10.0.3.1", "v1");
  CollectorHost collector(world, Protocol::kZipkin, "10.0.4.1");
  bool there = GENERATE(true, false);
  if (there) collector.listen_plain();
  set_trace(world, rule_to(Protocol::kZipkin, "10.0.4.1"));
  world.get("/api");
  base::TimePoint began = world.loop.now();
  world.loop.run(world.spans().close(async::Deadline::in(world.loop, 3s)));
  CHECK(world.spans().counts().sent == (there ? 1 : 0));
  CHECK(world.spans().counts().dropped_failed == (there ? 0 : 1));
  CHECK(world.loop.now() - began <= 3s);
  CHECK(world.spans().queued() == 0);
}

}  // namespace culvert::test
