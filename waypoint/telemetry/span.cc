// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/span.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "mesh/decide/http_request.h"
#include "mesh/xds/delta_xds.h"
#include "waypoint/headers.h"

namespace culvert::waypoint {

namespace {

// The length of the character that begins at `at`; 0 if it is no UTF-8 (RFC 3629: no surrogates, nothing
// overlong, nothing above U+10FFFF).
size_t utf8_length(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  unsigned first = byte(at), second = byte(at + 1);
  if (first < 0x80) return 1;
  auto tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  if (first >= 0xc2 && first <= 0xdf) return tail(at + 1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    bool lawful = !(first == 0xe0 && second < 0xa0) && !(first == 0xed && second >= 0xa0);
    return lawful && tail(at + 1) && tail(at + 2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    bool lawful = !(first == 0xf0 && second < 0x90) && !(first == 0xf4 && second >= 0x90);
    return lawful && tail(at + 1) && tail(at + 2) && tail(at + 3) ? 4 : 0;
  }
  return 0;
}

class Tags {
 public:
  explicit Tags(Span& span) : span_(span) {}

  // The last value of a name wins.
  void set(std::string_view name, std::string_view value) {
    std::string clean = clean_text(value, kTagBytesMax);
    for (auto& [known, old] : span_.tags) {
      if (known != name) continue;
      old = std::move(clean);
      return;
    }
    span_.tags.emplace_back(name, std::move(clean));
  }
  void set(std::string_view name, uint64_t value) { set(name, fmt::format_int(value).str()); }
  // Left out if nothing is known.
  void set_known(std::string_view name, std::string_view value) {
    if (!value.empty()) set(name, value);
  }

 private:
  Span& span_;
};

std::string_view or_dash(const std::string* value) { return value ? std::string_view(*value) : "-"; }

std::string_view protocol_of(conn::HttpVersion version) {
  switch (version) {
    case conn::HttpVersion::k10: return "HTTP/1.0";
    case conn::HttpVersion::k11: return "HTTP/1.1";
    case conn::HttpVersion::k2: return "HTTP/2";
  }
  return "-";
}

std::string url_of(const RequestRecord& record, size_t path_bytes_max) {
  const std::string* scheme = header_of(record.request, "x-forwarded-proto");
  const std::string* host = header_of(record.request, ":authority");
  const std::string* path = header_of(record.request, ":path");
  std::string_view shown = path ? std::string_view(*path) : "";
  return fmt::format("{}://{}{}", scheme ? *scheme : "http", host ? *host : "",
                     shown.substr(0, path_bytes_max));
}

void tag_request(const RequestRecord& record, const model::TraceRule& rule, Tags& tags) {
  const wire::Headers& request = record.request;
  tags.set("guid:x-request-id", or_dash(header_of(request, "x-request-id")));
  if (const std::string* id = header_of(request, "x-client-trace-id"))
    tags.set("guid:x-client-trace-id", *id);
  tags.set("http.url", url_of(record, rule.path_bytes_max));
  tags.set("http.method", conn::shown_method(request));
  tags.set("downstream_cluster", or_dash(header_of(request, "x-envoy-downstream-service-cluster")));
  tags.set("user_agent", or_dash(header_of(request, "user-agent")));
  tags.set("http.protocol", protocol_of(record.version));
  tags.set("request_size", record.counts.body_bytes_in);
  tags.set("peer.address", record.client->address.ip.to_string());
  if (!record.grpc) return;
  tags.set("grpc.path", or_dash(header_of(request, ":path")));
  tags.set("grpc.authority", or_dash(header_of(request, ":authority")));
  tags.set("grpc.content_type", or_dash(header_of(request, "content-type")));
  if (const std::string* timeout = header_of(request, "grpc-timeout")) tags.set("grpc.timeout", *timeout);
}

// Whether a gRPC status is the server's failure, as upstream sees it.
bool is_server_error(uint32_t grpc_status) {
  constexpr uint32_t kErrors[] = {2, 4, 12, 13, 14, 15};
  return std::find(std::begin(kErrors), std::end(kErrors), grpc_status) != std::end(kErrors);
}

bool tag_response(const RequestRecord& record, Tags& tags) {
  tags.set("http.status_code", record.status);
  tags.set("response_size", record.counts.body_bytes_out);
  tags.set("response_flags", record.flags.short_text());
  // No answer at all is one that was broken off.
  bool error = record.status == 0 || record.status >= 500;
  if (record.grpc) {
    const wire::Headers& end =
        header_of(record.response_trailers, "grpc-status") ? record.response_trailers : record.response;
    if (const std::string* status = header_of(end, "grpc-status")) {
      tags.set("grpc.status_code", *status);
      if (const std::string* message = header_of(end, "grpc-message")) tags.set("grpc.message", *message);
      std::optional<uint32_t> code = grpc_status_in(end);
      error = error || !code || is_server_error(*code);
    }
  }
  tags.set("upstream_cluster", record.cluster.empty() ? std::string_view("-") : record.cluster);
  tags.set("upstream_cluster.name", record.cluster.empty() ? std::string_view("-") : record.cluster);
  if (record.upstream_address) tags.set("upstream_address", record.upstream_address->to_string());
  if (error) tags.set("error", "true");
  return error;
}

void tag_party(const std::string& side, const hbone::Baggage& who, std::string_view instance, Tags& tags) {
  tags.set_known(side + "_workload", who.workload_name);
  tags.set_known(side + "_workload_type", who.workload_type);
  tags.set_known(side + "_instance_name", instance);
  tags.set_known(side + "_namespace", who.ns);
  tags.set_known(side + "_cluster_id", who.cluster);
  tags.set_known(side + "_canonical_service", who.service_name);
  tags.set_known(side + "_canonical_revision", who.revision);
  tags.set_known(side + "_app", who.service_name);
  tags.set_known(side + "_app_version", who.revision);
}

void tag_mesh(const RequestRecord& record, const SpanSource& source, Tags& tags) {
  tags.set("istio.mesh_id", source.mesh_id);
  tags.set("istio.namespace", source.ns);
  tags.set("istio.cluster_id", source.cluster_id);
  tags.set("istio.canonical_service", source.canonical_service);
  tags.set("istio.canonical_revision", "latest");
  const Client& client = *record.client;
  if (client.workload) {
    tag_party("istio.source", hbone::Baggage::of(*client.workload), client.workload->name, tags);
  } else {
    // What a client says of itself; its namespace is proven.
    hbone::Baggage told = client.baggage;
    told.ns = client.identity.ns.str();
    tag_party("istio.source", told, "", tags);
  }
  if (record.upstream) {
    tag_party("istio.destination", hbone::Baggage::of(*record.upstream), record.upstream->name, tags);
  }
}

void tag_custom(const RequestRecord& record, const model::TraceRule& rule, Tags& tags) {
  for (const auto& [name, tag] : rule.tags) {
    switch (tag.kind) {
      case model::TraceTag::Kind::kLiteral: tags.set_known(name, tag.value); break;
      case model::TraceTag::Kind::kEnvironment: {
        const char* value = std::getenv(tag.value.c_str());
        tags.set_known(name, value ? value : tag.fallback.c_str());
        break;
      }
      case model::TraceTag::Kind::kHeader: {
        std::optional<std::string> value = decide::joined_header(record.request, tag.value);
        tags.set_known(name, value ? *value : tag.fallback);
        break;
      }
    }
  }
}

}  // namespace

std::string_view Span::tag(std::string_view wanted) const {
  for (const auto& [known, value] : tags) {
    if (known == wanted) return value;
  }
  return {};
}

SpanSource SpanSource::of(const config::WaypointConfig& config) {
  SpanSource out;
  out.service_name = config.name + "." + config.namespace_;
  out.ip = config.instance_ip;
  out.instance_name = config.pod_name;
  out.node_id = xds::waypoint_node_id(config.instance_ip.to_string(), config.pod_name, config.namespace_);
  out.mesh_id = config.trust_domain;
  out.ns = config.namespace_;
  out.cluster_id = config.cluster_id;
  out.canonical_service = config.name;
  return out;
}

Span make_span(const RequestRecord& record, const SpanSource& source) {
  const model::TraceRule& rule = *record.trace->rule;
  Span span;
  span.context = record.trace->context;
  span.name = clean_text(record.trace->operation, kSpanNameBytesMax);
  span.start = record.times.start_wall;
  if (record.times.end) span.duration = *record.times.end - record.times.start;
  Tags tags(span);
  tags.set("component", "proxy");
  tags.set("node_id", source.node_id);
  tag_request(record, rule, tags);
  span.error = tag_response(record, tags);
  if (rule.istio_tags) tag_mesh(record, source, tags);
  tag_custom(record, rule, tags);
  return span;
}

std::string span_operation(const Addressed& addressed) {
  std::string host = addressed.service ? addressed.service->hostname.str() : addressed.dialled.ip.to_string();
  return fmt::format("{}:{}/*", host, addressed.port);
}

std::string span_operation(const model::HttpRoute& route, const model::RouteMatch* match, uint16_t port) {
  std::string path = "/*";
  if (match && match->path) {
    using Kind = model::TextMatch::Kind;
    switch (match->path->kind()) {
      case Kind::kPrefix: path = match->path->text() + "*"; break;
      case Kind::kPathPrefix: path = match->path->text() + "/*"; break;
      case Kind::kPresent: break;
      default: path = match->path->text();
    }
  }
  if (route.targets.size() == 1) {
    const model::RouteTarget& target = route.targets.front();
    return fmt::format("{}:{}{}", target.service.hostname.view(), target.port ? target.port : port, path);
  }
  // "VirtualService shop/api" is called "api".
  std::string_view name(route.origin);
  if (size_t slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  return fmt::format("{}:{}{}", name, port, path);
}

std::string clean_text(std::string_view text, size_t bytes_max) {
  std::string out;
  out.reserve(std::min(text.size(), bytes_max));
  for (size_t at = 0; at < text.size();) {
    size_t length = utf8_length(text, at);
    if (out.size() + std::max<size_t>(length, 1) > bytes_max) break;
    if (length == 0) {
      out += '?';
      ++at;
    } else {
      out.append(text.substr(at, length));
      at += length;
    }
  }
  return out;
}

}  // namespace culvert::waypoint
