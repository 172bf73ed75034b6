// SPDX-License-Identifier: Apache-2.0
// The Container Network Interface as values: versions, network configuration, CNI_ARGS, results
// and error objects (CNI specification 0.1.0 to 1.1.0; spec cni 1.7-1.9). Pure; input is hostile.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/ip.h"
#include "net/base/result.h"

namespace culvert::cni {

// Error codes of the CNI specification; 999 is our own logic.
enum class CniCode : int {
  kIncompatibleVersion = 1,
  kUnknownContainer = 3,
  kBadEnvironment = 4,
  kIo = 5,
  kDecode = 6,
  kInvalidConfig = 7,
  kInvalidNetns = 8,
  kOwn = 999,
};

struct CniError {
  CniCode code = CniCode::kOwn;
  std::string message;
  std::string details;
  // {"code":...,"msg":...,"details":...} with a newline.
  std::string to_json() const;
};
template <class T>
using CniResult = std::expected<T, CniError>;

// Ordered oldest first.
const std::vector<std::string>& supported_versions();
// -1, 0, 1; both must be supported versions.
int compare_versions(std::string_view a, std::string_view b);

// One address of a result, as the agent wants it.
struct CniAddress {
  std::optional<int> interface;
  base::IpAddr ip;
  int prefix_bits = 0;
  std::string gateway;
};

struct NetworkConfig {
  static constexpr size_t kBytesMax = 1 << 20;  // of stdin

  std::string version = "0.1.0";
  std::string name;
  std::string log_level = "info";
  std::string run_dir = "/var/run/istio-cni";
  std::string pod_namespace;
  std::string directory;  // culvert_directory: non-empty means the agent decides
  bool ambient_enabled = false;
  std::vector<std::string> exclude_namespaces;
  bool has_previous = false;
  std::string result_json;  // what a successful ADD prints, at `version`
  std::vector<CniAddress> addresses;

  // Checks version, name and, typed by the version, prevResult.
  static CniResult<NetworkConfig> parse(std::string_view text);
};

struct CniArgs {
  bool ignore_unknown = false;
  std::string pod_name;
  std::string pod_namespace;
  std::string container_id;
  std::string pod_uid;
  static CniResult<CniArgs> parse(std::string_view text);
};

bool valid_container_id(std::string_view text);  // also network names
bool valid_ifname(std::string_view text);

// The body of POST /cmdadd (1.9), with the UID as an extra key ([D]).
struct AddEvent {
  static constexpr size_t kBytesMax = 1 << 20;
  static constexpr size_t kAddressesMax = 64;
  std::string netns;
  std::string pod_name;
  std::string pod_namespace;
  std::string pod_uid;
  std::vector<base::IpAddr> ips;
};
std::string encode_add_event(const std::string& netns, const CniArgs& args,
                             const std::vector<CniAddress>& addresses);
base::Result<AddEvent> parse_add_event(std::string_view text);

std::string base64(std::string_view bytes);

}  // namespace culvert::cni
