// SPDX-License-Identifier: Apache-2.0
// CaCertificates: the mesh's CA through ca::CertStore (spec ztunnel section 9). Control loop.
#pragma once

#include <memory>

#include "mesh/config/ztunnel_config.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/io/network.h"
#include "ztunnel/certificates.h"

namespace culvert::ztunnel {

class CaCertificates {
 public:
  // An empty CA_ADDRESS gives a source that refuses every identity, in words.
  static base::Result<std::unique_ptr<Certificates>> make(async::Loop& loop, io::Network& network,
                                                          base::Log& log, base::Rng rng,
                                                          const config::ZtunnelConfig& config,
                                                          const config::FileReader& files);
};

}  // namespace culvert::ztunnel
