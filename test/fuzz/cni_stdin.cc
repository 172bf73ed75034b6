// SPDX-License-Identifier: Apache-2.0
// CNI standard input, prevResult, the agent's event body and the conflist merge: hostile JSON.
#include "cni/cni_types.h"
#include "cni/conflist.h"
#include "net/base/check.h"

using namespace culvert::cni;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto config = NetworkConfig::parse(text)) {
    // What passes must be sendable, and what is sent must be readable.
    CniArgs args;
    args.pod_name = "web";
    args.pod_namespace = "prod";
    auto event = parse_add_event(encode_add_event("/run/netns/x", args, config->addresses));
    CULVERT_CHECK(event || config->addresses.size() > AddEvent::kAddressesMax);
  } else {
    CULVERT_CHECK(!config.error().to_json().empty());
  }
  (void)parse_add_event(text);
  const std::string entry = plugin_entry_json({});
  if (auto merged = merge_conflist(text, entry)) (void)remove_from_conflist(*merged);
  (void)check_candidate(text, true);
  return 0;
}
