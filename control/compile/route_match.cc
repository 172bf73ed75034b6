// SPDX-License-Identifier: Apache-2.0
#include "control/compile/route_match.h"

#include <algorithm>
#include <set>
#include <utility>

namespace culvert::control {

namespace {

using Kind = model::TextMatch::Kind;

base::Result<model::TextMatch> compile_path(const kube::RoutePath& path) {
  switch (path.type) {
    case kube::RoutePath::Type::kExact: return model::TextMatch::make(Kind::kExact, path.value);
    case kube::RoutePath::Type::kRegex: return model::TextMatch::make(Kind::kRegex, path.value);
    case kube::RoutePath::Type::kPrefix: break;
  }
  return model::TextMatch::make(Kind::kPathPrefix, path.value);
}

base::Result<model::TextMatch> compile_value(const kube::ValueMatch& in) {
  return model::TextMatch::make(in.regex ? Kind::kRegex : Kind::kExact, in.value);
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

base::Result<model::RouteMatch> compile_route_match(const kube::HttpRouteMatch& match) {
  model::RouteMatch out;
  // "/" stands for every path.
  if (match.path.type != kube::RoutePath::Type::kPrefix || match.path.value != "/") {
    auto path = compile_path(match.path);
    if (!path) return base::fail(std::move(path).error());
    out.path = std::move(*path);
  }
  if (!match.method.empty()) out.method = model::TextMatch::exact(match.method);
  // Of equal names the first counts.
  std::set<std::string> names;
  for (const auto& header : match.headers) {
    if (!names.insert(lower_case(header.name)).second) continue;
    auto value = compile_value(header);
    if (!value) return base::fail(std::move(value).error());
    out.headers.push_back({lower_case(header.name), std::move(*value), false});
  }
  names.clear();
  for (const auto& query : match.query_params) {
    if (!names.insert(query.name).second) continue;
    auto value = compile_value(query);
    if (!value) return base::fail(std::move(value).error());
    out.query.push_back({query.name, std::move(*value)});
  }
  return out;
}

}  // namespace culvert::control
