// SPDX-License-Identifier: Apache-2.0
#include "control/cli/waypoint_command.h"

#include <nlohmann/json.hpp>

#include "control/cli/manifests.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;
using nlohmann::json;

namespace {

using Row = std::vector<std::string>;

std::string text(const json& from, const char* key) {
  auto found = from.find(key);
  return found != from.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string or_dash(std::string cell) { return cell.empty() ? "-" : std::move(cell); }

bool programmed(const json& waypoint) {
  auto found = waypoint.find("programmed");
  return found != waypoint.end() && found->is_boolean() && found->get<bool>();
}

Row list_row(const json& waypoint) {
  return {or_dash(text(waypoint, "namespace")), or_dash(text(waypoint, "name")),
          or_dash(text(waypoint, "revision")), or_dash(text(waypoint, "trafficType")),
          programmed(waypoint) ? "True" : "False"};
}

// What is the matter, or where it is.
std::string message(const json& waypoint) {
  std::string address = text(waypoint, "address");
  auto process = waypoint.find("process");
  if (process == waypoint.end() || !process->is_object())
    return programmed(waypoint) ? "at " + address : "nobody runs it: culvertd --run-waypoints does";
  std::string out = text(*process, "phase") + (address.empty() ? "" : " at " + address);
  std::string problem = text(*process, "problem");
  return problem.empty() ? out : out + ": " + problem;
}

Row status_row(const json& waypoint) {
  bool done = programmed(waypoint);
  return {or_dash(text(waypoint, "namespace")),
          or_dash(text(waypoint, "name")),
          done ? "True" : "False",
          "Programmed",
          done ? "Programmed" : "AddressNotAssigned",
          message(waypoint)};
}

}  // namespace

Result<WaypointObjects> waypoint_objects(const std::vector<std::string>& paths,
                                         const KubernetesOptions& options) {
  Result<Manifests> manifests = read_manifests(paths);
  if (!manifests) return fail(std::move(manifests).error());
  if (!manifests->problems.empty()) {
    const kube::Problem& first = manifests->problems.front();
    return fail(Code::kInvalid, first.origin.to_string() + ": " + first.message);
  }
  DerivedWaypoints derived = derive_waypoints(*manifests->objects);
  if (derived.deployments.empty() && derived.findings.empty())
    return fail(Code::kNotFound, "there is no Gateway of a waypoint class without an address");
  WaypointObjects out;
  for (const auto& [key, deployment] : derived.deployments)
    out.yaml += kubernetes_objects(deployment, options);
  out.refused = std::move(derived.findings);
  return out;
}

Result<std::string> render_waypoints(WaypointView view, std::string_view input, const std::string& ns,
                                     OutputFormat format) {
  json page = json::parse(input, nullptr, false);
  if (!page.is_object() || !page.contains("waypoints") || !page["waypoints"].is_array())
    return fail(Code::kProtocol, "the answer has no list of waypoints");
  json items = json::array();
  std::vector<Row> rows;
  for (const json& waypoint : page["waypoints"]) {
    if (!waypoint.is_object() || (!ns.empty() && text(waypoint, "namespace") != ns)) continue;
    rows.push_back(view == WaypointView::kList ? list_row(waypoint) : status_row(waypoint));
    items.push_back(waypoint);
  }
  if (format == OutputFormat::kJson) return items.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  if (rows.empty()) return std::string("No waypoints found.\n");
  for (Row& row : rows) {
    for (std::string& cell : row) cell = printable(cell);
  }
  if (view == WaypointView::kList)
    return render_table({"NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"}, rows);
  return render_table({"NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"}, rows);
}

}  // namespace culvert::control
