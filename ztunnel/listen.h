// SPDX-License-Identifier: Apache-2.0
// Listening on every address of a namespace, with IPv6 or without.
#pragma once

#include <memory>

#include "net/io/network.h"

namespace culvert::ztunnel {

// [::]:port, which takes IPv4 too; 0.0.0.0:port if IPv6 is off or the kernel has none.
base::Result<std::unique_ptr<io::Listener>> listen_anywhere(io::Network& network, bool ipv6, uint16_t port,
                                                            io::ListenOptions options);

}  // namespace culvert::ztunnel
