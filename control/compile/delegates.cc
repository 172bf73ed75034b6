// SPDX-License-Identifier: Apache-2.0
#include "control/compile/delegates.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace culvert::control {

namespace {

using Vs = kube::VirtualService;
using kube::StringMatch;
using Kind = StringMatch::Kind;
using Matches = std::map<std::string, StringMatch>;

bool same_char(char a, char b, bool ignore_case) {
  if (!ignore_case) return a == b;
  return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
}

bool begins_with(const std::string& text, const std::string& prefix, bool ignore_case) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(),
                    [&](char a, char b) { return same_char(a, b, ignore_case); });
}

// Whether every text that `leaf` takes is taken by `root`. Of two regexes only equal ones are known to be.
bool within(const StringMatch& leaf, const StringMatch& root, bool ignore_case) {
  if (root.kind == Kind::kPresent || leaf == root) return true;
  if (root.kind == Kind::kPrefix && (leaf.kind == Kind::kPrefix || leaf.kind == Kind::kExact)) {
    return begins_with(leaf.value, root.value, ignore_case);
  }
  return root.kind == Kind::kExact && leaf.kind == Kind::kExact && leaf.value.size() == root.value.size() &&
         begins_with(leaf.value, root.value, ignore_case);
}

// False: they contradict. Otherwise `into` is what both ask for.
bool narrow_text(const StringMatch& root, StringMatch& into, bool ignore_case = false) {
  if (into.kind == Kind::kPresent) into = root;
  return within(into, root, ignore_case);
}

bool narrow_text(const std::optional<StringMatch>& root, std::optional<StringMatch>& into,
                 bool ignore_case = false) {
  if (!into) into = root;
  return !root || narrow_text(*root, *into, ignore_case);
}

// Of headers the regex "*" is presence.
StringMatch plain(const StringMatch& match) {
  return match.kind == Kind::kRegex && match.value == "*" ? StringMatch{Kind::kPresent, ""} : match;
}

bool narrow_all(const Matches& root, Matches& into) {
  return std::all_of(root.begin(), root.end(), [&](const auto& entry) {
    auto [at, added] = into.emplace(entry);
    if (added) return true;
    at->second = plain(at->second);
    return narrow_text(plain(entry.second), at->second);
  });
}

// What must not be there: a narrower condition here takes more requests, so only the same one agrees.
template <class Map>
bool unite(const Map& root, Map& into) {
  return std::all_of(root.begin(), root.end(), [&](const auto& entry) {
    auto [at, added] = into.emplace(entry);
    return added || at->second == entry.second;
  });
}

}  // namespace

bool forwards(const Vs::HttpRoute& route) { return !route.redirect && !route.direct_response; }

std::optional<Vs::HttpMatch> narrow_match(const Vs::HttpMatch& root, const Vs::HttpMatch& leaf) {
  Vs::HttpMatch out = leaf;
  if (root.uri && leaf.uri && root.ignore_uri_case != leaf.ignore_uri_case) return std::nullopt;
  if (root.uri && !leaf.uri) out.ignore_uri_case = root.ignore_uri_case;
  bool agrees = narrow_text(root.uri, out.uri, out.ignore_uri_case) && narrow_text(root.scheme, out.scheme) &&
                narrow_text(root.method, out.method) && narrow_text(root.authority, out.authority) &&
                narrow_all(root.headers, out.headers) && narrow_all(root.query_params, out.query_params) &&
                unite(root.without_headers, out.without_headers) &&
                unite(root.source_labels, out.source_labels);
  if (!agrees) return std::nullopt;
  if (out.port == 0) out.port = root.port;
  if (root.port != 0 && out.port != root.port) return std::nullopt;
  if (out.source_namespace.empty()) out.source_namespace = root.source_namespace;
  if (!root.source_namespace.empty() && out.source_namespace != root.source_namespace) return std::nullopt;
  if (out.stat_prefix.empty()) out.stat_prefix = root.stat_prefix;
  if (out.name.empty() || root.name.empty()) {
    out.name += root.name;
  } else {
    out.name = root.name + "-" + out.name;
  }
  return out;
}

Vs::HttpRoute inherit_route(const Vs::HttpRoute& root, const Vs::HttpRoute& leaf) {
  Vs::HttpRoute out = leaf;
  if (out.name.empty() || root.name.empty()) {
    out.name += root.name;
  } else {
    out.name = root.name + "-" + out.name;
  }
  if (!out.cors) out.cors = root.cors;
  if (out.request_headers.empty() && out.response_headers.empty()) {
    out.request_headers = root.request_headers;
    out.response_headers = root.response_headers;
  }
  if (!forwards(leaf)) return out;
  if (!out.rewrite) out.rewrite = root.rewrite;
  if (!out.timeout) out.timeout = root.timeout;
  if (!out.retries) out.retries = root.retries;
  if (!out.delay && !out.abort) {
    out.delay = root.delay;
    out.abort = root.abort;
  }
  return out;
}

}  // namespace culvert::control
