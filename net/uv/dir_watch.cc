// SPDX-License-Identifier: Apache-2.0
#include "net/uv/dir_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace culvert::uv {

namespace fs = std::filesystem;

namespace {
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                             IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;
}

base::Result<std::unique_ptr<DirWatch>> DirWatch::create(UvLoop& loop, std::string root,
                                                         std::function<void()> changed) {
  base::UniqueFd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!fd.valid()) return base::fail(base::Error::from_errno(errno, "watch " + root));
  std::unique_ptr<DirWatch> watch(new DirWatch(loop, std::move(fd), std::move(root), std::move(changed)));
  watch->watch_tree();
  if (watch->directories_.empty()) return base::fail(base::Error::from_errno(errno, "watch " + watch->root_));
  return watch;
}

DirWatch::DirWatch(UvLoop& loop, base::UniqueFd fd, std::string root, std::function<void()> changed)
    : loop_(loop), fd_(std::move(fd)), root_(std::move(root)), changed_(std::move(changed)) {
  loop_.watch(fd_.get(), *this);
}

DirWatch::~DirWatch() { loop_.unwatch(fd_.get(), *this); }

void DirWatch::watch_tree() {
  std::map<std::string, int> next;
  auto add = [&](const std::string& path) {
    if (next.size() >= kDirectoriesMax) return;
    // Adding a directory that is watched already gives its old descriptor.
    int descriptor = inotify_add_watch(fd_.get(), path.c_str(), kEvents | IN_ONLYDIR);
    if (descriptor >= 0) next[path] = descriptor;
  };
  add(root_);
  std::error_code error;
  fs::recursive_directory_iterator it(root_, fs::directory_options::follow_directory_symlink, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) add(it->path().string());
  }
  directories_ = std::move(next);
}

void DirWatch::on_events(uint32_t) {
  alignas(inotify_event) char buffer[16 * 1024];
  bool any = false;
  bool tree_changed = false;
  for (ssize_t got; (got = ::read(fd_.get(), buffer, sizeof buffer)) > 0;) {
    any = true;
    for (char* at = buffer; at < buffer + got;) {
      auto* event = reinterpret_cast<inotify_event*>(at);
      constexpr uint32_t kTree = IN_ISDIR | IN_Q_OVERFLOW | IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF;
      // A link may lead to a directory (ConfigMap mounts), and does not say so.
      if (event->mask & (kTree | IN_MOVED_TO | IN_CREATE)) tree_changed = true;
      at += sizeof(inotify_event) + event->len;
    }
  }
  if (tree_changed) watch_tree();
  if (any) changed_();
}

}  // namespace culvert::uv
