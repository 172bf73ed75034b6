// SPDX-License-Identifier: Apache-2.0
// Istio's security kinds (spec waypoint sections 2.6 to 2.8).
#pragma once

#include "mesh/kube/meta.h"

namespace culvert::kube {

struct AuthorizationPolicy {
  using TargetRef = kube::TargetRef;
  enum class Action : unsigned char { kAllow, kDeny, kAudit, kCustom };
  struct Source {
    std::vector<std::string> principals, not_principals, request_principals, not_request_principals,
        namespaces, not_namespaces, ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks,
        service_accounts, not_service_accounts, trust_domains, not_trust_domains;
  };
  struct Operation {
    std::vector<std::string> hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths;
  };
  struct Condition {
    std::string key;
    std::vector<std::string> values, not_values;
  };
  struct Rule {
    std::vector<Source> from;
    std::vector<Operation> to;
    std::vector<Condition> when;
  };
  Meta meta;
  std::optional<Labels> selector;  // present and empty is not the same as absent
  std::vector<TargetRef> target_refs;
  Action action = Action::kAllow;
  std::vector<Rule> rules;
  std::string provider;  // of kCustom: a name in meshConfig.extensionProviders
  bool dry_run = false;  // annotation istio.io/dry-run: evaluate, never enforce
};

struct PeerAuthentication {
  enum class Mode : unsigned char { kUnset, kDisable, kPermissive, kStrict };
  Meta meta;
  std::optional<Labels> selector;
  Mode mode = Mode::kUnset;
  std::map<uint16_t, Mode> port_modes;
};

struct RequestAuthentication {
  struct FromHeader {
    std::string name;
    std::string prefix;  // with its blank, e.g. "Bearer "
  };
  struct ClaimToHeader {
    std::string header;
    std::string claim;  // nested by "."
  };
  struct Rule {
    std::string issuer;
    std::vector<std::string> audiences;  // empty: not checked
    std::string jwks_uri;                // with jwks empty too: OIDC discovery at the issuer
    std::string jwks;                    // inline beats jwks_uri
    // All three empty: "Authorization: Bearer ", then the query's access_token.
    std::vector<FromHeader> from_headers;
    std::vector<std::string> from_params;
    std::vector<std::string> from_cookies;
    std::string output_payload_to_header;
    std::vector<ClaimToHeader> output_claims;
    bool forward_original_token = false;
    base::Duration timeout = std::chrono::seconds(5);  // of fetching keys
    std::vector<std::string> space_delimited_claims;   // beside scope and permission
    int line = 0;
  };
  Meta meta;
  std::optional<Labels> selector;
  std::vector<TargetRef> target_refs;
  std::vector<Rule> rules;
};

}  // namespace culvert::kube
