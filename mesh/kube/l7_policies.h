// SPDX-License-Identifier: Apache-2.0
// Backend policies, rate limits, and what policies refer to (spec waypoint sections 2.5 and 4.2).
#pragma once

#include "mesh/kube/gateway_routes.h"
#include "mesh/kube/mesh_config.h"
#include "mesh/kube/security.h"

namespace culvert::kube {

struct BackendTlsPolicy {
  struct CaRef {
    std::string group, kind, name;
  };
  struct SubjectAltName {
    bool uri = false;  // else a host name
    std::string value;
  };
  Meta meta;
  std::vector<TargetRef> target_refs;
  std::string hostname;  // SNI, and the name verified
  // Exactly one: references, or the system's.
  std::vector<CaRef> ca_refs;
  bool system_ca = false;
  std::vector<SubjectAltName> subject_alt_names;  // not empty: verified in place of the hostname
  Labels options;
};

// XBackendTrafficPolicy.
struct BackendTrafficPolicy {
  struct RetryConstraint {
    double budget_percent = 20;
    base::Duration budget_interval = std::chrono::seconds(10);
    uint32_t min_rate_count = 10;
    base::Duration min_rate_interval = std::chrono::seconds(1);
  };
  Meta meta;
  std::vector<TargetRef> target_refs;
  std::optional<RetryConstraint> retry;
  std::optional<SessionPersistence> session;
};

// policy.culvert.dev/v1alpha1.
struct RateLimitPolicy {
  enum class KeyKind : unsigned char {
    kSourcePrincipal,
    kSourceNamespace,
    kSourceIp,
    kMethod,
    kPath,
    kRoute,
    kHeader,
    kClaim,
    kQuery,
  };
  struct Key {
    KeyKind kind = KeyKind::kSourcePrincipal;
    std::string name;  // of the last three
  };
  struct Rule {
    std::string name;
    std::vector<HttpRouteMatch> matches;            // any of; empty: all
    std::vector<AuthorizationPolicy::Source> from;  // any of; empty: all
    std::vector<Key> key;                           // empty: one bucket for all
    uint64_t requests = 0;
    base::Duration per{};
    uint64_t burst = 0;         // requests if not given
    bool divided = false;       // limit.share: Divided among the replicas
    uint64_t cost = 1;          // ignored with cost_header
    std::string cost_header;    // of the response, charged afterwards
    bool global = false;        // scope: Global
    uint32_t max_keys = 65536;  // of Local, then newcomers share a bucket
    int line = 0;
  };
  struct Global {
    BackendObject backend;
    std::string domain;
    base::Duration timeout = std::chrono::milliseconds(20);
    bool deny_on_failure = false;
  };
  enum class Headers : unsigned char { kStandard, kLegacy, kBoth, kNone };
  Meta meta;
  std::vector<TargetRef> target_refs;
  bool shadow = false;
  std::vector<Rule> rules;
  std::optional<Global> global;
  uint16_t status = 429;
  Headers headers = Headers::kStandard;
  bool grpc_unavailable = false;  // response.grpcStatus: Unavailable, else ResourceExhausted
};

struct ConfigMap {
  Meta meta;
  std::map<std::string, std::string> data;
  std::optional<MeshConfig> mesh;  // data.mesh of the one named "istio"
};

// Values are never printed: no message of the decoder quotes them.
struct Secret {
  Meta meta;
  std::string type;
  std::map<std::string, std::string> data;  // decoded; stringData laid over it
};

}  // namespace culvert::kube
