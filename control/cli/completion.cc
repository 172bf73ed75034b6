// SPDX-License-Identifier: Apache-2.0
#include "control/cli/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace culvert::control {

namespace {

std::string names_of(const CLI::Option& option) {
  std::string out;
  for (const std::string& name : option.get_lnames()) out += (out.empty() ? "--" : " --") + name;
  for (const std::string& name : option.get_snames()) out += (out.empty() ? "-" : " -") + name;
  return out;
}

// Commands and options after `app`'s own name.
std::string words_of(const CLI::App& app) {
  std::string out;
  for (const CLI::App* sub : app.get_subcommands({})) out += (out.empty() ? "" : " ") + sub->get_name();
  for (const CLI::Option* option : app.get_options({})) {
    std::string names = names_of(*option);
    if (!names.empty()) out += (out.empty() ? "" : " ") + names;
  }
  return out;
}

// Files follow where a value is expected that no list knows.
std::string bash(const CLI::App& app) {
  const std::string& name = app.get_name();
  std::string cases;
  for (const CLI::App* sub : app.get_subcommands({})) {
    cases += fmt::format("    {}) words=\"{}\" ;;\n", sub->get_name(), words_of(*sub));
  }
  return fmt::format(
      "_{0}() {{\n"
      "  local current=\"${{COMP_WORDS[COMP_CWORD]}}\" words\n"
      "  case \"${{COMP_WORDS[1]}}\" in\n{1}    *) words=\"{2}\" ;;\n  esac\n"
      "  [ \"$COMP_CWORD\" -eq 1 ] && words=\"{2}\"\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}}\n"
      "complete -o default -F _{0} {0}\n",
      name, cases, words_of(app));
}

std::string zsh(const CLI::App& app) { return "autoload -U +X bashcompinit && bashcompinit\n" + bash(app); }

// Descriptions stand in single quotes.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "'";
}

void fish_options(const std::string& name, const CLI::App& app, const std::string& condition,
                  std::string& out) {
  for (const CLI::Option* option : app.get_options({})) {
    std::string flags;
    for (const std::string& one : option->get_lnames()) flags += " -l " + one;
    for (const std::string& one : option->get_snames()) flags += " -s " + one;
    if (flags.empty()) continue;
    if (option->get_items_expected_max() > 0) flags += " -r";
    out += fmt::format("complete -c {} -n {}{} -d {}\n", name, quoted(condition), flags,
                       quoted(option->get_description()));
  }
}

std::string fish(const CLI::App& app) {
  const std::string& name = app.get_name();
  std::string out;
  fish_options(name, app, "__fish_use_subcommand", out);
  for (const CLI::App* sub : app.get_subcommands({})) {
    out += fmt::format("complete -c {} -f -n '__fish_use_subcommand' -a {} -d {}\n", name, sub->get_name(),
                       quoted(sub->get_description()));
    fish_options(name, *sub, "__fish_seen_subcommand_from " + sub->get_name(), out);
  }
  return out;
}

}  // namespace

std::string completion_script(const CLI::App& app, std::string_view shell) {
  if (shell == "bash") return bash(app);
  if (shell == "zsh") return zsh(app);
  if (shell == "fish") return fish(app);
  return "";
}

}  // namespace culvert::control
