// SPDX-License-Identifier: Apache-2.0
// How the configuration becomes the options of the xDS client (spec apis section 3.2, 3.7).
#pragma once

#include "mesh/config/ztunnel_config.h"
#include "mesh/xds/xds_client.h"
#include "net/base/result.h"

namespace culvert::ztunnel {

base::Result<xds::XdsClientOptions> xds_options(const config::ZtunnelConfig& config,
                                                const config::FileReader& files);

}  // namespace culvert::ztunnel
