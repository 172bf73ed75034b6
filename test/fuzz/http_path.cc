// SPDX-License-Identifier: Apache-2.0
// Router against policy: what a route matches, a policy with the same words must match, or it could be walked
// around (spec waypoint section 7.1); and what the upstream makes of the path that we send must be the path
// that both have seen. Input: a byte for the normalisation, a pattern, a newline, a Host, a newline, a
// request target.
#include "mesh/decide/http_path.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mesh/decide/authorize_http.h"
#include "mesh/decide/match_route.h"

using namespace culvert;
using How = model::WaypointSettings::PathNormalization;
using model::TextMatch;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

std::string_view line(std::string_view& rest) {
  std::string_view out = rest.substr(0, rest.find('\n'));
  rest.remove_prefix(std::min(rest.size(), out.size() + 1));
  return out;
}

std::string normal(std::string_view target, How how) {
  auto path = decide::normalize_path(target, how);
  check(path.has_value());
  return path->path;
}

// What every normal path is, whatever it was before.
void check_form(const std::string& path, How how) {
  check(path.starts_with('/'));
  check(path.find('\\') == path.npos && path.find('?') == path.npos && path.find('#') == path.npos);
  std::string closed = path + "/";
  check(closed.find("/./") == path.npos && closed.find("/../") == path.npos);
  if (how != How::kBase) check(path.find("//") == path.npos);
  if (how == How::kDecodeAndMergeSlashes)
    check(path.find("%2F") == path.npos && path.find("%5C") == path.npos);
  check(normal(path, how) == path);
  // Letters may be spelled as triplets; it is the same path.
  static constexpr char kHex[] = "0123456789abcdef";
  std::string spelled;
  for (size_t i = 0; i < path.size(); ++i) {
    bool triplet = path[i] == '%';
    bool letter = (path[i] >= 'a' && path[i] <= 'z') || path[i] == '.';
    if (letter && i > 0) {
      spelled += '%';
      spelled += kHex[path[i] >> 4];
      spelled += kHex[path[i] & 15];
    } else {
      spelled += path[i];
    }
    if (triplet) {
      spelled += path.substr(i + 1, 2);
      i += 2;
    }
  }
  check(normal(spelled, how) == path);
}

// An upstream that decodes triplets (once, as RFC 3986 has it) and then looks for segments finds those that
// we have seen: no dots, no slashes and no backslashes come out of triplets, unless the mesh was told to
// leave encoded slashes alone.
void check_upstream(const std::string& path, How how) {
  std::string decoded;
  bool slashes = false;
  for (size_t i = 0; i < path.size(); ++i) {
    char c = path[i];
    if (c == '%') {
      c = static_cast<char>(std::stoi(path.substr(i + 1, 2), nullptr, 16));
      i += 2;
      check(c != '.' && c != '\0');
      slashes |= c == '/' || c == '\\';
    }
    decoded += c;
  }
  if (how == How::kDecodeAndMergeSlashes) check(!slashes);
  if (slashes) return;
  std::string closed = decoded + "/";
  check(closed.find("/./") == closed.npos && closed.find("/../") == closed.npos);
  check(std::count(decoded.begin(), decoded.end(), '/') == std::count(path.begin(), path.end(), '/'));
}

bool policy_matches(const model::HttpOperation& operation, const decide::HttpRequestFacts& facts) {
  model::HttpPolicy deny;
  deny.action = model::HttpPolicy::Action::kDeny;
  deny.rules.resize(1);
  deny.rules[0].to = {operation};
  return !decide::authorize_http(std::span(&deny, 1), facts, {}).allowed;
}

void compare(TextMatch::Kind kind, std::string_view pattern, const decide::HttpRequestFacts& facts) {
  auto words = TextMatch::make(kind, std::string(pattern));
  if (!words) return;
  model::RouteMatch route;
  route.path = *words;
  model::HttpOperation operation;
  operation.paths.any = {*words};
  bool routed = decide::matches(route, facts);
  check(policy_matches(operation, facts) == routed);
  operation = {};
  operation.paths.none = {*words};
  check(policy_matches(operation, facts) != routed);
  // What is allowed under an ALLOW policy with the same words is what the route takes, and the other way
  // round.
  model::HttpPolicy allow;
  allow.action = model::HttpPolicy::Action::kAllow;
  allow.rules.resize(1);
  allow.rules[0].to.resize(1);
  allow.rules[0].to[0].paths.any = {*words};
  check(decide::authorize_http(std::span(&allow, 1), facts, {}).allowed == routed);
  // Hosts: a policy ignores case, so it may match more than a route, never less.
  if (kind == TextMatch::Kind::kPathPrefix || kind == TextMatch::Kind::kPathTemplate) return;
  route = {};
  route.authority = *words;
  operation = {};
  operation.hosts.any = {*words};
  if (decide::matches(route, facts)) check(policy_matches(operation, facts));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  constexpr How kAll[] = {How::kNone, How::kBase, How::kMergeSlashes, How::kDecodeAndMergeSlashes};
  How how = kAll[data[0] & 3];
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string_view pattern = line(rest), host = line(rest);
  auto path = decide::normalize_path(rest, how);
  if (!path) return 0;
  if (how != How::kNone && path->path != "*") {
    check_form(path->path, how);
    check_upstream(path->path, how);
  }
  check(path->query.empty() || path->query.starts_with('?'));

  decide::HttpRequestFacts facts;
  facts.method = "GET";
  facts.authority = host;
  facts.path = path->path;
  facts.query = std::string_view(path->query).substr(path->query.empty() ? 0 : 1);
  using Kind = TextMatch::Kind;
  for (Kind kind : {Kind::kExact, Kind::kPrefix, Kind::kSuffix, Kind::kPathPrefix, Kind::kPathTemplate}) {
    compare(kind, pattern, facts);
  }
  return 0;
}
