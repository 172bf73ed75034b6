// SPDX-License-Identifier: Apache-2.0
// `culvert completion bash|zsh|fish`: a script made from the command line's own description, so that it
// knows every command and option.
#pragma once

#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace culvert::control {

// `shell`: "bash", "zsh" or "fish"; anything else gives an empty text.
std::string completion_script(const CLI::App& app, std::string_view shell);

}  // namespace culvert::control
