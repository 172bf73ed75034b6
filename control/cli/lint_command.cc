// SPDX-License-Identifier: Apache-2.0
#include "control/cli/lint_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "control/cli/manifests.h"
#include "control/serve/vip_pool.h"

namespace culvert::control {

using base::fail;
using base::Result;

namespace {

Finding as_finding(const kube::Problem& problem) {
  return {"MSH000", Severity::kError, problem.origin, problem.object, problem.message};
}

std::string as_text(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& f : findings) {
    out += fmt::format("{}: {} [{}]{} {}\n", f.origin.to_string(), to_string(f.severity), f.code,
                       f.object.empty() ? "" : " (" + f.object + ")", f.message);
  }
  return out.empty() ? "No problems found.\n" : out;
}

std::string as_json(const std::vector<Finding>& findings) {
  nlohmann::json out = nlohmann::json::array();
  for (const Finding& f : findings) {
    out.push_back({{"code", f.code},
                   {"severity", std::string(to_string(f.severity))},
                   {"file", f.origin.file},
                   {"line", f.origin.line},
                   {"object", f.object},
                   {"message", f.message}});
  }
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<LintReport> lint(const LintCommand& command) {
  Result<Manifests> manifests = read_manifests(command.paths);
  if (!manifests) return fail(std::move(manifests).error());
  CompileOptions options = command.compile;
  // Addresses are given out here only so that their absence is no finding.
  VipPool vips = VipPool::make(base::Cidr::parse("240.0.0.0/8").value()).value();
  options.allocate_vip = [&](const std::string& key) { return vips.allocate(key); };
  std::vector<Finding> findings = compile(*manifests->objects, options).findings;
  for (const kube::Problem& problem : manifests->problems) findings.push_back(as_finding(problem));
  std::sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
    return std::tie(a.origin.file, a.origin.line, a.code, a.object, a.message) <
           std::tie(b.origin.file, b.origin.line, b.code, b.object, b.message);
  });
  LintReport report;
  report.text = command.json ? as_json(findings) : as_text(findings);
  report.over_threshold = std::any_of(findings.begin(), findings.end(),
                                      [&](const Finding& f) { return f.severity >= command.threshold; });
  return report;
}

}  // namespace culvert::control
