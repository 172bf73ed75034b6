// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <openssl/base64.h>
#include <openssl/sha.h>

#include <algorithm>

#include "net/wire/authority.h"
#include "net/wire/http1_internal.h"

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;

namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 102: return "Processing";
    case 103: return "Early Hints";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 203: return "Non-Authoritative Information";
    case 204: return "No Content";
    case 205: return "Reset Content";
    case 206: return "Partial Content";
    case 300: return "Multiple Choices";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 451: return "Unavailable For Legal Reasons";
    case 500: return "Internal Server Error";
    case 501:
      return "Not"
             " Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 508: return "Loop Detected";
    default: return "Status";
  }
}

// What the fields say about the body and the connection; the rest goes out.
struct Fields {
  std::string lines;
  std::optional<uint64_t> length;
  bool te_trailers = false;
  bool close = false;
  bool websocket_accept = false;
  bool websocket_key = false;
  bool websocket_version = false;
};

Result<Fields> encode_fields(const Headers& headers) {
  Fields out;
  for (const auto& [name, value] : headers) {
    if (name.starts_with(':')) continue;
    if (name == "connection") out.close |= equal_ignoring_case(trim(value), "close");
    if (name == "te") out.te_trailers |= equal_ignoring_case(trim(value), "trailers");
    // Framing and the connection are this hop's own business.
    if (is_hop_by_hop(name) || name == "te" || name == "host") continue;
    if (!is_token(name)) return fail(Code::kInvalid, "a header name that is no token: " + name);
    if (!is_value(value)) return fail(Code::kInvalid, "a control byte in the value of header " + name);
    if (name == "content-length") {
      std::optional<uint64_t> length = parse_length(value);
      if (!length || (out.length && *out.length != *length))
        return fail(Code::kInvalid, "not one content-length: " + value);
      out.length = length;
      continue;
    }
    out.websocket_accept |= name == "sec-websocket-accept";
    out.websocket_key |= name == "sec-websocket-key";
    out.websocket_version |= name == "sec-websocket-version";
    out.lines.append(name).append(": ").append(value).append("\r\n");
  }
  return out;
}

bool is_clean_target(std::string_view target) {
  return (target.starts_with('/') || target == "*") &&
         std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string_view value_of(const Headers& headers, std::string_view name) {
  const std::string* value = find_header(headers, name);
  return value ? std::string_view(*value) : std::string_view{};
}

Result<int> status_of(const Headers& headers) {
  std::string_view text = value_of(headers, ":status");
  std::optional<uint64_t> status = text.size() == 3 ? parse_length(text) : std::nullopt;
  if (!status || *status < 100) return fail(Code::kInvalid, "not a status: " + std::string(text));
  return static_cast<int>(*status);
}

std::string status_line(int status) {
  return fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
}

}  // namespace

std::string websocket_accept(std::string_view key) {
  std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  uint8_t digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest);
  uint8_t encoded[4 * (SHA_DIGEST_LENGTH + 2) / 3 + 1];
  size_t size = EVP_EncodeBlock(encoded, digest, SHA_DIGEST_LENGTH);
  return std::string(reinterpret_cast<const char*>(encoded), size);
}

Result<> Http1Encoder::request(const Headers& headers, bool end_stream, std::string_view websocket_key,
                               base::ByteQueue& out) {
  std::string_view method = value_of(headers, ":method");
  std::string_view authority = value_of(headers, ":authority");
  std::string_view path = value_of(headers, ":path");
  std::string_view protocol = value_of(headers, ":protocol");
  bool upgrade = method == "CONNECT" && is_token(protocol);
  if (upgrade) method = "GET";
  if (!is_token(method) || method == "CONNECT") return fail(Code::kInvalid, "not a method for HTTP/1");
  if (!is_clean_target(path)) return fail(Code::kInvalid, "not a path for HTTP/1");
  if (!valid_authority(authority)) return fail(Code::kInvalid, "not an authority for HTTP/1");
  Result<Fields> fields = encode_fields(headers);
  if (!fields) return fail(std::move(fields).error());
  if (end_stream && fields->length.value_or(0) > 0)
    return fail(Code::kInvalid, "content-length says there is a body, but there is none");

  std::string head = fmt::format("{} {} HTTP/1.1\r\nhost: {}\r\n", method, path, authority) + fields->lines;
  suppressed_ = false;
  left_ = 0;
  framing_ = Http1Body::kNone;
  if (upgrade) {
    head += fmt::format("connection: Upgrade\r\nupgrade: {}\r\n", protocol);
    if (protocol == "websocket") {
      if (!fields->websocket_key) head += fmt::format("sec-websocket-key: {}\r\n", websocket_key);
      if (!fields->websocket_version) head += "sec-websocket-version: 13\r\n";
    }
    framing_ = Http1Body::kRaw;
  } else if (fields->length) {
    head += fmt::format("content-length: {}\r\n", *fields->length);
    framing_ = Http1Body::kLength;
    left_ = *fields->length;
  } else if (!end_stream) {
    head += "transfer-encoding: chunked\r\n";
    framing_ = Http1Body::kChunked;
  } else if (method == "POST" || method == "PUT" || method == "PATCH") {
    head += "content-length: 0\r\n";  // RFC 9110 section 8.6
  }
  if (fields->te_trailers && !upgrade) head += "te: trailers\r\nconnection: te\r\n";
  out.append(head += "\r\n");
  finished_ = end_stream && !upgrade;
  return {};
}

Result<> Http1Encoder::informational(const Headers& headers, base::ByteQueue& out) {
  Result<int> status = status_of(headers);
  if (!status) return fail(std::move(status).error());
  if (*status >= 200 || *status == 101) return fail(Code::kInvalid, "not an informational status");
  Result<Fields> fields = encode_fields(headers);
  if (!fields) return fail(std::move(fields).error());
  out.append(status_line(*status) + fields->lines + "\r\n");
  return {};
}

Result<> Http1Encoder::response(const Headers& headers, bool end_stream, const Answering& answering,
                                base::ByteQueue& out) {
  Result<int> status = status_of(headers);
  if (!status) return fail(std::move(status).error());
  if (*status < 200) return fail(Code::kInvalid, "not a final status");
  Result<Fields> fields = encode_fields(headers);
  if (!fields) return fail(std::move(fields).error());
  suppressed_ = false;
  finished_ = false;
  left_ = 0;
  if (!answering.upgrade.empty() && *status < 300) {
    std::string head = status_line(101) + fields->lines +
                       fmt::format("connection: Upgrade\r\nupgrade: {}\r\n", answering.upgrade);
    if (!answering.websocket_key.empty() && !fields->websocket_accept)
      head += fmt::format("sec-websocket-accept: {}\r\n", websocket_accept(answering.websocket_key));
    framing_ = Http1Body::kRaw;
    keeps_alive_ = false;
    out.append(head += "\r\n");
    return {};
  }
  bool bodiless = answering.method == "HEAD" || *status == 204 || *status == 304;
  std::string head = status_line(*status) + fields->lines;
  bool keep_alive = answering.keep_alive && !fields->close;
  if (bodiless) {
    framing_ = Http1Body::kNone;
    suppressed_ = true;
    if (fields->length && *status != 204) head += fmt::format("content-length: {}\r\n", *fields->length);
  } else if (fields->length || end_stream) {
    uint64_t length = fields->length.value_or(0);
    if (end_stream && length > 0)
      return fail(Code::kInvalid, "content-length says there is a body, but there is none");
    head += fmt::format("content-length: {}\r\n", length);
    framing_ = Http1Body::kLength;
    left_ = length;
  } else if (answering.minor_version >= 1) {
    head += "transfer-encoding: chunked\r\n";
    framing_ = Http1Body::kChunked;
  } else {
    framing_ = Http1Body::kUntilClose;
    keep_alive = false;
  }
  keeps_alive_ = keep_alive;
  if (!keep_alive) head += "connection: close\r\n";
  if (keep_alive && answering.minor_version == 0) head += "connection: keep-alive\r\n";
  out.append(head += "\r\n");
  finished_ = end_stream;
  return {};
}

Result<> Http1Encoder::body(std::span<const iovec> parts, size_t count, base::ByteQueue& out) {
  if (finished_) return fail(Code::kInvalid, "a body after its end");
  if (suppressed_ || count == 0) return {};
  if (framing_ == Http1Body::kNone) return fail(Code::kInvalid, "a body where none is allowed");
  if (framing_ == Http1Body::kLength) {
    if (count > left_) return fail(Code::kInvalid, "more bytes than content-length said");
    left_ -= count;
  }
  if (framing_ == Http1Body::kChunked) out.append(fmt::format("{:x}\r\n", count));
  for (const iovec& part : parts) {
    size_t here = std::min(part.iov_len, count);
    out.append(base::ByteView(static_cast<const uint8_t*>(part.iov_base), here));
    count -= here;
  }
  if (framing_ == Http1Body::kChunked) out.append(std::string_view("\r\n"));
  return {};
}

Result<> Http1Encoder::finish(const Headers& trailers, base::ByteQueue& out) {
  if (std::exchange(finished_, true) || suppressed_) return {};
  if (framing_ == Http1Body::kLength && left_ > 0)
    return fail(Code::kInvalid, "fewer bytes than content-length said");
  if (framing_ != Http1Body::kChunked) return {};
  Result<Fields> fields = encode_fields(trailers);
  if (!fields) return fail(std::move(fields).error());
  out.append("0\r\n" + fields->lines + "\r\n");
  return {};
}

}  // namespace culvert::wire
