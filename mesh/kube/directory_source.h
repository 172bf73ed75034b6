// SPDX-License-Identifier: Apache-2.0
// DirectorySource: a directory of manifests as a ResourceSource (spec control-plane section 1.14).
//
// Every scan looks at the whole tree; a file whose stamp (size, time, inode) changed is read again. A file
// that cannot be parsed keeps its last good objects; an object that was good and became bad keeps its last
// good form; what lies in a directory that cannot be listed stays as it was; all are reported. The first of
// several equal identities, by path, wins.
//
// Lives on the control loop. File I/O is a short blocking read; the trigger (inotify) is injected, and a
// sweep finds what the trigger missed.
#pragma once

#include <map>
#include <set>

#include "mesh/kube/decode.h"
#include "mesh/kube/resource_source.h"
#include "net/async/loop.h"
#include "net/base/log.h"

namespace culvert::kube {

class DirectorySource final : public ResourceSource {
 public:
  static constexpr base::Duration kSweepEvery = std::chrono::seconds(5);
  // A change waits this long for its siblings (an editor's rename, a ConfigMap swap).
  static constexpr base::Duration kSettle = std::chrono::milliseconds(5);
  static constexpr size_t kFilesMax = 100'000;
  // A file younger than this when it was read is read again: a second write within one tick of the file
  // system's clock leaves the same stamp.
  static constexpr base::Duration kYoung = std::chrono::seconds(2);

  DirectorySource(async::Loop& loop, base::Log& log, std::string directory);

  // Reads everything now. An error: the directory itself cannot be read (files are `problems`).
  base::Result<> start();
  // Something below the directory changed.
  void changed();

  ObjectsRef objects() const override { return objects_; }
  bool synced() const override { return synced_; }
  const std::vector<Problem>& problems() const override { return problems_; }
  void on_change(std::function<void()> call) override { listeners_.push_back(std::move(call)); }

 private:
  struct Stamp {
    uint64_t size = 0;
    int64_t modified_ns = 0;
    uint64_t inode = 0;
    auto operator<=>(const Stamp&) const = default;
  };
  struct Item {
    std::string identity;  // "Kind.group ns/name"
    std::shared_ptr<const AnyObject> object;
  };
  struct File {
    Stamp stamp;
    bool young = false;
    size_t text_hash = 0;
    std::vector<Item> items;  // last good
    std::vector<Problem> problems;
    size_t unknown_kinds = 0;
  };

  base::Result<> scan();
  // What is no longer listed is gone, except below `unreadable` directories. True if anything changed.
  bool take(const std::vector<std::string>& listed, const std::vector<std::string>& unreadable);
  bool read_file(const std::string& path, const Stamp& stamp, File& file);
  bool decode(const std::string& path, const std::string& text, File& file);
  void rebuild();
  void report(const std::vector<Problem>& before);

  async::Loop& loop_;
  base::Log& log_;
  std::string directory_;
  std::map<std::string, File> files_;
  std::vector<Problem> listing_problems_;  // directories that cannot be read
  ObjectsRef objects_ = std::make_shared<Objects>();
  std::vector<Problem> problems_;
  std::vector<std::function<void()>> listeners_;
  bool synced_ = false;
  async::CallTimer settle_;
  async::CallTimer sweep_;
};

// Puts decoded objects into one set: defaulting (namespaces), duplicates (reported), PodBindings laid over
// their Pods. `items` in order of precedence.
ObjectsRef assemble(const std::vector<std::shared_ptr<const AnyObject>>& items,
                    std::vector<Problem>& problems);

}  // namespace culvert::kube
