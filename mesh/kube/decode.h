// SPDX-License-Identifier: Apache-2.0
// Manifests to objects: YAML or JSON text, many documents, `kind: List` (spec control-plane section 1.14).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mesh/kube/objects.h"
#include "mesh/kube/resource_source.h"

namespace culvert::kube {

struct DecodeLimits {
  size_t file_bytes_max = 16 * 1024 * 1024;
  size_t nodes_max = 2'000'000;  // after expanding aliases: an alias bomb ends here
  int depth_max = 64;
};

// One document: its object, or what is wrong with it (with the identity as far as it could be read).
struct Decoded {
  std::string kind;
  std::string key;  // Meta::key()
  std::optional<AnyObject> object;
  std::vector<Problem> problems;
  std::string group;  // of apiVersion, without the version; two groups may have a kind of the same name
};

struct DecodedFile {
  std::vector<Decoded> documents;
  // The text is not YAML, or expands too far: nothing after that point was read, and perhaps nothing before.
  std::optional<Problem> syntax;
  size_t unknown_kinds = 0;
};

DecodedFile decode_manifests(std::string_view text, const std::string& file, const DecodeLimits& limits = {});

// A DNS subdomain (RFC 1123): what the API server takes for the names of the kinds here.
bool is_kube_name(std::string_view text);

const Meta& meta_of(const AnyObject& object);

}  // namespace culvert::kube
