// SPDX-License-Identifier: Apache-2.0
#include "net/uv/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>

#include "net/base/check.h"

namespace culvert::uv {

base::Result<io::NetNsRef> FdNetNs::adopt(base::UniqueFd fd) {
  int type = ioctl(fd.get(), NS_GET_NSTYPE);
  if (type != CLONE_NEWNET) {
    return base::fail(base::Code::kInvalid, "the descriptor is not a network namespace");
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0)
    return base::fail(base::Error::from_errno(errno, "stat network namespace"));
  return std::make_shared<FdNetNs>(std::move(fd), Id{info.st_dev, info.st_ino});
}

base::Result<io::NetNsRef> FdNetNs::open(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return base::fail(base::Error::from_errno(errno, "open network namespace " + path));
  return adopt(std::move(fd));
}

base::Result<HomeNetNs> HomeNetNs::open() {
  base::UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return base::fail(base::Error::from_errno(errno, "open our own network namespace"));
  return HomeNetNs(std::move(fd));
}

base::Result<> HomeNetNs::run_in(const io::NetNs* netns, const std::function<base::Result<>()>& call) const {
  if (!netns) return call();
  auto* target = dynamic_cast<const FdNetNs*>(netns);
  CULVERT_CHECK(target != nullptr);
  if (setns(target->fd(), CLONE_NEWNET) != 0) {
    return base::fail(base::Error::from_errno(errno, "enter the pod's network namespace"));
  }
  base::Result<> result = call();
  CULVERT_CHECK(setns(fd_.get(), CLONE_NEWNET) == 0);
  return result;
}

}  // namespace culvert::uv
