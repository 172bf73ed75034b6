// SPDX-License-Identifier: Apache-2.0
// External authorizers: whom CUSTOM policies ask, from meshConfig.extensionProviders.
#include <catch2/catch.hpp>

#include "test/unit/control/compile/objects.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using Catch::Contains;
using control::Compiled;
using model::TextMatch;

const std::string kMesh = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: way}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status: {addresses: [{type: IPAddress, value: 10.0.0.5}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: opa, namespace: auth}
spec: {clusterIP: 10.96.0.9, selector: {app: opa}, ports: [{name: http, port: 9191}, {name: grpc, port: 9192}]}
)";

std::string providers(const std::string& text) {
  return "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh, namespace: "
         "istio-system}\nspec: {meshConfig: {extensionProviders: [" +
         text + "]}}\n";
}

std::string policy(const std::string& provider, const std::string& name = "p") {
  return "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: " + name +
         ", namespace: shop}\nspec: {targetRefs: [{kind: Service, group: \"\", name: api}], action: CUSTOM, "
         "provider: {name: " +
         provider + "}, rules: [{}]}\n";
}

const model::Guard& guard(const Compiled& mesh) {
  return mesh.waypoint_services.at("shop/api.shop.svc.cluster.local")->guard;
}

std::string refused(const Compiled& mesh) {
  std::string out;
  for (const auto& one : mesh.findings) {
    if (one.code == "MSH026") out += one.object + ": " + one.message + "\n";
  }
  return out;
}

}  // namespace

TEST_CASE("a provider with every field", "[waypoint-2.6.6]") {
  Compiled mesh =
      compile_yaml(kMesh + policy("opa") + policy("opa", "q") + policy("grpc", "r") + providers(R"(
{name: opa, envoyExtAuthzHttp: {service: auth/opa.auth.svc.cluster.local, port: 9191, timeout: 2s,
  failOpen: true, clearRouteCache: true, statusOnError: "418", pathPrefix: /check,
  includeRequestHeadersInCheck: [X-Ask, "x-a*", "*-b"], includeAdditionalHeadersInCheck: {X-From: mesh},
  includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true, packAsBytes: true},
  headersToUpstreamOnAllow: [x-user], headersToDownstreamOnAllow: [x-seen], headersToDownstreamOnDeny: [x-why]}},
{name: grpc, envoyExtAuthzGrpc: {service: opa.auth.svc, port: 9192, timeout: 1s}})"));
  model::Authorizer opa;
  opa.name = "opa";
  opa.http = true;
  opa.service = {"auth", "opa.auth.svc.cluster.local"};
  opa.port = 9191;
  opa.timeout = 2s;
  opa.fail_open = opa.clear_route_cache = true;
  opa.status_on_error = 418;
  opa.body = {4096, true, true};
  opa.path_prefix = "/check";
  opa.request_headers = {TextMatch::exact("x-ask"), TextMatch::prefix("x-a"),
                         *TextMatch::make(TextMatch::Kind::kSuffix, "-b")};
  opa.more_headers = {{"x-from", "mesh"}};
  opa.to_upstream_on_allow = {TextMatch::exact("x-user")};
  opa.to_client_on_allow = {TextMatch::exact("x-seen")};
  opa.to_client_on_deny = {TextMatch::exact("x-why")};
  model::Authorizer grpc;
  grpc.name = "grpc";
  grpc.service = opa.service;
  grpc.port = 9192;
  grpc.timeout = 1s;
  // Each once, whoever names it.
  CHECK(guard(mesh).authorizers == std::vector<model::Authorizer>{opa, grpc});
  CHECK(guard(mesh).policies.size() == 3);
  CHECK(refused(mesh).empty());
}

TEST_CASE("who cannot be asked is named, and what asks for it is refused", "[waypoint-2.6.6]") {
  struct Row {
    const char* provider;
    const char* says;
  };
  auto [provider, says] = GENERATE(
      Row{"", "has no provider opa"}, Row{"{name: opa, prometheus: {}}", "provider opa authorizes nobody"},
      Row{"{name: opa, envoyExtAuthzHttp: {service: gone.auth.svc.cluster.local, port: 1, timeout: 1s}}",
          "the mesh has no service gone.auth.svc.cluster.local"},
      Row{"{name: opa, envoyExtAuthzHttp: {service: auth/opa.auth.svc.cluster.local, port: 1, timeout: 1s}}",
          "service auth/opa.auth.svc.cluster.local has no port 1"});
  INFO(says);
  Compiled mesh = compile_yaml(kMesh + policy("opa") + providers(provider));
  CHECK(guard(mesh).policies.size() == 1);
  CHECK(guard(mesh).policies[0].action == model::HttpPolicy::Action::kCustom);
  CHECK(guard(mesh).authorizers.empty());
  CHECK_THAT(refused(mesh),
             Contains("AuthorizationPolicy shop/p: what it matches is refused") && Contains(says));
}

}  // namespace culvert::test
