// SPDX-License-Identifier: Apache-2.0
// What tests of decoding share: one manifest to its object, or to what is said of it.
#pragma once

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "mesh/kube/decode.h"

namespace culvert::kube {

using Strings = std::vector<std::string>;

// Ends with the line before "spec:".
inline std::string head(std::string_view version, std::string_view kind) {
  return fmt::format("apiVersion: {}\nkind: {}\nmetadata: {{name: x, namespace: n}}\n", version, kind);
}

// The only object of `text`, which must be good.
template <class T>
T only(const std::string& text) {
  DecodedFile file = decode_manifests(text, "f.yaml");
  INFO(text);
  REQUIRE_FALSE(file.syntax);
  REQUIRE(file.documents.size() == 1);
  for (const Problem& problem : file.documents[0].problems) UNSCOPED_INFO(problem.message);
  REQUIRE(file.documents[0].problems.empty());
  REQUIRE(file.documents[0].object);
  REQUIRE(std::holds_alternative<T>(*file.documents[0].object));
  return std::get<T>(*file.documents[0].object);
}

// "line: message" of each problem of the only document, which must have no object.
inline Strings problems(const std::string& text) {
  DecodedFile file = decode_manifests(text, "dir/f.yaml");
  INFO(text);
  REQUIRE_FALSE(file.syntax);
  REQUIRE(file.documents.size() == 1);
  CHECK_FALSE(file.documents[0].object);
  Strings out;
  for (const Problem& problem : file.documents[0].problems) {
    CHECK(problem.origin.file == "dir/f.yaml");
    out.push_back(fmt::format("{}: {}", problem.origin.line, problem.message));
  }
  return out;
}

// `full` is good, in flow style; a free map (labels and the like) begins with a brace and a blank. Any other
// map must refuse a field that it does not know.
inline void check_unknown_fields(const std::string& full) {
  CHECK(decode_manifests(full, "f.yaml").documents.at(0).problems.empty());
  size_t spec = full.find("spec:");
  REQUIRE(spec != std::string::npos);
  for (size_t at = full.find('{', spec); at != std::string::npos; at = full.find('{', at + 1)) {
    if (full[at + 1] == ' ') continue;
    std::string text = full;
    text.insert(at + 1, full[at + 1] == '}' ? "zzz: 1" : "zzz: 1, ");
    INFO(text.substr(at > 60 ? at - 60 : 0, 120));
    DecodedFile file = decode_manifests(text, "f.yaml");
    REQUIRE(file.documents.size() == 1);
    bool told = false;
    for (const Problem& problem : file.documents[0].problems) {
      told = told || problem.message.find("zzz: unknown field; ") != std::string::npos;
    }
    CHECK(told);
    CHECK_FALSE(file.documents[0].object);
  }
}

struct BadField {
  const char* spec;     // after "spec: "
  const char* message;  // of the first problem, with its path
};

inline void check_refused(const std::string& kind, std::initializer_list<BadField> table) {
  for (const BadField& bad : table) {
    INFO(bad.spec);
    Strings found = problems(kind + "spec: " + bad.spec + "\n");
    REQUIRE_FALSE(found.empty());
    CHECK_THAT(found.front(), Catch::StartsWith(fmt::format("4: {}", bad.message)));
  }
}

}  // namespace culvert::kube
