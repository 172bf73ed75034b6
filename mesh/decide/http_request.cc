// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/http_request.h"

namespace culvert::decide {

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::optional<std::string> joined_header(HeaderSpan headers, std::string_view name) {
  std::optional<std::string> out;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    if (out) {
      out->append(",").append(value);
    } else {
      out = value;
    }
  }
  return out;
}

std::optional<std::string_view> query_parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    size_t equals = pair.find('=');
    if (pair.substr(0, equals) != name) continue;
    return equals == pair.npos ? std::string_view() : pair.substr(equals + 1);
  }
  return std::nullopt;
}

std::optional<std::string_view> cookie(HeaderSpan headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key != "cookie") continue;
    for (std::string_view rest = value; !rest.empty();) {
      std::string_view pair = rest.substr(0, rest.find(';'));
      rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
      size_t equals = pair.find('=');
      if (equals == pair.npos || trimmed(pair.substr(0, equals)) != name) continue;
      std::string_view found = trimmed(pair.substr(equals + 1));
      bool quoted = found.size() >= 2 && found.front() == '"' && found.back() == '"';
      return quoted ? found.substr(1, found.size() - 2) : found;
    }
  }
  return std::nullopt;
}

bool is_grpc(HeaderSpan headers) {
  constexpr std::string_view kType = "application/grpc";
  for (const auto& [key, value] : headers) {
    if (key != "content-type" || !value.starts_with(kType)) continue;
    return value.size() == kType.size() || value[kType.size()] == '+' || value[kType.size()] == ';';
  }
  return false;
}

base::IpAddr remote_address(HeaderSpan headers, uint32_t trusted, const base::IpAddr& source) {
  if (trusted == 0) return source;
  std::optional<std::string> list = joined_header(headers, "x-forwarded-for");
  if (!list) return source;
  std::string_view rest = *list;
  for (uint32_t hop = 1;; ++hop) {
    size_t comma = rest.rfind(',');
    std::string_view entry = trimmed(comma == rest.npos ? rest : rest.substr(comma + 1));
    if (hop == trusted) {
      base::Result<base::IpAddr> parsed = base::IpAddr::parse(entry);
      return parsed ? *parsed : source;
    }
    if (comma == rest.npos) return source;
    rest = rest.substr(0, comma);
  }
}

}  // namespace culvert::decide
