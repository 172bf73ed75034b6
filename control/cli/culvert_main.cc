// SPDX-License-Identifier: Apache-2.0
// culvert: the command line. Exit status: 0 fine, 1 failed, 2 wrong usage, 3 findings at or over the
// threshold.
#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <memory>

#include "control/cli/completion.h"
#include "control/cli/fetch.h"
#include "control/cli/lint_command.h"
#include "control/cli/render.h"
#include "control/cli/status_command.h"
#include "control/cli/token_command.h"
#include "control/cli/version.h"

using namespace culvert;

namespace {

constexpr int kFindings = 3;
constexpr const char* kControlDefault = "127.0.0.1:8080";
constexpr const char* kAdminDefault = "127.0.0.1:15000";

base::WallTime now() {
  return std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now());
}

int report(const base::Error& error) {
  std::cerr << "culvert: " << error.message() << "\n";
  return 1;
}

int print(const base::Result<std::string>& text) {
  if (!text) return report(text.error());
  std::cout << *text;
  return 0;
}

void add_token(CLI::App& app, int& status) {
  auto token = std::make_shared<control::TokenCommand>();
  auto lifetime = std::make_shared<std::string>("24h");
  CLI::App* sub = app.add_subcommand("token", "Print a token for a node proxy or another caller");
  sub->add_option("--state", token->state, "State directory of culvertd")->required();
  sub->add_option("--namespace,-n", token->caller.ns, "Namespace of the service account")->required();
  sub->add_option("--service-account", token->caller.service_account, "Service account")->required();
  sub->add_option("--node", token->caller.node, "Node the caller runs on; a node proxy needs it");
  sub->add_option("--pod", token->caller.pod, "Pod the caller runs in");
  sub->add_option("--ttl", *lifetime, "How long the token is good, for example 30m or 24h")
      ->capture_default_str();
  sub->callback([token, lifetime, &status] {
    auto duration = base::parse_duration(*lifetime);
    if (!duration) {
      status = report(base::Error(duration.error()).wrap("--ttl"));
      return;
    }
    token->lifetime = *duration;
    auto text = control::make_token(*token, now());
    if (text) *text += '\n';
    status = print(text);
  });
}

struct GetFlags {
  std::string kind;
  std::string output = "table";
  std::string admin = kAdminDefault;
  std::string control = kControlDefault;
  control::RenderOptions options;
};

void add_get(CLI::App& app, int& status) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* sub = app.add_subcommand("get", "Show what a node proxy or the control plane knows");
  sub->add_option("kind", flags->kind, "workloads, services, policies, certs, connections or proxies")
      ->required()
      ->check([](const std::string& text) {
        return control::parse_get_kind(text)
                   ? std::string()
                   : "must be workloads, services, policies, certs, connections or proxies";
      });
  sub->add_option("--admin", flags->admin, "host:port of the node proxy's admin pages")
      ->capture_default_str();
  sub->add_option("--control", flags->control, "host:port of culvertd's pages, for proxies")
      ->capture_default_str();
  sub->add_option("--namespace,-n", flags->options.ns, "Only of this namespace");
  sub->add_option("--node", flags->options.node, "Only of this node: workloads and proxies");
  sub->add_option("--direction", flags->options.direction, "Only these connections")
      ->check(CLI::IsMember({"inbound", "outbound"}));
  sub->add_flag("--raw", flags->options.raw, "Addresses instead of names in connections");
  sub->add_option("--output,-o", flags->output, "table, json or yaml")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  sub->callback([flags, &status] {
    control::GetKind kind = *control::parse_get_kind(flags->kind);
    flags->options.format = *control::parse_output_format(flags->output);
    flags->options.now = now();
    bool of_control = kind == control::GetKind::kProxies;
    auto dump = of_control ? control::fetch(flags->control, "/debug/syncz")
                           : control::fetch(flags->admin, "/config_dump");
    status = dump ? print(control::render(kind, *dump, flags->options)) : report(dump.error());
  });
}

int show_status(const std::string& address) {
  control::StatusPages pages;
  const std::pair<const char*, std::string*> wanted[] = {{"/version", &pages.version},
                                                         {"/debug/ambientz", &pages.ambient},
                                                         {"/debug/syncz", &pages.sync},
                                                         {"/debug/config_errors", &pages.errors}};
  if (auto ready = control::fetch(address, "/ready"); !ready) return report(ready.error());
  for (const auto& [path, page] : wanted) {
    auto text = control::fetch(address, path);
    if (!text) return report(text.error());
    *page = std::move(*text);
  }
  auto outcome = control::status_report(pages);
  if (!outcome) return report(outcome.error());
  std::cout << outcome->text;
  return outcome->healthy ? 0 : 1;
}

void add_status(CLI::App& app, int& status) {
  auto address = std::make_shared<std::string>(kControlDefault);
  CLI::App* sub = app.add_subcommand("status", "Health of the mesh; exits 1 if something needs attention");
  sub->add_option("--control", *address, "host:port of culvertd's pages")->capture_default_str();
  sub->callback([address, &status] { status = show_status(*address); });
}

void add_lint(CLI::App& app, int& status) {
  auto command = std::make_shared<control::LintCommand>();
  auto output = std::make_shared<std::string>("table");
  auto threshold = std::make_shared<std::string>("warning");
  CLI::App* sub = app.add_subcommand("lint", "Check manifests without a control plane; exits 3 on findings");
  sub->add_option("paths", command->paths, "Files and directories")->required();
  sub->add_option("--failure-threshold", *threshold, "info, warning or error: what counts as a finding")
      ->check(CLI::IsMember({"info", "warning", "error"}))
      ->capture_default_str();
  sub->add_option("--output,-o", *output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  auto& compile = command->compile;
  sub->add_option("--trust-domain", compile.trust_domain, "Trust domain of the mesh")->capture_default_str();
  sub->add_option("--cluster-domain", compile.cluster_domain, "DNS domain of the cluster")
      ->capture_default_str();
  sub->add_option("--root-namespace", compile.root_namespace, "Namespace of mesh-wide policies")
      ->capture_default_str();
  sub->callback([command, output, threshold, &status] {
    command->json = *output == "json";
    command->threshold = *threshold == "info"    ? control::Severity::kInfo
                         : *threshold == "error" ? control::Severity::kError
                                                 : control::Severity::kWarning;
    auto outcome = control::lint(*command);
    if (!outcome) {
      status = report(outcome.error());
      return;
    }
    std::cout << outcome->text;
    status = outcome->over_threshold ? kFindings : 0;
  });
}

void add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand("completion", "Print a completion script for a shell");
  sub->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  sub->callback([shell, &app] { std::cout << control::completion_script(app, *shell); });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The command line of the Culvert service mesh", "culvert");
  app.require_subcommand(1);
  int status = 0;
  app.add_subcommand("version", "Print the version")->callback([] {
    std::cout << control::version_text() << "\n";
  });
  add_token(app, status);
  add_get(app, status);
  add_status(app, status);
  add_lint(app, status);
  add_completion(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  std::cout.flush();
  return std::cout ? status : 1;
}
