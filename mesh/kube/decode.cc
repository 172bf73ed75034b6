// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>

#include "mesh/kube/cursor.h"
#include "mesh/kube/decode_kinds.h"
#include "mesh/kube/tree_check.h"

namespace culvert::kube {

bool LabelSelector::matches(const Labels& labels) const {
  return std::all_of(requirements.begin(), requirements.end(), [&](const Requirement& requirement) {
    auto found = labels.find(requirement.key);
    bool present = found != labels.end();
    bool listed = present && std::find(requirement.values.begin(), requirement.values.end(), found->second) !=
                                 requirement.values.end();
    switch (requirement.op) {
      case Op::kIn: return listed;
      case Op::kNotIn: return !listed;
      case Op::kExists: return present;
      case Op::kDoesNotExist: return !present;
    }
    return false;
  });
}

const Labels& Objects::namespace_labels(const std::string& ns) const {
  static const Labels none;
  auto found = namespaces.find(ns);
  return found == namespaces.end() ? none : found->second->meta.labels;
}

bool is_kube_name(std::string_view text) {
  auto inner = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  auto edge = [&](char c) { return inner(c) && c != '-' && c != '.'; };
  return !text.empty() && text.size() <= 253 && edge(text.front()) && edge(text.back()) &&
         std::all_of(text.begin(), text.end(), inner);
}

const Meta& meta_of(const AnyObject& object) {
  return std::visit([](const auto& value) -> const Meta& { return value.meta; }, object);
}

namespace {

using Decoder = std::function<AnyObject(const Cursor& root, Meta meta)>;

struct Kind {
  std::string_view group;  // of apiVersion, without the version; empty: core
  std::string_view name;
  bool namespaced = true;
  Decoder decode;
};

template <class T, T (*F)(const Cursor&, Meta)>
AnyObject wrap(const Cursor& root, Meta meta) {
  return F(root, std::move(meta));
}

template <class T>
AnyObject meta_only(const Cursor&, Meta meta) {
  T object;
  object.meta = std::move(meta);
  return object;
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"", "Namespace", false, meta_only<Namespace>},
      {"", "Node", false, meta_only<Node>},
      {"", "ServiceAccount", true, meta_only<ServiceAccount>},
      {"", "Pod", true, wrap<Pod, decode_pod>},
      {"", "Service", true, wrap<Service, decode_service>},
      {"discovery.k8s.io", "EndpointSlice", true, wrap<EndpointSlice, decode_endpoint_slice>},
      {"networking.istio.io", "WorkloadEntry", true, wrap<WorkloadEntry, decode_workload_entry>},
      {"networking.istio.io", "ServiceEntry", true, wrap<ServiceEntry, decode_service_entry>},
      {"gateway.networking.k8s.io", "Gateway", true, wrap<Gateway, decode_gateway>},
      {"gateway.networking.k8s.io", "GatewayClass", false, wrap<GatewayClass, decode_gateway_class>},
      {"security.istio.io", "AuthorizationPolicy", true,
       wrap<AuthorizationPolicy, decode_authorization_policy>},
      {"security.istio.io", "PeerAuthentication", true, wrap<PeerAuthentication, decode_peer_authentication>},
      {"networking.istio.io", "VirtualService", true, wrap<VirtualService, decode_virtual_service>},
      {"networking.istio.io", "DestinationRule", true, wrap<DestinationRule, decode_destination_rule>},
      {"networking.istio.io", "ProxyConfig", true, wrap<ProxyConfig, decode_proxy_config>},
      {"security.istio.io", "RequestAuthentication", true,
       wrap<RequestAuthentication, decode_request_authentication>},
      {"telemetry.istio.io", "Telemetry", true, wrap<Telemetry, decode_telemetry>},
      {"install.istio.io", "IstioOperator", true, wrap<IstioOperator, decode_istio_operator>},
      {"gateway.networking.k8s.io", "HTTPRoute", true, wrap<HttpRoute, decode_http_route_object>},
      {"gateway.networking.k8s.io", "GRPCRoute", true, wrap<GrpcRoute, decode_grpc_route>},
      {"gateway.networking.k8s.io", "TCPRoute", true, wrap<TcpRoute, decode_tcp_route>},
      {"gateway.networking.k8s.io", "TLSRoute", true, wrap<TlsRoute, decode_tls_route>},
      {"gateway.networking.k8s.io", "ReferenceGrant", true, wrap<ReferenceGrant, decode_reference_grant>},
      {"gateway.networking.k8s.io", "BackendTLSPolicy", true,
       wrap<BackendTlsPolicy, decode_backend_tls_policy>},
      {"gateway.networking.x-k8s.io", "XBackendTrafficPolicy", true,
       wrap<BackendTrafficPolicy, decode_backend_traffic_policy>},
      {"policy.culvert.dev", "RateLimitPolicy", true, wrap<RateLimitPolicy, decode_rate_limit_policy>},
      {"", "ConfigMap", true, wrap<ConfigMap, decode_config_map>},
      {"", "Secret", true, wrap<Secret, decode_secret>},
      {"networking.k8s.io", "NetworkPolicy", true, wrap<NetworkPolicy, decode_network_policy>},
      {"culvert.dev", "PodBinding", true, wrap<PodBinding, decode_pod_binding>},
  };
  return all;
}

// Groups whose other kinds are known to exist, but not read.
bool is_other_kind(std::string_view group) {
  static constexpr std::string_view kGroups[] = {"networking.istio.io",       "security.istio.io",
                                                 "telemetry.istio.io",        "install.istio.io",
                                                 "gateway.networking.k8s.io", "extensions.istio.io"};
  return std::find(std::begin(kGroups), std::end(kGroups), group) != std::end(kGroups);
}

Meta decode_meta(const Cursor& root, bool namespaced, const std::string& file) {
  Cursor meta = root.at("metadata");
  Meta out;
  out.name = meta.at("name").text();
  out.generate_name = meta.at("generateName").text();
  if (out.name.empty()) meta.at("name").fail("is missing");
  if (namespaced) out.ns = meta.at("namespace").text("default");
  out.uid = meta.at("uid").text();
  out.labels = meta.at("labels").labels();
  out.annotations = meta.at("annotations").labels();
  out.created = meta.at("creationTimestamp").text();
  out.generation = meta.at("generation").integer(0, std::numeric_limits<int64_t>::max(), 0);
  out.deleting = !meta.at("deletionTimestamp").absent();
  for (const Cursor& owner : meta.at("ownerReferences").items()) {
    if (!owner.at("controller").flag()) continue;
    out.owner_kind = owner.at("kind").text();
    out.owner_name = owner.at("name").text();
  }
  out.origin = {file, root.line()};
  // A name ends up in resource names, identities and file paths; the API server would refuse these too.
  for (const std::string* part : {&out.name, &out.ns}) {
    if (!part->empty() && !is_kube_name(*part)) {
      meta.fail(fmt::format("\"{}\" is not a Kubernetes name", *part));
    }
  }
  return out;
}

class FileDecoder {
 public:
  FileDecoder(const std::string& file, const DecodeLimits& limits, DecodedFile& out)
      : file_(file), limits_(limits), out_(out) {}

  void document(const YamlValue& value) {
    if (value.kind == YamlValue::Kind::kNull) return;
    TreeCheck check(limits_.nodes_max);
    if (!check.walk(value, limits_.depth_max)) {
      out_.syntax =
          Problem{{file_, value.line}, "", "the document is nested too deeply or expands too far", false};
      return;
    }
    CursorLog log{file_, "", {}};
    Cursor root(&value, "", log);
    if (!root.is_map()) {
      root.fail("a manifest must be a map with apiVersion, kind and metadata");
      out_.documents.push_back({"", "", std::nullopt, std::move(log.problems), ""});
      return;
    }
    std::string kind = root.at("kind").text();
    if (kind.ends_with("List") && root.at("items").is_list()) {
      // An item's own faults are met again in the item, and are then told of it alone.
      std::set<std::string> keys;
      for (const auto& [key, field] : root.fields()) {
        if (!keys.insert(key).second) field.fail("is given twice in a list of objects");
      }
      if (!log.problems.empty()) {
        out_.syntax = std::move(log.problems.front());
        return;
      }
      for (const YamlValue* item : value.find("items")->items) {
        document(*item);
        if (out_.syntax) return;
      }
      return;
    }
    if (check.fault()) {
      log.problems.push_back({{file_, check.fault()->line}, "", check.fault()->message, false});
    }
    object(root, log, kind);
  }

 private:
  void object(const Cursor& root, CursorLog& log, const std::string& kind) {
    std::string version = root.at("apiVersion").text();
    if (kind.empty() || version.empty()) {
      root.fail(kind.empty() ? "kind is missing" : "apiVersion is missing");
      out_.documents.push_back({kind, "", std::nullopt, std::move(log.problems), ""});
      return;
    }
    size_t slash = version.find('/');
    std::string group = slash == std::string::npos ? "" : version.substr(0, slash);
    auto known = std::find_if(kinds().begin(), kinds().end(),
                              [&](const Kind& k) { return k.name == kind && k.group == group; });
    if (known == kinds().end() && !is_other_kind(group)) {
      out_.unknown_kinds++;
      return;
    }
    if (known == kinds().end() && group == "security.istio.io") {
      root.at("kind").fail(fmt::format(
          "\"{}\" must be AuthorizationPolicy, PeerAuthentication or RequestAuthentication", kind));
    }
    bool namespaced = known == kinds().end() || known->namespaced;
    Meta meta = decode_meta(root, namespaced, file_);
    log.object = kind + " " + meta.key();
    for (Problem& problem : log.problems) problem.object = log.object;
    Decoded decoded{kind, meta.key(), std::nullopt, {}, group};
    if (known == kinds().end()) {
      decoded.object = OtherObject{std::move(meta), kind};
    } else {
      decoded.object = known->decode(root, std::move(meta));
    }
    std::visit([&](auto& object) { object.meta.notes = std::move(log.notes); }, *decoded.object);
    // All or nothing: half an object may mean the opposite of the whole.
    if (!log.problems.empty()) decoded.object.reset();
    decoded.problems = std::move(log.problems);
    out_.documents.push_back(std::move(decoded));
  }

  const std::string& file_;
  const DecodeLimits& limits_;
  DecodedFile& out_;
};

}  // namespace

DecodedFile decode_manifests(std::string_view text, const std::string& file, const DecodeLimits& limits) {
  DecodedFile out;
  if (text.size() > limits.file_bytes_max) {
    out.syntax =
        Problem{{file, 0}, "", fmt::format("the file is larger than {} bytes", limits.file_bytes_max), false};
    return out;
  }
  FileDecoder decoder(file, limits, out);
  YamlLimits yaml{limits.depth_max, limits.nodes_max};
  std::optional<YamlError> broken = read_yaml(text, yaml, [&](const YamlValue& root) {
    decoder.document(root);
    return !out.syntax;
  });
  if (broken) out.syntax = Problem{{file, broken->line}, "", "not YAML: " + broken->message, false};
  return out;
}

}  // namespace culvert::kube
