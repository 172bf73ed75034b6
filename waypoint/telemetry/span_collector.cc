// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/span_collector.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "net/conn/tls_dial.h"
#include "net/wire/grpc_frame.h"
#include "waypoint/headers.h"
#include "waypoint/telemetry/span_encoding.h"
#include "waypoint/upstream/side_call.h"

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using base::Result;
using Kind = SpanDelivery::Kind;
using Protocol = model::TraceRule::Protocol;

constexpr char kGrpcPath[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

std::string value_of(const model::TraceTag& tag) {
  if (tag.kind != model::TraceTag::Kind::kEnvironment) return tag.value;
  const char* value = std::getenv(tag.value.c_str());
  return value ? value : tag.fallback;
}

SpanDelivery later(std::string reason, base::Duration wait = base::Duration{0}) {
  return {Kind::kLater, 0, std::move(reason), wait};
}
SpanDelivery refused(std::string reason) { return {Kind::kRefused, 0, std::move(reason), {}}; }

// Retry-After in seconds; the form with a date counts for nothing.
base::Duration wish_of(const wire::Headers& response) {
  constexpr unsigned kSecondsMax = 300;
  const std::string* text = header_of(response, "retry-after");
  unsigned seconds = 0;
  if (!text) return base::Duration{0};
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (error != std::errc{} || end != text->data() + text->size()) return base::Duration{0};
  return std::chrono::seconds(std::min(seconds, kSecondsMax));
}

bool wants_again(Protocol protocol, uint16_t status) {
  if (status == 429) return true;
  if (protocol == Protocol::kZipkin) return status >= 500;
  return status == 502 || status == 503 || status == 504;
}

SpanDelivery judge_taken(std::string_view body) {
  std::optional<OtlpAnswer> answer = read_otlp_answer(body);
  // The batch is with them; sending it again would double it.
  if (!answer) return {Kind::kTaken, 0, "the answer is no ExportTraceServiceResponse", {}};
  return {Kind::kTaken, answer->rejected, std::move(answer->reason), {}};
}

SpanDelivery judge_grpc(const wire::Headers& response, const wire::Headers& trailers, std::string_view body) {
  uint16_t http = status_of(response);
  const wire::Headers& end = header_of(trailers, "grpc-status") ? trailers : response;
  std::optional<uint32_t> status = grpc_status_in(end);
  if (!status) {
    std::string reason = fmt::format("HTTP status {} without a grpc-status", http);
    return http == 200 || wants_again(Protocol::kOtlpGrpc, http) ? later(reason) : refused(reason);
  }
  if (*status == 0) {
    base::ByteQueue queue;
    queue.append(base::as_bytes(body));
    Result<std::optional<std::string>> message =
        wire::take_grpc_message(queue, SpanCollector::kAnswerBytesMax);
    return judge_taken(message && *message ? **message : std::string());
  }
  const std::string* text = header_of(end, "grpc-message");
  std::string reason =
      fmt::format("grpc-status {}: {}", *status, text ? wire::grpc_percent_decode(*text) : "");
  // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
  constexpr uint32_t kAgain[] = {1, 4, 10, 11, 14, 15};
  bool again = std::find(std::begin(kAgain), std::end(kAgain), *status) != std::end(kAgain);
  return again ? later(std::move(reason)) : refused(std::move(reason));
}

}  // namespace

SpanDelivery judge_span_answer(Protocol protocol, const wire::Headers& response,
                               const wire::Headers& trailers, std::string_view body) {
  if (protocol == Protocol::kOtlpGrpc) return judge_grpc(response, trailers, body);
  uint16_t status = status_of(response);
  if (status >= 200 && status < 300) {
    return protocol == Protocol::kZipkin ? SpanDelivery() : judge_taken(body);
  }
  std::string reason = fmt::format("HTTP status {}", status);
  return wants_again(protocol, status) ? later(std::move(reason), wish_of(response))
                                       : refused(std::move(reason));
}

SpanCollector::SpanCollector(Parts& parts, std::shared_ptr<const model::TraceRule> rule)
    : parts_(parts), rule_(std::move(rule)) {
  size_t slash = rule_->host.find('/');
  if (slash != std::string::npos) ns_ = rule_->host.substr(0, slash);
  host_ = slash == std::string::npos ? rule_->host : rule_->host.substr(slash + 1);
}

SpanCollector::~SpanCollector() = default;

bool SpanCollector::serves(const model::TraceRule& rule) const {
  return rule_.get() == &rule ||
         (rule_->protocol == rule.protocol && rule_->host == rule.host && rule_->port == rule.port &&
          rule_->path == rule.path && rule_->headers == rule.headers && rule_->timeout == rule.timeout);
}

async::Task<SpanDelivery> SpanCollector::send(MeshStateRef state, std::string body) {
  base::Duration timeout = rule_->timeout.count() > 0 ? rule_->timeout : kTimeoutDefault;
  async::Deadline deadline = async::Deadline::in(parts_.loop, timeout);
  Result<SpanDelivery> delivery = co_await async::with_deadline(
      parts_.loop, deadline, "send spans", deliver(std::move(state), std::move(body), deadline));
  if (!delivery) co_return later(delivery.error().message());
  co_return std::move(*delivery);
}

async::Task<Result<SpanDelivery>> SpanCollector::deliver(MeshStateRef state, std::string body,
                                                         async::Deadline deadline) {
  Result<Way> way = co_await find(std::move(state), deadline);
  if (!way) co_return fail(std::move(way).error());
  std::optional<HostUse> use;
  if (way->host) use.emplace(way->host);
  auto report = [&way](decide::HostOutcome outcome) {
    if (way->cluster) way->cluster->report(*way->host, outcome);
  };
  std::expected<HttpPool::Lease, UpstreamFailure> lease = co_await way->pool->acquire(way->policy, deadline);
  if (!lease) {
    report({decide::HostOutcome::Kind::kConnectFailure, 0});
    co_return fail(Code::kUnavailable, lease.error().reason);
  }
  if (grpc()) body = wire::grpc_frame(body);
  Result<std::unique_ptr<conn::HttpStream>> stream = lease->open(request_headers(body.size()), false);
  if (!stream) co_return fail(std::move(stream).error());
  Result<SideAnswer> answer = co_await converse(**stream, std::move(body), kAnswerBytesMax, deadline);
  if (!answer) {
    report({decide::HostOutcome::Kind::kReset, 0});
    co_return fail(std::move(answer).error());
  }
  report({decide::HostOutcome::Kind::kResponse, status_of(answer->headers)});
  co_return judge_span_answer(rule_->protocol, answer->headers, answer->trailers, answer->body);
}

wire::Headers SpanCollector::request_headers(size_t body_bytes) const {
  std::string_view type = rule_->protocol == Protocol::kZipkin     ? "application/json"
                          : rule_->protocol == Protocol::kOtlpHttp ? "application/x-protobuf"
                                                                   : "application/grpc";
  std::string_view usual = rule_->protocol == Protocol::kZipkin ? "/api/v2/spans" : "/v1/traces";
  std::string path = grpc() ? kGrpcPath : rule_->path.empty() ? std::string(usual) : rule_->path;
  wire::Headers headers{{":method", "POST"},
                        {":scheme", "http"},
                        {":authority", conn::authority(host_, rule_->port)},
                        {":path", std::move(path)},
                        {"content-type", std::string(type)},
                        {"user-agent", "culvert"}};
  if (grpc()) {
    headers.emplace_back("te", "trailers");
  } else {
    headers.emplace_back("content-length", std::to_string(body_bytes));
  }
  for (const auto& [name, tag] : rule_->headers) set_header(headers, name, value_of(tag));
  return headers;
}

// The name as it is written, else as Kubernetes would complete it.
model::ServiceRef SpanCollector::service_named(const MeshState& state) const {
  if (!ns_.empty()) return state.mesh->service(ns_, host_);
  std::string_view ns = parts_.self.identity.ns.view();
  std::string domain = ".svc." + parts_.cluster_domain;
  std::string names[] = {host_, fmt::format("{}.{}{}", host_, ns, domain), host_ + domain,
                         fmt::format("{}.{}", host_, parts_.cluster_domain)};
  for (const std::string& name : names) {
    if (model::ServiceRef found = state.mesh->service_by_host(name, ns)) return found;
  }
  return nullptr;
}

Result<SpanCollector::Way> SpanCollector::through(Cluster* cluster, std::string_view what) {
  if (!cluster) return fail(Code::kNotFound, fmt::format("{} has no port {}", what, rule_->port));
  HostRef host = cluster->pick({});
  if (!host) return fail(Code::kUnavailable, fmt::format("{} has no healthy endpoint", what));
  Way way;
  way.pool = &cluster->pool(host, grpc(), {parts_.self.ip, 0}, host->address);
  way.policy = cluster->policy();
  way.cluster = cluster;
  way.host = std::move(host);
  return way;
}

Result<SpanCollector::Way> SpanCollector::by_address(const MeshState& state, const base::IpAddr& ip) {
  std::string_view network = parts_.self.network;
  if (model::WorkloadRef pod = state.mesh->workload_at(network, ip)) {
    return through(parts_.upstreams.pod(pod, rule_->port).get(), "pod " + pod->name);
  }
  if (model::ServiceRef service = state.mesh->service_at(network, ip, std::nullopt)) {
    ClusterKey key{service->key(), rule_->port, "", ""};
    return through(parts_.upstreams.find(state, key).get(), "service " + service->key().to_string());
  }
  base::SocketAddr address{ip, rule_->port};
  if (!outside_ || outside_address_ != address) {
    outside_address_ = address;
    DialTarget target{.address = address,
                      .http2 = grpc(),
                      .host = host_,
                      .client = {parts_.self.ip, 0},
                      .dialled = address};
    outside_ = std::make_unique<HttpPool>(
        parts_.loop, parts_.dialer, std::make_shared<Limits>(), std::move(target), [] { return false; },
        parts_.rng.fork());
  }
  Way way;
  way.pool = outside_.get();
  return way;
}

async::Task<Result<SpanCollector::Way>> SpanCollector::find(MeshStateRef state, async::Deadline deadline) {
  Result<base::IpAddr> ip = base::IpAddr::parse(host_);
  if (ip) co_return by_address(*state, *ip);
  if (model::ServiceRef service = service_named(*state)) {
    ClusterKey key{service->key(), rule_->port, "", ""};
    std::shared_ptr<Cluster> cluster = parts_.upstreams.find(*state, key);
    if (cluster && cluster->unresolved()) co_await cluster->resolve(state, deadline);
    co_return through(cluster.get(), "service " + service->key().to_string());
  }
  Result<std::vector<base::IpAddr>> addresses = co_await parts_.network.resolve(host_, deadline);
  if (!addresses) co_return fail(std::move(addresses).error().wrap("resolve " + host_));
  if (addresses->empty()) co_return fail(Code::kNotFound, host_ + " has no address");
  // The next one after a failure, and every time: whoever has several shares the load among them.
  co_return by_address(*state, (*addresses)[resolved_++ % addresses->size()]);
}

}  // namespace culvert::waypoint
