// SPDX-License-Identifier: Apache-2.0
// `culvert status`: one screen of health from the control plane's pages. Pure; main fetches.
#pragma once

#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::control {

struct StatusPages {
  std::string version;  // /version
  std::string ambient;  // /debug/ambientz
  std::string sync;     // /debug/syncz
  std::string errors;   // /debug/config_errors
};

struct StatusReport {
  std::string text;
  bool healthy = false;  // nothing in the text needs attention
};

base::Result<StatusReport> status_report(const StatusPages& pages);

}  // namespace culvert::control
