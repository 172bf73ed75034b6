// SPDX-License-Identifier: Apache-2.0
#include "cni/route.h"

#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

#include "cni/rules.h"
#include "net/base/unique_fd.h"

namespace culvert::cni {
namespace {

constexpr size_t kMessageBytesMax = 512;

// One request with its attributes, built in place.
class Request {
 public:
  Request(uint16_t type, uint16_t flags) {
    header()->nlmsg_len = NLMSG_LENGTH(0);
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header()->nlmsg_seq = 1;
  }
  template <class T>
  void body(const T& value) {
    std::memcpy(NLMSG_DATA(header()), &value, sizeof(value));
    header()->nlmsg_len = NLMSG_LENGTH(sizeof(value));
  }
  void attribute(uint16_t type, uint32_t value) {
    auto* attribute = reinterpret_cast<rtattr*>(bytes_ + NLMSG_ALIGN(header()->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(sizeof(value));
    std::memcpy(RTA_DATA(attribute), &value, sizeof(value));
    header()->nlmsg_len = NLMSG_ALIGN(header()->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
  }
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_); }

 private:
  alignas(nlmsghdr) char bytes_[kMessageBytesMax] = {};
};

base::Result<> exchange(Request& request, const char* doing, std::initializer_list<int> tolerated) {
  base::UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.valid()) return base::fail(base::Error::from_errno(errno, "open a routing netlink socket"));
  timeval limit{5, 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (::sendto(socket.get(), request.header(), request.header()->nlmsg_len, 0,
               reinterpret_cast<sockaddr*>(&kernel), sizeof(kernel)) < 0) {
    return base::fail(base::Error::from_errno(errno, doing));
  }
  alignas(nlmsghdr) char answer[4096];
  ssize_t got = 0;
  do {
    got = ::recv(socket.get(), answer, sizeof(answer), 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return base::fail(base::Error::from_errno(errno, doing));
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (static_cast<size_t>(got) < NLMSG_LENGTH(sizeof(nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR) {
    return base::fail(base::Code::kProtocol, std::string(doing) + ": unexpected netlink answer");
  }
  const int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
  for (int number : tolerated) {
    if (error == number) return {};
  }
  if (error != 0) return base::fail(base::Error::from_errno(error, doing));
  return {};
}

base::Result<> change_route(uint8_t family, bool add) {
  Request request(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  rtmsg body{};
  body.rtm_family = family;
  body.rtm_table = kRouteTable;
  body.rtm_protocol = add ? RTPROT_BOOT : RTPROT_UNSPEC;
  body.rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  body.rtm_type = RTN_LOCAL;
  request.body(body);
  const unsigned lo = ::if_nametoindex("lo");
  if (lo == 0) return base::fail(base::Error::from_errno(errno, "find interface lo in the pod"));
  request.attribute(RTA_OIF, lo);
  request.attribute(RTA_TABLE, kRouteTable);
  if (add) return exchange(request, "add the local route of table 100", {EEXIST});
  return exchange(request, "delete the local route of table 100",
                  {ESRCH, ENOENT, ENODEV, EAFNOSUPPORT, EOPNOTSUPP});
}

base::Result<> change_rule(uint8_t family, bool add) {
  Request request(add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
  fib_rule_hdr body{};
  body.family = family;
  body.table = kRouteTable;
  body.action = FR_ACT_TO_TBL;
  request.body(body);
  request.attribute(FRA_TABLE, kRouteTable);
  request.attribute(FRA_PRIORITY, kRulePriority);
  request.attribute(FRA_FWMARK, kReturnMark);
  request.attribute(FRA_FWMASK, kMarkMask);
  if (add) return exchange(request, "add the rule for mark 0x111", {EEXIST});
  return exchange(request, "delete the rule for mark 0x111", {ESRCH, ENOENT, EAFNOSUPPORT, EOPNOTSUPP});
}

// The reader's own namespace counts, not the path's (spec cni 2.8).
bool ipv6_disabled_on_lo() {
  base::UniqueFd file(::open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return true;
  char text = '0';
  return ::read(file.get(), &text, 1) == 1 && text == '1';
}

}  // namespace

base::Result<> add_pod_routes(bool ipv6) {
  CULVERT_TRY(change_route(AF_INET, true));
  CULVERT_TRY(change_rule(AF_INET, true));
  if (!ipv6 || ipv6_disabled_on_lo()) return {};
  CULVERT_TRY(change_route(AF_INET6, true));
  return change_rule(AF_INET6, true);
}

base::Result<> remove_pod_routes() {
  base::Result<> outcome;
  for (uint8_t family : {AF_INET, AF_INET6}) {
    for (auto result : {change_rule(family, false), change_route(family, false)}) {
      if (!result && outcome) outcome = std::move(result);
    }
  }
  return outcome;
}

}  // namespace culvert::cni
