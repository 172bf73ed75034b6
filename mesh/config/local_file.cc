// SPDX-License-Identifier: Apache-2.0
#include "mesh/config/local_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace culvert::config {
namespace {

using model::Name;
using model::NamePool;
using model::StringMatch;

// Reads values and remembers the first complaint; after it everything reads as empty, and parse_local_mesh
// returns the complaint.
class Reader {
 public:
  Reader(std::string_view origin, NamePool& names) : origin_(origin), names_(names) {}

  void complain(const YAML::Node& node, const std::string& what) {
    if (!error_) {
      error_.emplace(base::Code::kInvalid,
                     std::string(origin_) + ":" + std::to_string(node.Mark().line + 1) + ": " + what);
    }
  }
  std::optional<base::Error>& error() { return error_; }
  NamePool& names() { return names_; }

  std::string text(const YAML::Node& node, std::string_view what) {
    if (node.IsScalar()) return node.Scalar();
    complain(node, std::string(what) + " must be a text");
    return {};
  }
  bool truth(const YAML::Node& node, std::string_view what) {
    std::string value = text(node, what);
    if (value == "true") return true;
    if (value != "false") complain(node, std::string(what) + " must be true or false");
    return false;
  }
  uint32_t number(const YAML::Node& node, std::string_view what, uint32_t max) {
    std::string value = text(node, what);
    uint64_t number = 0;
    bool digits = !value.empty() && value.size() <= 10 &&
                  std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits) number = std::stoull(value);
    if (!digits || number > max) {
      complain(node, std::string(what) + " must be a whole number up to " + std::to_string(max));
      return 0;
    }
    return static_cast<uint32_t>(number);
  }
  uint16_t port(const YAML::Node& node, std::string_view what) {
    return static_cast<uint16_t>(number(node, what, 65535));
  }
  template <class T>
  T choice(const YAML::Node& node, std::string_view what,
           std::initializer_list<std::pair<std::string_view, T>> choices) {
    std::string value = text(node, what), known;
    for (const auto& [name, meaning] : choices) {
      if (value == name) return meaning;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
    complain(node, std::string(what) + " must be one of " + known);
    return choices.begin()->second;
  }
  // Calls for each entry of a list; anything but a list is a complaint.
  template <class F>
  void each(const YAML::Node& node, std::string_view what, F&& call) {
    if (!node.IsSequence()) return complain(node, std::string(what) + " must be a list");
    for (const auto& entry : node) call(entry);
  }
  base::IpAddr address(const YAML::Node& node, std::string_view what) {
    auto ip = base::IpAddr::parse(text(node, what));
    if (!ip) complain(node, std::string(what) + ": " + ip.error().message());
    return ip.value_or(base::IpAddr());
  }
  base::Cidr range(const YAML::Node& node, std::string_view what) {
    auto cidr = base::Cidr::parse(text(node, what));
    if (!cidr) complain(node, std::string(what) + ": " + cidr.error().message());
    return cidr.value_or(base::Cidr());
  }
  // "<network>/<ip>".
  model::NetworkAddress network_address(const YAML::Node& node, std::string_view what) {
    std::string value = text(node, what);
    size_t slash = value.find('/');
    auto ip =
        base::IpAddr::parse(slash == std::string::npos ? "" : std::string_view(value).substr(slash + 1));
    if (!ip) {
      complain(node,
               std::string(what) + " must be <network>/<ip>; the network may be empty, as in /10.0.0.1");
      return {};
    }
    return {names_.intern(std::string_view(value).substr(0, slash)), *ip};
  }
  model::NamespacedHostname hostname(const YAML::Node& node, std::string_view what) {
    auto parsed = model::NamespacedHostname::parse(text(node, what));
    if (!parsed) {
      complain(node, std::string(what) + " must be <namespace>/<hostname>");
      return {};
    }
    return {names_.intern(parsed->ns), names_.intern(parsed->hostname)};
  }

 private:
  std::string_view origin_;
  NamePool& names_;
  std::optional<base::Error> error_;
};

// The keys of one map. Asking for a key marks it as known; what is left at the end is an error.
class Fields {
 public:
  Fields(Reader& reader, const YAML::Node& node, std::string_view what)
      : reader_(reader), node_(node), what_(what) {
    if (!node.IsMap()) reader.complain(node, what_ + " must be a map");
  }
  ~Fields() {
    if (!node_.IsMap()) return;
    std::set<std::string> seen;
    for (const auto& entry : node_) {
      std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (!known_.contains(key)) reader_.complain(entry.first, what_ + " has no field \"" + key + "\"");
      if (!seen.insert(key).second) reader_.complain(entry.first, what_ + " has \"" + key + "\" twice");
    }
  }
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // call(node) if the key is there and not null.
  template <class F>
  void may(const char* key, F&& call) {
    known_.insert(key);
    if (!node_.IsMap()) return;
    const YAML::Node value = node_[key];
    if (value.IsDefined() && !value.IsNull()) call(value);
  }
  template <class F>
  void must(const char* key, F&& call) {
    bool found = false;
    may(key, [&](const YAML::Node& value) {
      found = true;
      call(value);
    });
    if (!found) reader_.complain(node_, what_ + " needs \"" + key + "\"");
  }
  void text(const char* key, Name& to, bool required = false) {
    auto set = [&](const YAML::Node& value) { to = reader_.names().intern(reader_.text(value, key)); };
    required ? must(key, set) : may(key, set);
  }
  void text(const char* key, std::string& to, bool required = false) {
    auto set = [&](const YAML::Node& value) { to = reader_.text(value, key); };
    required ? must(key, set) : may(key, set);
  }

 private:
  Reader& reader_;
  const YAML::Node node_;
  std::string what_;
  std::set<std::string> known_;
};

model::GatewayAddress read_gateway(Reader& reader, const YAML::Node& node, std::string_view what) {
  model::GatewayAddress gateway;
  Fields fields(reader, node, what);
  fields.must("destination", [&](const YAML::Node& value) {
    std::string text = reader.text(value, "destination");
    size_t slash = text.find('/');
    bool is_address =
        slash != std::string::npos && base::IpAddr::parse(std::string_view(text).substr(slash + 1));
    if (is_address) {
      gateway.destination = reader.network_address(value, "destination");
    } else {
      gateway.destination = reader.hostname(value, "destination");
    }
  });
  fields.must("hboneMtlsPort", [&](const YAML::Node& value) {
    gateway.hbone_mtls_port = reader.port(value, "hboneMtlsPort");
  });
  return gateway;
}

std::vector<model::PortMapping> read_ports(Reader& reader, const YAML::Node& node, std::string_view what) {
  std::vector<model::PortMapping> ports;
  if (!node.IsMap()) {
    reader.complain(node, std::string(what) + " must be a map of service port to target port");
    return ports;
  }
  for (const auto& entry : node) {
    ports.push_back({reader.port(entry.first, "service port"), reader.port(entry.second, "target port")});
  }
  return ports;
}

model::WorkloadType read_type(Reader& reader, const YAML::Node& node) {
  std::string text = reader.text(node, "workloadType");
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  using enum model::WorkloadType;
  for (auto type : {kDeployment, kCronjob, kPod, kJob}) {
    if (text == to_string(type)) return type;
  }
  return kDeployment;  // telemetry only
}

void read_workload_traffic(Reader& reader, Fields& fields, model::Workload& workload) {
  fields.may("waypoint",
             [&](const YAML::Node& value) { workload.waypoint = read_gateway(reader, value, "waypoint"); });
  fields.may("networkGateway", [&](const YAML::Node& value) {
    workload.network_gateway = read_gateway(reader, value, "networkGateway");
  });
  fields.may("applicationTunnel", [&](const YAML::Node& value) {
    model::AppTunnel tunnel;
    Fields parts(reader, value, "applicationTunnel");
    parts.must("protocol", [&](const YAML::Node& v) {
      using enum model::AppTunnel::Protocol;
      tunnel.protocol =
          reader.choice<model::AppTunnel::Protocol>(v, "protocol", {{"NONE", kNone}, {"PROXY", kProxy}});
    });
    parts.may("port", [&](const YAML::Node& v) { tunnel.port = reader.port(v, "port"); });
    workload.app_tunnel = tunnel;
  });
  fields.must("services", [&](const YAML::Node& value) {
    if (!value.IsMap())
      return reader.complain(value, "services must be a map of <namespace>/<hostname> to ports");
    for (const auto& entry : value) {
      workload.services.push_back(
          {reader.hostname(entry.first, "service"), read_ports(reader, entry.second, "ports of a service")});
    }
  });
}

model::Workload read_workload(Reader& reader, const YAML::Node& node) {
  model::Workload workload;
  Fields fields(reader, node, "a workload");
  fields.text("uid", workload.uid);
  fields.text("name", workload.name);
  fields.text("namespace", workload.ns, true);
  fields.text("network", workload.network);
  fields.text("node", workload.node);
  fields.text("hostname", workload.hostname);
  fields.text("trustDomain", workload.trust_domain);
  fields.text("serviceAccount", workload.service_account);
  fields.text("clusterId", workload.cluster_id);
  fields.text("workloadName", workload.workload_name);
  fields.text("canonicalName", workload.canonical_name);
  fields.text("canonicalRevision", workload.canonical_revision);
  fields.may("workloadType", [&](const YAML::Node& value) { workload.type = read_type(reader, value); });
  fields.must("workloadIps", [&](const YAML::Node& value) {
    reader.each(value, "workloadIps", [&](const YAML::Node& ip) {
      workload.addresses.push_back(reader.address(ip, "workloadIps"));
    });
  });
  fields.may("protocol", [&](const YAML::Node& value) {
    using enum model::TunnelProtocol;
    workload.protocol =
        reader.choice<model::TunnelProtocol>(value, "protocol", {{"TCP", kNone}, {"HBONE", kHbone}});
  });
  fields.may("networkMode", [&](const YAML::Node& value) {
    using enum model::NetworkMode;
    workload.network_mode = reader.choice<model::NetworkMode>(
        value, "networkMode", {{"Standard", kStandard}, {"HostNetwork", kHostNetwork}});
  });
  fields.may("status", [&](const YAML::Node& value) {
    using enum model::HealthStatus;
    workload.status = reader.choice<model::HealthStatus>(value, "status",
                                                         {{"Healthy", kHealthy}, {"Unhealthy", kUnhealthy}});
  });
  fields.may("nativeTunnel",
             [&](const YAML::Node& value) { workload.native_tunnel = reader.truth(value, "nativeTunnel"); });
  fields.may("capacity", [&](const YAML::Node& value) {
    workload.capacity = reader.number(value, "capacity", std::numeric_limits<uint32_t>::max());
  });
  fields.may("authorizationPolicies", [&](const YAML::Node& value) {
    reader.each(value, "authorizationPolicies", [&](const YAML::Node& key) {
      workload.authorization_policies.push_back(
          reader.names().intern(reader.text(key, "authorizationPolicies")));
    });
  });
  fields.may("locality", [&](const YAML::Node& value) {
    Fields parts(reader, value, "locality");
    parts.text("region", workload.locality.region, true);
    parts.text("zone", workload.locality.zone, true);
    parts.text("subzone", workload.locality.subzone, true);
  });
  read_workload_traffic(reader, fields, workload);
  return workload;
}

model::LoadBalancing read_balancing(Reader& reader, const YAML::Node& node) {
  model::LoadBalancing balancing;
  Fields fields(reader, node, "loadBalancer");
  fields.must("routingPreferences", [&](const YAML::Node& value) {
    reader.each(value, "routingPreferences", [&](const YAML::Node& scope) {
      using enum model::BalanceScope;
      balancing.routing_preference.push_back(reader.choice<model::BalanceScope>(scope, "routingPreferences",
                                                                                {{"Region", kRegion},
                                                                                 {"Zone", kZone},
                                                                                 {"Subzone", kSubzone},
                                                                                 {"Node", kNode},
                                                                                 {"Cluster", kCluster},
                                                                                 {"Network", kNetwork}}));
    });
  });
  fields.must("mode", [&](const YAML::Node& value) {
    using enum model::BalanceMode;
    balancing.mode = reader.choice<model::BalanceMode>(value, "mode",
                                                       {{"Standard", kUnspecified},
                                                        {"Strict", kStrict},
                                                        {"Failover", kFailover},
                                                        {"Passthrough", kPassthrough}});
  });
  fields.must("healthPolicy", [&](const YAML::Node& value) {
    using enum model::HealthPolicy;
    balancing.health_policy = reader.choice<model::HealthPolicy>(
        value, "healthPolicy", {{"OnlyHealthy", kOnlyHealthy}, {"AllowAll", kAllowAll}});
  });
  return balancing;
}

void read_service_traffic(Reader& reader, Fields& fields, model::Service& service) {
  fields.may("waypoint",
             [&](const YAML::Node& value) { service.waypoint = read_gateway(reader, value, "waypoint"); });
  fields.may("weightedWaypoints", [&](const YAML::Node& value) {
    reader.each(value, "weightedWaypoints", [&](const YAML::Node& choice) {
      model::WeightedWaypoint weighted;
      Fields parts(reader, choice, "a weighted waypoint");
      parts.must("destination",
                 [&](const YAML::Node& v) { weighted.destination = read_gateway(reader, v, "destination"); });
      parts.must("weight", [&](const YAML::Node& v) {
        weighted.weight = reader.number(v, "weight", std::numeric_limits<uint32_t>::max());
      });
      service.weighted_waypoints.push_back(std::move(weighted));
    });
  });
  fields.may("loadBalancer",
             [&](const YAML::Node& value) { service.load_balancing = read_balancing(reader, value); });
  // Upstream's own dump lists them; here they always follow from the workloads.
  fields.may("endpoints", [&](const YAML::Node& value) {
    if (!value.IsMap() || value.size() != 0) {
      reader.complain(value, "endpoints are derived from the workloads' services; leave the field out");
    }
  });
}

model::Service read_service(Reader& reader, const YAML::Node& node) {
  model::Service service;
  Fields fields(reader, node, "a service");
  fields.text("name", service.name, true);
  fields.text("namespace", service.ns, true);
  fields.text("hostname", service.hostname, true);
  fields.must("vips", [&](const YAML::Node& value) {
    reader.each(value, "vips",
                [&](const YAML::Node& vip) { service.vips.push_back(reader.network_address(vip, "vips")); });
  });
  fields.may("cidrVips", [&](const YAML::Node& value) {
    reader.each(value, "cidrVips", [&](const YAML::Node& vip) {
      model::NetworkCidr cidr;
      Fields parts(reader, vip, "an entry of cidrVips");
      parts.text("network", cidr.network);
      parts.must("cidr", [&](const YAML::Node& v) { cidr.range = reader.range(v, "cidr"); });
      service.cidr_vips.push_back(std::move(cidr));
    });
  });
  fields.must("ports", [&](const YAML::Node& value) { service.ports = read_ports(reader, value, "ports"); });
  fields.may("subjectAltNames", [&](const YAML::Node& value) {
    reader.each(value, "subjectAltNames", [&](const YAML::Node& name) {
      service.subject_alt_names.push_back(reader.text(name, "subjectAltNames"));
    });
  });
  fields.may("canonical",
             [&](const YAML::Node& value) { service.canonical = reader.truth(value, "canonical"); });
  fields.may("visibility", [&](const YAML::Node& value) {
    using enum model::Visibility;
    service.visibility = reader.choice<model::Visibility>(value, "visibility",
                                                          {{"Public", kPublic}, {"Namespace", kNamespace}});
  });
  fields.may("ipFamilies", [&](const YAML::Node& value) {
    using enum model::IpFamilies;
    service.ip_families = reader.choice<model::IpFamilies>(
        value, "ipFamilies", {{"IPv4", kV4Only}, {"IPv6", kV6Only}, {"Dual", kDual}});
  });
  read_service_traffic(reader, fields, service);
  return service;
}

StringMatch read_string_match(Reader& reader, const YAML::Node& node) {
  using Kind = StringMatch::Kind;
  constexpr std::array<std::pair<std::string_view, Kind>, 3> kKinds = {
      {{"!Exact", Kind::kExact}, {"!Prefix", Kind::kPrefix}, {"!Suffix", Kind::kSuffix}}};
  if (node.Tag() == "!Presence") return {Kind::kPresence, Name()};
  for (const auto& [tag, kind] : kKinds) {
    if (node.Tag() == tag) return {kind, reader.names().intern(reader.text(node, tag))};
  }
  reader.complain(node, "a match of text must be tagged !Exact, !Prefix, !Suffix or !Presence");
  return {};
}

model::PolicyMatch read_match(Reader& reader, const YAML::Node& node) {
  model::PolicyMatch match;
  Fields fields(reader, node, "a match");
  auto strings = [&](const char* key, std::vector<StringMatch>& to) {
    fields.may(key, [&](const YAML::Node& value) {
      reader.each(value, key,
                  [&](const YAML::Node& entry) { to.push_back(read_string_match(reader, entry)); });
    });
  };
  auto ranges = [&](const char* key, std::vector<base::Cidr>& to) {
    fields.may(key, [&](const YAML::Node& value) {
      reader.each(value, key, [&](const YAML::Node& entry) { to.push_back(reader.range(entry, key)); });
    });
  };
  auto ports = [&](const char* key, std::vector<uint16_t>& to) {
    fields.may(key, [&](const YAML::Node& value) {
      reader.each(value, key, [&](const YAML::Node& entry) { to.push_back(reader.port(entry, key)); });
    });
  };
  auto accounts = [&](const char* key, std::vector<model::ServiceAccountMatch>& to) {
    fields.may(key, [&](const YAML::Node& value) {
      reader.each(value, key, [&](const YAML::Node& entry) {
        auto& account = to.emplace_back();
        Fields parts(reader, entry, key);
        parts.text("namespace", account.ns, true);
        parts.text("serviceAccount", account.service_account, true);
      });
    });
  };
  strings("namespaces", match.namespaces);
  strings("notNamespaces", match.not_namespaces);
  strings("principals", match.principals);
  strings("notPrincipals", match.not_principals);
  ranges("sourceIps", match.source_ips);
  ranges("notSourceIps", match.not_source_ips);
  ranges("destinationIps", match.destination_ips);
  ranges("notDestinationIps", match.not_destination_ips);
  ports("destinationPorts", match.destination_ports);
  ports("notDestinationPorts", match.not_destination_ports);
  accounts("serviceAccounts", match.service_accounts);
  accounts("notServiceAccounts", match.not_service_accounts);
  return match;
}

model::Policy read_policy(Reader& reader, const YAML::Node& node) {
  model::Policy policy;
  Fields fields(reader, node, "a policy");
  fields.text("name", policy.name, true);
  fields.text("namespace", policy.ns, true);
  fields.must("scope", [&](const YAML::Node& value) {
    using enum model::PolicyScope;
    policy.scope = reader.choice<model::PolicyScope>(
        value, "scope",
        {{"Global", kGlobal}, {"Namespace", kNamespace}, {"WorkloadSelector", kWorkloadSelector}});
  });
  fields.must("action", [&](const YAML::Node& value) {
    using enum model::PolicyAction;
    policy.action = reader.choice<model::PolicyAction>(value, "action", {{"Allow", kAllow}, {"Deny", kDeny}});
  });
  fields.may("dryRun", [&](const YAML::Node& value) { policy.dry_run = reader.truth(value, "dryRun"); });
  fields.must("rules", [&](const YAML::Node& value) {
    reader.each(value, "rules", [&](const YAML::Node& rule) {
      auto& to_rule = policy.rules.emplace_back();
      reader.each(rule, "a rule", [&](const YAML::Node& clause) {
        auto& to_clause = to_rule.clauses.emplace_back();
        reader.each(clause, "a clause",
                    [&](const YAML::Node& match) { to_clause.matches.push_back(read_match(reader, match)); });
      });
    });
  });
  if (policy.scope == model::PolicyScope::kNamespace && policy.ns.empty()) {
    reader.complain(node, "a policy of namespace scope needs a namespace");
  }
  return policy;
}

model::MeshUpdate read_mesh(Reader& reader, const YAML::Node& root) {
  model::MeshUpdate update;
  if (root.IsNull()) return update;  // an empty file is an empty mesh
  Fields fields(reader, root, "the file");
  fields.may("workloads", [&](const YAML::Node& value) {
    reader.each(value, "workloads",
                [&](const YAML::Node& entry) { update.workloads.push_back(read_workload(reader, entry)); });
  });
  fields.may("policies", [&](const YAML::Node& value) {
    reader.each(value, "policies",
                [&](const YAML::Node& entry) { update.policies.push_back(read_policy(reader, entry)); });
  });
  fields.may("services", [&](const YAML::Node& value) {
    reader.each(value, "services",
                [&](const YAML::Node& entry) { update.services.push_back(read_service(reader, entry)); });
  });
  return update;
}

}  // namespace

base::Result<model::MeshUpdate> parse_local_mesh(std::string_view yaml, std::string_view origin,
                                                 NamePool& names) {
  // yaml-cpp throws; its exceptions stop here.
  try {
    Reader reader(origin, names);
    YAML::Node root = YAML::Load(std::string(yaml));
    model::MeshUpdate update = read_mesh(reader, root);
    if (reader.error()) return base::fail(std::move(*reader.error()));
    return update;
  } catch (const YAML::Exception& broken) {
    return base::fail(base::Code::kInvalid,
                      std::string(origin) + ":" + std::to_string(broken.mark.line + 1) + ": " + broken.msg);
  }
}

}  // namespace culvert::config
