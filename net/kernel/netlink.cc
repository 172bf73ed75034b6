// SPDX-License-Identifier: Apache-2.0
#include "net/kernel/netlink.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "net/base/check.h"
#include "net/base/unique_fd.h"

namespace culvert::kernel {

using base::fail;
using base::Result;

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags) {
  header()->nlmsg_len = NLMSG_LENGTH(0);
  header()->nlmsg_type = type;
  header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  header()->nlmsg_seq = 1;
}

void NetlinkRequest::append(uint16_t type, const void* value, size_t size) {
  size_t at = NLMSG_ALIGN(header()->nlmsg_len);
  CULVERT_CHECK(at + RTA_SPACE(size) <= kBytesMax);
  auto* attribute = reinterpret_cast<rtattr*>(bytes_ + at);
  attribute->rta_type = type;
  attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
  std::memcpy(RTA_DATA(attribute), value, size);
  header()->nlmsg_len = static_cast<uint32_t>(at + RTA_ALIGN(attribute->rta_len));
}

void NetlinkRequest::attribute(uint16_t type, uint32_t value) { append(type, &value, sizeof(value)); }

void NetlinkRequest::attribute(uint16_t type, const base::IpAddr& value) {
  append(type, value.bytes().data(), value.is_v6() ? 16 : 4);
}

Result<> NetlinkRequest::exchange(std::string_view doing, std::initializer_list<int> tolerated) {
  base::UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.valid()) return fail(base::Error::from_errno(errno, "open a routing netlink socket"));
  timeval limit{5, 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(socket.get(), header(), header()->nlmsg_len, 0, reinterpret_cast<sockaddr*>(&kernel),
               sizeof(kernel)) < 0) {
    return fail(base::Error::from_errno(errno, doing));
  }
  alignas(nlmsghdr) char answer[4096];
  ssize_t got = 0;
  do {
    got = ::recv(socket.get(), answer, sizeof(answer), 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return fail(base::Error::from_errno(errno, doing));
  const auto* head = reinterpret_cast<const nlmsghdr*>(answer);
  if (static_cast<size_t>(got) < NLMSG_LENGTH(sizeof(nlmsgerr)) || head->nlmsg_type != NLMSG_ERROR) {
    return fail(base::Code::kProtocol, std::string(doing) + ": unexpected netlink answer");
  }
  const int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(head))->error;
  for (int number : tolerated) {
    if (error == number) return {};
  }
  if (error != 0) return fail(base::Error::from_errno(error, doing));
  return {};
}

namespace {

Result<> change_loopback_address(const base::IpAddr& address, bool add) {
  NetlinkRequest request(add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  const unsigned lo = ::if_nametoindex("lo");
  if (lo == 0) return fail(base::Error::from_errno(errno, "find interface lo"));
  ifaddrmsg body{};
  body.ifa_family = address.is_v6() ? AF_INET6 : AF_INET;
  body.ifa_prefixlen = address.is_v6() ? 128 : 32;
  body.ifa_flags = address.is_v6() ? IFA_F_NODAD : 0;
  body.ifa_index = lo;
  request.body(body);
  request.attribute(IFA_LOCAL, address);
  request.attribute(IFA_ADDRESS, address);
  std::string doing = (add ? "add " : "remove ") + address.to_string() + (add ? " to lo" : " from lo");
  if (add) return request.exchange(doing, {EEXIST});
  return request.exchange(doing, {EADDRNOTAVAIL, ENODEV});
}

}  // namespace

Result<> add_loopback_address(const base::IpAddr& address) { return change_loopback_address(address, true); }
Result<> remove_loopback_address(const base::IpAddr& address) {
  return change_loopback_address(address, false);
}

}  // namespace culvert::kernel
