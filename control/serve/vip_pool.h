// SPDX-License-Identifier: Apache-2.0
// VipPool: stable virtual addresses for services that have none (spec control-plane section 1.14). Once
// given, an address stays with its key, also across restarts: the main program keeps `to_json` in the state
// directory.
#pragma once

#include <map>
#include <set>
#include <string>

#include "net/base/ip.h"

namespace culvert::control {

class VipPool {
 public:
  // IPv4 ranges up to /8; network and broadcast address are not given out.
  static base::Result<VipPool> make(base::Cidr range);
  base::Result<> load_json(const std::string& text);
  std::string to_json() const;

  base::Result<base::IpAddr> allocate(const std::string& key);
  // Something was given out since the last call.
  bool take_dirty() { return std::exchange(dirty_, false); }

 private:
  explicit VipPool(base::Cidr range, uint32_t size) : range_(range), size_(size) {}
  base::IpAddr address(uint32_t offset) const;
  base::Cidr range_;
  uint32_t size_;
  std::map<std::string, base::IpAddr> given_;
  std::set<base::IpAddr> taken_;
  bool dirty_ = false;
};

}  // namespace culvert::control
