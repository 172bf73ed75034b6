// SPDX-License-Identifier: Apache-2.0
// The rules of a Gateway API route (spec waypoint sections 2.4.2 to 2.4.5). A rule that cannot be carried out
// as it is written answers 500, as does the share of a backend that may not be used.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "control/compile/gateway_routes.h"
#include "control/compile/route_match.h"

namespace culvert::control {

namespace {

using Kind = model::TextMatch::Kind;
using Path = RankedRoute::Rank::Path;

// As an expression that matches the text alone.
std::string quoted(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
    if (!plain) out += '\\';
    out += c;
  }
  return out;
}

model::HeaderEdits edits_of(const kube::HeaderEdits& edits) {
  model::HeaderEdits out;
  for (const kube::HeaderValue& value : edits.set) out.set.emplace_back(lower_case(value.name), value.value);
  for (const kube::HeaderValue& value : edits.add) out.add.emplace_back(lower_case(value.name), value.value);
  for (const std::string& name : edits.remove) out.remove.push_back(lower_case(name));
  return out;
}

model::PathEdit path_edit(const std::optional<kube::PathModifier>& path) {
  if (!path) return {};
  return {path->prefix ? model::PathEdit::Kind::kPathPrefix : model::PathEdit::Kind::kFull, path->value, {}};
}

model::Rewrite rewrite_of(const kube::UrlRewrite& rewrite) {
  return {path_edit(rewrite.path), rewrite.hostname};
}

// Without a port: the scheme's if one is given, else the one that was dialled.
model::Redirect redirect_of(const kube::RequestRedirect& in) {
  using From = model::Redirect::PortFrom;
  model::Redirect out;
  out.path = path_edit(in.path);
  out.authority = in.hostname;
  out.scheme = in.scheme;
  out.port = in.port;
  if (in.port == 0) out.port_from = in.scheme.empty() ? From::kRequest : From::kProtocolDefault;
  out.status = in.status;
  return out;
}

// "*" within a host stands for one label, "*" as the host for any. Preflights of other origins end here.
model::Cors cors_of(const kube::CorsFilter& in) {
  model::Cors out;
  for (const std::string& origin : in.allow_origins) {
    size_t star = origin.find('*');
    if (star == origin.npos || origin == "*") {
      out.origins.push_back(model::TextMatch::exact(origin));
      continue;
    }
    bool whole_host =
        origin.substr(0, star).ends_with("//") && (star + 1 == origin.size() || origin[star + 1] == ':');
    std::string pattern = quoted(origin.substr(0, star)) + (whole_host ? "[^/:]+" : "[^/:.]+") +
                          quoted(origin.substr(star + 1));
    // A second star stays a star, which no origin has.
    auto made = model::TextMatch::make(Kind::kRegex, pattern);
    if (made) out.origins.push_back(std::move(*made));
  }
  out.methods = in.allow_methods;
  out.headers = in.allow_headers;
  out.expose = in.expose_headers;
  out.max_age = in.max_age;
  if (in.allow_credentials) out.credentials = true;
  out.forward_unmatched_preflights = false;
  return out;
}

// What the filters and backends of one rule come to.
class RuleCompiler {
 public:
  RuleCompiler(std::string_view kind, const kube::Meta& meta, const std::string& parent,
               const BackendRefs& refs, RouteFlaws& flaws)
      : kind_(kind), meta_(meta), parent_(parent), refs_(refs), flaws_(flaws) {}

  std::string origin() const { return fmt::format("{} {}", kind_, meta_.key()); }
  std::string name_of(const std::string& rule, size_t index) const {
    return rule.empty() ? fmt::format("{}.{}.{}", meta_.ns, meta_.name, index) : rule;
  }

  std::vector<model::RouteTarget> targets(const std::vector<kube::RouteBackend>& backends) const {
    std::vector<model::RouteTarget> out;
    for (const kube::RouteBackend& backend : backends) {
      model::RouteTarget one = refs_.target(backend, kind_, meta_.ns, parent_, flaws_);
      one.weight = backend.weight;
      for (const kube::RouteFilter& filter : backend.filters) add_to_target(filter, one);
      if (one.weight > 0) out.push_back(std::move(one));
    }
    return out;
  }

  template <class Rule>
  model::HttpRoute http(const Rule& rule, size_t index) const {
    model::HttpRoute out;
    out.name = name_of(rule.name, index);
    out.origin = origin();
    out.targets = targets(rule.backends);
    for (const kube::RouteFilter& filter : rule.filters) add(filter, out);
    if (rule.session) out.session = compile_session(*rule.session);
    if (out.targets.empty() && !out.redirect && out.broken.empty()) {
      out.broken = rule.backends.empty() ? "it has no backend" : "its weights come to nothing";
    }
    if (!out.broken.empty()) {
      out.targets.clear();
      out.redirect.reset();
    }
    return out;
  }

 private:
  void add(const kube::RouteFilter& filter, model::HttpRoute& out) const {
    if (const auto* edits = std::get_if<kube::RequestHeaderModifier>(&filter)) {
      out.request = edits_of(edits->edits);
    } else if (const auto* answer = std::get_if<kube::ResponseHeaderModifier>(&filter)) {
      out.response = edits_of(answer->edits);
    } else if (const auto* redirect = std::get_if<kube::RequestRedirect>(&filter)) {
      out.redirect = redirect_of(*redirect);
    } else if (const auto* rewrite = std::get_if<kube::UrlRewrite>(&filter)) {
      out.rewrite = rewrite_of(*rewrite);
    } else if (const auto* mirror = std::get_if<kube::RequestMirror>(&filter)) {
      // One that may not be used is left out: a copy is nobody's answer.
      model::RouteTarget to = refs_.target(mirror->backend, kind_, meta_.ns, parent_, flaws_);
      if (to.invalid.empty()) out.mirrors.push_back({std::move(to), mirror->percent});
    } else if (const auto* cors = std::get_if<kube::CorsFilter>(&filter)) {
      out.cors = cors_of(*cors);
    } else if (std::holds_alternative<kube::ExternalAuth>(filter)) {
      out.broken =
          "its filter ExternalAuth is not carried out; write an AuthorizationPolicy of action CUSTOM";
      flaws_.unsupported.push_back(fmt::format("rule {} answers 500: {}", out.name, out.broken));
    } else if (const auto* extension = std::get_if<kube::ExtensionRef>(&filter)) {
      out.broken = fmt::format("its filter ExtensionRef names a kind that nobody carries out: {} {}",
                               extension->kind, extension->name);
      flaws_.refer("InvalidKind", fmt::format("rule {} answers 500: {}", out.name, out.broken));
    }
  }

  void add_to_target(const kube::RouteFilter& filter, model::RouteTarget& out) const {
    if (const auto* edits = std::get_if<kube::RequestHeaderModifier>(&filter)) {
      out.request = edits_of(edits->edits);
    } else if (const auto* answer = std::get_if<kube::ResponseHeaderModifier>(&filter)) {
      out.response = edits_of(answer->edits);
    } else if (const auto* rewrite = std::get_if<kube::UrlRewrite>(&filter)) {
      out.rewrite = rewrite_of(*rewrite);
    } else {
      out.invalid = "it has a filter that backends do not carry out; give it to the rule";
      flaws_.unsupported.push_back(
          fmt::format("the share of backend {} answers 500: {}", out.service.to_string(), out.invalid));
    }
  }

  std::string_view kind_;
  const kube::Meta& meta_;
  const std::string& parent_;
  const BackendRefs& refs_;
  RouteFlaws& flaws_;
};

// Of a rule as a whole (section 2.4.4).
void add_timeouts(const kube::HttpRoute::Rule& rule, model::HttpRoute& out) {
  base::Duration none{0};
  base::Duration whole = rule.request_timeout.value_or(none);
  base::Duration one_try = rule.backend_request_timeout.value_or(none);
  out.timeout = whole;
  if (!rule.retry) {
    if (one_try != none) out.timeout = one_try;
    return;
  }
  model::RetryPolicy& retry = out.retries.emplace();
  retry.per_try_timeout = one_try;
  if (rule.retry->attempts) retry.attempts = *rule.retry->attempts;
  if (rule.retry->backoff) retry.backoff = *rule.retry->backoff;
  retry.status_codes = rule.retry->codes;
  if (!retry.status_codes.empty()) retry.on |= model::kRetryStatusCodes;
}

RankedRoute::Rank rank_of(const kube::HttpRouteMatch& in, const model::RouteMatch& match) {
  using Type = kube::RoutePath::Type;
  RankedRoute::Rank out;
  out.path = in.path.type == Type::kExact    ? Path::kExact
             : in.path.type == Type::kPrefix ? Path::kPrefix
                                             : Path::kRegex;
  out.length = in.path.value.size();
  // "/v2/" is "/v2".
  if (out.path == Path::kPrefix && out.length > 1 && in.path.value.ends_with('/')) out.length--;
  out.method = !in.method.empty();
  out.headers = match.headers.size();
  out.query = match.query.size();
  return out;
}

base::Result<model::RouteMatch> grpc_match(const kube::GrpcRoute::Match& in) {
  kube::HttpRouteMatch headers;
  headers.headers = in.headers;
  auto out = compile_route_match(headers);
  if (!out) return out;
  out->grpc = true;
  if (in.service.empty() && in.method.empty()) return out;
  Kind kind = Kind::kExact;
  std::string path = fmt::format("/{}/{}", in.service, in.method);
  if (!in.regex && in.method.empty()) kind = Kind::kPrefix;
  if (in.regex || in.service.empty()) {
    auto part = [&](const std::string& text) {
      return text.empty() ? "[^/]+" : in.regex ? "(?:" + text + ")" : quoted(text);
    };
    kind = Kind::kRegex;
    path = fmt::format("/{}/{}", part(in.service), part(in.method));
  }
  auto match = model::TextMatch::make(kind, path);
  if (!match) return base::fail(std::move(match).error());
  out->path = std::move(*match);
  return out;
}

template <class Rule>
void add_connections(const std::vector<Rule>& rules, const RuleCompiler& compiler,
                     const model::TcpRoute& base, std::vector<model::TcpRoute>& out) {
  for (size_t i = 0; i < rules.size(); ++i) {
    model::TcpRoute one = base;
    one.name = compiler.name_of(rules[i].name, i);
    one.origin = compiler.origin();
    one.targets = compiler.targets(rules[i].backends);
    if (one.targets.empty()) {
      model::RouteTarget& none = one.targets.emplace_back();
      none.invalid = "its weights come to nothing";
    }
    out.push_back(std::move(one));
  }
}

}  // namespace

model::SessionPersistence compile_session(const kube::SessionPersistence& in) {
  model::SessionPersistence out;
  out.header = in.header;
  out.name = !in.name.empty() ? in.name : in.header ? "x-culvert-session" : "culvert-session";
  // Names of headers are the same in either case, those of cookies are not.
  auto lower = [](unsigned char c) { return static_cast<char>(std::tolower(c)); };
  if (in.header) std::transform(out.name.begin(), out.name.end(), out.name.begin(), lower);
  out.permanent = in.permanent;
  out.absolute = in.absolute_timeout.value_or(base::Duration{0});
  out.idle = in.idle_timeout.value_or(base::Duration{0});
  return out;
}

std::vector<RankedRoute> compile_gateway_rules(const kube::HttpRoute& route, const std::string& parent,
                                               const BackendRefs& refs, RouteFlaws& flaws) {
  RuleCompiler compiler("HTTPRoute", route.meta, parent, refs, flaws);
  std::vector<RankedRoute> out;
  for (size_t i = 0; i < route.rules.size(); ++i) {
    model::HttpRoute rule = compiler.http(route.rules[i], i);
    add_timeouts(route.rules[i], rule);
    for (const kube::HttpRouteMatch& in : route.rules[i].matches) {
      auto match = compile_route_match(in);
      if (!match) {
        flaws.unsupported.push_back(fmt::format("rule {}: {}", rule.name, match.error().message()));
        continue;
      }
      RankedRoute& one = out.emplace_back(rank_of(in, *match), rule);
      one.route.matches.push_back(std::move(*match));
    }
  }
  return out;
}

std::vector<RankedRoute> compile_gateway_rules(const kube::GrpcRoute& route, const std::string& parent,
                                               const BackendRefs& refs, RouteFlaws& flaws) {
  RuleCompiler compiler("GRPCRoute", route.meta, parent, refs, flaws);
  std::vector<RankedRoute> out;
  for (size_t i = 0; i < route.rules.size(); ++i) {
    model::HttpRoute rule = compiler.http(route.rules[i], i);
    std::vector<kube::GrpcRoute::Match> matches = route.rules[i].matches;
    if (matches.empty()) matches.emplace_back();
    for (const kube::GrpcRoute::Match& in : matches) {
      auto match = grpc_match(in);
      if (!match) {
        flaws.unsupported.push_back(fmt::format("rule {}: {}", rule.name, match.error().message()));
        continue;
      }
      RankedRoute::Rank rank{Path::kGrpc, in.service.size(),     in.method.size(),
                             false,       match->headers.size(), 0};
      RankedRoute& one = out.emplace_back(rank, rule);
      one.route.matches.push_back(std::move(*match));
    }
  }
  return out;
}

std::vector<model::TcpRoute> compile_gateway_rules(const kube::TcpRoute& route, const std::string& parent,
                                                   const BackendRefs& refs, RouteFlaws& flaws) {
  std::vector<model::TcpRoute> out;
  add_connections(route.rules, RuleCompiler("TCPRoute", route.meta, parent, refs, flaws), {}, out);
  return out;
}

std::vector<model::TcpRoute> compile_gateway_rules(const kube::TlsRoute& route, const std::string& parent,
                                                   const BackendRefs& refs, RouteFlaws& flaws) {
  std::vector<model::TcpRoute> out;
  model::TcpRoute base;
  base.tls = true;
  base.server_names = route.hostnames;
  add_connections(route.rules, RuleCompiler("TLSRoute", route.meta, parent, refs, flaws), base, out);
  return out;
}

}  // namespace culvert::control
