// SPDX-License-Identifier: Apache-2.0
#include "control/cli/token_command.h"

#include "control/serve/state_dir.h"

namespace culvert::control {

base::Result<std::string> make_token(const TokenCommand& command, base::WallTime now) {
  base::Result<StateDir> state = StateDir::open(command.state);
  if (!state) return base::fail(std::move(state).error());
  base::Result<TokenKey> key = load_token_key(*state);
  if (!key) return base::fail(std::move(key).error());
  return key->issue({command.caller, command.audience, now, now + command.lifetime});
}

}  // namespace culvert::control
