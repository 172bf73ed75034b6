// SPDX-License-Identifier: Apache-2.0
// What the agent keeps in files: the PodBinding of each enrolled pod (the annotation of spec cni
// 2.3, in directory mode) and what the runtime told about a pod's namespace at ADD, so that a
// restarted agent finds it again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cni/netns.h"

namespace culvert::cni {

enum class Redirection : unsigned char { kNone, kPending, kEnabled };
std::string_view to_string(Redirection redirection);

struct PodBinding {
  std::string name;
  std::string name_space;
  std::string uid;
  std::string node;
  Redirection redirection = Redirection::kNone;
  std::vector<base::IpAddr> ips;
  auto operator<=>(const PodBinding&) const = default;
};

std::string encode_binding(const PodBinding& binding);
base::Result<PodBinding> parse_binding(const std::string& text);

// BindingStore: DIR/bindings/<namespace>_<pod>.yaml. Files of other nodes are never touched.
class BindingStore {
 public:
  BindingStore(std::string directory, std::string node)
      : directory_(std::move(directory)), node_(std::move(node)) {}
  // Creates the directory if needed and reads this node's bindings; bad files go to `bad`.
  base::Result<std::vector<PodBinding>> load(std::vector<std::string>* bad) const;
  base::Result<> write(const PodBinding& binding) const;
  // Only if the file still speaks of `uid`.
  base::Result<> remove(const std::string& name_space, const std::string& name, const std::string& uid) const;

 private:
  base::Result<std::string> path_of(const std::string& name_space, const std::string& name) const;
  std::string directory_;
  std::string node_;
};

struct SeenPod {
  std::string uid;
  std::string name;
  std::string name_space;
  std::string netns_path;
  NetnsId netns_id;
  std::vector<base::IpAddr> ips;
};

// SeenPods: <run_dir>/pods/<uid>.json.
class SeenPods {
 public:
  explicit SeenPods(std::string directory) : directory_(std::move(directory)) {}
  base::Result<std::vector<SeenPod>> load() const;
  base::Result<> write(const SeenPod& pod) const;
  void forget(const std::string& uid) const;

 private:
  std::string directory_;
};

}  // namespace culvert::cni
