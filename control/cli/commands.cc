// SPDX-License-Identifier: Apache-2.0
#include "control/cli/commands.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "control/cli/completion.h"
#include "control/cli/lint_command.h"
#include "control/cli/policy_command.h"
#include "control/cli/render.h"
#include "control/cli/status_command.h"
#include "control/cli/token_command.h"
#include "control/cli/version.h"
#include "control/cli/waypoint_command.h"

namespace culvert::control {

namespace {

constexpr int kFindings = 3;
constexpr const char* kControlDefault = "127.0.0.1:8080";
constexpr const char* kAdminDefault = "127.0.0.1:15000";

int report(const CommandTools& tools, const base::Error& error) {
  tools.err << "culvert: " << error.message() << "\n";
  return 1;
}

// Nobody answers: most often the command was given in the wrong place, or without an address.
int report_fetch(const CommandTools& tools, const base::Error& error, std::string_view hint) {
  tools.err << "culvert: " << error.message() << "\n" << hint << "\n";
  return 1;
}
constexpr std::string_view kAdminHint =
    "Is a node proxy at that address? Its admin pages are on its own node; --admin HOST:PORT says where.";
constexpr std::string_view kControlHint =
    "Is culvertd at that address? --control HOST:PORT says where its pages are (its option --http).";

int print(const CommandTools& tools, const base::Result<std::string>& text) {
  if (!text) return report(tools, text.error());
  tools.out << *text;
  return 0;
}

void add_token(CLI::App& app, const CommandTools& tools, int& status) {
  auto token = std::make_shared<TokenCommand>();
  auto lifetime = std::make_shared<std::string>("24h");
  CLI::App* sub = app.add_subcommand("token", "Print a token for a node proxy or another caller");
  sub->add_option("--state", token->state, "State directory of culvertd")->required();
  sub->add_option("--namespace,-n", token->caller.ns, "Namespace of the service account")->required();
  sub->add_option("--service-account", token->caller.service_account, "Service account")->required();
  sub->add_option("--node", token->caller.node, "Node the caller runs on; a node proxy needs it");
  sub->add_option("--pod", token->caller.pod, "Pod the caller runs in");
  sub->add_option("--ttl", *lifetime, "How long the token is good, for example 30m or 24h")
      ->capture_default_str();
  sub->callback([token, lifetime, &tools, &status] {
    auto duration = base::parse_duration(*lifetime);
    if (!duration) {
      status = report(tools, base::Error(duration.error()).wrap("--ttl"));
      return;
    }
    token->lifetime = *duration;
    auto text = make_token(*token, tools.now());
    if (text) *text += '\n';
    status = print(tools, text);
  });
}

struct GetFlags {
  std::string kind;
  std::string output = "table";
  std::string admin = kAdminDefault;
  std::string control = kControlDefault;
  RenderOptions options;
};

void add_get(CLI::App& app, const CommandTools& tools, int& status) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* sub = app.add_subcommand("get", "Show what a node proxy or the control plane knows");
  sub->add_option("kind", flags->kind, "workloads, services, policies, certs, connections, proxies or status")
      ->required()
      ->check([](const std::string& text) {
        return parse_get_kind(text)
                   ? std::string()
                   : "must be workloads, services, policies, certs, connections, proxies or status";
      });
  sub->add_option("--admin", flags->admin, "host:port of the node proxy's admin pages")
      ->capture_default_str();
  CLI::Option* control =
      sub->add_option(
             "--control", flags->control,
             "host:port of culvertd's pages: for proxies and status, or to see what it derived instead of "
             "what a proxy has")
          ->capture_default_str();
  sub->add_option("--namespace,-n", flags->options.ns, "Only of this namespace");
  sub->add_option("--node", flags->options.node, "Only of this node: workloads and proxies");
  sub->add_option("--direction", flags->options.direction, "Only these connections")
      ->check(CLI::IsMember({"inbound", "outbound"}));
  sub->add_flag("--raw", flags->options.raw, "Addresses instead of names in connections");
  sub->add_option("--output,-o", flags->output, "table, json or yaml")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  sub->callback([flags, control, &tools, &status] {
    GetKind kind = *parse_get_kind(flags->kind);
    flags->options.format = *parse_output_format(flags->output);
    flags->options.now = tools.now();
    bool proxy_only = kind == GetKind::kCertificates || kind == GetKind::kConnections;
    if (control->count() > 0 && proxy_only) {
      tools.err << "culvert: only a node proxy knows its " << flags->kind << "; use --admin\n";
      status = 2;
      return;
    }
    bool of_control = kind == GetKind::kProxies || kind == GetKind::kStatus || control->count() > 0;
    auto dump = kind == GetKind::kProxies  ? tools.fetch(flags->control, "/debug/syncz")
                : kind == GetKind::kStatus ? tools.fetch(flags->control, "/debug/status")
                : of_control               ? tools.fetch(flags->control, "/debug/ambientz")
                                           : tools.fetch(flags->admin, "/config_dump");
    status = dump ? print(tools, render(kind, *dump, flags->options))
                  : report_fetch(tools, dump.error(), of_control ? kControlHint : kAdminHint);
  });
}

int show_status(const CommandTools& tools, const std::string& address) {
  StatusPages pages;
  const std::pair<const char*, std::string*> wanted[] = {{"/version", &pages.version},
                                                         {"/debug/ambientz", &pages.ambient},
                                                         {"/debug/syncz", &pages.sync},
                                                         {"/debug/config_errors", &pages.errors}};
  if (auto ready = tools.fetch(address, "/ready"); !ready)
    return report_fetch(tools, ready.error(), kControlHint);
  for (const auto& [path, page] : wanted) {
    auto text = tools.fetch(address, path);
    if (!text) return report(tools, text.error());
    *page = std::move(*text);
  }
  auto outcome = status_report(pages);
  if (!outcome) return report(tools, outcome.error());
  tools.out << outcome->text;
  return outcome->healthy ? 0 : 1;
}

void add_status(CLI::App& app, const CommandTools& tools, int& status) {
  auto address = std::make_shared<std::string>(kControlDefault);
  CLI::App* sub = app.add_subcommand("status", "Health of the mesh; exits 1 if something needs attention");
  sub->add_option("--control", *address, "host:port of culvertd's pages")->capture_default_str();
  sub->callback([address, &tools, &status] { status = show_status(tools, *address); });
}

void add_lint(CLI::App& app, const CommandTools& tools, int& status) {
  auto command = std::make_shared<LintCommand>();
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
  sub->callback([command, output, threshold, &tools, &status] {
    command->json = *output == "json";
    command->threshold = *threshold == "info"    ? Severity::kInfo
                         : *threshold == "error" ? Severity::kError
                                                 : Severity::kWarning;
    auto outcome = lint(*command);
    if (!outcome) {
      status = report(tools, outcome.error());
      return;
    }
    tools.out << outcome->text;
    status = outcome->over_threshold ? kFindings : 0;
  });
}

void add_policy(CLI::App& app, const CommandTools& tools, int& status) {
  CLI::App* group = app.add_subcommand("policy", "Where policies are enforced, and other forms of them");
  group->require_subcommand(1);
  auto command = std::make_shared<PolicyCommand>();
  auto options = [command](CLI::App& sub) {
    sub.add_option("--trust-domain", command->compile.trust_domain, "Trust domain of the mesh")
        ->capture_default_str();
    sub.add_option("--cluster-domain", command->compile.cluster_domain, "DNS domain of the cluster")
        ->capture_default_str();
    sub.add_option("--root-namespace", command->compile.root_namespace, "Namespace of mesh-wide policies")
        ->capture_default_str();
  };
  CLI::App* explain = group->add_subcommand(
      "explain", "What each policy has come to: which node proxies and waypoints enforce it, for whom");
  auto upstream = std::make_shared<std::string>("waypoint");
  explain->add_option("name", command->name, "Only this one, as namespace/name");
  explain->add_option("--dir,-d", command->paths, "Files and directories of manifests; default: here");
  explain->add_option("--selector-l7", *upstream, "As culvertd runs: waypoint or upstream")
      ->check(CLI::IsMember({"waypoint", "upstream"}))
      ->capture_default_str();
  options(*explain);
  explain->callback([command, upstream, &tools, &status] {
    if (command->paths.empty()) command->paths = {"."};
    if (*upstream == "upstream") command->compile.selector_l7 = SelectorL7::kUpstream;
    status = print(tools, explain_policies(*command));
  });
  CLI::App* convert = group->add_subcommand(
      "convert", "Print policies bound by selector in the form with targetRefs; exits 1 if one has none");
  convert->add_option("paths", command->paths, "Files and directories: the policies, Services, Gateways")
      ->required();
  options(*convert);
  convert->callback([command, &tools, &status] {
    base::Result<ConvertedPolicies> converted = convert_policies(*command);
    if (!converted) {
      status = report(tools, converted.error());
      return;
    }
    tools.out << converted->yaml;
    for (const std::string& why : converted->left_out) tools.err << "culvert: " << why << "\n";
    status = converted->left_out.empty() ? 0 : 1;
  });
}

void add_waypoint_generate(CLI::App& group, const CommandTools& tools, int& status) {
  auto request = std::make_shared<GatewayRequest>();
  CLI::App* sub = group.add_subcommand("generate", "Print the Gateway that asks for a waypoint");
  sub->add_option("--name", request->name, "Name of the waypoint")->capture_default_str();
  sub->add_option("--namespace,-n", request->ns, "Its namespace")->capture_default_str();
  sub->add_option("--for", request->traffic, "Traffic it serves: service, workload, all or none");
  sub->add_option("--revision,-r", request->revision, "Revision to label it with");
  sub->callback([request, &tools, &status] { status = print(tools, waypoint_gateway(*request)); });
}

void add_waypoint_deployment(CLI::App& group, const CommandTools& tools, int& status) {
  auto paths = std::make_shared<std::vector<std::string>>();
  auto options = std::make_shared<KubernetesOptions>();
  CLI::App* sub =
      group.add_subcommand("deployment", "Print ServiceAccount, Deployment and Service of waypoint Gateways");
  sub->add_option("paths", *paths, "Manifests with the Gateways")->required();
  sub->add_option("--image", options->image, "Image of the waypoint")->required();
  sub->add_option("--xds-address", options->control, "Where xDS and CA are")->capture_default_str();
  sub->add_option("--trust-domain", options->trust_domain, "Trust domain of the mesh")->capture_default_str();
  sub->add_option("--cluster-domain", options->cluster_domain, "DNS domain of the cluster")
      ->capture_default_str();
  sub->add_option("--cluster-id", options->cluster_id, "Name of the cluster")->capture_default_str();
  sub->add_option("--revision,-r", options->revision, "Revision of the pods")->capture_default_str();
  sub->callback([paths, options, &tools, &status] {
    auto objects = waypoint_objects(*paths, *options);
    if (!objects) {
      status = report(tools, objects.error());
      return;
    }
    tools.out << objects->yaml;
    for (const Finding& finding : objects->refused) {
      tools.err << "culvert: " << finding.origin.to_string() << ": " << finding.object << ": "
                << finding.message << "\n";
    }
    status = objects->refused.empty() ? 0 : 1;
  });
}

void add_waypoint_view(CLI::App& group, const CommandTools& tools, int& status, WaypointView view) {
  auto ns = std::make_shared<std::string>();
  auto all = std::make_shared<bool>(false);
  auto output = std::make_shared<std::string>("table");
  auto address = std::make_shared<std::string>(kControlDefault);
  CLI::App* sub = view == WaypointView::kList
                      ? group.add_subcommand("list", "The waypoints that culvertd knows")
                      : group.add_subcommand("status", "How far they are, and what keeps them");
  CLI::Option* of_one = sub->add_option("--namespace,-n", *ns, "Only of this namespace");
  sub->add_flag("--all-namespaces,-A", *all, "Of all namespaces, as without --namespace")->excludes(of_one);
  sub->add_option("--output,-o", *output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  sub->add_option("--control", *address, "host:port of culvertd's pages")->capture_default_str();
  sub->callback([view, ns, all, output, address, &tools, &status] {
    auto page = tools.fetch(*address, "/debug/waypoints");
    status = page ? print(tools, render_waypoints(view, *page, *ns, *parse_output_format(*output)))
                  : report_fetch(tools, page.error(), kControlHint);
  });
}

void add_waypoint(CLI::App& app, const CommandTools& tools, int& status) {
  CLI::App* group = app.add_subcommand("waypoint", "Waypoints: their manifests, and those that run");
  group->require_subcommand(1);
  add_waypoint_generate(*group, tools, status);
  add_waypoint_deployment(*group, tools, status);
  add_waypoint_view(*group, tools, status, WaypointView::kList);
  add_waypoint_view(*group, tools, status, WaypointView::kStatus);
}

void add_completion(CLI::App& app, const CommandTools& tools) {
  auto shell = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand("completion", "Print a completion script for a shell");
  sub->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  sub->callback([shell, &app, &tools] { tools.out << completion_script(app, *shell); });
}

}  // namespace

int run_command(int argc, char** argv, const CommandTools& tools) {
  CLI::App app("The command line of the Culvert service mesh", "culvert");
  app.require_subcommand(0, 1);
  int status = 0;
  app.add_subcommand("version", "Print the version")->callback([&tools] {
    tools.out << version_text() << "\n";
  });
  add_token(app, tools, status);
  add_get(app, tools, status);
  add_status(app, tools, status);
  add_lint(app, tools, status);
  add_policy(app, tools, status);
  add_waypoint(app, tools, status);
  add_completion(app, tools);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, tools.out, tools.err) == 0 ? 0 : 2;
  }
  if (app.get_subcommands().empty()) {
    tools.err << app.help();
    return 2;
  }
  tools.out.flush();
  return tools.out ? status : 1;
}

}  // namespace culvert::control
