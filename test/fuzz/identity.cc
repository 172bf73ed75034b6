// SPDX-License-Identifier: Apache-2.0
// SPIFFE identities, as they stand in certificates and in configuration.
#include "mesh/model/identity.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto identity = culvert::model::Identity::parse(text);
  // Only one text stands for an identity.
  if (identity && identity->to_string() != text) abort();
  return 0;
}
