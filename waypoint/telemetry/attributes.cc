// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/attributes.h"

#include <algorithm>

#include "waypoint/telemetry/traffic_labels.h"

namespace culvert::waypoint {

namespace {

using Value = decide::ExpressionValue;

Value nonempty(std::string_view text) { return text.empty() ? Value{} : Value{std::string(text)}; }
Value number(uint64_t value) { return static_cast<int64_t>(value); }

Value header(const wire::Headers& headers, std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::string* found = wire::find_header(headers, name);
  return found ? Value{*found} : Value{};
}

Value millis_as_seconds(base::TimePoint from, const std::optional<base::TimePoint>& to) {
  return to ? Value{std::chrono::duration<double>(*to - from).count()} : Value{};
}

}  // namespace

Value RecordAttributes::request(std::string_view name) const {
  Value path =
      record_.original_path.empty() ? header(record_.request, ":path") : Value{record_.original_path};
  const auto* text = std::get_if<std::string>(&path);
  size_t query = text ? text->find('?') : std::string::npos;
  if (name == "path") return path;
  if (name == "url_path") return text ? Value{text->substr(0, query)} : Value{};
  if (name == "query") return query == std::string::npos ? Value{} : Value{text->substr(query + 1)};
  if (name == "host") return header(record_.request, ":authority");
  if (name == "method") return header(record_.request, ":method");
  if (name == "scheme") return header(record_.request, ":scheme");
  if (name == "id") return header(record_.request, "x-request-id");
  if (name == "useragent") return header(record_.request, "user-agent");
  if (name == "referer") return header(record_.request, "referer");
  if (name == "protocol") {
    return record_.tcp                                 ? Value{}
           : record_.version == conn::HttpVersion::k2  ? Value{"HTTP/2"}
           : record_.version == conn::HttpVersion::k10 ? Value{"HTTP/1.0"}
                                                       : Value{"HTTP/1.1"};
  }
  if (name == "duration") return millis_as_seconds(record_.times.start, record_.times.end);
  if (name == "size") return number(record_.counts.body_bytes_in);
  if (name == "total_size") return number(record_.counts.body_bytes_in + record_.counts.header_bytes_in);
  return {};
}

Value RecordAttributes::response(std::string_view name) const {
  if (name == "code") return record_.tcp ? Value{} : number(record_.status);
  if (name == "code_details") return nonempty(record_.details);
  if (name == "flags") return nonempty(record_.flags.short_text());
  if (name == "grpc_status") {
    std::string status = grpc_status_of(record_);
    return status.empty() ? Value{} : Value{static_cast<int64_t>(std::atoi(status.c_str()))};
  }
  if (name == "size") return number(record_.counts.body_bytes_out);
  if (name == "total_size") return number(record_.counts.body_bytes_out + record_.counts.header_bytes_out);
  return {};
}

Value RecordAttributes::connection(std::string_view name) const {
  // Whoever comes, comes by HBONE.
  if (name == "mtls") return true;
  if (name == "id") return number(record_.client->connection_id);
  if (name == "requested_server_name") return nonempty(record_.sni);
  if (name == "tls_version") return "TLSv1.3";
  if (name == "uri_san_peer_certificate") return record_.client->identity.to_string();
  if (name == "termination_details") return nonempty(record_.termination);
  return {};
}

Value RecordAttributes::upstream(std::string_view name) const {
  if (name == "address")
    return record_.upstream_address ? Value{record_.upstream_address->to_string()} : Value{};
  if (name == "port") return record_.upstream_address ? number(record_.upstream_address->port) : Value{};
  if (name == "local_address") {
    return record_.upstream_local ? Value{record_.upstream_local->to_string()} : Value{};
  }
  if (name == "transport_failure_reason") return nonempty(record_.upstream_failure);
  if (name == "request_attempt_count") return number(record_.attempts);
  return {};
}

Value RecordAttributes::party(const model::Workload* workload, const std::optional<base::SocketAddr>& address,
                              std::span<const std::string> path) const {
  const std::string& name = path.front();
  if (name == "address") return address ? Value{address->to_string()} : Value{};
  if (name == "port") return address ? number(address->port) : Value{};
  if (!workload) return {};
  if (name == "labels" && path.size() == 2) {
    const model::LabelMap& labels = state_.l7->labels(workload->uid);
    auto found = labels.find(path[1]);
    return found == labels.end() ? Value{} : Value{found->second};
  }
  if (name == "principal") return workload->identity().to_string();
  if (name == "namespace") return nonempty(workload->ns.view());
  if (name == "name") return nonempty(workload->name);
  if (name == "workload") {
    if (path.size() == 2 && path[1] == "name") return nonempty(workload->workload_name.view());
    if (path.size() == 2 && path[1] == "namespace") return nonempty(workload->ns.view());
    return path.size() == 1 ? nonempty(workload->workload_name.view()) : Value{};
  }
  if (name == "cluster") return nonempty(workload->cluster_id.view());
  if (name == "canonical_service") return nonempty(workload->canonical_name.view());
  if (name == "canonical_revision") return nonempty(workload->canonical_revision.view());
  return {};
}

Value RecordAttributes::attribute(std::span<const std::string> path) const {
  if (path.size() < 2) return {};
  const std::string& root = path[0];
  const std::string& name = path[1];
  bool headers = path.size() == 3 && name == "headers";
  if (root == "request" && headers) return header(record_.request, path[2]);
  if (root == "response" && headers) return header(record_.response, path[2]);
  if (root == "response" && path.size() == 3 && name == "trailers") {
    return header(record_.response_trailers, path[2]);
  }
  if (root == "source") {
    if (name == "principal") return record_.client->identity.to_string();
    if (name == "namespace") return record_.client->identity.ns.str();
    return party(record_.client->workload.get(), record_.client->address, path.subspan(1));
  }
  if (root == "destination") {
    const model::ServiceRef& service = record_.client->addressed.service;
    if (name == "service" && path.size() == 3) {
      if (!service) return {};
      if (path[2] == "name") return short_service_name(*service);
      if (path[2] == "host") return service->hostname.str();
      if (path[2] == "namespace") return service->ns.str();
      return {};
    }
    if (name == "service") return service ? Value{service->hostname.str()} : Value{};
    return party(record_.upstream.get(), record_.upstream_address, path.subspan(1));
  }
  if (root == "filter_state") {
    return name == "io.istio.peer_principal" ? Value{record_.client->identity.to_string()} : Value{};
  }
  if (path.size() != 2) return {};
  if (root == "request") return request(name);
  if (root == "response") return response(name);
  if (root == "connection") return connection(name);
  if (root == "upstream") return upstream(name);
  if (root == "xds" && name == "cluster_name") return nonempty(record_.cluster);
  if (root == "xds" && name == "route_name") return nonempty(record_.route_name);
  return {};
}

}  // namespace culvert::waypoint
