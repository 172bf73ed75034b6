// SPDX-License-Identifier: Apache-2.0
#include "control/cli/token_command.h"

#include <unistd.h>

#include <cerrno>

#include "control/serve/state_dir.h"

namespace culvert::control {

using base::Code;
using base::Error;
using base::fail;
using base::Result;

namespace {

// What the control plane accepts in a token; a colon would even name another account.
bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 253 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") ==
             std::string::npos;
}

}  // namespace

Result<std::string> make_token(const TokenCommand& command, base::WallTime now) {
  if (!is_name(command.caller.ns))
    return fail(Code::kInvalid, "--namespace \"" + command.caller.ns + "\" is no namespace");
  if (!is_name(command.caller.service_account)) {
    return fail(Code::kInvalid,
                "--service-account \"" + command.caller.service_account + "\" is no service account");
  }
  if (command.lifetime < std::chrono::seconds(1)) return fail(Code::kInvalid, "--ttl must be at least 1s");
  // Never made here: a token of a key that no control plane has would only look good.
  std::string key_path = command.state + "/token-key";
  if (::access(key_path.c_str(), R_OK) != 0) {
    return fail(Error::from_errno(errno, "read " + key_path)
                    .wrap("--state must be the state directory of a culvertd that has run"));
  }
  Result<StateDir> state = StateDir::open(command.state);
  if (!state) return fail(std::move(state).error());
  Result<TokenKey> key = load_token_key(*state);
  if (!key) return fail(std::move(key).error());
  return key->issue({command.caller, command.audience, now, now + command.lifetime});
}

}  // namespace culvert::control
