// SPDX-License-Identifier: Apache-2.0
// Manifests, from the text to what the proxies are sent.
#include <cstdint>
#include <cstdlib>

#include "test/fuzz/compiled.h"

using namespace culvert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kube::ObjectsRef objects = fuzz::read_manifests({reinterpret_cast<const char*>(data), size});
  control::Compiled first = control::compile(*objects, {});
  fuzz::check_accepted(first);
  control::Compiled second = control::compile(*objects, {}, &first);
  if (first.policies.size() != second.policies.size()) abort();
  return 0;
}
