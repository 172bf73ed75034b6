// SPDX-License-Identifier: Apache-2.0
// The resources of a waypoint: every field there and back, and what is refused.
#include "mesh/xds/waypoint_proto.h"

#include <catch2/catch.hpp>

#include "proto/waypoint.pb.h"

namespace culvert::xds {
namespace {

using namespace model;
using namespace std::chrono_literals;
namespace pbw = ::culvert::waypoint::v1;

TextMatch regex(const char* text) { return *TextMatch::make(TextMatch::Kind::kRegex, text); }

RouteTarget target(const char* host, const char* subset, uint32_t weight) {
  RouteTarget out;
  out.service = {"shop", host};
  out.subset = subset;
  out.port = 8080;
  out.weight = weight;
  out.request.set = {{"x-a", "1"}};
  out.response.remove = {"x-b"};
  out.rewrite.authority = "other";
  return out;
}

WaypointService rich_service() {
  WaypointService s;
  s.service = {"shop", "cart.shop.svc.cluster.local"};
  HttpRoute route;
  route.name = "canary";
  route.origin = "VirtualService shop/cart";
  RouteMatch match;
  match.name = "m";
  match.path = *TextMatch::make(TextMatch::Kind::kPathPrefix, "/api");
  match.method = TextMatch::exact("GET");
  match.headers = {{"user-agent", regex(".*Chrome.*"), true}};
  match.query = {{"v", TextMatch::present()}};
  match.claims = {{{"groups", "x"}, TextMatch::prefix("a"), false}};
  match.source = {
      {{"app", "web"}}, "shop", {*base::Cidr::parse("10.0.0.0/8"), *base::Cidr::parse("fd00::/8")}};
  match.grpc = true;
  route.matches = {match, RouteMatch{}};
  route.targets = {target("v1", "v1", 90), target("v2", "v2", 10)};
  route.rewrite.path = {PathEdit::Kind::kRegex, "\\1", *Regex::compile("^/a(.*)")};
  route.timeout = 30s;
  route.retries =
      RetryPolicy{3, 10s, kRetry5xx | kRetryStatusCodes, {409, 503}, {"x-retry"}, 50ms, false, true};
  route.fault = FaultInjection{1s, 50, 503, 14u, 0.5};
  route.mirrors = {{target("shadow", "", 1), 5}};
  route.cors = Cors{{TextMatch::exact("*")}, {"GET"}, {"x"}, {"y"}, 5s, true, false};
  HttpRoute moved;
  moved.redirect =
      Redirect{{PathEdit::Kind::kFull, "/new", {}}, "h", "https", 8443, Redirect::PortFrom::kRequest, 308};
  HttpRoute fixed;
  fixed.direct = DirectResponse{418, std::string("tea\0pot", 7)};
  route.session = SessionPersistence{"s", false, true, 1h, 5min};
  HttpRoute broken;
  broken.broken = "no such backend";
  TcpRoute tcp{"t", "TCPRoute shop/t",   true, {"*.a", "b"}, {*base::Cidr::parse("10.1.0.0/16")},
               {},  {target("x", "", 1)}};
  PortRoutes port{80, std::vector<HttpRoute>{route, moved, fixed, broken}, std::vector<TcpRoute>{tcp}};
  s.routes.ports = {port, PortRoutes{81, std::nullopt, std::nullopt},
                    PortRoutes{82, std::vector<HttpRoute>{}, {}}};
  s.routes.by_client_namespace["front"] = {port};

  HttpPolicy policy{"shop", "p", HttpPolicy::Action::kCustom, true,
                    "ext",  {},  LabelMap{{"app", "cart"}},   true};
  HttpRule rule;
  HttpSource source;
  source.principals = {{TextMatch::prefix("a")}, {TextMatch::exact("b")}};
  source.service_accounts.any = {{"shop", "web"}};
  source.trust_domains.any = {TextMatch::exact("cluster.local")};
  source.remote_ip_blocks.none = {*base::Cidr::parse("192.0.2.0/24")};
  rule.from = {source};
  HttpOperation operation;
  operation.paths.any = {*TextMatch::make(TextMatch::Kind::kPathTemplate, "/a/{*}/b/{**}")};
  operation.ports = {{80, 443}, {81}};
  rule.to = {operation};
  Condition when;
  when.key = Condition::Key::kRequestClaim;
  when.path = {"a", "b"};
  when.values.any = {*TextMatch::make(TextMatch::Kind::kSuffix, "z")};
  rule.when = {when};
  policy.rules = {rule, HttpRule{}};
  s.guard.policies = {policy};
  JwtRule jwt{"https://i",
              {"aud"},
              "{}",
              true,
              {{TokenPlace::Kind::kHeader, "authorization", "Bearer "}},
              "x-payload",
              {{"x-sub", "sub"}},
              true,
              {"roles"}};
  s.guard.authentications = {{"shop", "ra", {jwt}, std::nullopt, false}};
  RateLimitRule limit;
  limit.name = "r";
  limit.matches = {match};
  limit.from = {source};
  limit.key = {{RateLimitKey::Kind::kHeader, "x-user"}, {RateLimitKey::Kind::kSourcePrincipal, ""}};
  limit.requests = 100;
  limit.per = 1min;
  limit.burst = 200;
  limit.global = true;
  RateLimitService counts{{"rl", "ratelimit.rl.svc.cluster.local"}, 8081, "shop", 20ms, true};
  s.guard.rate_limits = {{"shop", "rl", true, {limit}, 429, RateLimitPolicy::HeaderStyle::kBoth, 14, counts}};
  Authorizer opa{"opa",
                 true,
                 {"auth", "opa.auth.svc.cluster.local"},
                 9191,
                 2s,
                 true,
                 true,
                 418,
                 Authorizer::Body{4096, true, true},
                 "/check",
                 {TextMatch::prefix("x-")},
                 {{"x-from", "mesh"}},
                 {TextMatch::exact("x-user")},
                 {TextMatch::exact("x-seen")},
                 {*TextMatch::make(TextMatch::Kind::kSuffix, "-why")}};
  s.guard.authorizers = {opa, {"plain", false, {"auth", "grpc.auth.svc.cluster.local"}, 9000}};
  s.telemetry.metrics = {{"istio_requests_total", false, {{"path", "request.path"}, {"gone", ""}}}};
  s.telemetry.access_logs = {{false, "response.code >= 400"}};
  s.telemetry.trace = TraceRule{TraceRule::Protocol::kOtlpGrpc,
                                "jaeger",
                                4317,
                                "/p",
                                12.5,
                                true,
                                false,
                                false,
                                {{"env", {TraceTag::Kind::kEnvironment, "HOME", "none"}}},
                                true,
                                false,
                                {{"authorization", {TraceTag::Kind::kLiteral, "Bearer x", ""}}},
                                7s,
                                99};
  return s;
}

Backend rich_backend() {
  Backend b;
  b.service = {"shop", "cart.shop.svc.cluster.local"};
  TrafficPolicy policy;
  policy.balancer.kind = Balancer::Kind::kRingHash;
  policy.balancer.hash = HashPolicy{HashPolicy::Kind::kCookie, "c", 0s, "/", {{"SameSite", "Lax"}}};
  policy.balancer.locality.distribute = {{"eu/1/*", {{"eu/2/*", 20}, {"eu/1/*", 80}}}};
  policy.balancer.locality.failover = {{"eu", "us"}};
  policy.balancer.warmup = 30s;
  policy.pool.connections_max = 100;
  policy.pool.upgrade = PoolLimits::Upgrade::kUpgrade;
  policy.pool.requests_per_connection_max = 2;
  policy.outliers = OutlierDetection{};
  policy.outliers->error_codes = {{500, 503}};
  policy.outliers->request_volume_min = 10;
  policy.tls = BackendTls{false, "sni", {"a"}, "roots", "cert", "key", "owner", "broken"};
  policy.tunnel = HttpTunnel{"h:1", "broken"};
  policy.retry_budget = RetryBudget{30, 5};
  policy.proxy_protocol = 2;
  policy.session = SessionPersistence{"x-s", true, false, 0s, 10s};
  b.policy.all = policy;
  b.policy.by_port[8443] = TrafficPolicy{};
  b.subsets = {{"v1", {{"version", "v1"}}, b.policy}};
  b.names = Backend::Names::kRace;
  return b;
}

}  // namespace

TEST_CASE("every field goes there and back") {
  WaypointService service = rich_service();
  auto decoded = decode_waypoint_service(base::as_bytes(encode(service)), "shop/cart.shop.svc.cluster.local");
  REQUIRE(decoded.has_value());
  CHECK(*decoded == service);
  CHECK(encode(*decoded) == encode(service));
  Backend backend = rich_backend();
  auto again = decode_backend(base::as_bytes(encode(backend)), "");
  REQUIRE(again.has_value());
  CHECK(*again == backend);
  WorkloadLabels labels{"c//Pod/shop/x", {{"a", "1"}, {"b", "2"}}};
  CHECK(*decode_workload_labels(base::as_bytes(encode(labels)), labels.uid) == labels);
  WaypointSettings settings;
  settings.access_log_file = "/dev/stdout";
  settings.paths = WaypointSettings::PathNormalization::kDecodeAndMergeSlashes;
  settings.default_retries.attempts = 0;
  settings.trust_domain_aliases = {"old"};
  settings.dns_refresh = 5s;
  settings.session_key = std::string("\0\xff key", 6);
  CHECK(*decode_waypoint_settings(base::as_bytes(encode(settings)), kSettingsName) == settings);
  CHECK(*decode_waypoint_service(base::as_bytes(encode(WaypointService{})), "") == WaypointService{});
}

TEST_CASE("what a waypoint does not know is refused, and says where") {
  pbw::WaypointService good;
  REQUIRE(good.ParseFromString(encode(rich_service())));
  auto refused = [](const pbw::WaypointService& message) {
    auto decoded = decode_waypoint_service(base::as_bytes(message.SerializeAsString()), "");
    REQUIRE_FALSE(decoded.has_value());
    return decoded.error().message();
  };
  auto changed = good;
  changed.set_version(2);
  CHECK(refused(changed).find("version") != std::string::npos);
  changed = good;
  changed.mutable_policies(0)->set_action(static_cast<pbw::HttpPolicy::Action>(9));
  CHECK(refused(changed).find("action") != std::string::npos);
  changed = good;
  changed.mutable_policies(0)->set_action(pbw::HttpPolicy::ACTION_UNSPECIFIED);
  refused(changed);
  changed = good;
  changed.mutable_ports(0)->set_port(70000);
  CHECK(refused(changed).find("port") != std::string::npos);
  changed = good;
  changed.mutable_ports(0)
      ->mutable_http(0)
      ->mutable_matches(0)
      ->mutable_headers(0)
      ->mutable_value()
      ->set_text("(");
  refused(changed);
  changed = good;
  changed.mutable_ports(0)->mutable_http(0)->set_timeout(-1);
  refused(changed);
  changed = good;
  changed.mutable_ports(0)->mutable_tcp(0)->mutable_destinations(0)->set_length(99);
  refused(changed);
  CHECK_FALSE(decode_waypoint_service(base::as_bytes(encode(rich_service())), "shop/other").has_value());
  CHECK_FALSE(decode_waypoint_service(base::as_bytes("\xff\xff"), "").has_value());
  CHECK_FALSE(decode_backend(base::as_bytes("\x08"), "").has_value());
}

}  // namespace culvert::xds
