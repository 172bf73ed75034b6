// SPDX-License-Identifier: Apache-2.0
// `culvert policy convert` (policy_command.h).
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/cli/manifests.h"
#include "control/cli/policy_command.h"
#include "control/compile/guards.h"
#include "control/compile/selector.h"
#include "control/serve/vip_pool.h"

namespace culvert::control {

using base::fail;
using base::Result;
using kube::AuthorizationPolicy;
using kube::RequestAuthentication;

namespace {

using Texts = std::vector<std::string>;
constexpr size_t kTargetsMax = 16;  // the API's own bound

// --- YAML, in flow style: every text quoted ---

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// "{name: [a, b], ...}" of the lists that are not empty.
class Fields {
 public:
  Fields& list(std::string_view name, const Texts& values) {
    if (values.empty()) return *this;
    std::string text;
    for (const std::string& value : values) text += (text.empty() ? "" : ", ") + quoted(value);
    return raw(name, "[" + text + "]");
  }
  Fields& text(std::string_view name, const std::string& value) {
    return value.empty() ? *this : raw(name, quoted(value));
  }
  Fields& raw(std::string_view name, const std::string& value) {
    out_ += fmt::format("{}{}: {}", out_.empty() ? "" : ", ", name, value);
    return *this;
  }
  std::string done() const { return "{" + out_ + "}"; }

 private:
  std::string out_;
};

std::string yaml(const AuthorizationPolicy::Source& from) {
  return Fields()
      .list("principals", from.principals)
      .list("notPrincipals", from.not_principals)
      .list("requestPrincipals", from.request_principals)
      .list("notRequestPrincipals", from.not_request_principals)
      .list("namespaces", from.namespaces)
      .list("notNamespaces", from.not_namespaces)
      .list("ipBlocks", from.ip_blocks)
      .list("notIpBlocks", from.not_ip_blocks)
      .list("remoteIpBlocks", from.remote_ip_blocks)
      .list("notRemoteIpBlocks", from.not_remote_ip_blocks)
      .list("serviceAccounts", from.service_accounts)
      .list("notServiceAccounts", from.not_service_accounts)
      .list("trustDomains", from.trust_domains)
      .list("notTrustDomains", from.not_trust_domains)
      .done();
}

std::string yaml(const AuthorizationPolicy::Operation& to) {
  return Fields()
      .list("hosts", to.hosts)
      .list("notHosts", to.not_hosts)
      .list("ports", to.ports)
      .list("notPorts", to.not_ports)
      .list("methods", to.methods)
      .list("notMethods", to.not_methods)
      .list("paths", to.paths)
      .list("notPaths", to.not_paths)
      .done();
}

std::string yaml(const std::vector<AuthorizationPolicy::Rule>& rules) {
  if (rules.empty()) return "  rules: []\n";
  std::string out = "  rules:\n";
  for (const AuthorizationPolicy::Rule& rule : rules) {
    Texts lines;
    auto items = [&](std::string_view name, std::string_view kind, const auto& list) {
      if (list.empty()) return;
      lines.push_back(fmt::format("{}:", name));
      for (const auto& one : list) lines.push_back(fmt::format("  - {}: {}", kind, yaml(one)));
    };
    items("from", "source", rule.from);
    items("to", "operation", rule.to);
    if (!rule.when.empty()) lines.emplace_back("when:");
    for (const auto& one : rule.when) {
      lines.push_back(
          "  - " +
          Fields().text("key", one.key).list("values", one.values).list("notValues", one.not_values).done());
    }
    if (lines.empty()) out += "    - {}\n";
    for (size_t i = 0; i < lines.size(); ++i) out += (i == 0 ? "    - " : "      ") + lines[i] + "\n";
  }
  return out;
}

std::string_view action_name(AuthorizationPolicy::Action action) {
  switch (action) {
    case AuthorizationPolicy::Action::kAllow: return "ALLOW";
    case AuthorizationPolicy::Action::kDeny: return "DENY";
    case AuthorizationPolicy::Action::kAudit: return "AUDIT";
    case AuthorizationPolicy::Action::kCustom: return "CUSTOM";
  }
  return "";
}

std::string head(std::string_view kind, const kube::Meta& meta, const std::string& name, bool dry_run) {
  return fmt::format(
      "---\napiVersion: security.istio.io/v1\nkind: {}\nmetadata:\n  name: {}\n  namespace: {}\n{}spec:\n",
      kind, quoted(name), quoted(meta.ns), dry_run ? "  annotations: {istio.io/dry-run: \"true\"}\n" : "");
}

std::string yaml(const AuthorizationPolicy& policy, const std::string& name, const std::string& binding) {
  std::string out = head("AuthorizationPolicy", policy.meta, name, policy.dry_run) + binding;
  out += fmt::format("  action: {}\n", action_name(policy.action));
  if (!policy.provider.empty()) out += "  provider: {name: " + quoted(policy.provider) + "}\n";
  return out + yaml(policy.rules);
}

std::string yaml(const RequestAuthentication& one, const std::string& name, const std::string& binding) {
  std::string out = head("RequestAuthentication", one.meta, name, false) + binding + "  jwtRules:\n";
  for (const RequestAuthentication::Rule& rule : one.rules) {
    Fields fields;
    fields.text("issuer", rule.issuer).list("audiences", rule.audiences);
    fields.text("jwksUri", rule.jwks_uri).text("jwks", rule.jwks);
    auto each = [&](std::string_view name_of, const auto& list, auto item) {
      std::string text;
      for (const auto& entry : list) text += (text.empty() ? "" : ", ") + item(entry);
      if (!text.empty()) fields.raw(name_of, "[" + text + "]");
    };
    each("fromHeaders", rule.from_headers, [](const RequestAuthentication::FromHeader& from) {
      return Fields().text("name", from.name).text("prefix", from.prefix).done();
    });
    fields.list("fromParams", rule.from_params).list("fromCookies", rule.from_cookies);
    fields.text("outputPayloadToHeader", rule.output_payload_to_header);
    each("outputClaimToHeaders", rule.output_claims, [](const RequestAuthentication::ClaimToHeader& claim) {
      return Fields().text("header", claim.header).text("claim", claim.claim).done();
    });
    if (rule.forward_original_token) fields.raw("forwardOriginalToken", "true");
    fields.list("spaceDelimitedClaims", rule.space_delimited_claims);
    out += "    - " + fields.done() + "\n";
  }
  return out;
}

std::string refs(std::string_view kind, std::string_view group, const Texts& names) {
  std::string out = "  targetRefs:\n";
  for (const std::string& name : names) {
    out += fmt::format("    - {{group: {}, kind: {}, name: {}}}\n", quoted(std::string(group)), kind,
                       quoted(name));
  }
  return out;
}

// --- what a policy's pods are behind ---

class PolicyConverter {
 public:
  PolicyConverter(const kube::Objects& objects, const Compiled& compiled, const CompileOptions& options,
                  ConvertedPolicies& out)
      : objects_(objects), compiled_(compiled), options_(options), out_(out) {}

  void convert(const AuthorizationPolicy& policy);
  void convert(const RequestAuthentication& one);

 private:
  using Selector = std::optional<kube::Labels>;
  void leave_out(std::string_view kind, const kube::Meta& meta, std::string_view why) {
    out_.left_out.push_back(fmt::format("{}: {} {}: {}", meta.origin.to_string(), kind, meta.key(), why));
  }
  void comment(const std::string& text) { out_.yaml += "# " + text + "\n"; }
  std::vector<const kube::Service*> targets(const kube::Meta& meta, const Selector& selector);
  std::optional<std::set<uint16_t>> service_ports(const kube::Service& service,
                                                  const std::string& pod_port) const;
  AuthorizationPolicy with_service_ports(const AuthorizationPolicy& policy, const kube::Service& service);
  Texts waypoint_principals(const std::vector<const kube::Service*>& services) const;
  void keep_at_nodes(const AuthorizationPolicy& policy, const std::vector<const kube::Service*>& services);
  std::string selector_yaml(const Selector& selector) const;

  const kube::Objects& objects_;
  const Compiled& compiled_;
  const CompileOptions& options_;
  ConvertedPolicies& out_;
};

// Services of the pods the policy covers, with a word on those it would widen to.
std::vector<const kube::Service*> PolicyConverter::targets(const kube::Meta& meta, const Selector& selector) {
  kube::Labels wanted = selector.value_or(kube::Labels());
  std::vector<const kube::Service*> out;
  for (const auto& [key, service] : objects_.services) {
    if (service->meta.ns != meta.ns || service->selector.empty()) continue;
    if (label(service->selector, "gateway.networking.k8s.io/gateway-name")) continue;
    if (selects(wanted, service->selector)) {
      out.push_back(service.get());
      continue;
    }
    bool shares = false, more = false;
    for (const auto& [name, pod] : objects_.pods) {
      if (pod->meta.ns != meta.ns || !selects(service->selector, pod->meta.labels)) continue;
      (selects(wanted, pod->meta.labels) ? shares : more) = true;
    }
    if (!shares) continue;
    if (more)
      comment("Service " + key + " has pods that the selector left out: the policy holds for them too.");
    out.push_back(service.get());
  }
  return out;
}

// None: the service names a port of its pods, and no pod here has one of that name.
std::optional<std::set<uint16_t>> PolicyConverter::service_ports(const kube::Service& service,
                                                                 const std::string& pod_port) const {
  std::set<uint16_t> out;
  for (const kube::ServicePort& port : service.ports) {
    if (port.target_name.empty()) {
      if (std::to_string(port.target_port) == pod_port) out.insert(port.port);
      continue;
    }
    bool resolved = false;
    for (const auto& [name, pod] : objects_.pods) {
      if (pod->meta.ns != service.meta.ns || !selects(service.selector, pod->meta.labels)) continue;
      for (const kube::ContainerPort& have : pod->ports) {
        if (have.name != port.target_name) continue;
        resolved = true;
        if (std::to_string(have.port) == pod_port) out.insert(port.port);
      }
    }
    if (!resolved) return std::nullopt;
  }
  return out;
}

// Ports of a policy by selector are those of pods; with targetRefs those of the service.
AuthorizationPolicy PolicyConverter::with_service_ports(const AuthorizationPolicy& policy,
                                                        const kube::Service& service) {
  AuthorizationPolicy out = policy;
  bool unknown = false;
  auto map = [&](Texts& ports) {
    Texts mapped;
    for (const std::string& port : ports) {
      std::optional<std::set<uint16_t>> of = service_ports(service, port);
      unknown |= !of;
      for (uint16_t one : of.value_or(std::set<uint16_t>())) mapped.push_back(std::to_string(one));
      if (!of) mapped.push_back(port);
    }
    bool lost = !ports.empty() && mapped.empty();
    ports = std::move(mapped);
    return lost;
  };
  std::erase_if(out.rules, [&](AuthorizationPolicy::Rule& rule) {
    bool had = !rule.to.empty();
    // An operation on ports that the service does not have never matches there.
    std::erase_if(rule.to, [&](AuthorizationPolicy::Operation& operation) {
      bool never = map(operation.ports);
      map(operation.not_ports);
      return never;
    });
    bool never = had && rule.to.empty();
    for (AuthorizationPolicy::Condition& condition : rule.when) {
      if (condition.key != "destination.port") continue;
      never |= map(condition.values);
      map(condition.not_values);
    }
    return never;
  });
  if (unknown) comment("Service " + service.meta.key() + " names ports of its pods: check the ports below.");
  return out;
}

Texts PolicyConverter::waypoint_principals(const std::vector<const kube::Service*>& services) const {
  std::set<std::string> out;
  for (const kube::Service* service : services) {
    auto bound = compiled_.waypoints_of.find(fmt::format(
        "{}/{}.{}.svc.{}", service->meta.ns, service->meta.name, service->meta.ns, options_.cluster_domain));
    if (bound == compiled_.waypoints_of.end()) continue;
    for (const std::string& name : bound->second) {
      const kube::Meta& gateway = objects_.gateways.at(name)->meta;
      const std::string* account = label(gateway.annotations, "gateway.istio.io/service-account");
      out.insert(fmt::format("{}/ns/{}/sa/{}", options_.trust_domain, gateway.ns,
                             account ? *account : gateway.name));
    }
  }
  return {out.begin(), out.end()};
}

std::string PolicyConverter::selector_yaml(const Selector& selector) const {
  if (!selector || selector->empty()) return "";
  Fields labels;
  for (const auto& [key, value] : *selector) labels.raw(quoted(key), quoted(value));
  return "  selector: {matchLabels: " + labels.done() + "}\n";
}

// What node proxies go on doing: what needs no waypoint, and nobody around it.
void PolicyConverter::keep_at_nodes(const AuthorizationPolicy& policy,
                                    const std::vector<const kube::Service*>& services) {
  bool allow = policy.action == AuthorizationPolicy::Action::kAllow;
  if (policy.action == AuthorizationPolicy::Action::kAudit || policy.dry_run) return;
  Texts waypoints = waypoint_principals(services);
  if (waypoints.empty()) {
    comment(
        "No waypoint is bound to these Services: label them istio.io/use-waypoint and convert again, so "
        "that");
    comment("node proxies admit it alone.");
    return;
  }
  AuthorizationPolicy kept = policy;
  if (!allow) kept.action = AuthorizationPolicy::Action::kDeny;
  kept.provider.clear();
  std::erase_if(kept.rules, [&](const AuthorizationPolicy::Rule& rule) {
    return policy.action == AuthorizationPolicy::Action::kCustom || needs_waypoint(rule);
  });
  AuthorizationPolicy::Source them;
  (allow ? them.principals : them.not_principals) = waypoints;
  kept.rules.push_back({{them}, {}, {}});
  out_.yaml += yaml(kept, policy.meta.name + "-node", selector_yaml(policy.selector));
}

void PolicyConverter::convert(const AuthorizationPolicy& policy) {
  constexpr std::string_view kKind = "AuthorizationPolicy";
  if (!policy.target_refs.empty()) return;
  bool waypoint = policy.action == AuthorizationPolicy::Action::kCustom ||
                  policy.action == AuthorizationPolicy::Action::kAudit ||
                  std::any_of(policy.rules.begin(), policy.rules.end(), needs_waypoint);
  if (!waypoint) return;
  if (policy.meta.ns == options_.root_namespace) {
    if (policy.selector && !policy.selector->empty())
      return leave_out(kKind, policy.meta,
                       "a selector over all namespaces has no such form: write one for each");
    out_.yaml +=
        yaml(policy, policy.meta.name, refs("GatewayClass", "gateway.networking.k8s.io", {"istio-waypoint"}));
    return;
  }
  std::vector<const kube::Service*> services = targets(policy.meta, policy.selector);
  if (services.empty()) return leave_out(kKind, policy.meta, "no Service here selects the pods it covers");
  bool ports =
      std::any_of(policy.rules.begin(), policy.rules.end(), [](const AuthorizationPolicy::Rule& rule) {
        return std::any_of(rule.to.begin(), rule.to.end(),
                           [](const auto& to) { return !to.ports.empty() || !to.not_ports.empty(); }) ||
               std::any_of(rule.when.begin(), rule.when.end(),
                           [](const auto& when) { return when.key == "destination.port"; });
      });
  // With ports each Service has rules of its own.
  size_t together = ports ? 1 : kTargetsMax;
  for (size_t at = 0; at < services.size(); at += together) {
    Texts names;
    for (size_t i = at; i < std::min(at + together, services.size()); ++i)
      names.push_back(services[i]->meta.name);
    bool one = services.size() <= together;
    std::string name = one     ? policy.meta.name
                       : ports ? policy.meta.name + "-" + names.front()
                               : fmt::format("{}-{}", policy.meta.name, at / together + 1);
    out_.yaml +=
        yaml(ports ? with_service_ports(policy, *services[at]) : policy, name, refs("Service", "", names));
  }
  keep_at_nodes(policy, services);
}

void PolicyConverter::convert(const RequestAuthentication& one) {
  constexpr std::string_view kKind = "RequestAuthentication";
  if (!one.target_refs.empty()) return;
  if (one.meta.ns == options_.root_namespace) {
    if (one.selector && !one.selector->empty())
      return leave_out(kKind, one.meta,
                       "a selector over all namespaces has no such form: write one for each");
    out_.yaml +=
        yaml(one, one.meta.name, refs("GatewayClass", "gateway.networking.k8s.io", {"istio-waypoint"}));
    return;
  }
  std::vector<const kube::Service*> services = targets(one.meta, one.selector);
  if (services.empty()) return leave_out(kKind, one.meta, "no Service here selects the pods it covers");
  for (size_t at = 0; at < services.size(); at += kTargetsMax) {
    Texts names;
    for (size_t i = at; i < std::min(at + kTargetsMax, services.size()); ++i)
      names.push_back(services[i]->meta.name);
    bool alone = services.size() <= kTargetsMax;
    std::string name = alone ? one.meta.name : fmt::format("{}-{}", one.meta.name, at / kTargetsMax + 1);
    out_.yaml += yaml(one, name, refs("Service", "", names));
  }
}

}  // namespace

Result<ConvertedPolicies> convert_policies(const PolicyCommand& command) {
  Result<Manifests> manifests = read_manifests(command.paths);
  if (!manifests) return fail(std::move(manifests).error());
  CompileOptions options = command.compile;
  VipPool vips = VipPool::make(base::Cidr::parse("240.0.0.0/8").value()).value();
  options.allocate_vip = [&](const std::string& key) { return vips.allocate(key); };
  Compiled compiled = compile(*manifests->objects, options);
  ConvertedPolicies out;
  PolicyConverter converter(*manifests->objects, compiled, options, out);
  for (const auto& [key, policy] : manifests->objects->authorization_policies) converter.convert(*policy);
  for (const auto& [key, one] : manifests->objects->request_authentications) converter.convert(*one);
  return out;
}

}  // namespace culvert::control
