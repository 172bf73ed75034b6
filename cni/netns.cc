// SPDX-License-Identifier: Apache-2.0
#include "cni/netns.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <thread>

namespace culvert::cni {

base::Result<NetnsRef> Netns::adopt(base::UniqueFd fd) {
  if (::ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return base::fail(base::Code::kInvalid, "the descriptor is not a network namespace");
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0)
    return base::fail(base::Error::from_errno(errno, "stat a network namespace"));
  return NetnsRef(new Netns(std::move(fd), NetnsId{info.st_dev, info.st_ino}));
}

base::Result<NetnsRef> Netns::open(const std::string& path) {
  if (!path.starts_with('/') || path.size() > 4096 || (path + "/").find("/../") != std::string::npos ||
      path.find('\0') != std::string::npos) {
    return base::fail(base::Code::kInvalid,
                      "network namespace path '" + path.substr(0, 200) + "' is not absolute and plain");
  }
  // O_NONBLOCK: a hostile path may name a FIFO.
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return base::fail(base::Error::from_errno(errno, "open network namespace " + path));
  auto netns = adopt(std::move(fd));
  if (!netns) return base::fail(std::move(netns.error()).wrap(path));
  return netns;
}

base::Result<> run_in_netns(const NetnsRef& netns, const std::function<base::Result<>()>& work) {
  base::Result<> outcome;
  auto body = [&] {
    if (netns && ::setns(netns->fd(), CLONE_NEWNET) != 0) {
      outcome = base::fail(base::Error::from_errno(errno, "enter the pod's network namespace"));
      return;
    }
    outcome = work();
  };
  try {
    std::thread(body).join();
  } catch (const std::system_error& error) {
    return base::fail(base::Code::kExhausted,
                      std::string("start a thread for namespace work: ") + error.what());
  }
  return outcome;
}

base::Result<std::vector<base::IpAddr>> interface_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return base::fail(base::Error::from_errno(errno, "list interface addresses"));
  std::vector<base::IpAddr> found;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    if (!entry->ifa_addr) continue;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      auto ip = base::IpAddr::from_bytes({reinterpret_cast<const uint8_t*>(&in->sin_addr), 4});
      if (ip) found.push_back(*ip);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* in = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      auto ip = base::IpAddr::from_bytes({reinterpret_cast<const uint8_t*>(&in->sin6_addr), 16});
      if (ip) found.push_back(*ip);
    }
  }
  ::freeifaddrs(list);
  return found;
}

}  // namespace culvert::cni
