// SPDX-License-Identifier: Apache-2.0
#include "cni/installer.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>

#include "cni/files.h"

namespace culvert::cni {
namespace {

constexpr std::string_view kTarget = "cni-agent";
constexpr size_t kBinaryBytesMax = 256 << 20;

bool is_list_name(std::string_view name) { return name.ends_with(".conflist"); }
bool is_candidate_name(std::string_view name) { return name.ends_with(".conf") || is_list_name(name); }

std::string sibling(const std::string& name) {
  if (is_list_name(name)) return name.substr(0, name.size() - 4);
  return name + "list";
}

bool exists(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0;
}

mode_t mode_of(const std::string& path, mode_t fallback) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : fallback;
}

}  // namespace

base::Result<std::string> Installer::choose_primary() const {
  if (!options_.conf_name.empty()) {
    for (const auto& name : {options_.conf_name, sibling(options_.conf_name)}) {
      if (exists(options_.net_dir + "/" + name)) return name;
    }
    return base::fail(base::Code::kNotFound, options_.conf_name + " is not in " + options_.net_dir + " yet");
  }
  auto names = list_files(options_.net_dir);
  if (!names) return base::fail(names.error());
  for (const auto& name : *names) {
    if (!is_candidate_name(name) || (options_.owned && name == options_.owned_name)) continue;
    auto text = read_small_file(options_.net_dir + "/" + name);
    auto good = text ? check_candidate(*text, is_list_name(name)) : base::Result<>(base::fail(text.error()));
    if (good) return name;
    log_.warn(kTarget, "CNI configuration skipped",
              {base::Field::text("file", name), base::Field::text("reason", good.error().message())});
  }
  return base::fail(base::Code::kNotFound, "no valid CNI configuration in " + options_.net_dir + " yet");
}

base::Result<> Installer::copy_binaries() {
  auto names = list_files(options_.source_dir);
  if (!names) return base::fail(std::move(names.error()).wrap("find the plugin binary"));
  bool found = false;
  for (const auto& name : *names) {
    const std::string target = options_.bin_dir + "/" + name;
    remove_stale_temporaries(target);
    // An equal file is left alone: its inode may be running.
    if (!same_content(options_.source_dir + "/" + name, target)) {
      auto bytes = read_small_file(options_.source_dir + "/" + name, kBinaryBytesMax);
      if (!bytes) return base::fail(bytes.error());
      auto written =
          write_file_atomically(target, *bytes, mode_of(options_.source_dir + "/" + name, 0755) | 0555);
      if (!written) {
        const bool read_only = written.error().os_errno() == EROFS;
        return base::fail(std::move(written.error())
                              .wrap(read_only
                                        ? "the plugin directory is read-only: set cniBinDir for this platform"
                                        : "copy the plugin"));
      }
    }
    found |= name == kPluginType;
  }
  if (!found)
    return base::fail(base::Code::kNotFound, "no binary istio-cni in " + options_.source_dir + " to install");
  return {};
}

base::Result<> Installer::write_config() {
  if (!exists(options_.bin_dir + "/" + std::string(kPluginType)))
    return base::fail(base::Code::kNotFound, "the plugin binary is not in " + options_.bin_dir + " yet");
  const std::string ours = entry();
  if (!options_.chained) {
    config_path_ =
        options_.net_dir + "/" + (options_.conf_name.empty() ? "YYY-istio-cni.conf" : options_.conf_name);
    auto present = read_small_file(config_path_);
    if (present && *present == ours) return {};
    return write_file_atomically(config_path_, ours, options_.group_read ? 0640 : 0600);
  }
  auto primary = choose_primary();
  if (!primary) return base::fail(primary.error());
  const std::string primary_path = options_.net_dir + "/" + *primary;
  auto text = read_small_file(primary_path);
  if (!text) return base::fail(text.error());
  const mode_t fresh_mode = options_.group_read ? 0640 : 0600;
  if (options_.owned) {
    config_path_ = options_.net_dir + "/" + options_.owned_name;
    auto present = read_small_file(config_path_);
    if (present && conflist_holds(*present, ours) && conflist_covers(*present, *text)) return {};
    auto merged = merge_conflist(*text, ours);
    if (!merged) return base::fail(merged.error());
    if (*primary < options_.owned_name) {
      log_.warn(kTarget, "the primary CNI configuration sorts before ours: pods can bypass the mesh",
                {base::Field::text("file", *primary)});
    }
    return write_file_atomically(config_path_, *merged, fresh_mode);
  }
  config_path_ = is_list_name(primary_path) ? primary_path : primary_path + "list";
  if (is_list_name(primary_path) && conflist_holds(*text, ours)) return {};
  auto merged = merge_conflist(*text, ours);
  if (!merged) return base::fail(std::move(merged.error()).wrap(primary_path));
  // Written under its old name first: at no moment are there two configurations.
  CULVERT_TRY(write_file_atomically(primary_path, *merged, mode_of(primary_path, fresh_mode)));
  if (primary_path != config_path_ && ::rename(primary_path.c_str(), config_path_.c_str()) != 0) {
    return base::fail(base::Error::from_errno(errno, "rename " + primary_path));
  }
  log_.info(kTarget, "istio-cni is chained", {base::Field::text("file", config_path_)});
  return {};
}

base::Result<> Installer::install() {
  CULVERT_TRY(copy_binaries());
  return write_config();
}

base::Result<> Installer::check() const {
  if (config_path_.empty()) return base::fail(base::Code::kNotFound, "not installed yet");
  if (!same_content(options_.source_dir + "/" + std::string(kPluginType),
                    options_.bin_dir + "/" + std::string(kPluginType)))
    return base::fail(base::Code::kInvalid, "the plugin binary is gone or is not ours");
  auto text = read_small_file(config_path_);
  if (!text) return base::fail(text.error());
  if (!options_.chained) {
    if (*text != entry()) return base::fail(base::Code::kInvalid, config_path_ + " was changed");
    return {};
  }
  auto primary = choose_primary();
  if (!primary) return base::fail(primary.error());
  if (!conflist_holds(*text, entry()))
    return base::fail(base::Code::kInvalid, "our entry in " + config_path_ + " is missing or was changed");
  if (options_.owned) {
    auto theirs = read_small_file(options_.net_dir + "/" + *primary);
    if (theirs && !conflist_covers(*text, *theirs))
      return base::fail(base::Code::kInvalid, "the primary CNI configuration has other plugins now");
    return {};
  }
  if (options_.net_dir + "/" + *primary != config_path_) {
    return base::fail(base::Code::kInvalid, "another configuration comes first now: " + *primary);
  }
  return {};
}

base::Result<> Installer::uninstall() {
  base::Result<> outcome;
  auto keep_first = [&](base::Result<> result) {
    if (!result && outcome) outcome = std::move(result);
  };
  if (!options_.chained) {
    keep_first(remove_file(options_.net_dir + "/" +
                           (options_.conf_name.empty() ? "YYY-istio-cni.conf" : options_.conf_name)));
  } else if (options_.owned) {
    keep_first(remove_file(options_.net_dir + "/" + options_.owned_name));
  } else if (auto names = list_files(options_.net_dir)) {
    // Every file that holds our entry: an earlier choice may have left one behind.
    for (const auto& name : *names) {
      const std::string path = options_.net_dir + "/" + name;
      if (!is_candidate_name(name)) continue;
      auto text = read_small_file(path);
      auto without = text ? remove_from_conflist(*text) : text;
      if (without) keep_first(write_file_atomically(path, *without, mode_of(path, 0600)));
    }
  }
  const std::string binary = options_.bin_dir + "/" + std::string(kPluginType);
  remove_stale_temporaries(binary);
  keep_first(remove_file(binary));
  config_path_.clear();
  return outcome;
}

base::Result<> InstallerWatch::start() {
  stop_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!stop_.valid()) return base::fail(base::Error::from_errno(errno, "start the installer"));
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return base::fail(base::Code::kExhausted, std::string("start the installer: ") + error.what());
  }
  return {};
}

void InstallerWatch::stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

base::UniqueFd InstallerWatch::make_watch() const {
  base::UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return fd;
  constexpr uint32_t kEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
  const auto& options = installer_.options();
  for (const auto& path : {options.net_dir, options.bin_dir, options.source_dir}) {
    (void)::inotify_add_watch(fd.get(), path.c_str(), kEvents);
  }
  return fd;
}

bool InstallerWatch::wait_change(int watch_fd, int milliseconds, bool* changed) const {
  pollfd fds[2] = {{stop_.get(), POLLIN, 0}, {watch_fd, POLLIN, 0}};
  const int ready = ::poll(fds, 2, milliseconds);
  *changed = ready > 0 && (fds[1].revents & POLLIN);
  return !(ready > 0 && (fds[0].revents & POLLIN));
}

base::Duration PassGuard::before_pass(base::Duration now) {
  const base::Duration since = now - last_pass_;
  const bool busy = passed_ && since < kFreePassEvery;
  passed_ = true;
  last_pass_ = now;
  busy_passes_ = busy ? busy_passes_ + 1 : 0;
  if (busy_passes_ <= kBusyPassesMax) return {};
  return std::min(kFreePassEvery - since, kPauseMax);
}

bool InstallerWatch::pass(base::UniqueFd& watch) {
  auto copied = installer_.copy_binaries();
  const bool copy_failed = !copied;
  if (copy_failed) status_.binary_failures.fetch_add(1);
  // With a binary of an earlier pass in place the entry is kept even so: without it pods start outside.
  auto written = installer_.write_config();
  // The watch comes before the validation, so that no change falls between them.
  watch = make_watch();
  auto good = copy_failed ? std::move(copied) : !written ? std::move(written) : installer_.check();
  if (good) {
    status_.installs.fetch_add(1);
  } else if (good.error().code() == base::Code::kNotFound) {
    log_.info(kTarget, "waiting", {base::Field::text("for", good.error().message())});
  } else {
    if (!copy_failed) status_.config_failures.fetch_add(1);
    log_.warn(kTarget, "installing the CNI plugin failed; trying again",
              {base::Field::text("error", good.error().message())});
  }
  status_.ready.store(good.has_value());
  return good.has_value();
}

void InstallerWatch::run() {
  PassGuard guard;
  while (true) {
    bool changed = false;
    const auto pause = guard.before_pass(
        std::chrono::duration_cast<base::Duration>(std::chrono::steady_clock::now().time_since_epoch()));
    if (pause > base::Duration::zero()) {
      log_.warn(
          kTarget,
          installer_.config_path().find("cilium") == std::string::npos
              ? "something else keeps changing the CNI configuration"
              : "something else keeps changing the CNI configuration: set cni.exclusive=false in Cilium");
      const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(pause).count();
      if (!wait_change(-1, static_cast<int>(milliseconds), &changed)) return;
    }
    base::UniqueFd watch;
    const bool good = pass(watch);
    while (true) {
      if (!wait_change(watch.get(), static_cast<int>((good ? kLookEvery : kRetryEvery).count()), &changed))
        return;
      // Events go before the look at the files: one that comes after it wakes us again.
      char buffer[4096];
      while (changed && ::read(watch.get(), buffer, sizeof(buffer)) > 0) {
      }
      if (!good || !installer_.check()) break;
    }
    status_.ready.store(false);
  }
}

}  // namespace culvert::cni
