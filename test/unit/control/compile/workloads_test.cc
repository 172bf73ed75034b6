// SPDX-License-Identifier: Apache-2.0
// Workloads from every source (spec control-plane sections 1.5 to 1.11).
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using control::Compiled;
using model::Workload;

// A ready Pod in namespace "a"; `meta` and `spec` are further fields in flow style, each ending with ", ".
std::string pod(const std::string& name, const std::string& ip, const std::string& meta = "",
                const std::string& spec = "") {
  return fmt::format(
      "apiVersion: v1\nkind: Pod\nmetadata: {{{}name: {}, namespace: a}}\nspec: {{{}nodeName: n}}\n"
      "status: {{phase: Running, podIP: {}}}\n---\n",
      meta, name, spec, ip);
}
std::string service(const std::string& name, const std::string& spec) {
  return fmt::format(
      "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: a}}\nspec: {{{}}}\n---\n", name, spec);
}
const Workload& the_only(const Compiled& compiled) {
  REQUIRE(compiled.workloads.size() == 1);
  return *compiled.workloads.begin()->second;
}
const Workload& of_pod(const Compiled& compiled, const std::string& name) {
  return *compiled.workloads.at("Kubernetes//Pod/a/" + name);
}
// "service:service_port>target_port ..." of a workload.
std::string members(const Workload& workload) {
  std::string out;
  for (const auto& member : workload.services) {
    std::string host = member.service.to_string();
    out += (out.empty() ? "" : " ") + host.substr(2, host.find('.') - 2) + ":";
    for (const auto& port : member.ports) out += fmt::format("{}>{},", port.service_port, port.target_port);
  }
  return out;
}

TEST_CASE("what a pod's workload is called", "[CP1.8]") {
  struct Row {
    std::string meta, workload, canonical, revision;
  };
  auto owned = [](const std::string& kind, const std::string& name) {
    return "generateName: g-, ownerReferences: [{kind: " + kind + ", name: " + name +
           ", controller: true}], ";
  };
  auto row = GENERATE_COPY(values<Row>({
      {"", "p-1", "p-1", "latest"},
      {owned("ReplicaSet", "web-5f6d") + "labels: {pod-template-hash: 5f6d}, ", "web", "web", "latest"},
      {owned("ReplicaSet", "web-5f6d") + "labels: {pod-template-hash: 6e7f}, ", "web-5f6d", "web-5f6d",
       "latest"},
      {owned("ReplicaSet", "roll-abc") + "labels: {rollouts-pod-template-hash: abc}, ", "roll", "roll",
       "latest"},
      {owned("StatefulSet", "db"), "db", "db", "latest"},
      {owned("Job", "tick-28312345"), "tick", "tick", "latest"},
      {owned("Job", "tick-283123456789"), "tick-283123456789", "tick-283123456789", "latest"},
      {owned("Job", "once"), "once", "once", "latest"},
      {"ownerReferences: [{kind: ReplicaSet, name: web, controller: true}], ", "p-1", "p-1", "latest"},
      {owned("DaemonSet", "d") + "labels: {service.istio.io/workload-name: own}, ", "own", "own", "latest"},
      {"labels: {app: x, version: v1}, ", "p-1", "x", "v1"},
      {"labels: {app: x, app.kubernetes.io/name: y, version: v1, app.kubernetes.io/version: v2}, ", "p-1",
       "y", "v2"},
      {"labels: {app: x, service.istio.io/canonical-name: z, service.istio.io/canonical-revision: v3}, ",
       "p-1", "z", "v3"},
  }));
  INFO(row.meta);
  Compiled out = compile_yaml(pod("p-1", "10.0.0.1", row.meta));
  const Workload& workload = the_only(out);
  CHECK(workload.workload_name.str() == row.workload);
  CHECK(workload.canonical_name.str() == row.canonical);
  CHECK(workload.canonical_revision.str() == row.revision);
}

TEST_CASE("how a workload is reached", "[CP1.7]") {
  struct Row {
    std::string meta;
    bool hbone, native;
  };
  auto row = GENERATE(values<Row>({
      {"", false, false},
      {"annotations: {ambient.istio.io/redirection: enabled}, ", true, false},
      {"annotations: {ambient.istio.io/redirection: pending}, ", false, false},
      {"labels: {istio.io/dataplane-mode: ambient}, ", false, false},
      {"labels: {networking.istio.io/tunnel: http}, ", true, true},
      {"labels: {networking.istio.io/tunnel: 'tcp,http'}, ", true, true},
      {"labels: {networking.istio.io/tunnel: http2}, ", false, false},
  }));
  INFO(row.meta);
  Compiled out = compile_yaml(pod("p", "10.0.0.1", row.meta));
  CHECK((the_only(out).protocol == model::TunnelProtocol::kHbone) == row.hbone);
  CHECK(the_only(out).native_tunnel == row.native);
}

TEST_CASE("a pod's place, account and network mode", "[CP1.5]") {
  Compiled out = compile_yaml(
      "apiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/region: r, "
      "topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}\n---\n"
      "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system, labels: {topology.istio.io/network: "
      "net}}\n---\n" +
      pod("p", "10.0.0.1", "", "hostNetwork: true, serviceAccountName: web, "));
  const Workload& workload = the_only(out);
  CHECK(workload.locality.region.str() == "r");
  CHECK(workload.locality.zone.str() == "z");
  CHECK(workload.locality.subzone.str() == "s");
  CHECK(workload.network.str() == "net");
  CHECK(workload.service_account.str() == "web");
  CHECK(workload.network_mode == model::NetworkMode::kHostNetwork);
  CHECK(workload.node.str() == "n");
  Compiled leaving = compile_yaml(pod("p", "10.0.0.1", "deletionTimestamp: '2026-01-01T00:00:00Z', "));
  CHECK(the_only(leaving).status == model::HealthStatus::kUnhealthy);
  CHECK(the_only(leaving).service_account.str() == "default");
}

TEST_CASE("which services a pod is in, and by which ports", "[CP1.11]") {
  const std::string app = "labels: {app: x, tier: t}, ";
  const std::string ports =
      "containers: [{name: c, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 53, "
      "protocol: UDP}]}], initContainers: [{name: once, ports: [{name: gone, containerPort: 1}]}, {name: "
      "side, "
      "restartPolicy: Always, ports: [{name: side, containerPort: 9090}]}], ";
  struct Row {
    std::string spec, expected;
  };
  auto row = GENERATE(values<Row>({
      {"selector: {app: x}, ports: [{port: 80, targetPort: 8000}]", "s:80>8000,"},
      {"selector: {app: x}, ports: [{port: 80}]", "s:80>80,"},
      {"selector: {app: x, tier: t}, ports: [{port: 80, targetPort: web}]", "s:80>8080,"},
      {"selector: {app: x}, ports: [{port: 80, targetPort: side}]", "s:80>9090,"},
      {"selector: {app: x}, ports: [{port: 80, targetPort: gone}]", "s:"},
      {"selector: {app: x}, ports: [{port: 80, targetPort: dns}, {port: 81}]", "s:81>81,"},
      {"selector: {app: x}, ports: [{port: 53, protocol: UDP}]", "s:"},
      {"selector: {app: y}, ports: [{port: 80}]", ""},
      {"selector: {app: x, tier: u}, ports: [{port: 80}]", ""},
      {"selector: {}, ports: [{port: 80}]", ""},
      {"ports: [{port: 80}]", ""},
      {"type: ExternalName, selector: {app: x}, ports: [{port: 80}]", ""},
      {"clusterIP: None, selector: {app: x}, ports: [{port: 80}]", "s:80>80,"},
  }));
  INFO(row.spec);
  Compiled out = compile_yaml(pod("p", "10.0.0.1", app, ports) + service("s", row.spec));
  CHECK(members(of_pod(out, "p")) == row.expected);
  // Never across namespaces.
  Compiled elsewhere = compile_yaml(
      pod("p", "10.0.0.1", app, ports) +
      fmt::format("apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: b}}\nspec: {{{}}}\n",
                  row.spec));
  CHECK(members(of_pod(elsewhere, "p")).empty());
}

TEST_CASE("endpoints that a slice names", "[CP1.11]") {
  auto slice = [](const std::string& endpoints, const std::string& more = "addressType: IPv4") {
    return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: sl, namespace: a, labels: "
           "{kubernetes.io/service-name: s}}\n" +
           more + "\nports: [{name: http, port: 8080}]\nendpoints: [" + endpoints + "]\n---\n";
  };
  const std::string base =
      pod("p", "10.0.0.1", "uid: u1, ") + service("s", "ports: [{name: http, port: 80}]");
  auto count = [](const Compiled& compiled) { return compiled.workloads.size(); };

  Compiled named = compile_yaml(
      base + slice("{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: a, name: p, uid: u1}}"));
  CHECK(members(of_pod(named, "p")) == "s:80>8080,");
  CHECK(count(named) == 1);
  Compiled other = compile_yaml(
      base + slice("{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: a, name: p, uid: u2}}"));
  CHECK(members(of_pod(other, "p")).empty());
  CHECK(count(other) == 1);

  Compiled bare = compile_yaml(base + slice("{addresses: [10.0.0.1]}, {addresses: [10.0.0.9], conditions: "
                                            "{ready: false}}, {addresses: [10.0.0.9]}"));
  CHECK(members(of_pod(bare, "p")).empty());
  REQUIRE(count(bare) == 3);
  const Workload& opaque = *bare.workloads.at("Kubernetes/discovery.k8s.io/EndpointSlice/a/sl/10.0.0.1");
  CHECK(members(opaque) == "s:80>8080,");
  CHECK(opaque.network_mode == model::NetworkMode::kHostNetwork);
  CHECK(opaque.protocol == model::TunnelProtocol::kNone);
  // The first of two equal addresses counts.
  CHECK(bare.workloads.at("Kubernetes/discovery.k8s.io/EndpointSlice/a/sl/10.0.0.9")->status ==
        model::HealthStatus::kUnhealthy);
  CHECK(count(compile_yaml(base + slice("{addresses: [x.example.com]}", "addressType: FQDN"))) == 1);
}

TEST_CASE("a WorkloadEntry", "[CP1.5][CP1.8]") {
  Compiled out = compile_yaml(
      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: a, labels: "
      "{app: "
      "meta}}\nspec: {address: 192.0.2.7, labels: {app: spec, tier: t, networking.istio.io/tunnel: http}, "
      "network: far, locality: r/z/s/t, weight: 3, serviceAccount: vm, ports: {http: 8081}}\n---\n" +
      service("by-tier", "selector: {tier: t}, ports: [{name: http, port: 80, targetPort: 8080}]") +
      service("by-app", "selector: {app: spec}, ports: [{port: 80}]"));
  const Workload& workload = the_only(out);
  CHECK(workload.uid == "Kubernetes/networking.istio.io/WorkloadEntry/a/vm");
  CHECK(workload.canonical_name.str() == "meta");  // metadata lies over spec
  CHECK(workload.native_tunnel);
  CHECK(workload.network.str() == "far");
  CHECK(workload.locality.subzone.str() == "s/t");
  CHECK(workload.capacity == 3);
  CHECK(workload.service_account.str() == "vm");
  CHECK(members(workload) == "by-tier:80>8081,");

  Compiled named = compile_yaml(
      "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: a}\n"
      "spec: {address: vm.example.com}\n");
  CHECK(the_only(named).addresses.empty());
  CHECK(the_only(named).hostname.str() == "vm.example.com");
}

TEST_CASE("a ServiceEntry's endpoints", "[CP1.5]") {
  auto entry = [](const std::string& name, const std::string& spec, const std::string& created = "2026") {
    return fmt::format(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}, namespace: a, "
        "creationTimestamp: '{}'}}\nspec: {{ports: [{{number: 80, name: http, protocol: HTTP, targetPort: "
        "8080}}], {}}}\n---\n",
        name, created, spec);
  };
  Compiled fixed = compile_yaml(entry("e",
                                      "hosts: [x.com], resolution: STATIC, endpoints: [{address: 192.0.2.1, "
                                      "network: n1, ports: {http: 9}}, {address: 192.0.2.2}]"));
  REQUIRE(fixed.workloads.size() == 2);
  const Workload& first = *fixed.workloads.at("Kubernetes/networking.istio.io/ServiceEntry/a/e/192.0.2.1");
  const Workload& second = *fixed.workloads.at("Kubernetes/networking.istio.io/ServiceEntry/a/e/192.0.2.2");
  CHECK(members(first) == "x:80>9,");
  CHECK(members(second) == "x:80>8080,");
  CHECK(first.network.str() == "n1");
  CHECK(second.network.empty());  // the first endpoint's network is its own

  Compiled by_name = compile_yaml(entry("e", "hosts: [x.com, y.com], resolution: DNS"));
  REQUIRE(by_name.workloads.size() == 2);
  const Workload& x = *by_name.workloads.at("Kubernetes/networking.istio.io/ServiceEntry/a/e/x.com");
  CHECK(x.hostname.str() == "x.com");
  CHECK(members(x) == "x:80>8080,");
  CHECK(compile_yaml(entry("e", "hosts: [x.com], resolution: STATIC")).workloads.empty());
  CHECK(compile_yaml(entry("e", "hosts: [x.com], resolution: NONE")).workloads.empty());

  // An entry that lost its only host has no endpoints; they come back with it.
  std::string older =
      entry("b", "hosts: [x.com], resolution: STATIC, endpoints: [{address: 192.0.2.1}]", "2025");
  std::string younger = entry("a", "hosts: [x.com], resolution: STATIC, endpoints: [{address: 192.0.2.2}]");
  Compiled both = compile_yaml(older + younger);
  CHECK(both.services.size() == 1);
  CHECK(the_only(both).uid == "Kubernetes/networking.istio.io/ServiceEntry/a/b/192.0.2.1");
  CHECK(the_only(compile_yaml(younger)).uid == "Kubernetes/networking.istio.io/ServiceEntry/a/a/192.0.2.2");

  Compiled selecting =
      compile_yaml(pod("p", "10.0.0.1", "labels: {app: x}, ",
                       "containers: [{ports: [{name: http, containerPort: 7}]}], ") +
                   entry("e", "hosts: [x.com], resolution: STATIC, workloadSelector: {labels: {app: x}}"));
  CHECK(members(of_pod(selecting, "p")) == "x:80>7,");
}

TEST_CASE("two pods with one address are told of", "[CP1.5]") {
  Compiled out = compile_yaml(pod("p", "10.0.0.1") + pod("q", "10.0.0.1"));
  CHECK(out.workloads.size() == 2);
  REQUIRE(out.findings.size() == 1);
  CHECK(out.findings[0].code == "MSH009");
  CHECK(out.findings[0].object == "Pod a/q");
  CHECK(out.findings[0].message.find("10.0.0.1 of Pod a/p") != std::string::npos);
  // Host-network pods share their node's.
  CHECK(compile_yaml(pod("p", "10.0.0.1", "", "hostNetwork: true, ") +
                     pod("q", "10.0.0.1", "", "hostNetwork: true, "))
            .findings.empty());
}

}  // namespace
}  // namespace culvert::test
