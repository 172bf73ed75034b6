// SPDX-License-Identifier: Apache-2.0
#include "cni/conflist.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace culvert::cni {
namespace {

// Keeps the order of keys: other components' files stay as their authors wrote them.
using Json = nlohmann::ordered_json;

std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

bool has_text(const Json& object, const char* key) {
  auto at = object.find(key);
  return at != object.end() && at->is_string() && !at->get_ref<const std::string&>().empty();
}

bool is_ours(const Json& plugin) {
  return plugin.is_object() && has_text(plugin, "type") && plugin["type"].get<std::string>() == kPluginType;
}

base::Result<Json> parse_object(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return base::fail(base::Code::kInvalid, "not a JSON object");
  return json;
}

base::Result<Json> chained_entry(std::string_view entry_json) {
  auto entry = parse_object(entry_json);
  if (entry) entry->erase("cniVersion");
  return entry;
}

std::set<std::string> types_of(std::string_view text) {
  std::set<std::string> types;
  auto json = parse_object(text);
  if (!json) return types;
  if (has_text(*json, "type")) types.insert((*json)["type"].get<std::string>());
  if (json->contains("plugins") && (*json)["plugins"].is_array()) {
    for (const auto& plugin : (*json)["plugins"]) {
      if (plugin.is_object() && has_text(plugin, "type")) types.insert(plugin["type"].get<std::string>());
    }
  }
  return types;
}

}  // namespace

std::string plugin_entry_json(const PluginEntry& entry) {
  Json json;
  json["cniVersion"] = "0.3.1";
  json["name"] = kPluginType;
  json["type"] = kPluginType;
  json["ipam"] = Json::object();
  json["dns"] = Json::object();
  json["plugin_log_level"] = entry.log_level;
  json["cni_agent_run_dir"] = entry.run_dir;
  json["ambient_enabled"] = entry.ambient_enabled;
  Json selectors = Json::parse(entry.selectors_json, nullptr, false);
  json["enablement_selectors"] = selectors.is_array() ? selectors : Json::array();
  json["exclude_namespaces"] =
      entry.exclude_namespaces.empty() ? Json(nullptr) : Json(entry.exclude_namespaces);
  json["pod_namespace"] = entry.pod_namespace;
  json["native_nftables"] = entry.native_nftables;
  json["enable_ambient_detection_retry"] = entry.detection_retry;
  if (!entry.directory.empty()) json["culvert_directory"] = entry.directory;
  return text_of(json);
}

base::Result<std::string> merge_conflist(std::string_view existing, std::string_view entry_json) {
  auto entry = chained_entry(entry_json);
  if (!entry) return base::fail(entry.error());
  auto json = parse_object(existing);
  if (!json) return base::fail(std::move(json.error()).wrap("CNI configuration"));
  if (has_text(*json, "type")) {
    Json single = std::move(*json);
    single.erase("cniVersion");
    Json list;
    list["name"] = "k8s-pod-network";
    list["cniVersion"] = "0.3.1";
    list["plugins"] = Json::array({std::move(single), std::move(*entry)});
    return text_of(list);
  }
  auto plugins = json->find("plugins");
  if (plugins == json->end() || !plugins->is_array()) {
    return base::fail(base::Code::kInvalid, "CNI configuration: 'plugins' is not a list");
  }
  Json kept = Json::array();
  bool removed = false;
  for (auto& plugin : *plugins) {
    if (!plugin.is_object())
      return base::fail(base::Code::kInvalid, "CNI configuration: a plugin is not an object");
    if (!removed && is_ours(plugin)) {
      removed = true;
      continue;
    }
    kept.push_back(std::move(plugin));
  }
  kept.push_back(std::move(*entry));
  *plugins = std::move(kept);
  return text_of(*json);
}

base::Result<std::string> remove_from_conflist(std::string_view existing) {
  auto json = parse_object(existing);
  if (!json) return base::fail(std::move(json.error()).wrap("CNI configuration"));
  auto plugins = json->find("plugins");
  if (plugins == json->end() || !plugins->is_array())
    return base::fail(base::Code::kNotFound, "no list of plugins");
  Json kept = Json::array();
  for (const auto& plugin : *plugins) {
    if (!is_ours(plugin)) kept.push_back(plugin);
  }
  if (kept.size() == plugins->size())
    return base::fail(base::Code::kNotFound, "istio-cni is not in the list");
  *plugins = std::move(kept);
  return text_of(*json);
}

bool conflist_holds(std::string_view text, std::string_view entry_json) {
  auto entry = chained_entry(entry_json);
  auto json = parse_object(text);
  if (!entry || !json || !json->contains("plugins") || !(*json)["plugins"].is_array()) return false;
  const auto& plugins = (*json)["plugins"];
  const auto ours = std::count_if(plugins.begin(), plugins.end(), is_ours);
  // Compare without regard to the order of keys: another tool may have rewritten the file.
  return ours == 1 && nlohmann::json(plugins.back()) == nlohmann::json(*entry);
}

bool conflist_covers(std::string_view ours, std::string_view primary) {
  const auto have = types_of(ours);
  const auto need = types_of(primary);
  return std::includes(have.begin(), have.end(), need.begin(), need.end());
}

base::Result<> check_candidate(std::string_view text, bool is_list) {
  auto fail = [](const char* why) { return base::fail(base::Code::kInvalid, why); };
  auto json = parse_object(text);
  if (!json) return base::fail(json.error());
  if (!is_list) {
    if (!has_text(*json, "type")) return fail("no plugin type");
    return {};
  }
  if (!has_text(*json, "name")) return fail("the list has no name");
  auto plugins = json->find("plugins");
  if (plugins == json->end() || !plugins->is_array() || plugins->empty())
    return fail("the list has no plugins");
  for (const auto& plugin : *plugins) {
    if (!plugin.is_object() || !has_text(plugin, "type")) return fail("a plugin has no type");
  }
  return {};
}

}  // namespace culvert::cni
