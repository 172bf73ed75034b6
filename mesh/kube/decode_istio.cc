// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "mesh/kube/decode.h"
#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"
#include "net/base/ip.h"

namespace culvert::kube {

namespace {

WorkloadEntry decode_entry_spec(const Cursor& spec) {
  spec.only({"address", "ports", "labels", "network", "locality", "weight", "serviceAccount"});
  WorkloadEntry entry;
  entry.address = spec.at("address").text();
  for (const auto& [name, port] : spec.at("ports").fields()) {
    entry.ports[name] = static_cast<uint16_t>(port.integer(1, 65535, 1));
  }
  entry.labels = spec.at("labels").labels();
  entry.network = spec.at("network").text();
  entry.locality = spec.at("locality").text();
  if (!spec.at("weight").absent())
    entry.weight = static_cast<uint32_t>(spec.at("weight").integer(0, UINT32_MAX, 0));
  entry.service_account = spec.at("serviceAccount").text();
  // It becomes part of an identity.
  if (!entry.service_account.empty() && !is_kube_name(entry.service_account)) {
    spec.at("serviceAccount").fail(fmt::format("\"{}\" is not a Kubernetes name", entry.service_account));
  }
  return entry;
}

}  // namespace

namespace {

// A DNS name; its first label may be "*". A slash or a space would make another resource name of it.
bool is_host(std::string_view host) {
  if (host.starts_with("*.")) host.remove_prefix(2);
  return !host.empty() && host.size() <= 253 && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.';
  });
}

}  // namespace

WorkloadEntry decode_workload_entry(const Cursor& root, Meta meta) {
  WorkloadEntry entry = decode_entry_spec(root.at("spec"));
  entry.meta = std::move(meta);
  return entry;
}

ServiceEntry decode_service_entry(const Cursor& root, Meta meta) {
  ServiceEntry entry;
  entry.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"hosts", "addresses", "ports", "location", "resolution", "endpoints", "workloadSelector",
             "exportTo", "subjectAltNames"});
  entry.hosts = spec.at("hosts").texts();
  if (entry.hosts.empty()) spec.fail("hosts must name at least one host");
  for (const std::string& host : entry.hosts) {
    if (!is_host(host)) spec.at("hosts").fail(fmt::format("\"{}\" is not a host name", host));
  }
  entry.addresses = spec.at("addresses").texts();
  entry.resolution = spec.at("resolution").text("NONE");
  entry.location = spec.at("location").text();
  entry.subject_alt_names = spec.at("subjectAltNames").texts();
  for (const Cursor& item : spec.at("ports").items()) {
    entry.ports.push_back({item.at("name").text(),
                           static_cast<uint16_t>(item.at("number").integer(1, 65535, 1)),
                           item.at("protocol").text("TCP"), item.at("targetPort").port()});
  }
  for (const Cursor& item : spec.at("endpoints").items()) {
    entry.endpoints.push_back(decode_entry_spec(item));
    entry.endpoints.back().meta.origin = {entry.meta.origin.file, item.line()};
  }
  if (Cursor selector = spec.at("workloadSelector"); !selector.absent()) {
    entry.workload_selector = selector.at("labels").labels();
  }
  for (const Cursor& item : root.at("status").at("addresses").items()) {
    entry.allocated.push_back({item.at("value").text(), item.at("host").text()});
  }
  return entry;
}

AuthorizationPolicy::Source decode_source(const Cursor& source) {
  source.only({"principals", "notPrincipals", "requestPrincipals", "notRequestPrincipals", "namespaces",
               "notNamespaces", "ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks",
               "serviceAccounts", "notServiceAccounts", "trustDomains", "notTrustDomains"});
  auto list = [&](const char* key) { return source.at(key).texts(); };
  return {list("principals"),        list("notPrincipals"),
          list("requestPrincipals"), list("notRequestPrincipals"),
          list("namespaces"),        list("notNamespaces"),
          list("ipBlocks"),          list("notIpBlocks"),
          list("remoteIpBlocks"),    list("notRemoteIpBlocks"),
          list("serviceAccounts"),   list("notServiceAccounts"),
          list("trustDomains"),      list("notTrustDomains")};
}

namespace {

AuthorizationPolicy::Operation decode_operation(const Cursor& operation) {
  operation.only({"hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"});
  auto list = [&](const char* key) { return operation.at(key).texts(); };
  return {list("hosts"),   list("notHosts"),   list("ports"), list("notPorts"),
          list("methods"), list("notMethods"), list("paths"), list("notPaths")};
}

AuthorizationPolicy::Rule decode_rule(const Cursor& rule) {
  rule.only({"from", "to", "when"});
  AuthorizationPolicy::Rule out;
  // Absent means anybody; a list that names nobody must not come to mean the same.
  for (const char* key : {"from", "to"}) {
    Cursor list = rule.at(key);
    if (list.is_list() && list.items().empty()) list.fail("must not be empty; leave it out to match all");
  }
  for (const Cursor& item : rule.at("from").items()) {
    item.only({"source"});
    out.from.push_back(decode_source(item.at("source")));
  }
  for (const Cursor& item : rule.at("to").items()) {
    item.only({"operation"});
    out.to.push_back(decode_operation(item.at("operation")));
  }
  for (const Cursor& item : rule.at("when").items()) {
    item.only({"key", "values", "notValues"});
    AuthorizationPolicy::Condition condition{item.at("key").text(), item.at("values").texts(),
                                             item.at("notValues").texts()};
    if (condition.key.empty()) item.fail("key is missing");
    if (condition.values.empty() && condition.not_values.empty())
      item.fail("values or notValues must be given");
    out.when.push_back(std::move(condition));
  }
  return out;
}

void decode_action(const Cursor& action, AuthorizationPolicy& policy) {
  std::string text = action.text("ALLOW");
  using Action = AuthorizationPolicy::Action;
  if (text == "ALLOW") {
    policy.action = Action::kAllow;
  } else if (text == "DENY") {
    policy.action = Action::kDeny;
  } else if (text == "AUDIT") {
    policy.action = Action::kAudit;
  } else if (text == "CUSTOM") {
    policy.action = Action::kCustom;
  } else {
    action.fail(fmt::format("\"{}\" must be ALLOW, DENY, AUDIT or CUSTOM", text));
  }
}

}  // namespace

AuthorizationPolicy decode_authorization_policy(const Cursor& root, Meta meta) {
  AuthorizationPolicy policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"selector", "targetRef", "targetRefs", "action", "rules", "provider"});
  policy.selector = decode_match_labels(spec.at("selector"));
  policy.target_refs = decode_target_refs(spec);
  decode_action(spec.at("action"), policy);
  for (const Cursor& rule : spec.at("rules").items()) policy.rules.push_back(decode_rule(rule));
  bool custom = policy.action == AuthorizationPolicy::Action::kCustom;
  spec.at("provider").only({"name"});
  if (custom) policy.provider = decode_needed(spec.at("provider"), "name");
  if (!custom && !spec.at("provider").absent()) spec.at("provider").fail("goes only with action CUSTOM");
  policy.dry_run = policy.meta.annotations.contains("istio.io/dry-run") &&
                   policy.meta.annotations.at("istio.io/dry-run") == "true";
  return policy;
}

namespace {

PeerAuthentication::Mode decode_mode(const Cursor& mtls) {
  using Mode = PeerAuthentication::Mode;
  mtls.only({"mode"});
  Cursor mode = mtls.at("mode");
  std::string text = mode.text("UNSET");
  if (text == "UNSET") return Mode::kUnset;
  if (text == "DISABLE") return Mode::kDisable;
  if (text == "PERMISSIVE") return Mode::kPermissive;
  if (text != "STRICT") mode.fail(fmt::format("\"{}\" must be STRICT, PERMISSIVE, DISABLE or UNSET", text));
  return Mode::kStrict;
}

}  // namespace

PeerAuthentication decode_peer_authentication(const Cursor& root, Meta meta) {
  PeerAuthentication policy;
  policy.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"selector", "mtls", "portLevelMtls"});
  policy.selector = decode_match_labels(spec.at("selector"));
  policy.mode = decode_mode(spec.at("mtls"));
  for (const auto& [port, mtls] : spec.at("portLevelMtls").fields()) {
    auto number = base::parse_port(port);
    if (!number || *number == 0) {
      mtls.fail(fmt::format("\"{}\" is not a port (1 to 65535)", port));
      continue;
    }
    policy.port_modes[*number] = decode_mode(mtls);
  }
  return policy;
}

}  // namespace culvert::kube
