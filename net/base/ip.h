// SPDX-License-Identifier: Apache-2.0
// Addresses: IpAddr, SocketAddr, Cidr. IPv4 and IPv6 in one value; an IPv4-mapped
// IPv6 address is always stored as IPv4 (spec ztunnel section 1).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "net/base/result.h"

namespace culvert::base {

class IpAddr {
 public:
  // The IPv4 wildcard 0.0.0.0.
  IpAddr() = default;

  static IpAddr v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
  // 4 or 16 bytes in network order; anything else is an error.
  static Result<IpAddr> from_bytes(std::span<const uint8_t> bytes);
  // Text as in RFC 5952 or dotted quad, no brackets, no zone.
  static Result<IpAddr> parse(std::string_view text);
  static IpAddr any_v4() { return IpAddr(); }
  static IpAddr any_v6();
  static IpAddr loopback_v4() { return v4(127, 0, 0, 1); }
  static IpAddr loopback_v6();

  bool is_v4() const { return !v6_; }
  bool is_v6() const { return v6_; }
  bool is_loopback() const;
  bool is_unspecified() const;
  // 4 or 16 bytes, network order; valid as long as this object.
  std::span<const uint8_t> bytes() const { return {bytes_.data(), v6_ ? 16u : 4u}; }
  int bits() const { return v6_ ? 128 : 32; }
  std::string to_string() const;

  auto operator<=>(const IpAddr&) const = default;

 private:
  bool v6_ = false;
  std::array<uint8_t, 16> bytes_{};
};

struct SocketAddr {
  IpAddr ip;
  uint16_t port = 0;

  // "1.2.3.4:80" or "[::1]:80".
  static Result<SocketAddr> parse(std::string_view text);
  std::string to_string() const;
  auto operator<=>(const SocketAddr&) const = default;
};

// A network: base address with the host bits cleared, and a prefix length.
class Cidr {
 public:
  Cidr() = default;
  // Clears host bits. Prefix above the address width is an error.
  static Result<Cidr> make(IpAddr base, int prefix_bits);
  // "10.0.0.0/8"; a bare address is a host network (/32 or /128).
  static Result<Cidr> parse(std::string_view text);
  static Cidr host(IpAddr ip);

  bool contains(const IpAddr& ip) const;
  const IpAddr& base() const { return base_; }
  int prefix_bits() const { return prefix_bits_; }
  bool is_host() const { return prefix_bits_ == base_.bits(); }
  std::string to_string() const;
  auto operator<=>(const Cidr&) const = default;

 private:
  IpAddr base_;
  int prefix_bits_ = 32;
};

// A decimal port, 0..65535, nothing else around it.
Result<uint16_t> parse_port(std::string_view text);

}  // namespace culvert::base

template <>
struct std::hash<culvert::base::IpAddr> {
  size_t operator()(const culvert::base::IpAddr& ip) const noexcept;
};
template <>
struct std::hash<culvert::base::SocketAddr> {
  size_t operator()(const culvert::base::SocketAddr& addr) const noexcept;
};
