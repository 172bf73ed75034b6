// SPDX-License-Identifier: Apache-2.0
// CNI configuration text: our plugin entry, merging it into a primary plugin's file, taking it out
// again, judging files (spec cni 1.3-1.6). Pure; keys and their order in foreign parts are kept.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"

namespace culvert::cni {

inline constexpr std::string_view kPluginType = "istio-cni";

struct PluginEntry {
  std::string log_level = "info";
  std::string run_dir = "/var/run/istio-cni";
  bool ambient_enabled = false;
  std::string selectors_json = "[]";  // array of {podSelector, namespaceSelector}
  std::vector<std::string> exclude_namespaces;
  std::string pod_namespace;
  bool native_nftables = false;
  bool detection_retry = false;
  std::string directory;  // culvert_directory
};

// The object of spec 1.4 as JSON text, with cniVersion.
std::string plugin_entry_json(const PluginEntry& entry);

// Our entry appended last to a .conf or .conflist text; 2-space JSON, newline at the end.
base::Result<std::string> merge_conflist(std::string_view existing, std::string_view entry_json);
// The list without our entry. kNotFound if it was not there.
base::Result<std::string> remove_from_conflist(std::string_view existing);
// Whether the text holds exactly this entry of ours, in last place, without its cniVersion.
bool conflist_holds(std::string_view text, std::string_view entry_json);
// Every plugin type of `primary` is in `ours`.
bool conflist_covers(std::string_view ours, std::string_view primary);
// Why a candidate file is not usable; success if it is. `is_list`: the name ends in .conflist.
base::Result<> check_candidate(std::string_view text, bool is_list);

}  // namespace culvert::cni
