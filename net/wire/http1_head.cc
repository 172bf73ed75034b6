// SPDX-License-Identifier: Apache-2.0
// From a block of lines that passed the guard to a head in HTTP/2 form: llhttp reads it a second time and
// must agree; then the rules of RFC 9112 and of waypoint spec sections 7.2 and 7.3.
#include <fmt/format.h>
#include <llhttp/llhttp.h>

#include <algorithm>

#include "net/wire/authority.h"
#include "net/wire/http1_internal.h"

namespace culvert::wire {

namespace {

// What llhttp read.
struct Reading {
  std::string target;
  std::string version;
  size_t fields = 0;
  bool complete = false;
};

Http1Fault fault_of(llhttp_errno_t error) {
  switch (error) {
    case HPE_INVALID_METHOD:
    case HPE_PAUSED_H2_UPGRADE: return Http1Fault::kMethod;
    case HPE_INVALID_URL: return Http1Fault::kTarget;
    case HPE_INVALID_VERSION: return Http1Fault::kVersion;
    case HPE_INVALID_STATUS: return Http1Fault::kStatus;
    case HPE_INVALID_CONTENT_LENGTH: return Http1Fault::kLength;
    case HPE_UNEXPECTED_CONTENT_LENGTH: return Http1Fault::kLengthAndCoding;
    case HPE_INVALID_TRANSFER_ENCODING: return Http1Fault::kCoding;
    case HPE_INVALID_HEADER_TOKEN: return Http1Fault::kFieldName;
    default: return Http1Fault::kStartLine;
  }
}

llhttp_settings_t reading_settings() {
  llhttp_settings_t on;
  llhttp_settings_init(&on);
  on.on_url = [](llhttp_t* p, const char* at, size_t size) {
    static_cast<Reading*>(p->data)->target.append(at, size);
    return 0;
  };
  on.on_header_value_complete = [](llhttp_t* p) {
    ++static_cast<Reading*>(p->data)->fields;
    return 0;
  };
  on.on_headers_complete = [](llhttp_t* p) {
    static_cast<Reading*>(p->data)->complete = true;
    return static_cast<int>(HPE_PAUSED);  // the body is not its business
  };
  return on;
}

// The second reading of the block; the parser is left for its start line.
Http1Fault read_again(const Http1Lines& lines, llhttp_type_t type, llhttp_t& parser, Reading& reading) {
  static const llhttp_settings_t kSettings = reading_settings();
  llhttp_init(&parser, type, &kSettings);
  parser.data = &reading;
  llhttp_errno_t outcome = llhttp_execute(&parser, lines.block().data(), lines.block().size());
  if (!reading.complete) return outcome == HPE_OK ? Http1Fault::kStartLine : fault_of(outcome);
  return reading.fields == lines.fields().size() ? Http1Fault::kNone : Http1Fault::kFieldName;
}

// What the fields say together, gathered in one pass.
struct Gathered {
  std::vector<std::string> connection;  // lower-case elements
  bool close = false;
  bool keep_alive = false;
  bool wants_upgrade = false;
  std::string_view host;
  size_t hosts = 0;
  std::string_view length;
  size_t lengths = 0;
  std::string coding;
  size_t codings = 0;
  std::string upgrade;
  bool te_trailers = false;
  std::string_view websocket_key;
  size_t websocket_keys = 0;
};

// Connection may not take these away: who asked, for what, and how far the body goes.
bool must_not_be_named(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "host",      "authorization", "content-length", "cookie",      "content-type",
      "forwarded", "x-real-ip",     "x-request-id",   "traceparent", "expect"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         name.starts_with("x-forwarded-") || name.starts_with("x-envoy-") || name.starts_with("x-istio-") ||
         name.starts_with("sec-");
}

Http1Fault gather(const Http1Lines& lines, Gathered& found) {
  for (const Http1Lines::Field& field : lines.fields()) {
    std::string_view name = lines.name(field);
    std::string_view value = lines.value(field);
    auto is = [&](std::string_view known) {
      return name.size() == known.size() && equal_ignoring_case(name, known);
    };
    if (is("host")) {
      ++found.hosts;
      found.host = value;
    } else if (is("content-length")) {
      ++found.lengths;
      found.length = value;
    } else if (is("transfer-encoding")) {
      ++found.codings;
      found.coding = to_lower(value);
    } else if (is("connection")) {
      each_element(value, [&](std::string_view element) {
        if (!element.empty()) found.connection.push_back(to_lower(element));
      });
    } else if (is("upgrade")) {
      found.upgrade = found.upgrade.empty() ? to_lower(value) : found.upgrade + "," + to_lower(value);
    } else if (is("sec-websocket-key")) {
      ++found.websocket_keys;
      found.websocket_key = value;
    } else if (is("te")) {
      each_element(value, [&](std::string_view element) {
        found.te_trailers |= equal_ignoring_case(element, "trailers");
      });
    }
  }
  for (const std::string& named : found.connection) {
    found.close |= named == "close";
    found.keep_alive |= named == "keep-alive";
    found.wants_upgrade |= named == "upgrade";
    if (must_not_be_named(named)) return Http1Fault::kConnectionNames;
  }
  return Http1Fault::kNone;
}

// RFC 9112 section 6, without its leniencies.
Http1Fault check_framing(const Gathered& found, int minor_version, Http1Head& head) {
  if (found.codings > 0) {
    if (found.lengths > 0) return Http1Fault::kLengthAndCoding;
    if (minor_version == 0) return Http1Fault::kCodingInHttp10;
    if (found.codings > 1 || found.coding != "chunked") return Http1Fault::kCoding;
    head.body = Http1Body::kChunked;
    return Http1Fault::kNone;
  }
  if (found.lengths > 1) return Http1Fault::kLengthRepeated;
  if (found.lengths == 0) return Http1Fault::kNone;
  if (found.length.find(',') != std::string_view::npos) return Http1Fault::kLengthRepeated;
  std::optional<uint64_t> length = parse_length(found.length);
  if (!length) return Http1Fault::kLength;
  head.length = *length;
  head.body = *length > 0 ? Http1Body::kLength : Http1Body::kNone;
  return Http1Fault::kNone;
}

// The fields that go on beyond this hop.
void append_fields(const Http1Lines& lines, const Gathered& found, bool request, Headers& out) {
  out.reserve(out.size() + lines.fields().size());
  for (const Http1Lines::Field& field : lines.fields()) {
    std::string name = to_lower(lines.name(field));
    if (is_hop_by_hop(name) || name == "te" || (request && name == "host")) continue;
    if (std::find(found.connection.begin(), found.connection.end(), name) != found.connection.end()) continue;
    if (name == "content-length") {
      out.emplace_back(std::move(name), std::to_string(*parse_length(found.length)));
    } else {
      out.emplace_back(std::move(name), lines.value(field));
    }
  }
  if (request && found.te_trailers) out.emplace_back("te", "trailers");
}

bool starts_with(std::string_view text, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts) {
    if (!text.starts_with(part)) return false;
    text.remove_prefix(part.size());
  }
  return true;
}

struct Target {
  std::string scheme;
  std::string authority;
  std::string path;
};

Http1Fault split_target(std::string_view method, std::string_view target, Target& out) {
  if (method == "CONNECT") {
    out.authority = target;
    return valid_authority(target) ? Http1Fault::kNone : Http1Fault::kAuthority;
  }
  if (target == "*") {
    out.path = target;
    return method == "OPTIONS" ? Http1Fault::kNone : Http1Fault::kTarget;
  }
  if (target.starts_with('/')) {
    out.path = target;
    return Http1Fault::kNone;
  }
  size_t colon = target.find("://");
  if (colon == std::string_view::npos) return Http1Fault::kTarget;
  out.scheme = to_lower(target.substr(0, colon));
  if (out.scheme != "http" && out.scheme != "https") return Http1Fault::kTarget;
  target.remove_prefix(colon + 3);
  size_t end = target.find_first_of("/?#");
  out.authority = target.substr(0, end);
  if (!valid_authority(out.authority)) return Http1Fault::kAuthority;
  target = end == std::string_view::npos ? std::string_view{} : target.substr(end);
  if (target.empty()) {
    out.path = method == "OPTIONS" ? "*" : "/";
  } else {
    out.path = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  }
  return Http1Fault::kNone;
}

Http1Fault find_authority(const Gathered& found, Http1Head& head, Target& target) {
  if (found.hosts > 1) return Http1Fault::kHostRepeated;
  if (found.hosts == 0) return head.minor_version == 0 ? Http1Fault::kNone : Http1Fault::kHostMissing;
  if (!valid_authority(found.host)) return Http1Fault::kAuthority;
  if (target.authority.empty()) {
    target.authority = found.host;
  } else {
    head.host_ignored = !same_authority(target.authority, found.host);
  }
  return Http1Fault::kNone;
}

// The protocol of an upgrade that we would carry: WebSocket if it is on the list, else a list of one. h2c and
// TLS are never taken up, and neither is an upgrade with a body or in another method than GET: all may be
// ignored (RFC 9110 section 7.8).
std::string wanted_upgrade(const Gathered& found, std::string_view method, const Http1Head& head) {
  if (!found.wants_upgrade || found.upgrade.empty() || head.minor_version == 0 || method != "GET" ||
      head.body != Http1Body::kNone) {
    return {};
  }
  std::string only;
  size_t count = 0;
  bool websocket = false;
  each_element(found.upgrade, [&](std::string_view element) {
    ++count;
    only = element;
    websocket |= element == "websocket";
  });
  // Without its key it is no WebSocket handshake (RFC 6455 section 4.2.1).
  if (websocket) return found.websocket_keys == 1 ? "websocket" : "";
  if (count != 1 || !is_token(only) || only == "h2c") return {};
  return only;
}

Http1Fault check_expectation(const Http1Lines& lines, Http1Head& head) {
  for (const Http1Lines::Field& field : lines.fields()) {
    if (!equal_ignoring_case(lines.name(field), "expect")) continue;
    if (head.minor_version == 0) continue;
    if (!equal_ignoring_case(lines.value(field), "100-continue")) return Http1Fault::kExpectation;
    head.expect_continue = true;
  }
  return Http1Fault::kNone;
}

bool keeps_alive(const Gathered& found, int minor_version) {
  return !found.close && (minor_version == 1 || found.keep_alive);
}

}  // namespace

Http1Fault read_request_head(const Http1Lines& lines, const Http1Limits& limits, Http1Head& head) {
  head.wire_bytes = lines.wire_bytes();
  Gathered found;
  Http1Fault named = gather(lines, found);
  llhttp_t parser;
  Reading reading;
  // Our own rules have the better names for what is wrong; llhttp has the start line.
  Http1Fault read = read_again(lines, HTTP_REQUEST, parser, reading);
  if (read == Http1Fault::kMethod || read == Http1Fault::kTarget || read == Http1Fault::kVersion) return read;
  if (reading.target.size() > limits.target_bytes_max) return Http1Fault::kTargetTooLong;
  head.minor_version = parser.http_minor;
  if (named != Http1Fault::kNone) return named;
  if (Http1Fault fault = check_framing(found, head.minor_version, head); fault != Http1Fault::kNone)
    return fault;
  if (read != Http1Fault::kNone) return read;
  if (parser.http_major != 1 || parser.http_minor > 1) return Http1Fault::kVersion;
  std::string method = llhttp_method_name(static_cast<llhttp_method_t>(parser.method));
  // llhttp skips spaces that are too many.
  if (!starts_with(lines.block(),
                   {method, " ", reading.target, " HTTP/1.", head.minor_version == 0 ? "0" : "1", "\r\n"}))
    return Http1Fault::kStartLine;
  Target target;
  if (Http1Fault fault = split_target(method, reading.target, target); fault != Http1Fault::kNone)
    return fault;
  if (Http1Fault fault = find_authority(found, head, target); fault != Http1Fault::kNone) return fault;
  if (Http1Fault fault = check_expectation(lines, head); fault != Http1Fault::kNone) return fault;
  head.keep_alive = keeps_alive(found, head.minor_version);
  head.upgrade = wanted_upgrade(found, method, head);
  if (method == "CONNECT") {
    // A request for a tunnel has no body, whatever its fields say (RFC 9110 section 9.3.6).
    if (head.body != Http1Body::kNone) return Http1Fault::kLengthAndCoding;
    head.keep_alive = false;
  }

  Headers& out = head.headers;
  out.emplace_back(":method", head.upgrade.empty() ? method : "CONNECT");
  if (method != "CONNECT") {
    if (!head.upgrade.empty()) out.emplace_back(":protocol", head.upgrade);
    out.emplace_back(":scheme", std::move(target.scheme));
  }
  if (!target.authority.empty()) out.emplace_back(":authority", std::move(target.authority));
  if (method != "CONNECT") out.emplace_back(":path", std::move(target.path));
  append_fields(lines, found, true, out);
  if (head.upgrade == "websocket") head.websocket_key = found.websocket_key;
  return head.minor_version == 0 && !limits.allow_http10 ? Http1Fault::kHttp10 : Http1Fault::kNone;
}

Http1Fault read_response_head(const Http1Lines& lines, const Http1Asked& asked, Http1Head& head) {
  head.wire_bytes = lines.wire_bytes();
  Gathered found;
  Http1Fault named = gather(lines, found);
  // A server may name what it likes as its own hop's; only requests carry what must not be taken away.
  if (named == Http1Fault::kConnectionNames) named = Http1Fault::kNone;
  llhttp_t parser;
  Reading reading;
  Http1Fault read = read_again(lines, HTTP_RESPONSE, parser, reading);
  if (read == Http1Fault::kStatus || read == Http1Fault::kVersion || read == Http1Fault::kStartLine)
    return read;
  head.minor_version = parser.http_minor;
  if (Http1Fault fault = check_framing(found, head.minor_version, head); fault != Http1Fault::kNone)
    return fault;
  if (read != Http1Fault::kNone) return read;
  if (parser.http_major != 1 || parser.http_minor > 1) return Http1Fault::kVersion;
  int status = parser.status_code;
  std::string start = fmt::format("HTTP/1.{} {}", head.minor_version, status);
  if (status < 100 || !lines.block().starts_with(start)) return Http1Fault::kStatus;
  head.keep_alive = keeps_alive(found, head.minor_version);
  bool framed = found.lengths > 0 || found.codings > 0;
  if (status == 101) {
    if (asked.upgrade.empty() || found.upgrade != asked.upgrade || !found.wants_upgrade || framed)
      return Http1Fault::kUnaskedUpgrade;
    head.upgrade = found.upgrade;
    head.body = Http1Body::kRaw;
    status = 200;
  } else if (status < 200 || status == 204) {
    // Such an answer has no body; one that says so nevertheless is not to be trusted with another request.
    if (framed && head.body != Http1Body::kNone) head.keep_alive = false;
    head.body = Http1Body::kNone;
  } else if (asked.method == "HEAD" || status == 304) {
    head.body = Http1Body::kNone;
  } else if (!framed) {
    head.body = Http1Body::kUntilClose;
    head.keep_alive = false;
  }
  head.headers.emplace_back(":status", std::to_string(status));
  append_fields(lines, found, false, head.headers);
  if (parser.status_code < 200 || parser.status_code == 204)
    std::erase_if(head.headers, [](const auto& field) { return field.first == "content-length"; });
  return Http1Fault::kNone;
}

Http1Fault read_trailers(const Http1Lines& lines, Headers& trailers) {
  Gathered found;
  (void)gather(lines, found);
  if (found.hosts > 0 || found.lengths > 0 || found.codings > 0) return Http1Fault::kTrailers;
  llhttp_t parser;
  Reading reading;
  if (Http1Fault read = read_again(lines, HTTP_RESPONSE, parser, reading); read != Http1Fault::kNone)
    return read;
  append_fields(lines, found, false, trailers);
  return Http1Fault::kNone;
}

}  // namespace culvert::wire
