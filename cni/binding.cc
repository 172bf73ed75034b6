// SPDX-License-Identifier: Apache-2.0
#include "cni/binding.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cni/files.h"
#include "cni/rules.h"

namespace culvert::cni {
namespace {

// JSON strings are YAML strings.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool plain_name(const std::string& name) {
  if (name.empty() || name.size() > 253 || name.front() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

}  // namespace

std::string_view to_string(Redirection redirection) {
  switch (redirection) {
    case Redirection::kNone: return "none";
    case Redirection::kPending: return "pending";
    case Redirection::kEnabled: return "enabled";
  }
  return "none";
}

std::string encode_binding(const PodBinding& binding) {
  std::string ips;
  for (const auto& ip : binding.ips) ips += (ips.empty() ? "" : ", ") + quoted(ip.to_string());
  return fmt::format(
      "apiVersion: culvert.dev/v1alpha1\n"
      "kind: PodBinding\n"
      "metadata:\n"
      "  name: {}\n"
      "  namespace: {}\n"
      "spec:\n"
      "  uid: {}\n"
      "  node: {}\n"
      "  redirection: {}\n"
      "  ips: [{}]\n",
      quoted(binding.name), quoted(binding.name_space), quoted(binding.uid), quoted(binding.node),
      to_string(binding.redirection), ips);
}

base::Result<PodBinding> parse_binding(const std::string& text) {
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root.IsMap() || root["kind"].as<std::string>("") != "PodBinding")
      return base::fail(base::Code::kInvalid, "not a PodBinding");
    PodBinding binding;
    binding.name = root["metadata"]["name"].as<std::string>();
    binding.name_space = root["metadata"]["namespace"].as<std::string>();
    const YAML::Node spec = root["spec"];
    binding.uid = spec["uid"].as<std::string>("");
    binding.node = spec["node"].as<std::string>("");
    const auto redirection = spec["redirection"].as<std::string>();
    if (redirection != "enabled" && redirection != "pending")
      return base::fail(base::Code::kInvalid, "unknown redirection " + redirection);
    binding.redirection = redirection == "enabled" ? Redirection::kEnabled : Redirection::kPending;
    for (const auto& item : spec["ips"]) {
      auto ip = base::IpAddr::parse(item.as<std::string>());
      if (!ip) return base::fail(ip.error());
      binding.ips.push_back(*ip);
    }
    return binding;
  } catch (const YAML::Exception& error) {
    return base::fail(base::Code::kInvalid, error.what());
  }
}

base::Result<std::string> BindingStore::path_of(const std::string& name_space,
                                                const std::string& name) const {
  if (!plain_name(name_space) || !plain_name(name)) {
    return base::fail(base::Code::kInvalid, "'" + name_space + "/" + name + "' is not a name of a pod");
  }
  return directory_ + "/" + name_space + "_" + name + ".yaml";
}

base::Result<std::vector<PodBinding>> BindingStore::load(std::vector<std::string>* bad) const {
  CULVERT_TRY(make_directories(directory_, 0755));
  auto names = list_files(directory_);
  if (!names) return base::fail(names.error());
  std::vector<PodBinding> found;
  for (const auto& name : *names) {
    if (!name.ends_with(".yaml")) continue;
    auto text = read_small_file(directory_ + "/" + name, 64 * 1024);
    auto binding = text ? parse_binding(*text) : base::Result<PodBinding>(base::fail(text.error()));
    if (!binding) {
      bad->push_back(name + ": " + binding.error().message());
    } else if (binding->node == node_) {
      found.push_back(std::move(*binding));
    }
  }
  return found;
}

base::Result<> BindingStore::write(const PodBinding& binding) const {
  auto path = path_of(binding.name_space, binding.name);
  if (!path) return base::fail(path.error());
  const std::string text = encode_binding(binding);
  if (auto present = read_small_file(*path, 64 * 1024); present && *present == text) return {};
  auto written = write_file_atomically(*path, text, 0644);
  if (written || written.error().code() != base::Code::kNotFound) return written;
  CULVERT_TRY(make_directories(directory_, 0755));
  return write_file_atomically(*path, text, 0644);
}

base::Result<> BindingStore::remove(const std::string& name_space, const std::string& name,
                                    const std::string& uid) const {
  auto path = path_of(name_space, name);
  if (!path) return base::fail(path.error());
  auto text = read_small_file(*path, 64 * 1024);
  if (!text)
    return text.error().code() == base::Code::kNotFound ? base::Result<>{} : base::fail(text.error());
  auto binding = parse_binding(*text);
  if (binding && (binding->uid != uid || binding->node != node_)) return {};
  return remove_file(*path);
}

base::Result<std::vector<SeenPod>> SeenPods::load() const {
  CULVERT_TRY(make_directories(directory_, 0750));
  auto names = list_files(directory_);
  if (!names) return base::fail(names.error());
  std::vector<SeenPod> found;
  for (const auto& name : *names) {
    if (!name.ends_with(".json")) continue;
    auto text = read_small_file(directory_ + "/" + name, 64 * 1024);
    if (!text) continue;
    auto json = nlohmann::json::parse(*text, nullptr, false);
    auto get = [&](const char* key) {
      return json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : std::string();
    };
    auto number = [&](const char* key) -> uint64_t {
      return json.contains(key) && json[key].is_number_unsigned() ? json[key].get<uint64_t>() : 0;
    };
    if (!json.is_object()) continue;
    SeenPod pod{get("uid"), get("name"), get("namespace"), get("netns"), {number("device"), number("inode")},
                {}};
    if (json.contains("ips") && json["ips"].is_array()) {
      for (const auto& item : json["ips"]) {
        auto ip = base::IpAddr::parse(item.is_string() ? item.get<std::string>() : "");
        if (ip) pod.ips.push_back(*ip);
      }
    }
    if (!pod.uid.empty() && !pod.netns_path.empty()) found.push_back(std::move(pod));
  }
  return found;
}

base::Result<> SeenPods::write(const SeenPod& pod) const {
  if (!valid_uid(pod.uid))
    return base::fail(base::Code::kInvalid, "a pod's UID is not one: " + pod.uid.substr(0, 100));
  nlohmann::json json{{"uid", pod.uid},
                      {"name", pod.name},
                      {"namespace", pod.name_space},
                      {"netns", pod.netns_path},
                      {"device", pod.netns_id.device},
                      {"inode", pod.netns_id.inode}};
  json["ips"] = nlohmann::json::array();
  for (const auto& ip : pod.ips) json["ips"].push_back(ip.to_string());
  const std::string text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return write_file_atomically(directory_ + "/" + pod.uid + ".json", text, 0600);
}

void SeenPods::forget(const std::string& uid) const {
  if (valid_uid(uid)) (void)remove_file(directory_ + "/" + uid + ".json");
}

}  // namespace culvert::cni
