// SPDX-License-Identifier: Apache-2.0
// Kubernetes, Gateway API and Istio objects as far as the mesh reads them (spec control-plane section 1.1).
// Plain values; defaults are those of the API server. Decoded by decode.h, gathered by a ResourceSource.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "mesh/kube/destination_rule.h"
#include "mesh/kube/gateway_routes.h"
#include "mesh/kube/l7_policies.h"
#include "mesh/kube/mesh_config.h"
#include "mesh/kube/meta.h"
#include "mesh/kube/security.h"
#include "mesh/kube/telemetry.h"
#include "mesh/kube/virtual_service.h"
#include "net/base/ip.h"

namespace culvert::kube {

struct Namespace {
  Meta meta;
};

struct Node {
  Meta meta;
};

struct ServiceAccount {
  Meta meta;
};

struct ContainerPort {
  std::string name;
  uint16_t port = 0;
  std::string protocol = "TCP";
};

struct Pod {
  Meta meta;
  std::string node;
  std::string service_account = "default";
  bool host_network = false;
  std::vector<ContainerPort> ports;  // of containers, then of restartable init containers
  std::string phase;                 // empty: not said
  std::vector<std::string> ips;      // as written; an unparsable one makes the pod unusable
  std::optional<bool> ready;         // condition Ready; absent: not said
};

struct ServicePort {
  std::string name;
  uint16_t port = 0;
  std::string protocol = "TCP";
  std::string app_protocol;
  // A number, or the name of a container port.
  uint16_t target_port = 0;
  std::string target_name;
};

struct Service {
  Meta meta;
  std::string type = "ClusterIP";
  std::vector<std::string> cluster_ips;  // "None" for headless; empty: to be allocated
  std::vector<std::string> ip_families;
  Labels selector;
  std::vector<ServicePort> ports;
  bool internal_local = false;  // internalTrafficPolicy: Local
  std::string traffic_distribution;
  bool publish_not_ready = false;
  bool headless() const { return !cluster_ips.empty() && cluster_ips.front() == "None"; }
};

struct EndpointSlice {
  struct Endpoint {
    std::vector<std::string> addresses;
    std::optional<bool> ready;
    std::string target_kind, target_ns, target_name, target_uid;
  };
  struct Port {
    std::string name;
    uint16_t port = 0;
    std::string protocol = "TCP";
  };
  Meta meta;
  std::string service;  // label kubernetes.io/service-name
  std::string address_type;
  std::vector<Endpoint> endpoints;
  std::vector<Port> ports;
};

struct WorkloadEntry {
  Meta meta;
  std::string address;
  std::map<std::string, uint16_t> ports;
  Labels labels;
  std::string network;
  std::string locality;
  std::optional<uint32_t> weight;
  std::string service_account;
};

struct ServiceEntry {
  struct Port {
    std::string name;
    uint16_t number = 0;
    std::string protocol = "TCP";
    uint16_t target_port = 0;
  };
  Meta meta;
  std::vector<std::string> hosts;
  std::vector<std::string> addresses;
  std::vector<Port> ports;
  std::string resolution = "NONE";
  std::string location;
  std::vector<WorkloadEntry> endpoints;
  std::optional<Labels> workload_selector;
  std::vector<std::string> subject_alt_names;
  struct Allocated {
    std::string value;
    std::string host;
  };
  std::vector<Allocated> allocated;  // status.addresses
};

struct Gateway {
  struct Listener {
    std::string name;
    uint16_t port = 0;
    std::string protocol;
    std::string from = "Same";  // allowedRoutes.namespaces.from
    LabelSelector selector;
    bool has_allowed_routes = false;
  };
  struct Address {
    std::string type;  // IPAddress, Hostname
    std::string value;
  };
  Meta meta;
  std::string class_name;
  std::vector<Listener> listeners;
  std::vector<Address> addresses;  // asked for
  // infrastructure: of the objects that are made for it; not said: those of the Gateway.
  std::optional<Labels> infrastructure_labels;
  std::optional<Labels> infrastructure_annotations;
  std::string parameters;  // parametersRef as "Kind name"; empty: none
  std::vector<Address> status_addresses;
};

struct GatewayClass {
  Meta meta;
  std::string controller;
};

// What it lets in. Carried out by the CNI plugin of the cluster; read for what it shuts out of the mesh.
struct NetworkPolicy {
  struct Ports {
    uint16_t first = 0, last = 0;  // TCP
  };
  struct Rule {
    bool any_port = true;
    std::vector<Ports> ports;  // ports by name are left out
    bool any_peer = true;
    std::vector<base::Cidr> blocks;
  };
  Meta meta;
  LabelSelector pods;
  bool restricts = true;  // what comes in; false: only what goes out
  std::vector<Rule> ingress;
};

// What a node agent says about a pod of its node, in directory mode: in place of the annotation that it
// would write through the API server.
struct PodBinding {
  Meta meta;  // of the pod
  std::string pod_uid;
  std::string node;
  std::string redirection;  // enabled, pending
  std::vector<std::string> ips;
};

// A kind that is understood to exist but read by another part of the mesh, or by an installer.
struct OtherObject {
  Meta meta;
  std::string kind;
};

using AnyObject =
    std::variant<Namespace, Node, ServiceAccount, Pod, Service, EndpointSlice, WorkloadEntry, ServiceEntry,
                 Gateway, GatewayClass, AuthorizationPolicy, PeerAuthentication, PodBinding, VirtualService,
                 DestinationRule, HttpRoute, GrpcRoute, TcpRoute, TlsRoute, ReferenceGrant, BackendTlsPolicy,
                 BackendTrafficPolicy, RequestAuthentication, Telemetry, RateLimitPolicy, IstioOperator,
                 ProxyConfig, ConfigMap, Secret, NetworkPolicy, OtherObject>;

// The whole set, immutable. Keys are Meta::key(), so iteration is by namespace and name.
template <class T>
using Table = std::map<std::string, std::shared_ptr<const T>>;

struct Objects {
  Table<Namespace> namespaces;
  Table<Node> nodes;
  Table<ServiceAccount> service_accounts;
  Table<Pod> pods;
  Table<Service> services;
  Table<EndpointSlice> endpoint_slices;
  Table<WorkloadEntry> workload_entries;
  Table<ServiceEntry> service_entries;
  Table<Gateway> gateways;
  Table<GatewayClass> gateway_classes;
  Table<AuthorizationPolicy> authorization_policies;
  Table<PeerAuthentication> peer_authentications;
  Table<PodBinding> pod_bindings;
  Table<VirtualService> virtual_services;
  Table<DestinationRule> destination_rules;
  Table<HttpRoute> http_routes;
  Table<GrpcRoute> grpc_routes;
  Table<TcpRoute> tcp_routes;
  Table<TlsRoute> tls_routes;
  Table<ReferenceGrant> reference_grants;
  Table<BackendTlsPolicy> backend_tls_policies;
  Table<BackendTrafficPolicy> backend_traffic_policies;
  Table<RequestAuthentication> request_authentications;
  Table<Telemetry> telemetries;
  Table<RateLimitPolicy> rate_limit_policies;
  Table<IstioOperator> istio_operators;
  Table<ProxyConfig> proxy_configs;
  Table<ConfigMap> config_maps;
  Table<Secret> secrets;
  Table<NetworkPolicy> network_policies;
  std::map<std::string, std::shared_ptr<const OtherObject>> others;  // by "kind/key"

  // Labels of a namespace; empty if it is unknown.
  const Labels& namespace_labels(const std::string& ns) const;
};
using ObjectsRef = std::shared_ptr<const Objects>;

}  // namespace culvert::kube
