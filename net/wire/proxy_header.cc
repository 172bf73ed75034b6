// SPDX-License-Identifier: Apache-2.0
#include "net/wire/proxy_header.h"

#include <cstdint>

namespace culvert::wire {

namespace {

constexpr char kSignature[] = "\r\n\r\n\0\r\nQUIT\n";
constexpr char kVersion2Proxy = 0x21;
constexpr char kTcpOverIpv4 = 0x11;
constexpr char kTcpOverIpv6 = 0x21;
constexpr char kStreamUnspecified = 0x01;
constexpr char kTlvIdentity = static_cast<char>(0xd0);

void put16(std::string& out, size_t value) {
  out += static_cast<char>((value >> 8) & 0xff);
  out += static_cast<char>(value & 0xff);
}

void put_ip(std::string& out, const base::IpAddr& ip) {
  for (uint8_t byte : ip.bytes()) out += static_cast<char>(byte);
}

}  // namespace

std::string proxy_v1_header(const base::SocketAddr& source, const base::SocketAddr& destination) {
  if (source.ip.is_v4() != destination.ip.is_v4()) return "PROXY UNKNOWN\r\n";
  return std::string("PROXY ") + (source.ip.is_v4() ? "TCP4 " : "TCP6 ") + source.ip.to_string() + " " +
         destination.ip.to_string() + " " + std::to_string(source.port) + " " +
         std::to_string(destination.port) + "\r\n";
}

std::string proxy_v2_header(const base::SocketAddr& source, const base::SocketAddr& destination,
                            std::string_view identity) {
  std::string rest;
  char family = kStreamUnspecified;
  if (source.ip.is_v4() == destination.ip.is_v4()) {
    family = source.ip.is_v4() ? kTcpOverIpv4 : kTcpOverIpv6;
    put_ip(rest, source.ip);
    put_ip(rest, destination.ip);
    put16(rest, source.port);
    put16(rest, destination.port);
  }
  if (!identity.empty() && identity.size() <= 0xffff - 64) {
    rest += kTlvIdentity;
    put16(rest, identity.size());
    rest.append(identity);
  }
  std::string header(kSignature, sizeof kSignature - 1);
  header += kVersion2Proxy;
  header += family;
  put16(header, rest.size());
  return header + rest;
}

}  // namespace culvert::wire
