// SPDX-License-Identifier: Apache-2.0
// `culvert token`: a token of embedded mode, signed with the key in the control plane's state directory.
// An error: no such directory or key (neither is made), or names that the control plane would refuse.
#pragma once

#include <string>

#include "control/serve/token.h"
#include "net/base/duration.h"
#include "net/base/result.h"

namespace culvert::control {

struct TokenCommand {
  std::string state;
  CallerIdentity caller;
  std::string audience = "istio-ca";
  base::Duration lifetime = std::chrono::hours(24);
};

base::Result<std::string> make_token(const TokenCommand& command, base::WallTime now);

}  // namespace culvert::control
