// SPDX-License-Identifier: Apache-2.0
// `culvert get`: what a node proxy or the control plane knows, as upstream's `ztunnel-config` shows it (spec
// control-plane section 7.1). Pure: JSON text in, text out.
#pragma once

#include <string>
#include <string_view>

#include "control/cli/output.h"
#include "net/base/duration.h"

namespace culvert::control {

enum class Subject : unsigned char { kWorkloads, kServices, kPolicies, kCerts, kConnections, kProxies };

struct ViewFilter {
  std::string ns;         // empty: all
  std::string node;       // workloads
  std::string address;    // workloads
  std::string direction;  // connections: inbound, outbound; empty: both
  bool raw = false;       // connections: addresses instead of names
};

// `dump`: /config_dump of our ztunnel or a stock one, or /debug/ambientz of culvertd; for kProxies
// /debug/syncz. `now` decides which certificates are valid. Error: not such a dump.
base::Result<std::string> view(Subject subject, std::string_view dump, const ViewFilter& filter,
                               OutputFormat format, base::WallTime now);

}  // namespace culvert::control
