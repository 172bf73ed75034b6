// SPDX-License-Identifier: Apache-2.0
// TrafficLabels: who talked to whom, as metrics, access log and admin show it
// (spec ztunnel section 10). A plain value, filled by the connection's coroutine.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mesh/model/workload.h"

namespace culvert::observe {

enum class Reporter : unsigned char { kSource, kDestination };
enum class Flag : unsigned char {
  kNone,
  kDeny,
  kConnect,
  kTlsFailure,
  kH2HandshakeFailure,
  kNetworkPolicy,
  kIdentityError,
  kCertRevoked,
};
// "-", "DENY", "CONNECT", ...
std::string_view to_string(Flag flag);

// One end of a connection. Empty text prints as "unknown".
struct PartyLabels {
  bool known = false;             // a workload was found
  model::Name pod_name;           // access log only
  model::Name workload;           // workload_name
  model::Name canonical_service;  // canonical_name
  model::Name canonical_revision;
  model::Name workload_namespace;
  model::Name app;
  model::Name version;
  model::Name cluster;
  model::Name region;
  model::Name zone;
  std::optional<model::Identity> principal;
};

// From xDS: workload = workload_name, app = canonical name.
PartyLabels party_of(const model::Workload& workload);

struct ServiceLabels {
  model::Name hostname;
  model::Name namespace_;
  model::Name name;
};

ServiceLabels service_of(const model::Service& service);

struct TrafficLabels {
  Reporter reporter = Reporter::kSource;
  PartyLabels source;
  PartyLabels destination;
  std::optional<ServiceLabels> service;
  bool mutual_tls = false;
};

// The text between the braces, in upstream's order.
std::string render_labels(const TrafficLabels& labels, Flag flag);
// Labels of istio_on_demand_dns: who asked, and for which hostname.
std::string render_dns_labels(const PartyLabels& source, std::string_view hostname);

}  // namespace culvert::observe
