// SPDX-License-Identifier: Apache-2.0
#include "control/serve/vip_pool.h"

#include <nlohmann/json.hpp>

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;

Result<VipPool> VipPool::make(base::Cidr range) {
  if (range.base().is_v6() || range.prefix_bits() < 8 || range.prefix_bits() > 30) {
    return fail(Code::kInvalid, "the VIP range " + range.to_string() + " must be IPv4, from /8 to /30");
  }
  return VipPool(range, 1u << (32 - range.prefix_bits()));
}

base::IpAddr VipPool::address(uint32_t offset) const {
  auto bytes = range_.base().bytes();
  uint32_t value =
      (uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3]) + offset;
  return base::IpAddr::v4(static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
                          static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value));
}

Result<base::IpAddr> VipPool::allocate(const std::string& key) {
  if (auto found = given_.find(key); found != given_.end()) return found->second;
  // Starting at a place that depends on the key alone, two planes without common state mostly agree.
  uint32_t hash = 2166136261u;
  for (char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  uint32_t usable = size_ - 2;
  for (uint32_t i = 0; i < usable; ++i) {
    base::IpAddr ip = address(1 + (hash % usable + i) % usable);
    if (!taken_.insert(ip).second) continue;
    given_[key] = ip;
    dirty_ = true;
    return ip;
  }
  return fail(Code::kExhausted,
              "the VIP range " + range_.to_string() + " is used up; give a larger --vip-cidr");
}

Result<> VipPool::load_json(const std::string& text) {
  nlohmann::json kept = nlohmann::json::parse(text, nullptr, false);
  if (!kept.is_object()) return fail(Code::kInvalid, "vips.json is not a JSON object");
  for (const auto& [key, value] : kept.items()) {
    auto ip = base::IpAddr::parse(value.is_string() ? value.get<std::string>() : "");
    // Addresses of an earlier range are given up.
    if (ip && range_.contains(*ip) && taken_.insert(*ip).second) given_[key] = *ip;
  }
  return {};
}

std::string VipPool::to_json() const {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [key, ip] : given_) out[key] = ip.to_string();
  return out.dump(2) + "\n";
}

}  // namespace culvert::control
