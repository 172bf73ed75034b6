// SPDX-License-Identifier: Apache-2.0
// Policy: one L4 authorization policy as a plain value (spec apis section 1.2). How it is evaluated stands in
// mesh/decide/authorize.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/name.h"
#include "net/base/ip.h"

namespace culvert::model {

enum class PolicyScope : uint8_t { kGlobal, kNamespace, kWorkloadSelector };
enum class PolicyAction : uint8_t { kAllow, kDeny };
std::string_view to_string(PolicyScope scope);    // "Global", "Namespace", "WorkloadSelector"
std::string_view to_string(PolicyAction action);  // "Allow", "Deny"

struct StringMatch {
  enum class Kind : uint8_t { kExact, kPrefix, kSuffix, kPresence };
  Kind kind = Kind::kExact;
  Name text;  // empty for kPresence
  bool matches(std::string_view value) const;
  bool operator==(const StringMatch&) const = default;
};

struct ServiceAccountMatch {
  Name ns;
  Name service_account;
  bool operator==(const ServiceAccountMatch&) const = default;
};

// All kinds that are listed must hold; within a kind any entry does; a `not_` list fails if any entry
// matches. With nothing listed at all it matches nothing.
struct PolicyMatch {
  std::vector<StringMatch> namespaces, not_namespaces;
  std::vector<StringMatch> principals, not_principals;  // against the identity without "spiffe://"
  std::vector<base::Cidr> source_ips, not_source_ips;
  std::vector<base::Cidr> destination_ips, not_destination_ips;
  std::vector<uint16_t> destination_ports, not_destination_ports;
  std::vector<ServiceAccountMatch> service_accounts, not_service_accounts;
  bool empty() const;
  bool operator==(const PolicyMatch&) const = default;
};

// Any match; none: true.
struct PolicyClause {
  std::vector<PolicyMatch> matches;
  bool operator==(const PolicyClause&) const = default;
};

// All clauses; none: true.
struct PolicyRule {
  std::vector<PolicyClause> clauses;
  bool operator==(const PolicyRule&) const = default;
};

struct Policy {
  Name ns;
  Name name;
  PolicyScope scope = PolicyScope::kGlobal;
  PolicyAction action = PolicyAction::kAllow;
  bool dry_run = false;
  std::vector<PolicyRule> rules;  // any; none: never matches

  // "ns/name", its xDS name.
  std::string key() const;
  bool operator==(const Policy&) const = default;
};
using PolicyRef = std::shared_ptr<const Policy>;

}  // namespace culvert::model
