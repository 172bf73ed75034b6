// SPDX-License-Identifier: Apache-2.0
#include "cni/route.h"

#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>

#include "cni/rules.h"
#include "net/base/unique_fd.h"
#include "net/kernel/netlink.h"

namespace culvert::cni {
namespace {

using kernel::NetlinkRequest;

base::Result<> change_route(uint8_t family, bool add) {
  NetlinkRequest request(add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
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
  if (add) return request.exchange("add the local route of table 100", {EEXIST});
  return request.exchange("delete the local route of table 100",
                          {ESRCH, ENOENT, ENODEV, EAFNOSUPPORT, EOPNOTSUPP});
}

base::Result<> change_rule(uint8_t family, bool add) {
  NetlinkRequest request(add ? RTM_NEWRULE : RTM_DELRULE, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
  fib_rule_hdr body{};
  body.family = family;
  body.table = kRouteTable;
  body.action = FR_ACT_TO_TBL;
  request.body(body);
  request.attribute(FRA_TABLE, kRouteTable);
  request.attribute(FRA_PRIORITY, kRulePriority);
  request.attribute(FRA_FWMARK, kReturnMark);
  request.attribute(FRA_FWMASK, kMarkMask);
  if (add) return request.exchange("add the rule for mark 0x111", {EEXIST});
  return request.exchange("delete the rule for mark 0x111", {ESRCH, ENOENT, EAFNOSUPPORT, EOPNOTSUPP});
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
