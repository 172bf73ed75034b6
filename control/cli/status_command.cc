// SPDX-License-Identifier: Apache-2.0
#include "control/cli/status_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "control/cli/render.h"

namespace culvert::control {

using base::fail;
using base::Result;
using nlohmann::json;

namespace {

const json& list(const json& from, const char* key) {
  static const json nothing = json::array();
  auto found = from.find(key);
  return found != from.end() && found->is_array() ? *found : nothing;
}

std::string text(const json& from, const char* key) {
  if (!from.is_object()) return "";
  auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : "";
}

size_t count(const json& items, const char* key, std::string_view value) {
  size_t n = 0;
  for (const json& item : items) n += text(item, key) == value ? 1 : 0;
  return n;
}

Result<json> parse(const std::string& page, const char* name) {
  json out = json::parse(page, nullptr, false);
  if (!out.is_object())
    return fail(base::Code::kInvalid, std::string(name) + " gave no JSON object; is this culvertd?");
  return out;
}

bool behind(const json& proxy) {
  for (const json& type : list(proxy, "types")) {
    if (text(type, "status") != "SYNCED" || !text(type, "lastError").empty()) return true;
  }
  return list(proxy, "types").empty();
}

}  // namespace

Result<StatusReport> status_report(const StatusPages& pages) {
  Result<json> ambient = parse(pages.ambient, "/debug/ambientz");
  if (!ambient) return fail(std::move(ambient).error());
  Result<json> sync = parse(pages.sync, "/debug/syncz");
  if (!sync) return fail(std::move(sync).error());
  Result<json> errors = parse(pages.errors, "/debug/config_errors");
  if (!errors) return fail(std::move(errors).error());

  StatusReport report;
  const json& workloads = list(*ambient, "workloads");
  const json& proxies = list(*sync, "proxies");
  const json& problems = list(*errors, "errors");
  const json& findings = list(*errors, "findings");
  size_t hbone = count(workloads, "protocol", "HBONE");
  size_t unhealthy = count(workloads, "status", "Unhealthy");
  size_t late = 0;
  std::string details;
  std::string line;
  auto add = [&] { details += printable(line) + '\n'; };
  for (const json& proxy : proxies) {
    if (!behind(proxy)) continue;
    ++late;
    line = fmt::format("  proxy {} has not taken what was sent", text(proxy, "node"));
    for (const json& type : list(proxy, "types")) {
      if (std::string error = text(type, "lastError"); !error.empty()) line += ": " + error;
    }
    add();
  }
  for (const json& one : problems) {
    line = fmt::format("  {}: {} {}", text(one, "at"), text(one, "object"), text(one, "message"));
    add();
  }
  size_t warnings = 0;
  for (const json& one : findings) {
    if (text(one, "severity") == "Info" || text(one, "severity") == "info") continue;
    ++warnings;
    line = fmt::format("  {}: [{}] {} {}", text(one, "at"), text(one, "code"), text(one, "object"),
                       text(one, "message"));
    add();
  }
  std::string version = pages.version.substr(0, pages.version.find('\n'));
  report.text = render_table(
      {"PART", "STATE"},
      {{"control plane", "ready, version " + version},
       {"proxies", fmt::format("{} connected, {} in sync", proxies.size(), proxies.size() - late)},
       {"workloads", fmt::format("{}: {} captured, {} unhealthy", workloads.size(), hbone, unhealthy)},
       {"services", fmt::to_string(list(*ambient, "services").size())},
       {"policies", fmt::to_string(list(*ambient, "policies").size())},
       {"manifests", fmt::format("{} unusable, {} with findings", problems.size(), warnings)}});
  if (!details.empty()) report.text += "\nNeeds attention:\n" + details;
  report.healthy = details.empty();
  return report;
}

}  // namespace culvert::control
