// SPDX-License-Identifier: Apache-2.0
#include "control/cli/manifests.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

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

}  // namespace

Result<Manifests> read_manifests(const std::vector<std::string>& paths) {
  Result<std::vector<std::string>> files = files_of(paths);
  if (!files) return fail(std::move(files).error());
  Manifests out;
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  for (const std::string& file : *files) {
    Result<std::string> text = read_file(file);
    if (!text) return fail(std::move(text).error());
    kube::DecodedFile decoded = kube::decode_manifests(*text, file);
    for (kube::Decoded& document : decoded.documents) {
      out.problems.insert(out.problems.end(), document.problems.begin(), document.problems.end());
      if (document.object)
        items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
    }
    if (decoded.syntax) out.problems.push_back(*decoded.syntax);
  }
  out.objects = kube::assemble(items, out.problems);
  return out;
}

}  // namespace culvert::control
