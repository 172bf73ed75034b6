// SPDX-License-Identifier: Apache-2.0
#include "net/uv/sockaddr.h"

#include <cstring>

namespace culvert::uv {

KernelAddr to_kernel(const base::SocketAddr& address, int family) {
  KernelAddr out;
  auto bytes = address.ip.bytes();
  if (family == AF_INET) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    std::memcpy(&v4.sin_addr, bytes.data(), 4);
    std::memcpy(&out.storage, &v4, sizeof v4);
    out.length = sizeof v4;
    return out;
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(address.port);
  if (address.ip.is_v6()) {
    std::memcpy(&v6.sin6_addr, bytes.data(), 16);
  } else {
    v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(&v6.sin6_addr.s6_addr[12], bytes.data(), 4);
  }
  std::memcpy(&out.storage, &v6, sizeof v6);
  out.length = sizeof v6;
  return out;
}

base::SocketAddr from_kernel(const KernelAddr& address) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address.storage, sizeof v4);
    auto ip = base::IpAddr::from_bytes({reinterpret_cast<const uint8_t*>(&v4.sin_addr), 4});
    return {*ip, ntohs(v4.sin_port)};
  }
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address.storage, sizeof v6);
    auto ip = base::IpAddr::from_bytes({v6.sin6_addr.s6_addr, 16});
    return {*ip, ntohs(v6.sin6_port)};
  }
  return {};
}

}  // namespace culvert::uv
