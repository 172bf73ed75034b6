// SPDX-License-Identifier: Apache-2.0
// Services, hosts that several objects claim, and who may use which waypoint (spec control-plane sections
// 1.10 and 1.12).
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using control::Compiled;

std::string object(const std::string& version, const std::string& kind, const std::string& meta,
                   const std::string& spec) {
  return fmt::format("apiVersion: {}\nkind: {}\nmetadata: {{{}}}\nspec: {{{}}}\n", version, kind, meta, spec);
}
std::string service(const std::string& spec, const std::string& meta = "") {
  return object("v1", "Service", meta + "name: s, namespace: a", spec) + "---\n";
}
std::string entry(const std::string& name, const std::string& ns, const std::string& spec,
                  const std::string& meta = "") {
  return object("networking.istio.io/v1", "ServiceEntry", meta + "name: " + name + ", namespace: " + ns,
                spec) +
         "---\n";
}
const model::Service& the_only(const Compiled& compiled) {
  REQUIRE(compiled.services.size() == 1);
  return *compiled.services.begin()->second;
}

TEST_CASE("what a port speaks", "[CP1.10]") {
  using P = model::AppProtocol;
  struct Row {
    const char* port;
    P expected;
  };
  auto row = GENERATE(values<Row>({
      {"name: http", P::kHttp11},
      {"name: http-web", P::kHttp11},
      {"name: HTTP-web", P::kHttp11},
      {"name: http2", P::kHttp2},
      {"name: grpc-api", P::kGrpc},
      {"name: grpc-web-ui", P::kUnknown},
      {"name: https", P::kTls},
      {"name: tls-x", P::kTls},
      {"name: tcp-x", P::kTcp},
      {"name: httpx", P::kUnknown},
      {"name: web", P::kUnknown},
      {"name: http, appProtocol: kubernetes.io/h2c", P::kHttp2},
      {"name: http, appProtocol: kubernetes.io/ws", P::kHttp11},
      {"name: http, appProtocol: kubernetes.io/wss", P::kTls},
      {"name: http, appProtocol: tcp", P::kTcp},
  }));
  INFO(row.port);
  Compiled out =
      compile_yaml(service(fmt::format("clusterIP: 10.0.0.1, ports: [{{port: 8000, {}}}]", row.port)));
  CHECK(the_only(out).ports.at(0).app_protocol == row.expected);
  // Servers that speak first.
  Compiled database = compile_yaml(service("clusterIP: 10.0.0.1, ports: [{port: 3306, name: db}]"));
  CHECK(the_only(database).ports.at(0).app_protocol == P::kTcp);
}

TEST_CASE("a Service's addresses and families", "[CP1.10]") {
  auto vips = [](const std::string& spec) {
    Compiled out = compile_yaml(service(spec));
    std::string text;
    for (const auto& vip : the_only(out).vips) text += vip.ip.to_string() + " ";
    return text;
  };
  CHECK(vips("clusterIP: 10.0.0.1") == "10.0.0.1 ");
  CHECK(vips("clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1']") == "10.0.0.1 fd00::1 ");
  CHECK(vips("clusterIP: None") == "");
  CHECK(vips("clusterIP: nonsense") == "");
  auto families = [](const std::string& list) {
    return the_only(compile_yaml(service("ipFamilies: [" + list + "]"))).ip_families;
  };
  CHECK(families("") == model::IpFamilies::kAutomatic);
  CHECK(families("IPv4") == model::IpFamilies::kV4Only);
  CHECK(families("IPv6") == model::IpFamilies::kV6Only);
  CHECK(families("IPv4, IPv6") == model::IpFamilies::kDual);
  CHECK(compile_yaml(service("type: ExternalName, externalName: x.com")).services.empty());

  control::CompileOptions options;
  std::vector<std::string> asked;
  options.allocate_vip = [&](const std::string& key) -> base::Result<base::IpAddr> {
    asked.push_back(key);
    return base::IpAddr::parse("240.241.0.1");
  };
  Compiled given = compile_yaml(service("ports: [{port: 80}]"), nullptr, options);
  CHECK(the_only(given).vips.at(0).ip.to_string() == "240.241.0.1");
  compile_yaml(service("clusterIP: None"), nullptr, options);
  compile_yaml(entry("e", "a", "hosts: ['*.x.com'], resolution: DNS"), nullptr, options);
  compile_yaml(entry("e", "a", "hosts: [x.com], resolution: NONE"), nullptr, options);
  compile_yaml(entry("e", "a", "hosts: [x.com], resolution: DNS",
                     "labels: {networking.istio.io/enable-autoallocate-ip: 'false'}, "),
               nullptr, options);
  CHECK(asked == std::vector<std::string>{"a/s.a.svc.cluster.local"});
  compile_yaml(entry("e", "a", "hosts: [x.com, y.com], resolution: DNS"), nullptr, options);
  CHECK(asked == std::vector<std::string>{"a/s.a.svc.cluster.local", "a/x.com", "a/y.com"});
}

TEST_CASE("how load is balanced", "[CP1.10]") {
  using S = model::BalanceScope;
  using M = model::BalanceMode;
  const std::vector<S> zone = {S::kNetwork, S::kRegion, S::kZone};
  const std::vector<S> node = {S::kNetwork, S::kRegion, S::kZone, S::kSubzone, S::kNode};
  struct Row {
    std::string spec, own, inherited;  // the annotations
    std::vector<S> scopes;
    M mode;
    bool all;  // unhealthy endpoints too
  };
  auto row = GENERATE_COPY(values<Row>({
      {"trafficDistribution: PreferClose", "", "", zone, M::kFailover, false},
      {"trafficDistribution: PreferSameZone", "", "", zone, M::kFailover, false},
      {"trafficDistribution: PreferSameNode", "", "", node, M::kFailover, false},
      {"", "preferclose", "", zone, M::kFailover, false},
      {"", "", "PreferSameNode", node, M::kFailover, false},
      {"", "PreferClose", "PreferSameNode", zone, M::kFailover, false},
      {"trafficDistribution: PreferSameNode", "PreferClose", "", node, M::kFailover, false},
      {"internalTrafficPolicy: Local, trafficDistribution: PreferClose",
       "",
       "",
       {S::kNode},
       M::kStrict,
       false},
      {"publishNotReadyAddresses: true, trafficDistribution: PreferClose", "", "", zone, M::kFailover, true},
  }));
  auto balancing = [](const Row& r) {
    const std::string key = "annotations: {networking.istio.io/traffic-distribution: ";
    std::string ns = r.inherited.empty() ? "" : key + r.inherited + "}, ";
    std::string own = r.own.empty() ? "" : key + r.own + "}, ";
    return the_only(
               compile_yaml(object("v1", "Namespace", ns + "name: a", "") + "---\n" + service(r.spec, own)))
        .load_balancing;
  };
  INFO(row.spec << " " << row.own << " " << row.inherited);
  auto out = balancing(row);
  REQUIRE(out);
  CHECK(out->routing_preference == row.scopes);
  CHECK(out->mode == row.mode);
  CHECK((out->health_policy == model::HealthPolicy::kAllowAll) == row.all);
  CHECK_FALSE(balancing({"", "", "", {}, M::kStrict, false}));
  // A value nobody knows ends the search.
  CHECK_FALSE(balancing({"", "Nearby", "PreferClose", {}, M::kStrict, false}));
  auto unready = balancing({"publishNotReadyAddresses: true", "", "", {}, M::kStrict, true});
  REQUIRE(unready);
  CHECK(unready->routing_preference.empty());
  CHECK(unready->health_policy == model::HealthPolicy::kAllowAll);
}

TEST_CASE("a ServiceEntry's addresses", "[CP1.10]") {
  Compiled out = compile_yaml(entry(
      "e", "a", "hosts: [x.com], addresses: [192.0.2.1, 10.1.2.3/16, 10.9.9.9/32], subjectAltNames: [b, a]"));
  const model::Service& service = the_only(out);
  REQUIRE(service.vips.size() == 2);
  CHECK(service.vips[1].ip.to_string() == "10.9.9.9");
  REQUIRE(service.cidr_vips.size() == 1);
  CHECK(service.cidr_vips[0].range.to_string() == "10.1.0.0/16");
  CHECK(service.subject_alt_names == std::vector<std::string>{"a", "b"});
  REQUIRE(service.load_balancing);
  CHECK(service.load_balancing->mode == model::BalanceMode::kPassthrough);
  CHECK(compile_yaml(entry("e", "a", "hosts: [x.com], addresses: [192.0.2.1, nonsense]")).services.empty());
  CHECK(compile_yaml(entry("e", "a", "hosts: [x.com, y.com], resolution: DNS")).services.size() == 2);
}

TEST_CASE("one host, several claims", "[CP1.10]") {
  auto dated = [](const std::string& when) { return "creationTimestamp: '" + when + "', "; };
  const std::string host = "hosts: [x.com]";
  // In one namespace the oldest counts, and at equal age the first by name.
  auto winner = [&](const std::string& a, const std::string& b) {
    return the_only(compile_yaml(entry("n1", "a", host, a) + entry("n2", "a", host, b))).name.str();
  };
  CHECK(winner(dated("2026"), dated("2025")) == "n2");
  CHECK(winner(dated("2025"), dated("2026")) == "n1");
  CHECK(winner("", "") == "n1");
  // Over namespaces each keeps its own, and one is canonical.
  Compiled two = compile_yaml(entry("e", "b", host, dated("2025")) + entry("e", "a", host, dated("2026")));
  CHECK(two.services.at("b/x.com")->canonical);
  CHECK_FALSE(two.services.at("a/x.com")->canonical);
  // A Service always wins over an entry of its name.
  const std::string own = "hosts: [s.a.svc.cluster.local]";
  Compiled mixed = compile_yaml(service("clusterIP: 10.0.0.1") + entry("e", "a", own, dated("1999")) +
                                entry("e", "b", own, dated("1999")));
  CHECK(mixed.services.at("a/s.a.svc.cluster.local")->vips.size() == 1);
  CHECK(mixed.services.at("a/s.a.svc.cluster.local")->canonical);
  CHECK_FALSE(mixed.services.at("b/s.a.svc.cluster.local")->canonical);
}

// A ready waypoint at 10.0.1.<number>.
std::string waypoint(const std::string& name, const std::string& ns, int number, const std::string& meta = "",
                     const std::string& listener = "") {
  return fmt::format(
      "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{{}name: {}, namespace: {}}}\n"
      "spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: "
      "HBONE{}}}]}}\n"
      "status: {{addresses: [{{type: IPAddress, value: 10.0.1.{}}}]}}\n---\n",
      meta, name, ns, listener, number);
}
std::string used(const Compiled& compiled) {
  const auto& service = *compiled.services.at("a/s.a.svc.cluster.local");
  return service.waypoint ? service.waypoint->to_string() : "";
}
std::string use(const std::string& labels) { return "labels: {" + labels + "}, "; }

TEST_CASE("which waypoint a service uses, and why it uses none", "[CP1.12]") {
  const std::string front = waypoint("front", "a", 1);
  const std::string all = ", allowedRoutes: {namespaces: {from: All}}";
  const std::string some =
      ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {ok: y}}}}";
  struct Row {
    std::string namespace_labels, labels, gateways, address, problem;
  };
  auto row = GENERATE_COPY(values<Row>({
      {"", "", front, "", ""},
      {"", "istio.io/use-waypoint: front", front, "10.0.1.1", ""},
      {"istio.io/use-waypoint: front", "", front, "10.0.1.1", ""},
      {"istio.io/use-waypoint: front", "istio.io/use-waypoint: none", front, "", ""},
      // A bad label of its own does not fall back to the namespace's.
      {"istio.io/use-waypoint: front", "istio.io/use-waypoint: bogus", front, "", "WaypointIsNotReady"},
      {"", "istio.io/use-waypoint: front, istio.io/use-waypoint-namespace: b", waypoint("front", "b", 2), "",
       "AttachmentDenied"},
      {"", "istio.io/use-waypoint: front, istio.io/use-waypoint-namespace: b",
       waypoint("front", "b", 2, "", all), "10.0.1.2", ""},
      {"", "istio.io/use-waypoint: front, istio.io/use-waypoint-namespace: b",
       waypoint("front", "b", 2, "", some), "", "AttachmentDenied"},
      {"ok: y", "istio.io/use-waypoint: front, istio.io/use-waypoint-namespace: b",
       waypoint("front", "b", 2, "", some), "10.0.1.2", ""},
      {"", "istio.io/use-waypoint: front", waypoint("front", "a", 1, use("istio.io/waypoint-for: workload")),
       "", "UnsupportedTrafficType"},
      {"", "istio.io/use-waypoint: front", waypoint("front", "a", 1, use("istio.io/waypoint-for: none")), "",
       "UnsupportedTrafficType"},
      {"", "istio.io/use-waypoint: front", waypoint("front", "a", 1, use("istio.io/waypoint-for: all")),
       "10.0.1.1", ""},
      {"istio.io/use-waypoint: front", "gateway.istio.io/managed: istio.io-mesh-controller", front, "", ""},
      {"istio.io/use-waypoint: front", "gateway.networking.k8s.io/gateway-name: front", front, "", ""},
  }));
  INFO(row.namespace_labels << " | " << row.labels << " | " << row.gateways);
  Compiled out = compile_yaml(object("v1", "Namespace", use(row.namespace_labels) + "name: a", "") + "---\n" +
                              row.gateways + service("clusterIP: 10.0.0.1", use(row.labels)));
  CHECK(used(out).find(row.address) != std::string::npos);
  CHECK(used(out).empty() == row.address.empty());
  bool told = false;
  for (const control::Finding& finding : out.findings) told |= finding.message.starts_with(row.problem);
  CHECK(told == !row.problem.empty());
}

TEST_CASE("a canary waypoint", "[CP1.12]") {
  const std::string gateways = waypoint("front", "a", 1) + waypoint("next", "a", 2);
  auto weights = [&](const std::string& canary, const std::string& weight) {
    std::string meta = use("istio.io/use-waypoint: front, istio.io/use-waypoint-canary: " + canary);
    if (!weight.empty()) meta += "annotations: {istio.io/use-waypoint-canary-weight: '" + weight + "'}, ";
    Compiled out = compile_yaml(gateways + service("clusterIP: 10.0.0.1", meta));
    // Whatever becomes of the canary, the primary stays.
    CHECK(used(out).find("10.0.1.1") != std::string::npos);
    std::string text;
    for (const auto& one : out.services.at("a/s.a.svc.cluster.local")->weighted_waypoints)
      text += fmt::format("{} ", one.weight);
    return text;
  };
  CHECK(weights("next", "30") == "70 30 ");
  CHECK(weights("next", "") == "100 0 ");
  CHECK(weights("next", "100") == "0 100 ");
  for (const char* bad : {"101", "-1", "x", "3x"}) CHECK(weights("next", bad) == "");
  CHECK(weights("front", "30") == "");
  CHECK(weights("bogus", "30") == "");
}

TEST_CASE("a workload and a waypoint for services", "[CP1.12]") {
  const std::string pod =
      "apiVersion: v1\nkind: Pod\nmetadata: {{{}name: p, namespace: a}}\nstatus: {{podIP: 10.0.0.5}}\n---\n";
  auto compile_pod = [&](const std::string& ns, const std::string& labels, const std::string& gateways) {
    return compile_yaml(object("v1", "Namespace", use(ns) + "name: a", "") + "---\n" + gateways +
                        fmt::format(fmt::runtime(pod), use(labels)));
  };
  auto workload = [](const Compiled& out) { return *out.workloads.at("Kubernetes//Pod/a/p"); };
  const std::string front = waypoint("front", "a", 1);
  Compiled inherited = compile_pod("istio.io/use-waypoint: front", "", front);
  CHECK_FALSE(workload(inherited).waypoint);
  CHECK(inherited.findings.empty());  // it asked for nothing
  Compiled asked = compile_pod("", "istio.io/use-waypoint: front", front);
  CHECK_FALSE(workload(asked).waypoint);
  CHECK(asked.findings.size() == 1);
  CHECK(workload(compile_pod("istio.io/use-waypoint: front", "",
                             waypoint("front", "a", 1, use("istio.io/waypoint-for: all"))))
            .waypoint);
  // An instance of the waypoint itself: bytes are handed to it as the Gateway says.
  for (const auto& [binding, expected] :
       std::map<std::string, std::optional<uint16_t>>{{"PROXY/15088", 15088},
                                                      {"PROXY", 0},
                                                      {"NONE", 0},
                                                      {"garbage", std::nullopt},
                                                      {"PROXY/x", std::nullopt}}) {
    Compiled instance =
        compile_pod("istio.io/use-waypoint: front", "gateway.networking.k8s.io/gateway-name: front",
                    waypoint("front", "a", 1,
                             "annotations: {ambient.istio.io/waypoint-inbound-binding: " + binding + "}, "));
    INFO(binding);
    CHECK_FALSE(workload(instance).waypoint);
    REQUIRE(workload(instance).app_tunnel.has_value() == expected.has_value());
    if (expected) CHECK(workload(instance).app_tunnel->port == *expected);
  }
}

}  // namespace
}  // namespace culvert::test
