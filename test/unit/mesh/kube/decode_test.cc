// SPDX-License-Identifier: Apache-2.0
// Decoding manifests: every kind's fields and defaults, and what an error tells (spec
// control-plane 1.1, 1.14).
#include "mesh/kube/decode.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "test/unit/mesh/kube/decode_helpers.h"

using namespace culvert;
using namespace culvert::kube;

namespace {

const std::string kPolicy = head("security.istio.io/v1", "AuthorizationPolicy");
const std::string kPeerAuth = head("security.istio.io/v1", "PeerAuthentication");
const std::string kService = head("v1", "Service");

}  // namespace

TEST_CASE("metadata: every field, and the defaults") {
  auto pod = only<Pod>(R"(# a comment
apiVersion: v1
kind: Pod
metadata:
  name: web-abc
  namespace: prod
  uid: u-1
  generateName: web-
  labels: {app: web, "n": "1"}
  annotations: {a/b: c}
  creationTimestamp: "2026-01-02T03:04:05Z"
  deletionTimestamp: "2026-01-02T03:04:06Z"
  ownerReferences:
    - {kind: Other, name: other}
    - {kind: ReplicaSet, name: web, controller: true}
)");
  CHECK(pod.meta.key() == "prod/web-abc");
  CHECK(pod.meta.uid == "u-1");
  CHECK(pod.meta.generate_name == "web-");
  CHECK(pod.meta.labels == Labels{{"app", "web"}, {"n", "1"}});
  CHECK(pod.meta.annotations == Labels{{"a/b", "c"}});
  CHECK(pod.meta.created == "2026-01-02T03:04:05Z");
  CHECK(pod.meta.deleting);
  CHECK(pod.meta.owner_kind == "ReplicaSet");
  CHECK(pod.meta.owner_name == "web");
  CHECK(pod.meta.origin.to_string() == "f.yaml:2");

  auto bare = only<Pod>("apiVersion: v1\nkind: Pod\nmetadata: {name: x}");
  CHECK(bare.meta.ns == "default");
  CHECK(bare.meta.uid.empty());
  CHECK_FALSE(bare.meta.deleting);
  CHECK(only<Namespace>("apiVersion: v1\nkind: Namespace\nmetadata: {name: x, namespace: y}").meta.key() ==
        "x");
  CHECK(only<Node>("apiVersion: v1\nkind: Node\nmetadata: {name: x}").meta.key() == "x");
  CHECK(only<ServiceAccount>(head("v1", "ServiceAccount")).meta.key() == "n/x");
}

TEST_CASE("Pod") {
  auto pod = only<Pod>(head("v1", "Pod") + R"(
spec:
  nodeName: node1
  serviceAccountName: sa
  hostNetwork: true
  containers:
    - ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]
    - {name: none}
  initContainers:
    - ports: [{name: gone, containerPort: 1}]
    - restartPolicy: Always
      ports: [{name: side, containerPort: 9}]
status:
  phase: Running
  podIP: 10.0.0.9
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
  conditions: [{type: Ready, status: "False"}, {type: Other, status: "True"}]
)");
  CHECK(pod.node == "node1");
  CHECK(pod.service_account == "sa");
  CHECK(pod.host_network);
  REQUIRE(pod.ports.size() == 3);
  CHECK(pod.ports[0].name == "http");
  CHECK(pod.ports[0].port == 8080);
  CHECK(pod.ports[0].protocol == "TCP");
  CHECK(pod.ports[1].protocol == "UDP");
  CHECK(pod.ports[2].name == "side");
  CHECK(pod.phase == "Running");
  CHECK(pod.ips == Strings{"10.0.0.1", "fd00::1"});
  CHECK(pod.ready == false);

  auto bare = only<Pod>(head("v1", "Pod") + "spec: {serviceAccountName: ''}\nstatus: {podIP: 10.0.0.9}\n");
  CHECK(bare.service_account == "default");
  CHECK_FALSE(bare.host_network);
  CHECK(bare.ips == Strings{"10.0.0.9"});
  CHECK_FALSE(bare.ready);
}

TEST_CASE("Service: numeric and named target ports, headless, defaults") {
  auto service = only<Service>(kService + R"(
spec:
  type: LoadBalancer
  clusterIPs: [10.1.0.1, "fd00::2"]
  clusterIP: 10.1.0.9
  ipFamilies: [IPv4, IPv6]
  selector: {app: web}
  internalTrafficPolicy: Local
  trafficDistribution: PreferClose
  publishNotReadyAddresses: true
  ports:
    - {name: http, port: 80, targetPort: 8080, appProtocol: kubernetes.io/h2c}
    - {name: named, port: 81, targetPort: web}
    - {name: text, port: 82, targetPort: "8082"}
    - {port: 83, protocol: UDP}
)");
  CHECK(service.type == "LoadBalancer");
  CHECK(service.cluster_ips == Strings{"10.1.0.1", "fd00::2"});
  CHECK(service.ip_families == Strings{"IPv4", "IPv6"});
  CHECK(service.selector == Labels{{"app", "web"}});
  CHECK(service.internal_local);
  CHECK(service.traffic_distribution == "PreferClose");
  CHECK(service.publish_not_ready);
  CHECK_FALSE(service.headless());
  REQUIRE(service.ports.size() == 4);
  CHECK(service.ports[0].target_port == 8080);
  CHECK(service.ports[0].app_protocol == "kubernetes.io/h2c");
  CHECK(service.ports[1].target_port == 0);
  CHECK(service.ports[1].target_name == "web");
  CHECK(service.ports[2].target_port == 8082);
  CHECK(service.ports[2].target_name.empty());
  CHECK(service.ports[3].target_port == 83);
  CHECK(service.ports[3].protocol == "UDP");

  auto bare = only<Service>(kService);
  CHECK(bare.type == "ClusterIP");
  CHECK(bare.cluster_ips.empty());
  CHECK_FALSE(bare.internal_local);
  CHECK(only<Service>(kService + "spec: {clusterIP: None}").headless());
}

TEST_CASE("EndpointSlice") {
  auto slice = only<EndpointSlice>(R"(
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints:
  - addresses: ["fd00::1", "fd00::2"]
    conditions: {ready: false}
    targetRef: {kind: Pod, namespace: default, name: p, uid: u}
  - addresses: ["fd00::3"]
ports: [{name: http, port: 80}]
)");
  CHECK(slice.service == "web");
  CHECK(slice.address_type == "IPv6");
  REQUIRE(slice.endpoints.size() == 2);
  CHECK(slice.endpoints[0].addresses == Strings{"fd00::1", "fd00::2"});
  CHECK(slice.endpoints[0].ready == false);
  CHECK(slice.endpoints[0].target_kind == "Pod");
  CHECK(slice.endpoints[0].target_ns == "default");
  CHECK(slice.endpoints[0].target_name == "p");
  CHECK(slice.endpoints[0].target_uid == "u");
  CHECK_FALSE(slice.endpoints[1].ready);
  REQUIRE(slice.ports.size() == 1);
  CHECK(slice.ports[0].port == 80);
  CHECK(slice.ports[0].protocol == "TCP");
}

TEST_CASE("WorkloadEntry and ServiceEntry") {
  auto entry = only<WorkloadEntry>(head("networking.istio.io/v1beta1", "WorkloadEntry") + R"(
spec: {address: 10.0.0.1, ports: {http: 8080}, labels: {a: b}, network: n1, locality: r/z, weight: 3, serviceAccount: sa}
)");
  CHECK(entry.address == "10.0.0.1");
  CHECK(entry.ports == std::map<std::string, uint16_t>{{"http", 8080}});
  CHECK(entry.labels == Labels{{"a", "b"}});
  CHECK(entry.network == "n1");
  CHECK(entry.locality == "r/z");
  CHECK(entry.weight == 3u);
  CHECK(entry.service_account == "sa");
  CHECK(entry.meta.key() == "n/x");

  auto service = only<ServiceEntry>(head("networking.istio.io/v1", "ServiceEntry") + R"(
spec:
  hosts: [a.example, "*.b.example"]
  addresses: [10.2.0.0/16]
  ports: [{name: tls, number: 443, protocol: TLS, targetPort: 8443}, {number: 80, name: tcp}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints:
    - {address: 10.0.0.5, weight: 0}
  workloadSelector: {labels: {app: db}}
  subjectAltNames: [spiffe://x]
  exportTo: ["."]
status:
  addresses: [{value: 240.240.0.1, host: a.example}]
)");
  CHECK(service.hosts == Strings{"a.example", "*.b.example"});
  CHECK(service.addresses == Strings{"10.2.0.0/16"});
  REQUIRE(service.ports.size() == 2);
  CHECK(service.ports[0].number == 443);
  CHECK(service.ports[0].target_port == 8443);
  CHECK(service.ports[1].target_port == 0);
  CHECK(service.ports[1].protocol == "TCP");
  CHECK(service.location == "MESH_EXTERNAL");
  CHECK(service.resolution == "STATIC");
  REQUIRE(service.endpoints.size() == 1);
  CHECK(service.endpoints[0].weight == 0u);
  CHECK(service.endpoints[0].meta.origin.line == 12);
  CHECK(service.workload_selector == Labels{{"app", "db"}});
  CHECK(service.subject_alt_names == Strings{"spiffe://x"});
  REQUIRE(service.allocated.size() == 1);
  CHECK(service.allocated[0].host == "a.example");

  auto bare = only<ServiceEntry>(head("networking.istio.io/v1", "ServiceEntry") + "spec: {hosts: [a]}");
  CHECK(bare.resolution == "NONE");
  CHECK_FALSE(bare.workload_selector);
}

TEST_CASE("Gateway and GatewayClass") {
  auto gateway = only<Gateway>(head("gateway.networking.k8s.io/v1", "Gateway") + R"(
spec:
  gatewayClassName: istio-waypoint
  listeners:
    - name: mesh
      port: 15008
      protocol: HBONE
      allowedRoutes:
        namespaces:
          from: Selector
          selector:
            matchLabels: {a: b}
            matchExpressions:
              - {key: c, operator: In, values: [d, e]}
              - {key: f, operator: NotIn, values: [g]}
              - {key: h, operator: Exists}
              - {key: i, operator: DoesNotExist}
    - {name: plain, port: 80, protocol: HTTP}
  addresses: [{value: 10.0.0.9}]
  infrastructure:
    labels: {tier: l7}
    parametersRef: {group: "", kind: ConfigMap, name: sizes}
status:
  addresses: [{value: 10.0.0.1}, {type: Hostname, value: h.example}]
)");
  CHECK(gateway.class_name == "istio-waypoint");
  REQUIRE(gateway.listeners.size() == 2);
  const Gateway::Listener& mesh = gateway.listeners[0];
  CHECK(mesh.port == 15008);
  CHECK(mesh.protocol == "HBONE");
  CHECK(mesh.from == "Selector");
  CHECK(mesh.has_allowed_routes);
  CHECK(mesh.selector.matches({{"a", "b"}, {"c", "e"}, {"h", ""}}));
  CHECK_FALSE(mesh.selector.matches({{"a", "b"}, {"c", "z"}, {"h", ""}}));
  CHECK_FALSE(mesh.selector.matches({{"a", "b"}, {"c", "e"}, {"h", ""}, {"f", "g"}}));
  CHECK_FALSE(mesh.selector.matches({{"a", "b"}, {"c", "e"}}));
  CHECK_FALSE(mesh.selector.matches({{"a", "b"}, {"c", "e"}, {"h", ""}, {"i", ""}}));
  CHECK(gateway.listeners[1].from == "Same");
  CHECK_FALSE(gateway.listeners[1].has_allowed_routes);
  REQUIRE(gateway.addresses.size() == 1);
  CHECK(gateway.addresses[0].type == "IPAddress");
  CHECK(gateway.addresses[0].value == "10.0.0.9");
  CHECK(gateway.infrastructure_labels == Labels{{"tier", "l7"}});
  CHECK_FALSE(gateway.infrastructure_annotations);
  CHECK(gateway.parameters == "ConfigMap sizes");
  CHECK(gateway.status_addresses[0].type == "IPAddress");
  CHECK(gateway.status_addresses[1].type == "Hostname");
  CHECK(LabelSelector{}.matches({}));

  auto gateway_class = only<GatewayClass>(
      "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\n"
      "spec: {controllerName: example.com/c}\n");
  CHECK(gateway_class.controller == "example.com/c");
  // Istio's own Gateway is another kind of the same name.
  CHECK(only<OtherObject>(head("networking.istio.io/v1", "Gateway")).kind == "Gateway");
}

TEST_CASE("AuthorizationPolicy: all fields") {
  auto policy = only<AuthorizationPolicy>(kPolicy + R"(
spec:
  targetRefs:
    - {group: "", kind: Service, name: one, sectionName: http}
    - {group: g, kind: Gateway, name: two}
  action: DENY
  rules:
    - from:
        - source:
            principals: [p]
            notPrincipals: [np]
            requestPrincipals: [r]
            notRequestPrincipals: [nr]
            namespaces: [n]
            notNamespaces: [nn]
            ipBlocks: [1.0.0.0/8]
            notIpBlocks: [1.1.0.0/16]
            remoteIpBlocks: [2.0.0.0/8]
            notRemoteIpBlocks: [2.1.0.0/16]
            serviceAccounts: [s]
            notServiceAccounts: [ns]
            trustDomains: [td]
            notTrustDomains: [nt]
      to:
        - operation:
            hosts: [h]
            notHosts: [nh]
            ports: ["80", 81]
            notPorts: ["82"]
            methods: [GET]
            notMethods: [PUT]
            paths: [/a]
            notPaths: [/b]
      when:
        - {key: source.ip, values: [1.2.3.4], notValues: [4.3.2.1]}
)");
  CHECK_FALSE(policy.selector);
  REQUIRE(policy.target_refs.size() == 2);
  CHECK(policy.target_refs[0].name == "one");
  CHECK(policy.target_refs[0].section_name == "http");
  CHECK(policy.target_refs[1].group == "g");
  CHECK(policy.action == AuthorizationPolicy::Action::kDeny);
  REQUIRE(policy.rules.size() == 1);
  const auto& source = policy.rules[0].from[0];
  CHECK(source.principals == Strings{"p"});
  CHECK(source.not_principals == Strings{"np"});
  CHECK(source.request_principals == Strings{"r"});
  CHECK(source.not_request_principals == Strings{"nr"});
  CHECK(source.namespaces == Strings{"n"});
  CHECK(source.not_namespaces == Strings{"nn"});
  CHECK(source.ip_blocks == Strings{"1.0.0.0/8"});
  CHECK(source.not_ip_blocks == Strings{"1.1.0.0/16"});
  CHECK(source.remote_ip_blocks == Strings{"2.0.0.0/8"});
  CHECK(source.not_remote_ip_blocks == Strings{"2.1.0.0/16"});
  CHECK(source.service_accounts == Strings{"s"});
  CHECK(source.not_service_accounts == Strings{"ns"});
  CHECK(source.trust_domains == Strings{"td"});
  CHECK(source.not_trust_domains == Strings{"nt"});
  const auto& operation = policy.rules[0].to[0];
  CHECK(operation.hosts == Strings{"h"});
  CHECK(operation.not_hosts == Strings{"nh"});
  CHECK(operation.ports == Strings{"80", "81"});
  CHECK(operation.not_ports == Strings{"82"});
  CHECK(operation.methods == Strings{"GET"});
  CHECK(operation.not_methods == Strings{"PUT"});
  CHECK(operation.paths == Strings{"/a"});
  CHECK(operation.not_paths == Strings{"/b"});
  CHECK(policy.rules[0].when[0].key == "source.ip");
  CHECK(policy.rules[0].when[0].values == Strings{"1.2.3.4"});
  CHECK(policy.rules[0].when[0].not_values == Strings{"4.3.2.1"});
}

TEST_CASE("AuthorizationPolicy: absent, empty and match-all are three things") {
  CHECK_FALSE(only<AuthorizationPolicy>(kPolicy).selector);
  CHECK(only<AuthorizationPolicy>(kPolicy).rules.empty());
  CHECK(only<AuthorizationPolicy>(kPolicy).action == AuthorizationPolicy::Action::kAllow);
  CHECK(only<AuthorizationPolicy>(kPolicy + "spec: {}").rules.empty());
  CHECK(only<AuthorizationPolicy>(kPolicy + "spec: {selector: {}}").selector == Labels{});
  CHECK(only<AuthorizationPolicy>(kPolicy + "spec: {rules: [{}]}").rules.size() == 1);
  for (auto [text, action] : {std::pair{"ALLOW", AuthorizationPolicy::Action::kAllow},
                              {"AUDIT", AuthorizationPolicy::Action::kAudit}}) {
    CHECK(only<AuthorizationPolicy>(kPolicy + "spec: {action: " + text + "}").action == action);
  }
  auto custom = only<AuthorizationPolicy>(kPolicy + "spec: {action: CUSTOM, provider: {name: p}}");
  CHECK(custom.action == AuthorizationPolicy::Action::kCustom);
  CHECK(custom.provider == "p");
  CHECK_FALSE(custom.dry_run);
  CHECK(only<AuthorizationPolicy>("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                                  "metadata: {name: x, annotations: {istio.io/dry-run: \"true\"}}\n")
            .dry_run);
  CHECK(problems(kPolicy + "spec: {action: CUSTOM}") == Strings{"4: spec.provider.name: is missing"});
  CHECK(problems(kPolicy + "spec: {provider: {name: p}}") ==
        Strings{"4: spec.provider: goes only with action CUSTOM"});
  CHECK(problems(kPolicy + "spec: {selector: {}, targetRefs: [{kind: Service, name: s}]}") ==
        Strings{"4: spec.selector: excludes targetRefs; keep one of the two"});
  // "from nobody" must not become "from anybody".
  CHECK(problems(kPolicy + "spec:\n  rules:\n  - from: []\n").front().starts_with("6: spec.rules[0].from: "));
  CHECK(problems(kPolicy + "spec:\n  rules:\n  - to: []\n").front().starts_with("6: spec.rules[0].to: "));
}

TEST_CASE("PeerAuthentication") {
  using Mode = PeerAuthentication::Mode;
  auto policy = only<PeerAuthentication>(kPeerAuth + R"(
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
  portLevelMtls: {8080: {mode: DISABLE}, "8081": {mode: PERMISSIVE}, 8082: {mode: UNSET}}
)");
  CHECK(policy.selector == Labels{{"app", "web"}});
  CHECK(policy.mode == Mode::kStrict);
  CHECK(policy.port_modes ==
        std::map<uint16_t, Mode>{{8080, Mode::kDisable}, {8081, Mode::kPermissive}, {8082, Mode::kUnset}});
  CHECK(only<PeerAuthentication>(kPeerAuth).mode == Mode::kUnset);
  CHECK(only<PeerAuthentication>(kPeerAuth + "spec: {mtls: }").mode == Mode::kUnset);
}

TEST_CASE("PodBinding") {
  auto binding = only<PodBinding>(head("culvert.dev/v1alpha1", "PodBinding") +
                                  "spec: {uid: u, node: n1, redirection: enabled, ips: [10.0.0.1]}");
  CHECK(binding.meta.key() == "n/x");
  CHECK(binding.pod_uid == "u");
  CHECK(binding.node == "n1");
  CHECK(binding.redirection == "enabled");
  CHECK(binding.ips == Strings{"10.0.0.1"});
}

TEST_CASE("an error names file, line and field, and there is no half object") {
  struct Row {
    std::string text;
    Strings expected;
  };
  const Row rows[] = {
      {"apiVersion: v1\nkind: Pod\n", {"1: metadata.name: is missing"}},
      {"apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: a\n", {"4: metadata.name: is missing"}},
      {"apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}\n",
       {"3: metadata: \"a/b\" is not a Kubernetes name"}},
      {"apiVersion: v1\nmetadata: {name: x}\n", {"1: kind is missing"}},
      {"kind: Pod\nmetadata: {name: x}\n", {"1: apiVersion is missing"}},
      {"- just\n- a list\n", {"1: a manifest must be a map with apiVersion, kind and metadata"}},
      {"text\n", {"1: a manifest must be a map with apiVersion, kind and metadata"}},
      {"apiVersion: v1\nkind: Pod\nmetadata: {name: A}\n", {"3: metadata: \"A\" is not a Kubernetes name"}},
      {"apiVersion: v1\nkind: Pod\nmetadata: {name: -a}\n", {"3: metadata: \"-a\" is not a Kubernetes name"}},
      {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: \"b\\n\"}\n",
       {"3: metadata: \"b\n\" is not a Kubernetes name"}},
      {head("v1", "Pod") + "spec:\n  serviceAccountName: a/b\n",
       {"5: spec.serviceAccountName: \"a/b\" is not a Kubernetes name"}},
      {kService + "spec: 7\n", {"4: spec: must be a map"}},
      {kService + "spec:\n  ports:\n  - port: 70000\n",
       {"6: spec.ports[0].port: \"70000\" must be a whole number from 0 to 65535",
        "6: spec.ports[0]: port must be from 1 to 65535"}},
      {kService + "spec:\n  ports: {port: 80}\n",
       {"5: spec.ports: must be a list; begin each item with \"- \""}},
      {kService + "spec:\n  ports:\n  - port: 80\n    targetPort: 0\n",
       {"7: spec.ports[0].targetPort: \"0\" must be a whole number from 1 to 65535"}},
      {kService + "spec:\n  publishNotReadyAddresses: yes\n",
       {"5: spec.publishNotReadyAddresses: \"yes\" must be true or false"}},
      {kService + "spec:\n  type: [a]\n", {"5: spec.type: must be text"}},
      {kService + "spec:\n  selector: {a: b}\n  selector: {a: c}\n", {"6: key \"selector\" is given twice"}},
      {head("networking.istio.io/v1", "ServiceEntry"), {"1: spec: hosts must name at least one host"}},
      {head("networking.istio.io/v1", "ServiceEntry") + "spec:\n  hosts: [a/b]\n",
       {"5: spec.hosts: \"a/b\" is not a host name"}},
      {head("networking.istio.io/v1", "WorkloadEntry") + "spec:\n  serviceAccount: a/b\n",
       {"5: spec.serviceAccount: \"a/b\" is not a Kubernetes name"}},
      {kService + "spec:\n  <<: {selector: {a: b}}\n",
       {"5: merge keys (<<) are not read; write the fields out"}},
      {head("security.istio.io/v1", "AuthorisationPolicy"),
       {"2: kind: \"AuthorisationPolicy\" must be AuthorizationPolicy, PeerAuthentication or "
        "RequestAuthentication"}},
      {kPolicy + "spec:\n  rules:\n  - ~\n", {"6: spec.rules[0]: is empty"}},
      {kPolicy + "spec:\n  rules:\n  - to:\n    - null\n", {"7: spec.rules[0].to[0]: is empty"}},
      {kPolicy + "spec:\n  action: DENNY\n",
       {"5: spec.action: \"DENNY\" must be ALLOW, DENY, AUDIT or CUSTOM"}},
      {kPolicy + "spec:\n  rule: []\n",
       {"5: spec.rule: unknown field; did you mean \"rules\"? known here: selector, targetRef, targetRefs, "
        "action, rules, provider"}},
      {kPolicy + "spec:\n  rules:\n  - from:\n    - source:\n        principals:\n        - null\n",
       {"9: spec.rules[0].from[0].source.principals[0]: is empty"}},
      {kPolicy + "spec:\n  rules:\n  - when:\n    - key: a\n",
       {"7: spec.rules[0].when[0]: values or notValues must be given"}},
      {kPeerAuth + "spec:\n  mtls:\n    mode: strict\n",
       {"6: spec.mtls.mode: \"strict\" must be STRICT, PERMISSIVE, DISABLE or UNSET"}},
      {kPeerAuth + "spec:\n  portLevelMtls:\n    0: {mode: STRICT}\n",
       {"6: spec.portLevelMtls.0: \"0\" is not a port (1 to 65535)"}},
      {head("culvert.dev/v1alpha1", "PodBinding") + "spec:\n  redirection: maybe\n",
       {"5: spec.redirection: \"maybe\" must be enabled or pending"}},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    CHECK(problems(row.text) == row.expected);
  }
}

TEST_CASE("an unknown field of a policy is an error wherever it stands") {
  for (const char* spec : {
           "selector: {labels: {a: b}}",
           "rules: [{form: []}]",
           "rules: [{from: [{principals: [a]}]}]",
           "rules: [{from: [{source: {principal: [a]}}]}]",
           "rules: [{to: [{operation: {port: ['80']}}]}]",
           "rules: [{to: [{ports: ['80']}]}]",
           "rules: [{when: [{key: source.ip, value: [a]}]}]",
       }) {
    INFO(spec);
    Strings found = problems(kPolicy + "spec: {" + spec + "}\n");
    REQUIRE_FALSE(found.empty());
    CHECK(found.front().find("unknown field") != std::string::npos);
    CHECK(found.front().starts_with("4: spec."));
  }
  for (const char* spec :
       {"mtls: {Mode: STRICT}", "mtl: {mode: STRICT}", "portLevelMtls: {80: {node: STRICT}}"}) {
    CHECK(problems(kPeerAuth + "spec: {" + spec + "}\n").front().find("unknown field") != std::string::npos);
  }
}

TEST_CASE("only UTF-8 is text") {
  auto named = [](std::string_view text) {
    return head("v1", "Pod") + fmt::format("spec: {{nodeName: \"{}\"}}\n", text);
  };
  for (const char* good :
       {"\xc3\xa9", "\xe2\x82\xac", "\xed\x9f\xbf", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(only<Pod>(named(good)).node == good);
  for (const char* bad : {"\x80", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                          "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80", "\xff", "a\xe2\x82", "\xe2\x82 x"}) {
    CHECK(problems(named(bad)) == Strings{"4: text that is not UTF-8"});
    CHECK(problems(head("v1", "Pod") + fmt::format("\"{}\": 1\n", bad)) ==
          Strings{"4: a key that is not UTF-8"});
  }
}

TEST_CASE("a list of objects with its items twice is no list") {
  DecodedFile file = decode_manifests(R"(apiVersion: v1
kind: List
items: [{apiVersion: v1, kind: Pod, metadata: {name: a}}]
items: [{apiVersion: v1, kind: Pod, metadata: {name: b}}]
)",
                                      "f");
  REQUIRE(file.syntax);
  CHECK(file.syntax->message == "items: is given twice in a list of objects");
  CHECK(file.documents.empty());
}

TEST_CASE("documents, lists, JSON, unknown kinds") {
  DecodedFile file = decode_manifests(R"(---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: a}}
  - apiVersion: v1
    kind: PodList
    items:
      - {apiVersion: v1, kind: Pod, metadata: {name: b}}
  - {apiVersion: apps/v1, kind: Deployment, metadata: {name: c}}
---
---
# nothing
---
apiVersion: example.com/v1
kind: Service
metadata: {name: not-ours}
---
apiVersion: v1
kind: Service
metadata: {}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: d}
)",
                                      "f");
  REQUIRE_FALSE(file.syntax);
  CHECK(file.unknown_kinds == 2);
  REQUIRE(file.documents.size() == 4);
  CHECK(file.documents[0].kind == "Service");
  CHECK(file.documents[0].key == "default/a");
  CHECK(file.documents[1].key == "default/b");
  CHECK(meta_of(*file.documents[1].object).origin.line == 9);
  // A bad document does not take its neighbours with it.
  CHECK_FALSE(file.documents[2].object);
  CHECK(file.documents[3].kind == "ConfigMap");

  auto json = only<Service>(
      "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"b\\u0063\", "
      "\"labels\": null, \"annotations\": {\"a\": \"b\\/c\"}},\n\t\"spec\": {\"ports\": "
      "[{\"port\":80}]}\n}\n");
  CHECK(json.meta.name == "bc");
  CHECK(json.meta.annotations.at("a") == "b/c");
  CHECK(json.ports[0].port == 80);
  CHECK(decode_manifests("", "f").documents.empty());
}

TEST_CASE("an alias is the value it names") {
  auto service = only<Service>(R"(apiVersion: v1
kind: Service
metadata: {name: &name a, labels: &labels {app: *name}}
spec:
  selector: *labels
  ports: [&port {port: 80}, *port]
)");
  CHECK(service.selector == Labels{{"app", "a"}});
  REQUIRE(service.ports.size() == 2);
  CHECK(service.ports[1].port == 80);
}

TEST_CASE("not YAML, too deep, an alias bomb, too large") {
  DecodedFile broken = decode_manifests("apiVersion: v1\nkind: Pod\nmetadata: {name: x\n", "b.yaml");
  REQUIRE(broken.syntax);
  CHECK(broken.syntax->message.starts_with("not YAML: "));
  CHECK(broken.syntax->origin.file == "b.yaml");
  CHECK(broken.syntax->origin.line > 0);

  for (size_t depth : {100, 10'000, 1'000'000}) {
    CHECK(decode_manifests("a: " + std::string(depth, '[') + std::string(depth, ']'), "f").syntax);
  }
  CHECK_FALSE(
      decode_manifests(head("v1", "Pod") + "x: " + std::string(50, '[') + std::string(50, ']'), "f").syntax);

  std::string bomb = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) bomb += fmt::format("a{}: &a{} [*a{}, *a{}]\n", i, i, i - 1, i - 1);
  CHECK(decode_manifests(bomb, "f").syntax);
  CHECK(decode_manifests("a: &a [*a, *a]\n", "f").syntax);
  CHECK(decode_manifests("a: *nobody\n", "f").syntax);
  // The parser would meet the comma again for ever.
  for (const char* stuck : {"---\n,apiVersion: v1\n", "a: b\n---\n, c\n", ",", "? ,\n---\n,"}) {
    INFO(stuck);
    CHECK(decode_manifests(stuck, "f").syntax);
  }

  DecodeLimits small;
  small.file_bytes_max = 10;
  CHECK(decode_manifests("kind: 012345678", "f", small).syntax);
}

TEST_CASE("the example manifests decode without an error") {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CULVERT_SEED_DIR)) {
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    DecodedFile file = decode_manifests(text.str(), entry.path().filename().string());
    INFO(entry.path().string());
    CHECK_FALSE(file.syntax);
    CHECK(file.unknown_kinds == 0);
    CHECK_FALSE(file.documents.empty());
    for (const Decoded& document : file.documents) {
      for (const Problem& problem : document.problems) UNSCOPED_INFO(problem.message);
      CHECK(document.problems.empty());
      CHECK(document.object);
    }
    files++;
  }
  CHECK(files == 4);
}

TEST_CASE("the example manifests mean what their author wrote", "[0]") {
  std::vector<AnyObject> objects;
  for (const auto& entry : std::filesystem::directory_iterator(CULVERT_SEED_DIR)) {
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    for (Decoded& document : decode_manifests(text.str(), "seed").documents) {
      objects.push_back(std::move(*document.object));
    }
  }
  using namespace std::chrono_literals;
  size_t seen = 0;
  for (const AnyObject& object : objects) {
    if (const auto* vs = std::get_if<VirtualService>(&object)) {
      seen++;
      REQUIRE(vs->http.size() == 3);
      CHECK(vs->http[0].match[0].uri == StringMatch{StringMatch::Kind::kPrefix, "/api/v1"});
      CHECK(vs->http[0].destinations[0].weight == 90);
      CHECK(vs->http[0].destinations[1].destination.subset == "v2");
      CHECK(vs->http[0].timeout == 30s);
      CHECK(vs->http[0].retries->attempts == 3);
      CHECK(vs->http[0].retries->per_try_timeout == 10s);
      CHECK(vs->http[1].match[0].headers.at("user-agent").value == ".*Chrome.*");
      CHECK(vs->http[2].match.empty());
    } else if (const auto* rule = std::get_if<DestinationRule>(&object)) {
      seen++;
      CHECK(rule->traffic_policy->connection_pool->tcp.max_connections == 100);
      CHECK(rule->traffic_policy->connection_pool->http.max_requests_per_connection == 2);
      CHECK(rule->traffic_policy->outlier_detection->min_request_volume == 10);
      CHECK(rule->subsets[0].traffic_policy->connection_pool->http.http1_max_pending_requests == 50);
    } else if (const auto* auth = std::get_if<RequestAuthentication>(&object)) {
      seen++;
      CHECK(auth->rules[0].audiences == Strings{"api-service"});
    } else if (const auto* telemetry = std::get_if<Telemetry>(&object)) {
      seen++;
      if (!telemetry->metrics.empty()) CHECK(telemetry->metrics[0].dimensions.size() == 3);
      if (!telemetry->tracing.empty()) CHECK(telemetry->tracing[0].random_sampling_percent == 100);
    } else if (const auto* installed = std::get_if<IstioOperator>(&object)) {
      seen++;
      CHECK(installed->mesh->access_log_file == "/dev/stdout");
      CHECK(installed->mesh->access_log_format.starts_with("[%START_TIME%]"));
      CHECK(installed->mesh->outbound == MeshConfig::Outbound::kAllowAny);
      CHECK(installed->mesh->enable_auto_mtls);
      CHECK(installed->installer_only == Strings{"spec.profile", "spec.revision", "spec.components"});
    } else if (const auto* map = std::get_if<ConfigMap>(&object)) {
      seen++;
      CHECK(map->data.contains("istio-mesh.json"));
    }
  }
  CHECK(seen == 7);
}
