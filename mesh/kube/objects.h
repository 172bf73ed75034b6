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

#include "net/base/ip.h"

namespace culvert::kube {

using Labels = std::map<std::string, std::string>;

// Where an object was written.
struct Origin {
  std::string file;
  int line = 0;  // 1-based; 0: not from a file
  std::string to_string() const { return line > 0 ? file + ":" + std::to_string(line) : file; }
};

struct Meta {
  std::string ns;  // empty for cluster-scoped kinds
  std::string name;
  std::string uid;
  Labels labels;
  Labels annotations;
  std::string created;  // RFC 3339 text, which sorts by time; empty: unknown, oldest
  bool deleting = false;
  std::string generate_name;
  std::string owner_kind;  // of the controller
  std::string owner_name;
  Origin origin;

  std::string key() const { return ns.empty() ? name : ns + "/" + name; }
};

// matchLabels and matchExpressions; empty selects everything.
struct LabelSelector {
  enum class Op : unsigned char { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Op op = Op::kExists;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements;
  bool empty() const { return requirements.empty(); }
  bool matches(const Labels& labels) const;
};

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
  std::vector<Address> status_addresses;
};

struct GatewayClass {
  Meta meta;
  std::string controller;
};

struct AuthorizationPolicy {
  enum class Action : unsigned char { kAllow, kDeny, kAudit, kCustom };
  struct Source {
    std::vector<std::string> principals, not_principals, request_principals, not_request_principals,
        namespaces, not_namespaces, ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks,
        service_accounts, not_service_accounts;
  };
  struct Operation {
    std::vector<std::string> hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths;
  };
  struct Condition {
    std::string key;
    std::vector<std::string> values, not_values;
  };
  struct Rule {
    std::vector<Source> from;
    std::vector<Operation> to;
    std::vector<Condition> when;
  };
  struct TargetRef {
    std::string group, kind, name;
  };
  Meta meta;
  std::optional<Labels> selector;  // present and empty is not the same as absent
  std::vector<TargetRef> target_refs;
  Action action = Action::kAllow;
  std::vector<Rule> rules;
};

struct PeerAuthentication {
  enum class Mode : unsigned char { kUnset, kDisable, kPermissive, kStrict };
  Meta meta;
  std::optional<Labels> selector;
  Mode mode = Mode::kUnset;
  std::map<uint16_t, Mode> port_modes;
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
                 Gateway, GatewayClass, AuthorizationPolicy, PeerAuthentication, PodBinding, OtherObject>;

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
  std::map<std::string, std::shared_ptr<const OtherObject>> others;  // by "kind/key"

  // Labels of a namespace; empty if it is unknown.
  const Labels& namespace_labels(const std::string& ns) const;
};
using ObjectsRef = std::shared_ptr<const Objects>;

}  // namespace culvert::kube
