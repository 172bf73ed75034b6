// SPDX-License-Identifier: Apache-2.0
// CNI_ARGS, names, interface lists and exclusion lists.
#include "cni/cni_types.h"
#include "cni/enrol.h"
#include "cni/rules.h"
#include "net/base/check.h"

using namespace culvert::cni;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)CniArgs::parse(text);
  (void)valid_container_id(text);
  (void)valid_ifname(text);
  (void)Enrolment::parse_excluded(text);
  PodRuleInput input;
  input.virtual_interfaces = parse_interfaces(text, nullptr);
  // No interface name may add a line or end its quotes.
  const std::string rules = pod_rules(input);
  size_t lines = 0;
  for (char c : rules) lines += c == '\n';
  size_t plain = 0;
  for (char c : pod_rules({})) plain += c == '\n';
  CULVERT_CHECK(lines == plain + 2 * input.virtual_interfaces.size());
  return 0;
}
