// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/listen.h"

#include <cerrno>

namespace culvert::ztunnel {

base::Result<std::unique_ptr<io::Listener>> listen_anywhere(io::Network& network, bool ipv6, uint16_t port,
                                                            io::ListenOptions options) {
  if (ipv6) {
    auto listener = network.listen({base::IpAddr::any_v6(), port}, options);
    if (listener) return listener;
    int number = listener.error().os_errno();
    if (number != EAFNOSUPPORT && number != EADDRNOTAVAIL) return listener;
  }
  return network.listen({base::IpAddr::any_v4(), port}, std::move(options));
}

}  // namespace culvert::ztunnel
