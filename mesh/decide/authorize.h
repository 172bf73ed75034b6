// SPDX-License-Identifier: Apache-2.0
// authorize: may this connection reach this workload? Pure; the same function in every data path
// (design 3.15, spec ztunnel section 6, spec apis section 1.2).
//
// A policy holds if any rule does, a rule if all clauses do, a clause if any match does. A policy without
// rules never holds; a rule without clauses and a clause without matches always do; a match that lists
// nothing never does.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/model/identity.h"
#include "mesh/model/policy.h"
#include "mesh/model/view.h"
#include "mesh/model/workload.h"
#include "net/base/ip.h"

namespace culvert::decide {

// What is known about one connection.
struct ConnectionFacts {
  base::IpAddr source_ip;                 // of the TCP peer
  std::optional<model::Identity> source;  // none: plaintext
  base::SocketAddr destination;           // pod (or original) address, and the final port
};

enum class Decision : unsigned char {
  kNoAllowPolicies,  // allowed: nothing restricts the workload
  kAllowedBy,        // allowed by `policy`
  kDeniedBy,         // denied by `policy`
  kNotAllowed,       // denied: there are ALLOW policies and none holds
  kUnknownPolicy,    // denied: the workload names `policy`, which we do not have
};

// A dry-run policy that holds (or, without a key, dry-run ALLOW policies of which none holds).
struct DryRunNote {
  model::PolicyAction action = model::PolicyAction::kAllow;
  std::string policy;
};

struct Verdict {
  Decision decision = Decision::kNoAllowPolicies;
  std::string policy;                // "ns/name" of the policy that decided, else empty
  std::optional<size_t> rule;        // which of its rules
  std::vector<DryRunNote> dry_run;   // to be logged, without effect
  std::vector<std::string> unknown;  // policies the workload names and we do not have

  bool allowed() const { return decision == Decision::kNoAllowPolicies || decision == Decision::kAllowedBy; }
  // "explicitly denied by: ns/name", "allow policies exist, but none allowed", ... for logs.
  std::string reason() const;
};

struct AuthorizeOptions {
  // A policy named by the workload but not known (yet): deny. Upstream skips it, which opens what a DENY
  // policy was to close while configuration is on its way; set false to do the same.
  bool unknown_policy_denies = true;
};

// `destination` is the workload as it was when the connection came, or as it is now: the caller's choice.
Verdict authorize(const model::MeshView& view, const model::Workload& destination,
                  const ConnectionFacts& facts, AuthorizeOptions options = {});

// The first rule of the policy that holds.
std::optional<size_t> holding_rule(const model::Policy& policy, const ConnectionFacts& facts);

}  // namespace culvert::decide
