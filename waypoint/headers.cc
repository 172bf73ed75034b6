// SPDX-License-Identifier: Apache-2.0
#include "waypoint/headers.h"

#include <algorithm>
#include <charconv>

namespace culvert::waypoint {

namespace {

// Only a proxy of the mesh may have said these; a client's are forged.
constexpr std::string_view kInternal[] = {
    "x-forwarded-client-cert",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "x-envoy-internal",
    "x-envoy-external-address",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-istio-attributes",
    "x-istio-source",
    "x-envoy-decorator-operation",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
};
constexpr std::string_view kHints[] = {
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
};
constexpr std::string_view kResponseInternal[] = {
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-istio-attributes",
    "x-envoy-decorator-operation",
    "keep-alive",
    "proxy-connection",
};

template <size_t N>
void erase_all(wire::Headers& headers, const std::string_view (&names)[N]) {
  std::erase_if(headers, [&](const auto& header) {
    return std::find(std::begin(names), std::end(names), header.first) != std::end(names);
  });
}

}  // namespace

const std::string* header_of(const wire::Headers& headers, std::string_view name) {
  return wire::find_header(headers, name);
}

void drop_header(wire::Headers& headers, std::string_view name) {
  std::erase_if(headers, [&](const auto& header) { return header.first == name; });
}

void set_header(wire::Headers& headers, std::string_view name, std::string value) {
  bool first = true;
  for (auto at = headers.begin(); at != headers.end();) {
    if (at->first != name) {
      ++at;
    } else if (first) {
      at->second = value;
      first = false;
      ++at;
    } else {
      at = headers.erase(at);
    }
  }
  if (first) headers.emplace_back(std::string(name), std::move(value));
}

void strip_request(wire::Headers& request, bool keep_hints) {
  erase_all(request, kInternal);
  if (!keep_hints) erase_all(request, kHints);
}

namespace {

template <class T>
std::optional<T> decimal(std::string_view text) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

uint16_t status_of(const wire::Headers& response) {
  const std::string* text = header_of(response, ":status");
  return text ? decimal<uint16_t>(*text).value_or(0) : 0;
}

std::optional<uint32_t> grpc_status_in(const wire::Headers& headers) {
  const std::string* text = header_of(headers, "grpc-status");
  return text ? decimal<uint32_t>(*text) : std::nullopt;
}

std::optional<base::Duration> grpc_timeout(const wire::Headers& request) {
  const std::string* text = header_of(request, "grpc-timeout");
  if (!text || text->size() < 2 || text->size() > 9) return std::nullopt;
  std::optional<uint32_t> count = decimal<uint32_t>(std::string_view(*text).substr(0, text->size() - 1));
  if (!count) return std::nullopt;
  switch (text->back()) {
    case 'H': return std::chrono::hours(*count);
    case 'M': return std::chrono::minutes(*count);
    case 'S': return std::chrono::seconds(*count);
    case 'm': return std::chrono::milliseconds(*count);
    case 'u': return std::chrono::microseconds(*count);
    case 'n': return std::chrono::nanoseconds(*count);
    default: return std::nullopt;
  }
}

void strip_response(wire::Headers& response) { erase_all(response, kResponseInternal); }

void apply(const model::HeaderEdits& edits, const ValueFormat& format, wire::Headers& headers) {
  for (const auto& [name, value] : edits.set) {
    // "host" stands for the authority; other pseudo-headers are not to be touched.
    std::string_view key = name == "host" ? std::string_view(":authority") : std::string_view(name);
    if (key.starts_with(':') && key != ":authority") continue;
    set_header(headers, key, format(value));
  }
  for (const auto& [name, value] : edits.add) {
    if (!name.starts_with(':') && name != "host") headers.emplace_back(name, format(value));
  }
  for (const std::string& name : edits.remove) {
    if (!name.starts_with(':') && name != "host") drop_header(headers, name);
  }
}

}  // namespace culvert::waypoint
