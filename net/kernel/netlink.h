// SPDX-License-Identifier: Apache-2.0
// Routing netlink, as far as the mesh configures a namespace: one request, one acknowledgement. Blocking, but
// the kernel answers at once. Works on the namespace of the calling thread.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string_view>

#include "net/base/ip.h"
#include "net/base/result.h"

namespace culvert::kernel {

// One request with its attributes, built in place.
class NetlinkRequest {
 public:
  static constexpr size_t kBytesMax = 512;

  NetlinkRequest(uint16_t type, uint16_t flags);
  template <class T>
  void body(const T& value) {
    static_assert(NLMSG_LENGTH(sizeof(T)) <= kBytesMax);
    std::memcpy(NLMSG_DATA(header()), &value, sizeof(value));
    header()->nlmsg_len = NLMSG_LENGTH(sizeof(value));
  }
  void attribute(uint16_t type, uint32_t value);
  void attribute(uint16_t type, const base::IpAddr& value);
  // Sends it and waits for the kernel's word, at most 5 s; errno values of `tolerated` are success.
  base::Result<> exchange(std::string_view doing, std::initializer_list<int> tolerated);

 private:
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_); }
  void append(uint16_t type, const void* value, size_t size);

  alignas(nlmsghdr) char bytes_[kBytesMax] = {};
};

// A host address on the loopback interface. Both succeed if it is so already.
base::Result<> add_loopback_address(const base::IpAddr& address);
base::Result<> remove_loopback_address(const base::IpAddr& address);

}  // namespace culvert::kernel
