// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/control_plane.h"

#include <utility>

#include "mesh/config/server_access.h"

namespace culvert::ztunnel {

base::Result<xds::XdsClientOptions> xds_options(const config::ZtunnelConfig& config,
                                                const config::FileReader& files) {
  auto address = config::parse_https_url(config.xds_address, "XDS_ADDRESS");
  if (!address) return base::fail(std::move(address).error());
  xds::XdsClientOptions options;
  options.host = std::move(address->host);
  options.port = address->port;
  options.alternative_host = config.alt_xds_hostname;
  options.tls12 = config.tls12_enabled;
  options.read_roots = config::roots_reader(config.xds_root_ca, files);
  options.read_token = config::token_reader(config.auth_token, files);
  options.cluster_id = config.cluster_id;
  options.headers.assign(config.xds_headers.begin(), config.xds_headers.end());
  options.delta.on_demand = config.xds_on_demand;
  options.delta.node.id = xds::ztunnel_node_id(config.instance_ip, config.pod_name, config.pod_namespace);
  auto& metadata = options.delta.node.metadata;
  metadata.push_back({"NAME", config.pod_name});
  metadata.push_back({"NAMESPACE", config.pod_namespace});
  metadata.push_back({"INSTANCE_IPS", config.instance_ip});
  metadata.push_back({"NODE_NAME", config.node_name});
  for (const auto& [key, value] : config.proxy_metadata) metadata.push_back({key, value});
  for (const auto& [key, value] : config.json_metadata) metadata.push_back({key, value, true});
  return options;
}

}  // namespace culvert::ztunnel
