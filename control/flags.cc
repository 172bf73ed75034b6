// SPDX-License-Identifier: Apache-2.0
#include "control/flags.h"

#include <CLI/CLI.hpp>
#include <cstdio>

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
  std::string log = "info";
  std::vector<std::string> trusted = {"istio-system/ztunnel"};
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
  app.add_option("--vip-cidr", texts.vip_range, "Addresses for services that have none")
      ->capture_default_str();
  app.add_option("--log", texts.log, "Log levels, for example info,ads=debug")->capture_default_str();
  app.set_version_flag("--version", "culvertd " CULVERT_VERSION);
}

Result<DaemonOptions> check(const Texts& texts, PlaneOptions plane) {
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
  return DaemonOptions{texts.directory, std::move(*state), std::move(*vips), std::move(*log),
                       std::move(plane)};
}

}  // namespace

std::optional<DaemonOptions> parse_daemon_options(int argc, char** argv, int& status) {
  CLI::App app("The control plane of the Culvert service mesh", "culvertd");
  Texts texts;
  PlaneOptions plane;
  declare(app, texts, plane);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    status = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  Result<DaemonOptions> options = check(texts, std::move(plane));
  if (options) return std::move(*options);
  std::fprintf(stderr, "culvertd: %s\n", options.error().message().c_str());
  status = 2;
  return std::nullopt;
}

}  // namespace culvert::control
