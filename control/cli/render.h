// SPDX-License-Identifier: Apache-2.0
// What `culvert get` prints, from the JSON a proxy or the control plane gave (spec control-plane section 7.1:
// the columns of upstream's tools). Pure. The JSON is a stranger's: missing or odd fields become "-", control
// characters are escaped.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::control {

enum class GetKind : unsigned char {
  kWorkloads,
  kServices,
  kPolicies,
  kCertificates,
  kConnections,
  kProxies,
  kStatus
};
enum class OutputFormat : unsigned char { kTable, kJson, kYaml };
// "workloads", "workload", "w" and so on.
std::optional<GetKind> parse_get_kind(std::string_view text);
std::optional<OutputFormat> parse_output_format(std::string_view text);

struct RenderOptions {
  OutputFormat format = OutputFormat::kTable;
  std::string ns;         // empty: all
  std::string node;       // workloads of this node; empty: all
  std::string direction;  // connections: inbound, outbound; empty: both
  bool raw = false;       // connections: addresses as they are
  base::WallTime now{};   // what certificates are judged at
};

// `json` is a proxy's /config_dump; for proxies the control plane's /debug/syncz, for status its
// /debug/status.
base::Result<std::string> render(GetKind kind, std::string_view json, const RenderOptions& options);

// Columns as wide as their widest cell, three blanks between them.
std::string render_table(const std::vector<std::string>& columns,
                         const std::vector<std::vector<std::string>>& rows);

// What a terminal would act on is shown as \xNN.
std::string printable(const std::string& text);

}  // namespace culvert::control
