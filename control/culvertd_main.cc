// SPDX-License-Identifier: Apache-2.0
// culvertd: the control plane on a directory of manifests.
#include <CLI/CLI.hpp>
#include <csignal>

#include "control/daemon.h"

int main(int argc, char** argv) {
  CLI::App app("The control plane of the Culvert service mesh", "culvertd");
  culvert::control::DaemonOptions options;
  auto& compile = options.plane.compile;
  std::vector<std::string> trusted = {"istio-system/ztunnel"};
  app.add_option("--dir", options.directory, "Directory of manifests, watched")->required();
  app.add_option("--state", options.state, "Directory for the CA, keys and allocations")->required();
  app.add_option("--listen", options.listen, "Address of xDS and CA")->capture_default_str();
  app.add_option("--http", options.http, "Address of health, metrics and debug pages")->capture_default_str();
  app.add_option("--san", options.plane.server_names, "Further name or address in the server certificate");
  app.add_option("--ca-dir", options.plane.ca_directory, "Certificates of your own CA in place of a self-signed root");
  app.add_option("--trusted-node-account", trusted, "namespace/account of node proxies")->capture_default_str();
  app.add_option("--trust-domain", compile.trust_domain, "Trust domain of the mesh")->capture_default_str();
  app.add_option("--cluster-domain", compile.cluster_domain, "DNS domain of the cluster")->capture_default_str();
  app.add_option("--cluster-id", compile.cluster_id, "Name of the cluster")->capture_default_str();
  app.add_option("--root-namespace", compile.root_namespace, "Namespace of mesh-wide policies")->capture_default_str();
  app.add_option("--vip-cidr", options.vip_range, "Range of virtual addresses for services without one")->capture_default_str();
  app.add_option("--log", options.log_filter, "Log levels, for example info,ads=debug")->capture_default_str();
  app.set_version_flag("--version", "culvertd " CULVERT_VERSION);
  CLI11_PARSE(app, argc, argv);
  options.plane.trusted_node_accounts = {trusted.begin(), trusted.end()};
  options.plane.version = CULVERT_VERSION;
  std::signal(SIGPIPE, SIG_IGN);
  return culvert::control::run_daemon(std::move(options));
}
