// SPDX-License-Identifier: Apache-2.0
// The YAML of local file mode.
#include <cstdint>
#include <string_view>

#include "mesh/config/local_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  culvert::model::MeshStore store("node");
  auto update =
      culvert::config::parse_local_mesh({reinterpret_cast<const char*>(data), size}, "fuzz", store.names());
  if (update) store.apply(*std::move(update));
  return 0;
}
