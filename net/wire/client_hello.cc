// SPDX-License-Identifier: Apache-2.0
#include "net/wire/client_hello.h"

#include <algorithm>
#include <optional>

#include "net/wire/http1_internal.h"

namespace culvert::wire {

namespace {

constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kClientHelloMessage = 1;
constexpr uint16_t kServerNameExtension = 0;
constexpr uint16_t kAlpnExtension = 16;
constexpr size_t kRecordBytesMax = 16384;

// Reads numbers and length-prefixed runs; once something does not fit, nothing is left and everything after
// fails too, so that a loop over what is left ends.
class Reader {
 public:
  explicit Reader(base::ByteView bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool empty() const { return bytes_.empty(); }
  uint32_t number(size_t size) {
    base::ByteView raw = take(size);
    uint32_t value = 0;
    for (uint8_t byte : raw) value = value << 8 | byte;
    return value;
  }
  base::ByteView take(size_t size) {
    if (size > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
    }
    if (!ok_) return {};
    base::ByteView out = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return out;
  }
  Reader run(size_t length_size) { return Reader(take(number(length_size))); }
  base::ByteView rest() { return take(bytes_.size()); }

 private:
  base::ByteView bytes_;
  bool ok_ = true;
};

// With its four-byte head; 0: not yet known.
size_t message_bytes(std::string_view handshake) {
  if (handshake.size() < 4) return 0;
  auto at = [&](size_t i) { return size_t{static_cast<uint8_t>(handshake[i])}; };
  return 4 + (at(1) << 16 | at(2) << 8 | at(3));
}

// The first handshake message as far as it has come; what follows it (early data) is not looked at. nullopt:
// not TLS.
std::optional<std::string> join_records(base::ByteView bytes) {
  std::string out;
  while (!bytes.empty() && (message_bytes(out) == 0 || out.size() < message_bytes(out))) {
    // What there is of a record's head has to fit already.
    if (bytes[0] != kHandshakeRecord || (bytes.size() > 1 && bytes[1] != 3)) return std::nullopt;
    if (bytes.size() < 5) return out;
    size_t length = size_t{bytes[3]} << 8 | bytes[4];
    if (length == 0 || length > kRecordBytesMax) return std::nullopt;
    base::ByteView payload = bytes.subspan(5);
    payload = payload.first(std::min(payload.size(), length));
    out.append(base::as_text(payload));
    bytes = bytes.subspan(5 + payload.size());
  }
  return out;
}

bool is_host_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

bool read_server_name(Reader extension, ClientHello& out) {
  Reader names = extension.run(2);
  while (!names.empty()) {
    uint32_t type = names.number(1);
    Reader name = names.run(2);
    if (type != 0) continue;
    // One name of each type (RFC 6066 section 3).
    if (!out.server_name.empty()) return false;
    out.server_name = to_lower(base::as_text(name.rest()));
    if (out.server_name.ends_with('.')) out.server_name.pop_back();
    if (!is_host_name(out.server_name)) return false;
  }
  return names.ok() && extension.ok() && extension.empty() && !out.server_name.empty();
}

bool read_alpn(Reader extension, ClientHello& out) {
  Reader names = extension.run(2);
  while (!names.empty()) {
    Reader name = names.run(1);
    out.alpn.emplace_back(base::as_text(name.rest()));
  }
  return names.ok() && extension.ok() && extension.empty();
}

bool read_hello(Reader hello, ClientHello& out) {
  uint32_t version = hello.number(2);
  hello.take(32);  // random
  hello.run(1);    // session
  hello.run(2);    // cipher suites
  hello.run(1);    // compression
  if (!hello.ok() || version >> 8 != 3) return false;
  if (hello.empty()) return true;
  Reader extensions = hello.run(2);
  if (!hello.ok() || !hello.empty()) return false;
  bool named = false;
  bool offered = false;
  while (!extensions.empty()) {
    uint32_t type = extensions.number(2);
    Reader extension = extensions.run(2);
    if (!extensions.ok()) return false;
    if (type == kServerNameExtension && (std::exchange(named, true) || !read_server_name(extension, out)))
      return false;
    if (type == kAlpnExtension && (std::exchange(offered, true) || !read_alpn(extension, out))) return false;
  }
  return true;
}

}  // namespace

ClientHello peek_client_hello(base::ByteView first_bytes) {
  ClientHello out;
  auto not_tls = [&] {
    out = {};
    out.kind = ClientHello::Kind::kNotTls;
    return out;
  };
  std::optional<std::string> handshake = join_records(first_bytes);
  if (!handshake) return not_tls();
  base::ByteView message = base::as_bytes(*handshake);
  if (!message.empty() && message[0] != kClientHelloMessage) return not_tls();
  size_t whole = message_bytes(*handshake);
  if (whole > kClientHelloBytesMax) return not_tls();
  if (whole == 0 || message.size() < whole)
    return first_bytes.size() > kClientHelloBytesMax ? not_tls() : out;
  if (!read_hello(Reader(message.subspan(4, whole - 4)), out)) return not_tls();
  out.kind = ClientHello::Kind::kHello;
  return out;
}

}  // namespace culvert::wire
