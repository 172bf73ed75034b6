// SPDX-License-Identifier: Apache-2.0
#include "control/cli/lint_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "control/serve/vip_pool.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"

namespace culvert::control {

namespace fs = std::filesystem;
using base::Code;
using base::fail;
using base::Result;

namespace {

bool is_manifest(const fs::path& path) {
  std::string extension = path.extension().string();
  return extension == ".yaml" || extension == ".yml" || extension == ".json";
}

Result<std::vector<std::string>> files_of(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      out.push_back(path);
      continue;
    }
    for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      if (it->path().filename().string().starts_with('.')) {
        if (it->is_directory(error)) it.disable_recursion_pending();
        continue;
      }
      if (is_manifest(it->path()) && it->is_regular_file(error)) out.push_back(it->path().string());
    }
    if (error) return fail(Code::kIo, "read " + path + ": " + error.message());
  }
  if (out.empty()) return fail(Code::kNotFound, "there is no .yaml, .yml or .json file to check");
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return fail(Code::kIo, "read " + path + ": cannot be opened or is empty");
  return text.str();
}

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
  Result<std::vector<std::string>> files = files_of(command.paths);
  if (!files) return fail(std::move(files).error());
  std::vector<kube::Problem> problems;
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  for (const std::string& file : *files) {
    Result<std::string> text = read_file(file);
    if (!text) return fail(std::move(text).error());
    kube::DecodedFile decoded = kube::decode_manifests(*text, file);
    for (kube::Decoded& document : decoded.documents) {
      problems.insert(problems.end(), document.problems.begin(), document.problems.end());
      if (document.object)
        items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
    }
    if (decoded.syntax) problems.push_back(*decoded.syntax);
  }
  kube::ObjectsRef objects = kube::assemble(items, problems);
  CompileOptions options = command.compile;
  // Addresses are given out here only so that their absence is no finding.
  VipPool vips = VipPool::make(base::Cidr::parse("240.0.0.0/8").value()).value();
  options.allocate_vip = [&](const std::string& key) { return vips.allocate(key); };
  std::vector<Finding> findings = compile(*objects, options).findings;
  for (const kube::Problem& problem : problems) findings.push_back(as_finding(problem));
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
