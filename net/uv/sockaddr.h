// SPDX-License-Identifier: Apache-2.0
// SocketAddr to and from the kernel's sockaddr.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "net/base/ip.h"

namespace culvert::uv {

struct KernelAddr {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
};

// `family` AF_INET6 writes an IPv4 address in mapped form.
KernelAddr to_kernel(const base::SocketAddr& address, int family);
inline KernelAddr to_kernel(const base::SocketAddr& address) {
  return to_kernel(address, address.ip.is_v6() ? AF_INET6 : AF_INET);
}
// Anything but AF_INET and AF_INET6 (Unix sockets) gives 0.0.0.0:0.
base::SocketAddr from_kernel(const KernelAddr& address);

}  // namespace culvert::uv
