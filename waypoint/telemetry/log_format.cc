// SPDX-License-Identifier: Apache-2.0
#include "waypoint/telemetry/log_format.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace culvert::waypoint {

namespace {

using base::Code;
using base::fail;
using base::Result;

// Nothing: printed as "-", or null.
using Value = std::optional<std::string>;
using Getter = std::function<Value(const RequestRecord&)>;

Value nonempty(std::string text) {
  if (text.empty()) return std::nullopt;
  return text;
}
Value number(uint64_t value) { return fmt::format_int(value).str(); }
Value address(const std::optional<base::SocketAddr>& value) {
  return value ? Value(value->to_string()) : std::nullopt;
}
Value address_ip(const std::optional<base::SocketAddr>& value) {
  return value ? Value(value->ip.to_string()) : std::nullopt;
}
Value address_port(const std::optional<base::SocketAddr>& value) {
  return value ? number(value->port) : std::nullopt;
}

Value millis(base::TimePoint from, const std::optional<base::TimePoint>& to) {
  if (!to) return std::nullopt;
  return number(static_cast<uint64_t>(
      std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(*to - from).count())));
}

Value header(const wire::Headers& headers, std::string_view name) {
  std::string out;
  bool found = false;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    if (found) out += ',';
    out += value;
    found = true;
  }
  return found ? Value(std::move(out)) : std::nullopt;
}

// ":path" before a rewrite lives beside the headers.
Value request_header(const RequestRecord& record, std::string_view name) {
  if (name == "x-envoy-original-path" && !record.original_path.empty()) return record.original_path;
  if (name == ":method" && !record.request.empty()) return std::string(conn::shown_method(record.request));
  return header(record.request, name);
}

std::string_view version_text(conn::HttpVersion version) {
  switch (version) {
    case conn::HttpVersion::k10: return "HTTP/1.0";
    case conn::HttpVersion::k11: return "HTTP/1.1";
    case conn::HttpVersion::k2: return "HTTP/2";
  }
  return "-";
}

std::string format_time(base::WallTime time, const std::string& format) {
  auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time - seconds).count();
  if (format.empty()) return base::format_rfc3339(time, 3);
  // %f, %1f to %9f are fractions of a second, %s seconds since the epoch; the rest is strftime's.
  std::string prepared;
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 >= format.size()) {
      prepared += format[at];
      continue;
    }
    char next = format[at + 1];
    bool digits = next >= '1' && next <= '9' && at + 2 < format.size() && format[at + 2] == 'f';
    if (next == 'f' || digits) {
      prepared += fmt::format("{:09}", nanos).substr(0, digits ? static_cast<size_t>(next - '0') : 9);
      at += digits ? 2 : 1;
    } else if (next == 's') {
      prepared += std::to_string(seconds.time_since_epoch().count());
      ++at;
    } else {
      prepared += '%';
      prepared += next;
      ++at;
    }
  }
  std::time_t raw = seconds.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&raw, &parts);
  char buffer[512];
  size_t count = std::strftime(buffer, sizeof buffer, prepared.c_str(), &parts);
  return std::string(buffer, count);
}

Value grpc_status(const RequestRecord& record, std::string_view style) {
  if (!record.grpc) return std::nullopt;
  Value text = header(record.response_trailers, "grpc-status");
  if (!text) text = header(record.response, "grpc-status");
  if (!text || style == "NUMBER") return text;
  static constexpr const char* kCamel[] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  static constexpr const char* kSnake[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  unsigned code = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), code);
  if (error != std::errc{} || end != text->data() + text->size() || code >= std::size(kCamel)) return text;
  return std::string(style == "SNAKE_STRING" ? kSnake[code] : kCamel[code]);
}

// One point of %COMMON_DURATION(a:b)%.
std::optional<base::TimePoint> moment(const RequestTimes& times, std::string_view name) {
  if (name == "DS_RX_BEG") return times.start;
  if (name == "DS_RX_END") return times.request_in;
  if (name == "US_TX_BEG") return times.request_out;
  if (name == "US_TX_END") return times.request_sent;
  if (name == "US_RX_BEG") return times.response_in;
  if (name == "DS_TX_END" || name == "US_RX_END") return times.end;
  return std::nullopt;
}

bool known_moment(std::string_view name) {
  for (std::string_view known :
       {"DS_RX_BEG", "DS_RX_END", "US_TX_BEG", "US_TX_END", "US_RX_BEG", "US_RX_END", "DS_TX_END"}) {
    if (name == known) return true;
  }
  return false;
}

Result<Getter> common_duration(std::string_view argument) {
  std::string text(argument);
  size_t first = text.find(':'), second = text.find(':', first == text.npos ? text.npos : first + 1);
  if (first == text.npos) return fail(Code::kInvalid, "%COMMON_DURATION% needs (from:to:precision)");
  std::string from = text.substr(0, first);
  std::string to = text.substr(first + 1, second == text.npos ? text.npos : second - first - 1);
  std::string precision = second == text.npos ? "ms" : text.substr(second + 1);
  if (!known_moment(from) || !known_moment(to)) {
    return fail(Code::kInvalid, "%COMMON_DURATION(" + text +
                                    ")%: times are DS_RX_BEG, DS_RX_END, US_TX_BEG, "
                                    "US_TX_END, US_RX_BEG, US_RX_END, DS_TX_END");
  }
  int64_t unit = precision == "ns" ? 1 : precision == "us" ? 1000 : precision == "ms" ? 1000000 : 0;
  if (unit == 0) return fail(Code::kInvalid, "%COMMON_DURATION% measures in ms, us or ns");
  return Getter([from, to, unit](const RequestRecord& record) -> Value {
    auto begin = moment(record.times, from), end = moment(record.times, to);
    if (!begin || !end) return std::nullopt;
    return std::to_string((*end - *begin).count() / unit);
  });
}

struct Simple {
  std::string_view name;
  bool numeric;
  Value (*get)(const RequestRecord&);
};

// Operators without arguments.
const Simple kSimple[] = {
    {"RESPONSE_CODE", true, [](const RequestRecord& r) { return number(r.status); }},
    {"RESPONSE_CODE_DETAILS", false, [](const RequestRecord& r) { return nonempty(r.details); }},
    {"RESPONSE_FLAGS", false, [](const RequestRecord& r) -> Value { return r.flags.short_text(); }},
    {"RESPONSE_FLAGS_LONG", false, [](const RequestRecord& r) -> Value { return r.flags.long_text(); }},
    {"CONNECTION_TERMINATION_DETAILS", false, [](const RequestRecord& r) { return nonempty(r.termination); }},
    {"PROTOCOL", false,
     [](const RequestRecord& r) -> Value {
       if (r.tcp) return std::nullopt;
       return std::string(version_text(r.version));
     }},
    {"UPSTREAM_PROTOCOL", false,
     [](const RequestRecord& r) -> Value {
       if (r.tcp || !r.upstream) return std::nullopt;
       return std::string(version_text(r.upstream_version));
     }},
    {"BYTES_RECEIVED", true, [](const RequestRecord& r) { return number(r.counts.body_bytes_in); }},
    {"BYTES_SENT", true, [](const RequestRecord& r) { return number(r.counts.body_bytes_out); }},
    {"REQUEST_HEADERS_BYTES", true, [](const RequestRecord& r) { return number(r.counts.header_bytes_in); }},
    {"RESPONSE_HEADERS_BYTES", true,
     [](const RequestRecord& r) { return number(r.counts.header_bytes_out); }},
    {"RESPONSE_TRAILERS_BYTES", true,
     [](const RequestRecord& r) {
       uint64_t bytes = 0;
       for (const auto& [name, value] : r.response_trailers) bytes += name.size() + value.size();
       return number(bytes);
     }},
    {"DOWNSTREAM_WIRE_BYTES_RECEIVED", true,
     [](const RequestRecord& r) { return number(r.counts.wire_bytes_in); }},
    {"DOWNSTREAM_WIRE_BYTES_SENT", true,
     [](const RequestRecord& r) { return number(r.counts.wire_bytes_out); }},
    {"UPSTREAM_WIRE_BYTES_SENT", true, [](const RequestRecord& r) { return number(r.upstream_bytes_sent); }},
    {"UPSTREAM_WIRE_BYTES_RECEIVED", true,
     [](const RequestRecord& r) { return number(r.upstream_bytes_received); }},
    {"DURATION", true, [](const RequestRecord& r) { return millis(r.times.start, r.times.end); }},
    {"REQUEST_DURATION", true,
     [](const RequestRecord& r) { return millis(r.times.start, r.times.request_in); }},
    {"REQUEST_TX_DURATION", true,
     [](const RequestRecord& r) { return millis(r.times.start, r.times.request_sent); }},
    {"RESPONSE_DURATION", true,
     [](const RequestRecord& r) { return millis(r.times.start, r.times.response_in); }},
    {"RESPONSE_TX_DURATION", true,
     [](const RequestRecord& r) -> Value {
       if (!r.times.response_in) return std::nullopt;
       return millis(*r.times.response_in, r.times.end);
     }},
    {"UPSTREAM_HOST", false, [](const RequestRecord& r) { return address(r.upstream_address); }},
    {"UPSTREAM_HOST_NAME", false,
     [](const RequestRecord& r) -> Value {
       if (r.upstream && !r.upstream->name.empty()) return r.upstream->name.str();
       return address(r.upstream_address);
     }},
    {"UPSTREAM_REMOTE_ADDRESS", false, [](const RequestRecord& r) { return address(r.upstream_address); }},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", false,
     [](const RequestRecord& r) { return address_ip(r.upstream_address); }},
    {"UPSTREAM_REMOTE_PORT", true, [](const RequestRecord& r) { return address_port(r.upstream_address); }},
    {"UPSTREAM_LOCAL_ADDRESS", false, [](const RequestRecord& r) { return address(r.upstream_local); }},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false,
     [](const RequestRecord& r) { return address_ip(r.upstream_local); }},
    {"UPSTREAM_LOCAL_PORT", true, [](const RequestRecord& r) { return address_port(r.upstream_local); }},
    {"UPSTREAM_CLUSTER", false, [](const RequestRecord& r) { return nonempty(r.cluster); }},
    {"UPSTREAM_CLUSTER_RAW", false, [](const RequestRecord& r) { return nonempty(r.cluster); }},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", true, [](const RequestRecord& r) { return number(r.attempts); }},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", false,
     [](const RequestRecord& r) { return nonempty(r.upstream_failure); }},
    {"DOWNSTREAM_REMOTE_ADDRESS", false,
     [](const RequestRecord& r) -> Value { return r.client->address.to_string(); }},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", false,
     [](const RequestRecord& r) -> Value { return r.client->address.ip.to_string(); }},
    {"DOWNSTREAM_REMOTE_PORT", true, [](const RequestRecord& r) { return number(r.client->address.port); }},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", false,
     [](const RequestRecord& r) -> Value { return r.client->address.to_string(); }},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", false,
     [](const RequestRecord& r) -> Value { return r.client->address.ip.to_string(); }},
    {"DOWNSTREAM_LOCAL_ADDRESS", false,
     [](const RequestRecord& r) -> Value { return r.client->addressed.dialled.to_string(); }},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false,
     [](const RequestRecord& r) -> Value { return r.client->addressed.dialled.ip.to_string(); }},
    {"DOWNSTREAM_LOCAL_PORT", true,
     [](const RequestRecord& r) { return number(r.client->addressed.dialled.port); }},
    {"DOWNSTREAM_PEER_URI_SAN", false,
     [](const RequestRecord& r) -> Value { return r.client->identity.to_string(); }},
    {"DOWNSTREAM_TLS_VERSION", false, [](const RequestRecord&) -> Value { return "TLSv1.3"; }},
    {"UPSTREAM_PEER_URI_SAN", false,
     [](const RequestRecord& r) -> Value {
       if (!r.upstream || !r.upstream_tls) return std::nullopt;
       return r.upstream->identity().to_string();
     }},
    {"REQUESTED_SERVER_NAME", false, [](const RequestRecord& r) { return nonempty(r.sni); }},
    {"ROUTE_NAME", false, [](const RequestRecord& r) { return nonempty(r.route_name); }},
    {"VIRTUAL_CLUSTER_NAME", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"GRPC_STATUS_NUMBER", true, [](const RequestRecord& r) { return grpc_status(r, "NUMBER"); }},
    {"CONNECTION_ID", true, [](const RequestRecord& r) { return number(r.client->connection_id); }},
    // As upstream has it, the request's id.
    {"STREAM_ID", false, [](const RequestRecord& r) { return header(r.request, "x-request-id"); }},
    {"UNIQUE_ID", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"TRACE_ID", false,
     [](const RequestRecord& r) { return r.trace ? Value(r.trace->context.trace_id) : std::nullopt; }},
    {"FILTER_CHAIN_NAME", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"ACCESS_LOG_TYPE", false,
     [](const RequestRecord& r) -> Value { return r.tcp ? "TcpConnectionEnd" : "DownstreamEnd"; }},
    {"DOWNSTREAM_LOCAL_URI_SAN", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"DOWNSTREAM_PEER_SUBJECT", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"DOWNSTREAM_TLS_CIPHER", false, [](const RequestRecord&) -> Value { return std::nullopt; }},
    {"HOSTNAME", false,
     [](const RequestRecord&) -> Value {
       const char* name = std::getenv("HOSTNAME");
       return name ? Value(name) : std::nullopt;
     }},
};

struct Op {
  std::string literal;
  Getter get;  // null: literal
  bool numeric = false;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

// "X?Y" of %REQ(X?Y):Z%.
Getter header_getter(const std::string& which, std::string argument, size_t limit) {
  size_t question = argument.find('?');
  std::string first = lower(argument.substr(0, question));
  std::string second = question == std::string::npos ? "" : lower(argument.substr(question + 1));
  bool strip = which == "REQ_WITHOUT_QUERY";
  return [=](const RequestRecord& record) -> Value {
    auto find = [&](const std::string& name) -> Value {
      if (which == "RESP") return header(record.response, name);
      if (which == "TRAILER") return header(record.response_trailers, name);
      return request_header(record, name);
    };
    Value value = find(first);
    if (!value && !second.empty()) value = find(second);
    if (value && strip) value = value->substr(0, value->find('?'));
    if (value && limit > 0 && value->size() > limit) value->resize(limit);
    return value;
  };
}

Result<Op> compile_operator(const std::string& text) {
  Op op;
  std::string name = text, argument, tail;
  if (size_t open = text.find('('); open != std::string::npos) {
    size_t close = text.rfind(')');
    if (close == std::string::npos || close < open) {
      return fail(Code::kInvalid, "%" + text + "%: the bracket is not closed");
    }
    name = text.substr(0, open);
    argument = text.substr(open + 1, close - open - 1);
    tail = text.substr(close + 1);
  }
  size_t limit = 0;
  if (tail.starts_with(':')) {
    auto [end, error] = std::from_chars(tail.data() + 1, tail.data() + tail.size(), limit);
    if (error != std::errc{} || end != tail.data() + tail.size()) {
      return fail(Code::kInvalid, "%" + text + "%: \"" + tail + "\" is no length");
    }
  } else if (!tail.empty()) {
    return fail(Code::kInvalid, "%" + text + "%: nothing may follow the bracket but :LENGTH");
  }
  if (name == "REQ" || name == "RESP" || name == "TRAILER" || name == "REQ_WITHOUT_QUERY") {
    if (argument.empty()) return fail(Code::kInvalid, "%" + name + "% needs a header name in brackets");
    op.get = header_getter(name, argument, limit);
    return op;
  }
  if (name == "START_TIME" || name == "START_TIME_LOCAL" || name == "EMIT_TIME") {
    bool emit = name == "EMIT_TIME";
    op.get = [argument, emit](const RequestRecord& r) -> Value {
      auto passed = emit && r.times.end ? *r.times.end - r.times.start : base::Duration(0);
      return format_time(r.times.start_wall + passed, argument);
    };
    return op;
  }
  if (name == "GRPC_STATUS") {
    std::string style = argument.empty() ? "CAMEL_STRING" : argument;
    if (style != "CAMEL_STRING" && style != "SNAKE_STRING" && style != "NUMBER") {
      return fail(Code::kInvalid, "%" + text + "%: the form is CAMEL_STRING, SNAKE_STRING or NUMBER");
    }
    op.get = [style](const RequestRecord& r) { return grpc_status(r, style); };
    return op;
  }
  if (name == "COMMON_DURATION") {
    auto getter = common_duration(argument);
    if (!getter) return fail(std::move(getter).error());
    op.get = std::move(*getter);
    op.numeric = true;
    return op;
  }
  if (name == "ENVIRONMENT") {
    const char* value = std::getenv(argument.c_str());
    Value fixed = value ? Value(value) : std::nullopt;
    op.get = [fixed](const RequestRecord&) { return fixed; };
    return op;
  }
  // What no filter of ours writes is a dash.
  if (name == "FILTER_STATE" || name == "DYNAMIC_METADATA" || name == "CEL") {
    bool peer = name == "FILTER_STATE" && argument.starts_with("io.istio.peer_principal");
    op.get = [peer](const RequestRecord& r) -> Value {
      return peer ? Value(r.client->identity.to_string()) : std::nullopt;
    };
    return op;
  }
  for (const Simple& simple : kSimple) {
    if (simple.name != name) continue;
    op.get = simple.get;
    op.numeric = simple.numeric;
    return op;
  }
  return fail(Code::kInvalid, "access log format: operator %" + text + "% is not known");
}

Result<std::vector<Op>> compile(std::string_view format) {
  std::vector<Op> ops;
  std::string literal;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%') {
      literal += format[at++];
      continue;
    }
    if (format.substr(at).starts_with("%%")) {
      literal += '%';
      at += 2;
      continue;
    }
    // An operator ends at the '%' outside its bracket.
    int depth = 0;
    size_t end = at + 1;
    for (; end < format.size() && (format[end] != '%' || depth > 0); ++end) {
      if (format[end] == '(') ++depth;
      if (format[end] == ')') --depth;
    }
    if (end >= format.size()) {
      return fail(Code::kInvalid, fmt::format("access log format: the % at character {} has no end", at + 1));
    }
    auto op = compile_operator(std::string(format.substr(at + 1, end - at - 1)));
    if (!op) return fail(std::move(op).error());
    if (!literal.empty()) ops.push_back({std::exchange(literal, {}), nullptr, false});
    ops.push_back(std::move(*op));
    at = end + 1;
  }
  if (!literal.empty()) ops.push_back({std::move(literal), nullptr, false});
  return ops;
}

// The bytes of the character that `text`, which starts with a byte above 127, begins with; 0 for broken UTF-8
// (RFC 3629 section 4: neither too long nor a surrogate) and for the control characters C1.
size_t utf8_length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(0);
  size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  bool second_low = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  bool second_high = (first == 0xed && byte(1) > 0x9f) || (first == 0xf4 && byte(1) > 0x8f);
  bool control = first == 0xc2 && byte(1) < 0xa0;
  return second_low || second_high || control ? 0 : length;
}

// What a peer sent must not forge lines: quotes, backslashes, control bytes and broken UTF-8 are escaped.
void append_escaped(std::string& out, std::string_view value) {
  for (size_t at = 0; at < value.size(); ++at) {
    unsigned char c = static_cast<unsigned char>(value[at]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (size_t length = utf8_length(value.substr(at)); length > 0) {
      out.append(value.substr(at, length));
      at += length - 1;
    } else {
      out += fmt::format("\\x{:02x}", c);
    }
  }
}

std::string run(const std::vector<Op>& ops, const RequestRecord& record, bool escape) {
  std::string out;
  for (const Op& op : ops) {
    if (!op.get) {
      out += op.literal;
      continue;
    }
    Value value = op.get(record);
    if (!value) {
      out += '-';
    } else if (escape) {
      append_escaped(out, *value);
    } else {
      out += *value;
    }
  }
  return out;
}

}  // namespace

struct LogFormat::Program {
  std::vector<Op> ops;
  // JSON: a template whose strings are indices into `fields`.
  bool json = false;
  nlohmann::ordered_json shape;
  std::vector<std::vector<Op>> fields;
};

namespace {

constexpr size_t kJsonDepthMax = 16;  // of objects in objects

Result<nlohmann::ordered_json> compile_json(const nlohmann::ordered_json& node,
                                            std::vector<std::vector<Op>>& fields, size_t depth = 1) {
  if (node.is_string()) {
    auto ops = compile(node.get_ref<const std::string&>());
    if (!ops) return fail(std::move(ops).error());
    fields.push_back(std::move(*ops));
    return nlohmann::ordered_json(fields.size() - 1);
  }
  if (!node.is_object()) {
    return fail(Code::kInvalid, "access log format: a JSON format holds strings and objects only");
  }
  if (depth > kJsonDepthMax) return fail(Code::kInvalid, "access log format: nested too deeply");
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [key, value] : node.items()) {
    auto compiled = compile_json(value, fields, depth + 1);
    if (!compiled) return compiled;
    out[key] = std::move(*compiled);
  }
  return out;
}

nlohmann::ordered_json run_json(const nlohmann::ordered_json& shape,
                                const std::vector<std::vector<Op>>& fields, const RequestRecord& record) {
  if (shape.is_object()) {
    nlohmann::ordered_json out = nlohmann::ordered_json::object();
    for (const auto& [key, value] : shape.items()) out[key] = run_json(value, fields, record);
    return out;
  }
  const std::vector<Op>& ops = fields[shape.get<size_t>()];
  if (ops.size() != 1 || !ops.front().get) return run(ops, record, false);
  Value value = ops.front().get(record);
  if (!value) return nullptr;
  if (!ops.front().numeric) return *value;
  int64_t parsed = 0;
  auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), parsed);
  if (error != std::errc{} || end != value->data() + value->size()) return *value;
  return parsed;
}

}  // namespace

Result<LogFormat> LogFormat::text(std::string_view format) {
  auto ops = compile(format);
  if (!ops) return fail(std::move(ops).error());
  auto program = std::make_shared<Program>();
  program->ops = std::move(*ops);
  return LogFormat(std::move(program));
}

Result<LogFormat> LogFormat::json(std::string_view object) {
  nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(object, nullptr, false);
  if (!parsed.is_object()) return fail(Code::kInvalid, "access log format: not a JSON object");
  auto program = std::make_shared<Program>();
  program->json = true;
  auto shape = compile_json(parsed, program->fields);
  if (!shape) return fail(std::move(shape).error());
  program->shape = std::move(*shape);
  return LogFormat(std::move(program));
}

std::string LogFormat::line(const RequestRecord& record) const {
  std::string out;
  if (program_->json) {
    out = run_json(program_->shape, program_->fields, record)
              .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  } else {
    out = run(program_->ops, record, true);
  }
  if (!out.ends_with('\n')) out += '\n';
  return out;
}

std::string LogFormat::value(const RequestRecord& record) const { return run(program_->ops, record, false); }

std::string_view LogFormat::default_text() {
  return "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
         "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
         "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
         "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
         "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
         "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
         "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";
}

std::string_view LogFormat::default_json() {
  return R"({"start_time":"%START_TIME%","route_name":"%ROUTE_NAME%","method":"%REQ(:METHOD)%",
"path":"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%","protocol":"%PROTOCOL%","response_code":"%RESPONSE_CODE%",
"response_flags":"%RESPONSE_FLAGS%","response_code_details":"%RESPONSE_CODE_DETAILS%",
"connection_termination_details":"%CONNECTION_TERMINATION_DETAILS%","bytes_received":"%BYTES_RECEIVED%",
"bytes_sent":"%BYTES_SENT%","duration":"%DURATION%",
"upstream_service_time":"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%","x_forwarded_for":"%REQ(X-FORWARDED-FOR)%",
"user_agent":"%REQ(USER-AGENT)%","request_id":"%REQ(X-REQUEST-ID)%","authority":"%REQ(:AUTHORITY)%",
"upstream_host":"%UPSTREAM_HOST%","upstream_cluster":"%UPSTREAM_CLUSTER_RAW%",
"upstream_local_address":"%UPSTREAM_LOCAL_ADDRESS%","downstream_local_address":"%DOWNSTREAM_LOCAL_ADDRESS%",
"downstream_remote_address":"%DOWNSTREAM_REMOTE_ADDRESS%","requested_server_name":"%REQUESTED_SERVER_NAME%",
"upstream_transport_failure_reason":"%UPSTREAM_TRANSPORT_FAILURE_REASON%"})";
}

}  // namespace culvert::waypoint
