// SPDX-License-Identifier: Apache-2.0
// Installer: puts the plugin binary and its configuration where the container runtime looks,
// keeps them there, and takes them away on uninstall (spec cni 1.2-1.6). Blocking file work;
// InstallerWatch runs it on a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "cni/conflist.h"
#include "net/base/duration.h"
#include "net/base/log.h"
#include "net/base/unique_fd.h"

namespace culvert::cni {

struct InstallerOptions {
  std::string source_dir = "/opt/cni/bin";
  std::string bin_dir = "/host/opt/cni/bin";
  std::string net_dir = "/host/etc/cni/net.d";
  std::string conf_name;  // "": the first valid candidate, chosen anew each time ([D])
  bool chained = true;
  bool owned = false;  // effective: requested, chained and ambient
  std::string owned_name = "02-istio-cni.conflist";
  bool group_read = false;
  PluginEntry entry;
};

class Installer {
 public:
  Installer(InstallerOptions options, base::Log& log) : options_(std::move(options)), log_(log) {}

  // Binaries, then configuration. kNotFound: no primary configuration yet, wait for one.
  base::Result<> install();
  // Its two steps. A configuration is never written for a binary that is not there.
  base::Result<> copy_binaries();
  base::Result<> write_config();
  // Whether everything is in place; the error says what is not.
  base::Result<> check() const;
  // Takes our entry and our binary away; other files stay.
  base::Result<> uninstall();
  const InstallerOptions& options() const { return options_; }
  // Path of the configuration that holds our entry; "" before the first install.
  const std::string& config_path() const { return config_path_; }

 private:
  base::Result<std::string> choose_primary() const;
  std::string entry() const { return plugin_entry_json(options_.entry); }

  InstallerOptions options_;
  base::Log& log_;
  std::string config_path_;
};

// PassGuard: another component that rewrites the configuration must not make us spin (spec cni
// 1.5). The first passes in a row come at once: a missing entry lets pods start outside the mesh.
class PassGuard {
 public:
  static constexpr base::Duration kFreePassEvery = std::chrono::seconds(5);
  static constexpr base::Duration kPauseMax = std::chrono::seconds(1);
  static constexpr int kBusyPassesMax = 5;  // in a row, before each pass is announced and delayed
  // Zero: begin at once. Otherwise warn, and wait as long.
  base::Duration before_pass(base::Duration now);

 private:
  base::Duration last_pass_{};
  bool passed_ = false;
  int busy_passes_ = 0;
};

// InstallerWatch: installs, watches, repairs until stopped.
class InstallerWatch {
 public:
  // Looks again without an event: one that was lost, or a directory that could not be watched.
  static constexpr std::chrono::milliseconds kLookEvery{5'000};
  static constexpr std::chrono::milliseconds kRetryEvery{1'000};  // after a failed pass
  struct Status {
    std::atomic<bool> ready{false};
    std::atomic<uint64_t> installs{0};
    std::atomic<uint64_t> binary_failures{0};
    std::atomic<uint64_t> config_failures{0};
  };
  InstallerWatch(Installer& installer, base::Log& log) : installer_(installer), log_(log) {}
  ~InstallerWatch() { stop(); }
  base::Result<> start();
  void stop();
  const Status& status() const { return status_; }

 private:
  void run();
  // Both steps, counted; true if everything is in place.
  bool pass(base::UniqueFd& watch);
  base::UniqueFd make_watch() const;
  // True: something changed. False: told to stop.
  bool wait_change(int watch_fd, int milliseconds, bool* changed) const;

  Installer& installer_;
  base::Log& log_;
  base::UniqueFd stop_;
  std::thread thread_;
  Status status_;
};

}  // namespace culvert::cni
