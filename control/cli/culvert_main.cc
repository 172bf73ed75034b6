// SPDX-License-Identifier: Apache-2.0
// culvert: the command line.
#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>

#include "control/cli/token_command.h"
#include "control/cli/version.h"

using namespace culvert;

namespace {

int report(const base::Error& error) {
  std::cerr << "culvert: " << error.message() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The command line of the Culvert service mesh", "culvert");
  app.require_subcommand(1);
  app.add_subcommand("version", "Print the version")->callback([] {
    std::cout << control::version_text() << "\n";
  });

  control::TokenCommand token;
  std::string lifetime = "24h";
  CLI::App* token_app = app.add_subcommand("token", "Print a token for a node proxy or another caller");
  token_app->add_option("--state", token.state, "State directory of culvertd")->required();
  token_app->add_option("--namespace,-n", token.caller.ns, "Namespace of the service account")->required();
  token_app->add_option("--service-account", token.caller.service_account, "Service account")->required();
  token_app->add_option("--node", token.caller.node, "Node the caller runs on; a node proxy needs it");
  token_app->add_option("--pod", token.caller.pod, "Pod the caller runs in");
  token_app->add_option("--ttl", lifetime, "How long the token is good, for example 30m or 24h");
  int status = 0;
  token_app->callback([&] {
    auto duration = base::parse_duration(lifetime);
    if (!duration) {
      status = report(duration.error());
      return;
    }
    token.lifetime = *duration;
    auto now = std::chrono::time_point_cast<base::Duration>(std::chrono::system_clock::now());
    auto text = control::make_token(token, now);
    if (!text) {
      status = report(text.error());
      return;
    }
    std::cout << *text << "\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return status;
}
