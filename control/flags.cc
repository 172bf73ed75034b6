// SPDX-License-Identifier: Apache-2.0
#include "control/flags.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "mesh/config/server_access.h"

namespace culvert::control {

using base::fail;
using base::Result;

namespace {

struct Texts {
  std::string directory;
  std::string state;
  std::string listen = "[::]:15012";
  std::string http = "0.0.0.0:8080";
  std::string vip_range = "240.241.0.0/16";
  std::string selector_l7 = "waypoint";
  std::string log = "info";
  std::vector<std::string> trusted = {"istio-system/ztunnel"};
  std::vector<std::string> collectors;
  std::string jwks_ca;
  std::string jwks_refresh = "20m";
  std::vector<std::string> jwks_blocked;
};

struct WaypointTexts {
  bool run = false;
  std::string program;
  std::string range = "240.242.0.0/24";
  std::string netns;
  std::string node;
  std::string control;
  std::string logs;
  std::string drain = "10s";
  std::vector<std::string> environment;
};

void declare(CLI::App& app, Texts& texts, PlaneOptions& plane) {
  CompileOptions& compile = plane.compile;
  app.add_option("--dir", texts.directory, "Directory of manifests, watched")->required();
  app.add_option("--state", texts.state, "Directory for the CA, keys and allocations")->required();
  app.add_option("--listen", texts.listen, "Address of xDS and CA")->capture_default_str();
  app.add_option("--http", texts.http, "Address of health, metrics and debug pages")->capture_default_str();
  app.add_option("--san", plane.server_names, "Further name or address in the server certificate");
  app.add_option("--ca-dir", plane.ca_directory,
                 "Certificates of your own CA in place of a self-signed root");
  app.add_option("--trusted-node-account", texts.trusted, "namespace/account of node proxies")
      ->capture_default_str();
  app.add_option("--trust-domain", compile.trust_domain, "Trust domain of the mesh")->capture_default_str();
  app.add_option("--cluster-domain", compile.cluster_domain, "DNS domain of the cluster")
      ->capture_default_str();
  app.add_option("--cluster-id", compile.cluster_id, "Name of the cluster")->capture_default_str();
  app.add_option("--root-namespace", compile.root_namespace, "Namespace of mesh-wide policies")
      ->capture_default_str();
  app.add_option("--selector-l7", texts.selector_l7,
                 "What policies bound by selector say about HTTP: waypoint (theirs enforces it, without one "
                 "they refuse) or upstream (as in Istio: no waypoint does)")
      ->check(CLI::IsMember({"waypoint", "upstream"}))
      ->capture_default_str();
  app.add_option("--vip-cidr", texts.vip_range, "Addresses for services that have none")
      ->capture_default_str();
  app.add_option("--trace-collector", texts.collectors,
                 "NAME=URL: where spans of the tracing provider NAME go if meshConfig does not define it; "
                 "zipkin://, otlp:// (gRPC) or otlp-http://, host, port and path; again for more")
      ->take_all();
  app.add_option("--jwks-ca", texts.jwks_ca,
                 "File of certificates that servers of JWT key sets may be signed by, beside the system's");
  app.add_option(
         "--jwks-refresh", texts.jwks_refresh,
         "How often JWT key sets are fetched; a new key should be published for so long before it signs")
      ->capture_default_str();
  app.add_option("--jwks-blocked", texts.jwks_blocked,
                 "Range from which no key set is fetched, again for more; otherwise loopback and link-local")
      ->take_all();
  app.add_option("--log", texts.log, "Log levels, for example info,ads=debug")->capture_default_str();
  app.set_version_flag("--version", "culvertd " CULVERT_VERSION);
}

void declare_waypoints(CLI::App& app, WaypointTexts& texts) {
  auto flag = [&](const char* name, auto& into, const char* help) {
    return app.add_option(name, into, help)->group("Waypoints as processes of this machine");
  };
  app.add_flag("--run-waypoints", texts.run, "Run a waypoint for every Gateway of class istio-waypoint")
      ->group("Waypoints as processes of this machine");
  flag("--waypoint-binary", texts.program, "The program; otherwise beside culvertd, then in PATH");
  flag("--waypoint-addresses", texts.range,
       "Each gets an address of this range, on loopback; routes to it are yours to make")
      ->capture_default_str();
  flag("--waypoint-netns", texts.netns, "Network namespace to run them in, a path or a name; otherwise ours");
  flag("--waypoint-node", texts.node, "Name of the node they run on");
  flag("--waypoint-control", texts.control,
       "host:port of xDS and CA as they reach it; otherwise of --listen");
  flag("--waypoint-logs", texts.logs, "Directory of their logs; otherwise logs in the state directory");
  flag("--waypoint-drain", texts.drain, "How long connections may go on when one is stopped")
      ->capture_default_str();
  flag("--waypoint-env", texts.environment, "NAME=VALUE for their environment, again for more")->take_all();
}

// The program as a path: as given, beside us, or in PATH.
Result<std::string> find_waypoint(const std::string& given) {
  namespace fs = std::filesystem;
  auto runs = [](const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
  };
  if (!given.empty()) {
    if (runs(given)) return fs::absolute(given).string();
    return fail(base::Code::kNotFound, "--waypoint-binary " + given + " is no program");
  }
  std::error_code ignored;
  std::vector<fs::path> places = {fs::read_symlink("/proc/self/exe", ignored).parent_path()};
  const char* path = std::getenv("PATH");
  std::stringstream list(path ? path : "");
  for (std::string one; std::getline(list, one, ':');) {
    if (!one.empty()) places.emplace_back(one);
  }
  for (const fs::path& place : places) {
    if (runs(place / "waypoint")) return (place / "waypoint").string();
  }
  return fail(base::Code::kNotFound,
              "the program waypoint is neither beside culvertd nor in PATH; --waypoint-binary says where");
}

// How waypoints reach us: as given, else where we listen, if that is an address they have too.
Result<std::string> control_address(const WaypointTexts& texts, const base::SocketAddr& listen) {
  if (!texts.control.empty()) return "https://" + texts.control;
  if (!listen.ip.is_unspecified() && !(listen.ip.is_loopback() && !texts.netns.empty()))
    return "https://" + listen.to_string();
  if (texts.netns.empty()) return "https://127.0.0.1:" + std::to_string(listen.port);
  return fail(
      base::Code::kInvalid,
      "with --waypoint-netns, --waypoint-control must say how the waypoints reach this control plane");
}

Result<> check_waypoints(const WaypointTexts& texts, const StateDir& state, PlaneOptions& plane) {
  if (!texts.run) return {};
  Result<std::string> program = find_waypoint(texts.program);
  if (!program) return fail(std::move(program).error());
  Result<base::Cidr> range = base::Cidr::parse(texts.range);
  if (!range) return fail(std::move(range).error().wrap("--waypoint-addresses"));
  Result<std::string> control = control_address(texts, plane.listen);
  if (!control) return fail(std::move(control).error());
  Result<config::HostAndPort> host = config::parse_https_url(*control, "--waypoint-control");
  if (!host) return fail(std::move(host).error());
  Result<base::Duration> drain = base::parse_duration(texts.drain);
  if (!drain) return fail(base::Error(drain.error()).wrap("--waypoint-drain"));
  for (const std::string& one : texts.environment) {
    if (one.find('=') == std::string::npos || one.front() == '=')
      return fail(base::Code::kInvalid, "--waypoint-env \"" + one + "\" is not NAME=VALUE");
  }
  std::string logs = texts.logs;
  if (logs.empty()) {
    Result<StateDir> made = StateDir::open(state.path("logs"));
    if (!made) return fail(std::move(made).error());
    logs = state.path("logs");
  }
  plane.server_names.push_back(host->host);
  plane.waypoints = WaypointOptions{std::move(*program), *range,          texts.netns,       texts.node,
                                    std::move(*control), std::move(logs), texts.environment, *drain};
  return {};
}

Result<> check_collectors(const std::vector<std::string>& texts, TraceCollectors& out) {
  for (const std::string& text : texts) {
    size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(base::Code::kInvalid, "--trace-collector \"" + text + "\" is not NAME=URL");
    Result<TraceCollector> collector = parse_trace_collector(std::string_view(text).substr(equals + 1));
    if (!collector) return fail(std::move(collector).error().wrap("--trace-collector"));
    out[text.substr(0, equals)] = std::move(*collector);
  }
  return {};
}

// PEM of the system's roots and of `extra`, or of one of them.
std::function<Result<std::string>()> jwks_roots(const std::string& extra) {
  return [extra]() -> Result<std::string> {
    Result<std::string> system = config::roots_reader("SYSTEM", config::read_file_from_disk)();
    if (extra.empty()) return system;
    Result<std::string> ours = config::read_file_from_disk(extra);
    if (!ours) return fail(std::move(ours).error().wrap("--jwks-ca"));
    return system ? *system + "\n" + *ours : *ours;
  };
}

Result<> check_jwks(const Texts& texts, JwksOptions& out) {
  out.http.read_roots = jwks_roots(texts.jwks_ca);
  out.http.user_agent = "culvertd/" CULVERT_VERSION;
  if (!texts.jwks_ca.empty()) {
    Result<std::string> ours = config::read_file_from_disk(texts.jwks_ca);
    if (!ours) return fail(std::move(ours).error().wrap("--jwks-ca"));
    if (auto roots = wire::TlsIdentity::roots_only(*ours); !roots)
      return fail(std::move(roots).error().wrap("--jwks-ca " + texts.jwks_ca));
  }
  Result<base::Duration> refresh = base::parse_duration(texts.jwks_refresh);
  if (!refresh) return fail(base::Error(refresh.error()).wrap("--jwks-refresh"));
  if (*refresh < std::chrono::seconds(1) || *refresh > std::chrono::hours(24))
    return fail(base::Code::kInvalid, "--jwks-refresh must be from 1s to 24h");
  out.refresh_every = *refresh;
  if (texts.jwks_blocked.empty()) return {};
  out.http.blocked.clear();
  for (const std::string& text : texts.jwks_blocked) {
    Result<base::Cidr> range = base::Cidr::parse(text);
    if (!range) return fail(std::move(range).error().wrap("--jwks-blocked"));
    out.http.blocked.push_back(*range);
  }
  return {};
}

Result<DaemonOptions> check(const Texts& texts, const WaypointTexts& waypoints, PlaneOptions plane) {
  Result<base::SocketAddr> listen = base::SocketAddr::parse(texts.listen);
  if (!listen) return fail(std::move(listen).error().wrap("--listen"));
  Result<base::SocketAddr> http = base::SocketAddr::parse(texts.http);
  if (!http) return fail(std::move(http).error().wrap("--http"));
  Result<base::Cidr> range = base::Cidr::parse(texts.vip_range);
  if (!range) return fail(std::move(range).error().wrap("--vip-cidr"));
  Result<VipPool> vips = VipPool::make(*range);
  if (!vips) return fail(std::move(vips).error().wrap("--vip-cidr"));
  Result<base::LogFilter> log = base::LogFilter::parse(texts.log);
  if (!log) return fail(std::move(log).error().wrap("--log"));
  Result<StateDir> state = StateDir::open(texts.state);
  if (!state) return fail(std::move(state).error().wrap("--state"));
  plane.listen = *listen;
  plane.http = *http;
  plane.trusted_node_accounts = {texts.trusted.begin(), texts.trusted.end()};
  plane.version = CULVERT_VERSION;
  if (Result<> read = check_collectors(texts.collectors, plane.compile.trace_collectors); !read)
    return fail(std::move(read).error());
  if (Result<> read = check_jwks(texts, plane.jwks); !read) return fail(std::move(read).error());
  if (Result<> run = check_waypoints(waypoints, *state, plane); !run) return fail(std::move(run).error());
  if (texts.selector_l7 == "upstream") plane.compile.selector_l7 = SelectorL7::kUpstream;
  return DaemonOptions{texts.directory, std::move(*state), std::move(*vips), std::move(*log),
                       std::move(plane)};
}

}  // namespace

std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& status) {
  CLI::App app("The control plane of the Culvert service mesh", "culvertd");
  Texts texts;
  WaypointTexts waypoints;
  PlaneOptions plane;
  declare(app, texts, plane);
  declare_waypoints(app, waypoints);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    status = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  Result<DaemonOptions> options = check(texts, waypoints, std::move(plane));
  if (options) return std::move(*options);
  std::fprintf(stderr, "culvertd: %s\n", options.error().message().c_str());
  status = 2;
  return std::nullopt;
}

}  // namespace culvert::control
