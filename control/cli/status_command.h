// SPDX-License-Identifier: Apache-2.0
// `culvert status`: the health of a mesh on one screen, from culvertd's own pages. Pure: JSON text in, text
// out.
#pragma once

#include <string>

#include "control/cli/output.h"

namespace culvert::control {

struct StatusPages {
  std::string version;   // /version
  bool ready = false;    // /ready answered 200
  std::string ambientz;  // /debug/ambientz
  std::string syncz;     // /debug/syncz
  std::string errors;    // /debug/config_errors
};

struct StatusOutcome {
  std::string text;
  bool healthy = true;  // ready, every proxy in sync, no manifest in error
};

base::Result<StatusOutcome> show_status(const StatusPages& pages, OutputFormat format);

}  // namespace culvert::control
