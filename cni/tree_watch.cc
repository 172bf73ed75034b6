// SPDX-License-Identifier: Apache-2.0
#include "cni/tree_watch.h"

#include <dirent.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

namespace culvert::cni {
namespace {

constexpr int kDepthMax = 8;
constexpr uint32_t kEvents =
    IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF;

}  // namespace

base::Result<> TreeWatch::start() {
  events_ = base::UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  stop_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!events_.valid() || !stop_.valid()) return base::fail(base::Error::from_errno(errno, "watch " + root_));
  int budget = kDirectoriesMax;
  add_watches(root_, 0, budget);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return base::fail(base::Code::kExhausted, "watch " + root_ + ": " + error.what());
  }
  return {};
}

void TreeWatch::stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

// Adding a watch that exists is harmless, so new directories are found by adding all again.
void TreeWatch::add_watches(const std::string& directory, int depth, int& budget) {
  if (depth > kDepthMax || --budget < 0 ||
      ::inotify_add_watch(events_.get(), directory.c_str(), kEvents | IN_ONLYDIR) < 0)
    return;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN)) {
      add_watches(directory + "/" + name, depth + 1, budget);
    }
  }
}

void TreeWatch::run() {
  alignas(inotify_event) char buffer[16 * 1024];
  while (true) {
    pollfd fds[2] = {{stop_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[0].revents & POLLIN) return;
    if (!(fds[1].revents & POLLIN)) continue;
    bool directories = false;
    ssize_t got = 0;
    while ((got = ::read(events_.get(), buffer, sizeof(buffer))) > 0) {
      for (ssize_t at = 0; at < got;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        directories |= (event->mask & (IN_ISDIR | IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) != 0;
        at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      }
    }
    if (directories) {
      int budget = kDirectoriesMax;
      add_watches(root_, 0, budget);
    }
    changed_();
  }
}

}  // namespace culvert::cni
