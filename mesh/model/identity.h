// SPDX-License-Identifier: Apache-2.0
// Identity: who a workload is, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`
// (spec ztunnel section 3.1).
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "mesh/model/name.h"
#include "net/base/result.h"

namespace culvert::model {

struct Identity {
  Name trust_domain;
  Name ns;
  Name service_account;

  // Exactly five parts after the scheme; empty namespace and account parse.
  static base::Result<Identity> parse(std::string_view uri);
  // "spiffe://cluster.local/ns/default/sa/web".
  std::string to_string() const;
  // The same without the scheme: what policies compare principals with.
  std::string principal() const;

  auto operator<=>(const Identity&) const = default;
  bool operator==(const Identity&) const = default;
};

}  // namespace culvert::model

template <>
struct std::hash<culvert::model::Identity> {
  size_t operator()(const culvert::model::Identity& identity) const noexcept;
};
