// SPDX-License-Identifier: Apache-2.0
#include "mesh/hbone/connect_headers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace culvert::hbone {

namespace {

using base::Code;

bool is_token_byte(char c) {
  // What may stand in a baggage value as it is (RFC 7230 visible ASCII without , ; \ " and %).
  return c > 0x20 && c < 0x7f && c != ',' && c != ';' && c != '\\' && c != '"' && c != '%' && c != '=';
}

void put(std::string& out, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  if (!out.empty()) out += ',';
  out.append(key).append("=");
  for (char c : value) {
    if (is_token_byte(c)) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '%' && at + 2 < text.size()) {
      int high = hex_digit(text[at + 1]);
      int low = hex_digit(text[at + 2]);
      if (high >= 0 && low >= 0) {
        out += static_cast<char>(high * 16 + low);
        at += 2;
        continue;
      }
    }
    out += text[at];
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

void read_member(Baggage& baggage, std::string_view member) {
  member = member.substr(0, member.find(';'));  // properties are not ours
  size_t equals = member.find('=');
  if (equals == std::string_view::npos) return;
  std::string_view key = trimmed(member.substr(0, equals));
  std::string value = percent_decoded(trimmed(member.substr(equals + 1)));
  if (key == "k8s.cluster.name")
    baggage.cluster = std::move(value);
  else if (key == "k8s.namespace.name")
    baggage.ns = std::move(value);
  else if (key == "service.name")
    baggage.service_name = std::move(value);
  else if (key == "service.version")
    baggage.revision = std::move(value);
  else if (key == "cloud.region")
    baggage.region = std::move(value);
  else if (key == "cloud.availability_zone")
    baggage.zone = std::move(value);
  else {
    for (std::string_view type : {"deployment", "cronjob", "pod", "job"}) {
      if (key.size() != type.size() + 9 || !key.starts_with("k8s.") || !key.ends_with(".name") ||
          key.substr(4, type.size()) != type)
        continue;
      baggage.workload_type = value.empty() ? std::string() : std::string(type);
      baggage.workload_name = std::move(value);
      return;
    }
  }
}

bool all_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool all_zero(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

bool is_host_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '*';
}

}  // namespace

Baggage Baggage::of(const model::Workload& workload) {
  Baggage baggage;
  baggage.cluster = workload.cluster_id.str();
  baggage.ns = workload.ns.str();
  baggage.workload_type = std::string(model::to_string(workload.type));
  baggage.workload_name = workload.workload_name.str();
  baggage.service_name = workload.canonical_name.str();
  baggage.revision = workload.canonical_revision.str();
  baggage.region = workload.locality.region.str();
  baggage.zone = workload.locality.zone.str();
  return baggage;
}

std::string format_baggage(const Baggage& baggage) {
  std::string out;
  put(out, "k8s.cluster.name", baggage.cluster);
  put(out, "k8s.namespace.name", baggage.ns);
  std::string_view type =
      baggage.workload_type.empty() ? "deployment" : std::string_view(baggage.workload_type);
  put(out, fmt::format("k8s.{}.name", type), baggage.workload_name);
  put(out, "service.name", baggage.service_name);
  put(out, "service.version", baggage.revision);
  put(out, "cloud.region", baggage.region);
  put(out, "cloud.availability_zone", baggage.zone);
  return out;
}

Baggage parse_baggage(std::span<const std::string_view> lines) {
  Baggage baggage;
  for (std::string_view line : lines) {
    if (line.size() > kHeaderValueMax) continue;
    while (!line.empty()) {
      size_t comma = line.find(',');
      read_member(baggage, line.substr(0, comma));
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
  }
  return baggage;
}

std::string format_forwarded(const base::SocketAddr& source, std::string_view host) {
  std::string out = fmt::format("for=\"{}\"", source.to_string());
  if (!host.empty()) out.append(";host=").append(host);
  return out;
}

std::optional<std::string> parse_forwarded_host(std::string_view header) {
  if (header.size() > kHeaderValueMax) return std::nullopt;
  bool ascii = std::all_of(header.begin(), header.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!ascii) return std::nullopt;
  while (!header.empty()) {
    size_t semicolon = header.find(';');
    std::string_view part = trimmed(header.substr(0, semicolon));
    if (part.starts_with("host=")) {
      part.remove_prefix(5);
      while (part.starts_with('"')) part.remove_prefix(1);
      while (part.ends_with('"')) part.remove_suffix(1);
      if (part.empty()) return std::nullopt;
      return std::string(part);
    }
    if (semicolon == std::string_view::npos) break;
    header.remove_prefix(semicolon + 1);
  }
  return std::nullopt;
}

std::string make_traceparent(base::Rng& rng) {
  uint64_t high = rng.next();
  uint64_t low = rng.next() | 1;  // an id must not be all zero
  uint64_t parent = rng.next() | 1;
  return fmt::format("00-{:016x}{:016x}-{:016x}-00", high, low, parent);
}

bool valid_traceparent(std::string_view text) {
  if (text.size() != 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  std::string_view version = text.substr(0, 2), trace = text.substr(3, 32), parent = text.substr(36, 16);
  return all_hex(version) && version != "ff" && all_hex(trace) && !all_zero(trace) && all_hex(parent) &&
         !all_zero(parent) && all_hex(text.substr(53));
}

base::Result<Authority> parse_authority(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return base::fail(Code::kInvalid, fmt::format("authority \"{}\": {}", text.substr(0, 300), why));
  };
  if (auto address = base::SocketAddr::parse(text)) {
    if (address->port == 0) return bad("port 0");
    return Authority(*address);
  }
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad("expected ip:port or host:port");
  std::string_view host = text.substr(0, colon);
  if (host.size() > 253) return bad("host name longer than 253 bytes");
  if (!std::all_of(host.begin(), host.end(), is_host_byte)) return bad("not a host name");
  auto port = base::parse_port(text.substr(colon + 1));
  if (!port || *port == 0) return bad("expected a port from 1 to 65535");
  return Authority(HostPort{std::string(host), *port});
}

std::string to_string(const Authority& authority) {
  if (const auto* address = std::get_if<base::SocketAddr>(&authority)) return address->to_string();
  const HostPort& host = std::get<HostPort>(authority);
  return fmt::format("{}:{}", host.host, host.port);
}

HeaderList ConnectRequest::to_headers() const {
  HeaderList headers{{":method", "CONNECT"}, {":authority", authority}};
  if (std::string text = format_baggage(baggage); !text.empty())
    headers.emplace_back("baggage", std::move(text));
  headers.emplace_back("forwarded", format_forwarded(source, service_hostname));
  headers.emplace_back("traceparent", traceparent);
  return headers;
}

base::Result<ParsedConnect> parse_connect(const HeaderList& headers) {
  ParsedConnect parsed;
  std::string_view method, authority;
  std::vector<std::string_view> baggage_lines;
  for (const auto& [name, value] : headers) {
    if (name == ":method")
      method = value;
    else if (name == ":authority")
      authority = value;
    else if (name == "baggage")
      baggage_lines.push_back(value);
    else if (name == "forwarded" && !parsed.forwarded_host)
      parsed.forwarded_host = parse_forwarded_host(value);
    else if (name == "traceparent" && valid_traceparent(value))
      parsed.traceparent = value;
    else if (name == "x-forwarded-network" && value.size() <= kHeaderValueMax)
      parsed.forwarded_network = value;
  }
  if (method != "CONNECT") {
    return base::fail(Code::kInvalid, fmt::format("method \"{}\" is not CONNECT", method.substr(0, 32)));
  }
  auto target = parse_authority(authority);
  if (!target) return base::fail(std::move(target).error());
  parsed.authority = std::move(*target);
  parsed.authority_text = std::string(authority);
  parsed.baggage = parse_baggage(baggage_lines);
  return parsed;
}

Baggage response_baggage(const HeaderList& headers) {
  std::vector<std::string_view> lines;
  for (const auto& [name, value] : headers) {
    if (name == "baggage") lines.push_back(value);
  }
  return parse_baggage(lines);
}

}  // namespace culvert::hbone
