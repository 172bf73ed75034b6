// SPDX-License-Identifier: Apache-2.0
#include "cni/cni_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace culvert::cni {
namespace {

using Json = nlohmann::json;

std::unexpected<CniError> error(CniCode code, std::string message, std::string details = "") {
  return std::unexpected(CniError{code, std::move(message), std::move(details)});
}

int version_index(std::string_view version) {
  const auto& all = supported_versions();
  auto at = std::find(all.begin(), all.end(), version);
  return at == all.end() ? -1 : static_cast<int>(at - all.begin());
}

// Reads an optional key of a given type into `into`; false if it has another type.
bool read(const Json& object, const char* key, std::string& into) {
  auto at = object.find(key);
  if (at == object.end() || at->is_null()) return true;
  if (!at->is_string()) return false;
  into = at->get<std::string>();
  return true;
}
bool read(const Json& object, const char* key, bool& into) {
  auto at = object.find(key);
  if (at == object.end() || at->is_null()) return true;
  if (!at->is_boolean()) return false;
  into = at->get<bool>();
  return true;
}
bool read(const Json& object, const char* key, std::vector<std::string>& into) {
  auto at = object.find(key);
  if (at == object.end() || at->is_null()) return true;
  if (!at->is_array()) return false;
  for (const auto& item : *at) {
    if (!item.is_string()) return false;
    into.push_back(item.get<std::string>());
  }
  return true;
}

bool parse_address(const Json& text, CniAddress& into) {
  if (!text.is_string()) return false;
  const auto value = text.get<std::string>();
  const size_t slash = value.find('/');
  if (slash == std::string::npos) return false;
  auto ip = base::IpAddr::parse(std::string_view(value).substr(0, slash));
  auto cidr = base::Cidr::parse(value);
  if (!ip || !cidr) return false;
  into.ip = *ip;
  into.prefix_bits = cidr->prefix_bits();
  return true;
}

bool parse_gateway(const Json& object, const char* key, std::string& into) {
  std::string text;
  if (!read(object, key, text)) return false;
  if (text.empty()) return true;
  auto ip = base::IpAddr::parse(text);
  if (!ip) return false;
  into = ip->to_string();
  return true;
}

bool valid_routes(const Json& object) {
  auto at = object.find("routes");
  if (at == object.end() || at->is_null()) return true;
  if (!at->is_array()) return false;
  for (const auto& route : *at) {
    std::string gateway;
    auto dst = route.is_object() ? route.find("dst") : route.end();
    if (!route.is_object() || dst == route.end() || !dst->is_string()) return false;
    if (!base::Cidr::parse(dst->get<std::string>()) || !parse_gateway(route, "gw", gateway)) return false;
  }
  return true;
}

bool valid_dns(const Json& object) {
  auto at = object.find("dns");
  if (at == object.end() || at->is_null()) return true;
  std::string domain;
  std::vector<std::string> list;
  return at->is_object() && read(*at, "domain", domain) && read(*at, "nameservers", list) &&
         read(*at, "search", list) && read(*at, "options", list);
}

// 0.1.0 and 0.2.0: one address of each family under ip4 and ip6.
bool parse_old_result(const Json& result, std::vector<CniAddress>& into) {
  for (const char* key : {"ip4", "ip6"}) {
    auto at = result.find(key);
    if (at == result.end() || at->is_null()) continue;
    CniAddress address;
    if (!at->is_object() || !at->contains("ip") || !parse_address((*at)["ip"], address)) return false;
    if (!parse_gateway(*at, "gateway", address.gateway) || !valid_routes(*at)) return false;
    into.push_back(std::move(address));
  }
  return valid_dns(result);
}

bool parse_new_result(const Json& result, std::vector<CniAddress>& into) {
  auto interfaces = result.find("interfaces");
  if (interfaces != result.end() && !interfaces->is_null()) {
    if (!interfaces->is_array()) return false;
    for (const auto& interface : *interfaces) {
      std::string text;
      if (!interface.is_object() || !read(interface, "name", text) || !read(interface, "mac", text) ||
          !read(interface, "sandbox", text)) {
        return false;
      }
    }
  }
  auto ips = result.find("ips");
  if (ips != result.end() && !ips->is_null()) {
    if (!ips->is_array()) return false;
    for (const auto& item : *ips) {
      CniAddress address;
      if (!item.is_object() || !item.contains("address") || !parse_address(item["address"], address))
        return false;
      auto index = item.find("interface");
      if (index != item.end() && !index->is_null()) {
        if (!index->is_number_integer()) return false;
        address.interface = index->get<int>();
      }
      if (!parse_gateway(item, "gateway", address.gateway)) return false;
      into.push_back(std::move(address));
    }
  }
  return valid_routes(result) && valid_dns(result);
}

bool truthy(std::string_view text) {
  return text == "1" || text == "true" || text == "True" || text == "TRUE" || text == "t" || text == "T";
}
bool falsy(std::string_view text) {
  return text == "0" || text == "false" || text == "False" || text == "FALSE" || text == "f" || text == "F";
}

CniResult<NetworkConfig> parse_previous(NetworkConfig config, const Json& json) {
  auto previous = json.find("prevResult");
  Json result = Json::object();
  if (previous != json.end() && !previous->is_null()) {
    if (!previous->is_object()) return error(CniCode::kDecode, "prevResult is not an object");
    result = *previous;
    config.has_previous = true;
    const bool old_form = compare_versions(config.version, "0.3.0") < 0;
    const bool good =
        old_form ? parse_old_result(result, config.addresses) : parse_new_result(result, config.addresses);
    if (!good) {
      return error(CniCode::kDecode,
                   fmt::format("prevResult is not a result of CNI version {}", config.version));
    }
  }
  result["cniVersion"] = config.version;
  config.result_json = result.dump(4, ' ', false, Json::error_handler_t::replace) + "\n";
  return config;
}

}  // namespace

std::string CniError::to_json() const {
  Json object{{"code", static_cast<int>(code)}, {"msg", message}};
  if (!details.empty()) object["details"] = details;
  return object.dump(4, ' ', false, Json::error_handler_t::replace) + "\n";
}

const std::vector<std::string>& supported_versions() {
  static const std::vector<std::string> kVersions{"0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                                  "0.4.0", "1.0.0", "1.1.0"};
  return kVersions;
}

int compare_versions(std::string_view a, std::string_view b) {
  const int left = version_index(a);
  const int right = version_index(b);
  return left < right ? -1 : left > right ? 1 : 0;
}

CniResult<NetworkConfig> NetworkConfig::parse(std::string_view text) {
  if (text.size() > kBytesMax)
    return error(CniCode::kDecode, "the network configuration on stdin is above 1 MiB");
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object())
    return error(CniCode::kDecode, "the network configuration on stdin is not a JSON object");
  NetworkConfig config;
  std::string version;
  if (!read(json, "cniVersion", version)) return error(CniCode::kDecode, "cniVersion is not a string");
  if (!version.empty()) config.version = version;
  if (version_index(config.version) < 0) {
    return error(CniCode::kIncompatibleVersion, "incompatible CNI versions",
                 fmt::format("config is \"{}\", plugin supports {}", config.version.substr(0, 64),
                             fmt::join(supported_versions(), ", ")));
  }
  if (!read(json, "name", config.name)) return error(CniCode::kDecode, "name is not a string");
  if (config.name.empty()) return error(CniCode::kInvalidConfig, "missing network name");
  if (!valid_container_id(config.name))
    return error(CniCode::kInvalidConfig, "invalid characters in network name");
  if (!read(json, "plugin_log_level", config.log_level) || !read(json, "cni_agent_run_dir", config.run_dir) ||
      !read(json, "pod_namespace", config.pod_namespace) ||
      !read(json, "culvert_directory", config.directory) ||
      !read(json, "ambient_enabled", config.ambient_enabled) ||
      !read(json, "exclude_namespaces", config.exclude_namespaces)) {
    return error(CniCode::kDecode, "a key of the istio-cni configuration has the wrong type");
  }
  return parse_previous(std::move(config), json);
}

CniResult<CniArgs> CniArgs::parse(std::string_view text) {
  CniArgs args;
  std::vector<std::string> unknown;
  size_t at = 0;
  while (!text.empty() && at <= text.size()) {
    const size_t end = std::min(text.find(';', at), text.size());
    const std::string_view pair = text.substr(at, end - at);
    at = end + 1;
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || pair.find('=', equals + 1) != std::string_view::npos) {
      return error(CniCode::kOwn, fmt::format("CNI_ARGS: invalid pair \"{}\"", pair.substr(0, 100)));
    }
    const std::string_view key = pair.substr(0, equals);
    const std::string value(pair.substr(equals + 1));
    if (key == "IgnoreUnknown") {
      if (!truthy(value) && !falsy(value))
        return error(CniCode::kOwn, "CNI_ARGS: IgnoreUnknown is not a boolean");
      args.ignore_unknown = truthy(value);
    } else if (key == "K8S_POD_NAME") {
      args.pod_name = value;
    } else if (key == "K8S_POD_NAMESPACE") {
      args.pod_namespace = value;
    } else if (key == "K8S_POD_INFRA_CONTAINER_ID") {
      args.container_id = value;
    } else if (key == "K8S_POD_UID") {
      args.pod_uid = value;
    } else {
      unknown.emplace_back(key.substr(0, 100));
    }
  }
  if (!unknown.empty() && !args.ignore_unknown) {
    return error(CniCode::kOwn, fmt::format("CNI_ARGS: unknown args {}", fmt::join(unknown, ", ")));
  }
  return args;
}

bool valid_container_id(std::string_view text) {
  auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (text.empty() || !plain(text.front())) return false;
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return plain(c) || c == '_' || c == '.' || c == '-'; });
}

bool valid_ifname(std::string_view text) {
  if (text.empty() || text.size() > 15 || text == "." || text == "..") return false;
  return std::none_of(text.begin(), text.end(), [](char c) {
    return c == '/' || c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r';
  });
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < count ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) out += j <= count ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::string encode_add_event(const std::string& netns, const CniArgs& args,
                             const std::vector<CniAddress>& addresses) {
  Json ips = nullptr;
  for (const auto& address : addresses) {
    std::string mask(static_cast<size_t>(address.ip.bits()) / 8, '\0');
    for (int bit = 0; bit < address.prefix_bits; ++bit) {
      auto& byte = mask[static_cast<size_t>(bit) / 8];
      byte = static_cast<char>(static_cast<uint8_t>(byte) | 0x80u >> (bit % 8));
    }
    ips.push_back({{"Interface", address.interface ? Json(*address.interface) : Json(nullptr)},
                   {"Address", {{"IP", address.ip.to_string()}, {"Mask", base64(mask)}}},
                   {"Gateway", address.gateway}});
  }
  Json event{
      {"Netns", netns}, {"PodName", args.pod_name}, {"PodNamespace", args.pod_namespace}, {"IPs", ips}};
  if (!args.pod_uid.empty()) event["K8S_POD_UID"] = args.pod_uid;
  return event.dump(-1, ' ', false, Json::error_handler_t::replace);
}

base::Result<AddEvent> parse_add_event(std::string_view text) {
  auto fail = [](const char* why) {
    return base::fail(base::Code::kInvalid, std::string("CNI event: ") + why);
  };
  if (text.empty()) return fail("empty body");
  if (text.size() > AddEvent::kBytesMax) return fail("body above 1 MiB");
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return fail("body is not a JSON object");
  AddEvent event;
  if (!read(json, "Netns", event.netns) || !read(json, "PodName", event.pod_name) ||
      !read(json, "PodNamespace", event.pod_namespace) || !read(json, "K8S_POD_UID", event.pod_uid)) {
    return fail("a key has the wrong type");
  }
  if (event.netns.empty() || event.pod_name.empty() || event.pod_namespace.empty()) {
    return fail("Netns, PodName and PodNamespace are needed");
  }
  auto ips = json.find("IPs");
  if (ips == json.end() || ips->is_null()) return event;
  if (!ips->is_array() || ips->size() > AddEvent::kAddressesMax)
    return fail("IPs is not an array of at most 64");
  for (const auto& item : *ips) {
    auto address = item.is_object() ? item.find("Address") : item.end();
    std::string ip_text;
    if (!item.is_object() || address == item.end() || !address->is_object() ||
        !read(*address, "IP", ip_text)) {
      return fail("an entry of IPs has no address");
    }
    auto ip = base::IpAddr::parse(ip_text);
    if (!ip) return fail("an entry of IPs is not an address");
    event.ips.push_back(*ip);
  }
  return event;
}

}  // namespace culvert::cni
