// SPDX-License-Identifier: Apache-2.0
#include "mesh/observe/labels.h"

#include "mesh/observe/metrics.h"

namespace culvert::observe {

std::string_view to_string(Flag flag) {
  switch (flag) {
    case Flag::kNone: return "-";
    case Flag::kDeny: return "DENY";
    case Flag::kConnect: return "CONNECT";
    case Flag::kTlsFailure: return "TLS_FAILURE";
    case Flag::kH2HandshakeFailure: return "H2_HANDSHAKE_FAILURE";
    case Flag::kNetworkPolicy: return "NETWORK_POLICY";
    case Flag::kIdentityError: return "IDENTITY_ERROR";
    case Flag::kCertRevoked: return "CERT_REVOKED";
  }
  return "-";
}

namespace {

void put(std::string& out, std::string_view key, std::string_view value) {
  append_label(out, key, value.empty() ? std::string_view("unknown") : value);
}

void put_party(std::string& out, const std::string& side, const PartyLabels& party) {
  put(out, side + "_workload", party.workload);
  put(out, side + "_canonical_service", party.canonical_service);
  put(out, side + "_canonical_revision", party.canonical_revision);
  put(out, side + "_workload_namespace", party.workload_namespace);
  put(out, side + "_principal", party.principal ? party.principal->to_string() : std::string());
  put(out, side + "_app", party.app);
  put(out, side + "_version", party.version);
  put(out, side + "_cluster", party.cluster);
}

}  // namespace

PartyLabels party_of(const model::Workload& workload) {
  PartyLabels party;
  party.known = true;
  party.pod_name = workload.name;
  party.workload = workload.workload_name;
  party.canonical_service = workload.canonical_name;
  party.canonical_revision = workload.canonical_revision;
  party.workload_namespace = workload.ns;
  party.app = workload.canonical_name;
  party.version = workload.canonical_revision;
  party.cluster = workload.cluster_id;
  party.region = workload.locality.region;
  party.zone = workload.locality.zone;
  party.principal = workload.identity();
  return party;
}

ServiceLabels service_of(const model::Service& service) {
  return ServiceLabels{service.hostname, service.ns, service.name};
}

std::string render_labels(const TrafficLabels& labels, Flag flag) {
  std::string out;
  append_label(out, "reporter", labels.reporter == Reporter::kSource ? "source" : "destination");
  put_party(out, "source", labels.source);
  static const ServiceLabels kNoService;
  const ServiceLabels& service = labels.service ? *labels.service : kNoService;
  put(out, "destination_service", service.hostname);
  put(out, "destination_service_namespace", service.namespace_);
  put(out, "destination_service_name", service.name);
  put_party(out, "destination", labels.destination);
  append_label(out, "request_protocol", "tcp");
  append_label(out, "response_flags", to_string(flag));
  append_label(out, "connection_security_policy", labels.mutual_tls ? "mutual_tls" : "unknown");
  if (labels.source.known || labels.destination.known) {
    put(out, "source_region", labels.source.region);
    put(out, "source_zone", labels.source.zone);
    put(out, "destination_region", labels.destination.region);
    put(out, "destination_zone", labels.destination.zone);
  }
  return out;
}

std::string render_dns_labels(const PartyLabels& source, std::string_view hostname) {
  std::string out;
  put_party(out, "source", source);
  put(out, "hostname", hostname);
  return out;
}

}  // namespace culvert::observe
