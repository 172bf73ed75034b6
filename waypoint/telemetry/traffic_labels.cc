// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/traffic_labels.h"

#include <fmt/format.h>

#include "mesh/observe/metrics.h"

namespace culvert::waypoint {

namespace {

constexpr std::string_view kUnknown = "unknown";
constexpr size_t kOwnedMax = 8;  // texts that exist only as labels

// Of one end, from its workload or from what it says about itself.
struct Party {
  std::string_view workload, ns, canonical, revision, cluster;
};

Party party_of(const model::Workload& workload) {
  return {workload.workload_name.view(), workload.ns.view(), workload.canonical_name.view(),
          workload.canonical_revision.view(), workload.cluster_id.view()};
}

std::string_view or_unknown(std::string_view text) { return text.empty() ? kUnknown : text; }

}  // namespace

std::string grpc_status_of(const RequestRecord& record) {
  if (!record.grpc) return "";
  const std::string* status = wire::find_header(record.response_trailers, "grpc-status");
  if (!status) status = wire::find_header(record.response, "grpc-status");
  // What an application sends may be anything.
  if (!status || status->empty() || status->size() > 2 ||
      status->find_first_not_of("0123456789") != std::string::npos) {
    return "2";
  }
  return *status;
}

std::string short_service_name(const model::Service& service) {
  std::string_view host = service.hostname.view();
  size_t dot = host.find('.');
  bool in_cluster =
      dot != host.npos && host.substr(dot).starts_with(fmt::format(".{}.svc.", service.ns.view()));
  return std::string(in_cluster ? host.substr(0, dot) : host);
}

std::string_view TrafficLabels::keep(std::string text) { return kept_.emplace_back(std::move(text)); }

TrafficLabels::TrafficLabels(const RequestRecord& record) {
  kept_.reserve(kOwnedMax);
  list_.reserve(26);
  auto put = [this](std::string_view name, std::string_view value) {
    list_.emplace_back(name, or_unknown(value));
  };
  const Client& client = *record.client;
  Party source;
  if (client.workload) {
    source = party_of(*client.workload);
  } else {
    const hbone::Baggage& said = client.baggage;
    source = {said.workload_name, said.ns, said.service_name, said.revision, said.cluster};
  }
  put("reporter", "waypoint");
  put("source_workload", source.workload);
  put("source_canonical_service", source.canonical);
  put("source_canonical_revision", source.revision.empty() ? "latest" : source.revision);
  // Proven, not said.
  put("source_workload_namespace", client.identity.ns.view());
  put("source_principal", keep(client.identity.to_string()));
  put("source_app", source.canonical);
  put("source_version", source.revision);
  put("source_cluster", source.cluster);

  Party destination = record.upstream ? party_of(*record.upstream) : Party{};
  put("destination_workload", destination.workload);
  put("destination_workload_namespace", destination.ns);
  bool proven = record.upstream && record.upstream_tls;
  put("destination_principal", proven ? keep(record.upstream->identity().to_string()) : kUnknown);
  put("destination_app", destination.canonical);
  put("destination_version", destination.revision);
  const model::ServiceRef& service = client.addressed.service;
  put("destination_service", service ? service->hostname.view() : kUnknown);
  put("destination_canonical_service", destination.canonical);
  put("destination_canonical_revision", !record.upstream               ? kUnknown
                                        : destination.revision.empty() ? "latest"
                                                                       : destination.revision);
  put("destination_service_name", service ? keep(short_service_name(*service)) : kUnknown);
  put("destination_service_namespace", service ? service->ns.view() : kUnknown);
  put("destination_cluster", destination.cluster);

  put("request_protocol", record.tcp ? "tcp" : record.grpc ? "grpc" : "http");
  if (!record.tcp) {
    put("response_code", keep(fmt::format_int(record.status).str()));
    list_.emplace_back("grpc_response_status", keep(grpc_status_of(record)));
  }
  put("response_flags", keep(record.flags.short_text()));
  put("connection_security_policy", "mutual_tls");
}

std::string TrafficLabels::text(const List& list) {
  std::string out;
  out.reserve(1024);
  for (const auto& [name, value] : list) observe::append_label(out, name, value);
  return out;
}

}  // namespace culvert::waypoint
