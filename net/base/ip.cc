// SPDX-License-Identifier: Apache-2.0
#include "net/base/ip.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "net/base/check.h"

namespace culvert::base {

IpAddr IpAddr::v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  IpAddr ip;
  ip.bytes_ = {a, b, c, d};
  return ip;
}

Result<IpAddr> IpAddr::from_bytes(std::span<const uint8_t> bytes) {
  IpAddr ip;
  if (bytes.size() == 4) {
    std::copy(bytes.begin(), bytes.end(), ip.bytes_.begin());
    return ip;
  }
  if (bytes.size() != 16) {
    return fail(Code::kInvalid, fmt::format("an IP address has 4 or 16 bytes, not {}", bytes.size()));
  }
  static constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(std::begin(kMappedPrefix), std::end(kMappedPrefix), bytes.begin())) {
    return from_bytes(bytes.subspan(12));
  }
  ip.v6_ = true;
  std::copy(bytes.begin(), bytes.end(), ip.bytes_.begin());
  return ip;
}

Result<IpAddr> IpAddr::parse(std::string_view text) {
  std::string terminated(text);
  uint8_t raw[16];
  if (terminated.size() == text.size() && text.find('\0') == std::string_view::npos) {
    if (inet_pton(AF_INET, terminated.c_str(), raw) == 1) return from_bytes({raw, 4});
    if (inet_pton(AF_INET6, terminated.c_str(), raw) == 1) return from_bytes({raw, 16});
  }
  return fail(Code::kInvalid, fmt::format("\"{}\" is not an IP address", text));
}

IpAddr IpAddr::any_v6() {
  IpAddr ip;
  ip.v6_ = true;
  return ip;
}

IpAddr IpAddr::loopback_v6() {
  IpAddr ip = any_v6();
  ip.bytes_[15] = 1;
  return ip;
}

bool IpAddr::is_loopback() const { return v6_ ? *this == loopback_v6() : bytes_[0] == 127; }

bool IpAddr::is_unspecified() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](uint8_t b) { return b == 0; });
}

std::string IpAddr::to_string() const {
  char text[INET6_ADDRSTRLEN];
  CULVERT_CHECK(inet_ntop(v6_ ? AF_INET6 : AF_INET, bytes_.data(), text, sizeof text) != nullptr);
  return text;
}

Result<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(Code::kInvalid, fmt::format("\"{}\" is not a port (0 to 65535)", text));
  }
  return port;
}

Result<SocketAddr> SocketAddr::parse(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail(Code::kInvalid, fmt::format("\"{}\" has no port; write ip:port or [ip6]:port", text));
  }
  std::string_view host = text.substr(0, colon);
  bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  auto ip = IpAddr::parse(host);
  if (!ip) return fail(std::move(ip).error());
  if (!bracketed && host.find(':') != std::string_view::npos) {
    return fail(Code::kInvalid, fmt::format("\"{}\": an IPv6 address needs brackets before its port", text));
  }
  if (bracketed && host.find(':') == std::string_view::npos) {
    return fail(Code::kInvalid, fmt::format("\"{}\": brackets are for IPv6 addresses", text));
  }
  auto port = parse_port(text.substr(colon + 1));
  if (!port) return fail(std::move(port).error());
  return SocketAddr{*ip, *port};
}

std::string SocketAddr::to_string() const {
  return ip.is_v6() ? fmt::format("[{}]:{}", ip.to_string(), port)
                    : fmt::format("{}:{}", ip.to_string(), port);
}

Result<Cidr> Cidr::make(IpAddr base, int prefix_bits) {
  if (prefix_bits < 0 || prefix_bits > base.bits()) {
    return fail(Code::kInvalid, fmt::format("prefix length {} does not fit {} (0 to {})", prefix_bits,
                                            base.to_string(), base.bits()));
  }
  std::array<uint8_t, 16> raw{};
  auto bytes = base.bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    int kept = std::clamp(prefix_bits - static_cast<int>(i) * 8, 0, 8);
    raw[i] = static_cast<uint8_t>(bytes[i] & (0xff00 >> kept));
  }
  Cidr cidr;
  // from_bytes would fold a masked IPv6 network into IPv4 only for ::ffff:0:0/96 and longer,
  // which an IpAddr cannot hold as IPv6 in the first place.
  auto masked = IpAddr::from_bytes({raw.data(), bytes.size()});
  if (!masked) return fail(std::move(masked).error());
  cidr.base_ = *masked;
  cidr.prefix_bits_ = prefix_bits;
  return cidr;
}

Result<Cidr> Cidr::parse(std::string_view text) {
  size_t slash = text.find('/');
  auto ip = IpAddr::parse(text.substr(0, slash));
  if (!ip) return fail(std::move(ip).error());
  if (slash == std::string_view::npos) return host(*ip);
  std::string_view digits = text.substr(slash + 1);
  int prefix = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return fail(Code::kInvalid, fmt::format("\"{}\": \"{}\" is not a prefix length", text, digits));
  }
  return make(*ip, prefix);
}

Cidr Cidr::host(IpAddr ip) {
  Cidr cidr;
  cidr.base_ = ip;
  cidr.prefix_bits_ = ip.bits();
  return cidr;
}

bool Cidr::contains(const IpAddr& ip) const {
  if (ip.is_v6() != base_.is_v6()) return false;
  auto mine = base_.bytes();
  auto theirs = ip.bytes();
  size_t whole = static_cast<size_t>(prefix_bits_) / 8;
  if (!std::equal(mine.begin(), mine.begin() + static_cast<long>(whole), theirs.begin())) return false;
  int rest = prefix_bits_ % 8;
  if (rest == 0) return true;
  int mask = 0xff00 >> rest & 0xff;
  return (theirs[whole] & mask) == mine[whole];
}

std::string Cidr::to_string() const { return fmt::format("{}/{}", base_.to_string(), prefix_bits_); }

}  // namespace culvert::base

size_t std::hash<culvert::base::IpAddr>::operator()(const culvert::base::IpAddr& ip) const noexcept {
  auto bytes = ip.bytes();
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

size_t std::hash<culvert::base::SocketAddr>::operator()(
    const culvert::base::SocketAddr& addr) const noexcept {
  return std::hash<culvert::base::IpAddr>()(addr.ip) * 1000003u ^ addr.port;
}
