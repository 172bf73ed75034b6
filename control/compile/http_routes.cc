// SPDX-License-Identifier: Apache-2.0
#include "control/compile/http_routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/compile/delegates.h"

namespace culvert::control {

namespace {

using model::TextMatch;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

TextMatch text_match(const kube::StringMatch& match, bool ignore_case = false) {
  using Kind = kube::StringMatch::Kind;
  switch (match.kind) {
    case Kind::kExact: return *TextMatch::make(TextMatch::Kind::kExact, match.value, ignore_case);
    case Kind::kPrefix: return *TextMatch::make(TextMatch::Kind::kPrefix, match.value, ignore_case);
    case Kind::kPresent: return TextMatch::present();
    case Kind::kRegex: break;
  }
  auto made = TextMatch::make(TextMatch::Kind::kRegex, match.value);
  // Compiled once when the object was read; if that was lost, nothing may match by accident.
  return made ? *made : TextMatch::exact("\n");
}

std::optional<TextMatch> text_match(const std::optional<kube::StringMatch>& match, bool ignore_case = false) {
  if (!match) return std::nullopt;
  return text_match(*match, ignore_case);
}

constexpr std::string_view kClaims = "@request.auth.claims";

// ".a.b" or "[a][b]" after the prefix.
std::vector<std::string> claim_path(std::string_view key) {
  std::vector<std::string> path;
  key.remove_prefix(kClaims.size());
  if (key.starts_with('[')) {
    while (key.starts_with('[')) {
      size_t end = key.find(']');
      if (end == key.npos) break;
      path.emplace_back(key.substr(1, end - 1));
      key.remove_prefix(end + 1);
    }
    return path;
  }
  while (key.starts_with('.')) {
    key.remove_prefix(1);
    size_t end = std::min(key.find('.'), key.size());
    path.emplace_back(key.substr(0, end));
    key.remove_prefix(end);
  }
  return path;
}

void add_header_match(model::RouteMatch& out, const std::string& key, const kube::StringMatch& match,
                      bool invert) {
  if (key.starts_with(kClaims)) {
    out.claims.push_back({claim_path(key), text_match(match), invert});
    return;
  }
  // Upstream ignores these; each has a field of its own.
  for (std::string_view pseudo : {"uri", "scheme", "method", "authority"}) {
    if (key == pseudo) return;
  }
  bool present = match.kind == kube::StringMatch::Kind::kRegex && match.value == "*";
  out.headers.push_back({lower(key), present ? TextMatch::present() : text_match(match), invert});
}

bool for_mesh(const std::vector<std::string>& gateways) {
  return gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
}

model::RouteMatch route_match(const kube::VirtualService::HttpMatch& match) {
  model::RouteMatch out;
  out.name = match.name;
  out.path = text_match(match.uri, match.ignore_uri_case);
  out.method = text_match(match.method);
  out.scheme = text_match(match.scheme);
  out.authority = text_match(match.authority);
  for (const auto& [key, value] : match.headers) add_header_match(out, key, value, false);
  for (const auto& [key, value] : match.without_headers) add_header_match(out, key, value, true);
  for (const auto& [key, value] : match.query_params) out.query.push_back({key, text_match(value)});
  out.source.labels = match.source_labels;
  out.source.ns = match.source_namespace;
  return out;
}

model::HeaderEdits edits_of(const kube::HeaderEdits& edits) {
  model::HeaderEdits out;
  for (const kube::HeaderValue& value : edits.set) out.set.emplace_back(lower(value.name), value.value);
  for (const kube::HeaderValue& value : edits.add) out.add.emplace_back(lower(value.name), value.value);
  for (const std::string& name : edits.remove) out.remove.push_back(lower(name));
  return out;
}

class Compiler {
 public:
  Compiler(const kube::VirtualService& source, const RouteScope& scope) : source_(source), scope_(scope) {}

  std::string origin() const { return "VirtualService " + source_.meta.key(); }

  model::RouteTarget target(const kube::VirtualService::Destination& destination) const {
    model::RouteTarget out;
    auto service = scope_.service(destination.host, source_.meta.ns);
    if (service) {
      out.service = *service;
      if (destination.port == 0) out.port = scope_.only_port(*service);
    } else {
      scope_.complain(source_, destination.line,
                      "no service is called \"" + destination.host +
                          "\": requests that this destination is chosen for are answered 503");
      // A key that no service has: the waypoint answers that the cluster is unknown (NC).
      out.service = {"", destination.host};
    }
    if (destination.port != 0) out.port = destination.port;
    out.subset = destination.subset;
    return out;
  }

  model::HttpRoute route(const kube::VirtualService::HttpRoute& in,
                         std::vector<model::RouteMatch> matches) const {
    model::HttpRoute out;
    out.name = in.name;
    out.origin = origin();
    out.matches = std::move(matches);
    for (const auto& destination : in.destinations) {
      model::RouteTarget one = target(destination.destination);
      one.weight = in.destinations.size() == 1 ? 1 : destination.weight;
      one.request = edits_of(destination.request_headers);
      one.response = edits_of(destination.response_headers);
      if (one.weight > 0) out.targets.push_back(std::move(one));
    }
    out.request = edits_of(in.request_headers);
    out.response = edits_of(in.response_headers);
    if (in.timeout) out.timeout = *in.timeout;
    if (in.retries) out.retries = compile_retries(*in.retries);
    if (in.redirect) out.redirect = redirect(*in.redirect);
    if (in.direct_response)
      out.direct = model::DirectResponse{in.direct_response->status, in.direct_response->body};
    if (in.rewrite) out.rewrite = rewrite(*in.rewrite, out.matches);
    if (in.delay || in.abort) {
      model::FaultInjection& fault = out.fault.emplace();
      if (in.delay) {
        fault.delay = in.delay->fixed;
        fault.delay_percent = in.delay->percent;
      }
      if (in.abort) {
        fault.abort_status = in.abort->http_status;
        if (in.abort->grpc_status >= 0)
          fault.abort_grpc_status = static_cast<uint32_t>(in.abort->grpc_status);
        fault.abort_percent = in.abort->percent;
      }
    }
    out.mirrors = mirrors(in);
    if (in.cors) out.cors = cors(*in.cors);
    if (out.targets.empty() && !out.redirect && !out.direct) out.broken = "it has no destination";
    return out;
  }

  std::vector<model::Mirror> mirrors(const kube::VirtualService::HttpRoute& in) const {
    std::vector<model::Mirror> out;
    for (const auto& mirror : in.mirrors) out.push_back({target(mirror.destination), mirror.percent});
    return out;
  }

 private:
  static model::Redirect redirect(const kube::VirtualService::Redirect& in) {
    using Port = kube::VirtualService::Redirect::Port;
    model::Redirect out;
    if (!in.uri.empty()) out.path = {model::PathEdit::Kind::kFull, in.uri, std::nullopt};
    if (!in.prefix_rewrite.empty()) {
      out.path = {model::PathEdit::Kind::kPrefix, in.prefix_rewrite, std::nullopt};
    }
    out.authority = in.authority;
    out.scheme = in.scheme;
    out.status = in.code;
    if (in.port == Port::kNumber) out.port = in.port_number;
    if (in.port == Port::kProtocolDefault) out.port_from = model::Redirect::PortFrom::kProtocolDefault;
    if (in.port == Port::kFromRequest) out.port_from = model::Redirect::PortFrom::kRequest;
    return out;
  }

  // A prefix match has its prefix replaced, everything else the whole path (section 2.1.4).
  static model::Rewrite rewrite(const kube::VirtualService::Rewrite& in,
                                const std::vector<model::RouteMatch>& matches) {
    model::Rewrite out;
    out.authority = in.authority;
    if (!in.regex.empty()) {
      auto regex = model::Regex::compile(in.regex);
      if (regex) out.path = {model::PathEdit::Kind::kRegex, in.regex_rewrite, std::move(*regex)};
      return out;
    }
    if (in.uri.empty()) return out;
    bool prefix = matches.empty() || std::all_of(matches.begin(), matches.end(), [](const auto& match) {
                    return !match.path || match.path->kind() == TextMatch::Kind::kPrefix;
                  });
    out.path = {prefix ? model::PathEdit::Kind::kPrefix : model::PathEdit::Kind::kFull, in.uri, std::nullopt};
    return out;
  }

  static model::Cors cors(const kube::VirtualService::Cors& in) {
    model::Cors out;
    for (const kube::StringMatch& origin : in.allow_origins) out.origins.push_back(text_match(origin));
    out.methods = in.allow_methods;
    out.headers = in.allow_headers;
    out.expose = in.expose_headers;
    out.max_age = in.max_age;
    out.credentials = in.allow_credentials;
    out.forward_unmatched_preflights = in.forward_unmatched_preflights;
    return out;
  }

  const kube::VirtualService& source_;
  const RouteScope& scope_;
};

using HttpMatches = std::vector<kube::VirtualService::HttpMatch>;

// Those for the port; none: every entry was for something else.
std::optional<HttpMatches> matches_for(const kube::VirtualService::HttpRoute& route, uint16_t port) {
  HttpMatches out;
  for (const auto& match : route.match) {
    if ((match.port == 0 || match.port == port) && for_mesh(match.gateways)) out.push_back(match);
  }
  if (out.empty() && !route.match.empty()) return std::nullopt;
  return out;
}

std::vector<model::RouteMatch> route_matches(const HttpMatches& matches) {
  std::vector<model::RouteMatch> out;
  for (const auto& match : matches) out.push_back(route_match(match));
  return out;
}

// One route that delegates: the routes of its delegate, each within what the root's matches hand on (section
// 2.1.7). Hosts are read in the namespace of who wrote them.
struct Delegation {
  const kube::VirtualService& root;
  const kube::VirtualService::HttpRoute& route;
  const HttpMatches& matches;  // of the root's route
  uint16_t port;
  const RouteScope& scope;

  std::vector<model::HttpRoute> compile() const {
    std::vector<model::HttpRoute> out;
    auto target = scope.delegate(root, *route.delegate);
    if (!target) {
      scope.complain(root, route.line, "the route is left out: " + target.error().message());
      return out;
    }
    for (const auto& leaf : (*target)->http) {
      auto own = matches_for(leaf, port);
      if (!own) continue;
      if (auto one = compile_leaf(**target, leaf, *own)) out.push_back(std::move(*one));
    }
    return out;
  }

 private:
  std::optional<model::HttpRoute> compile_leaf(const kube::VirtualService& delegate,
                                               const kube::VirtualService::HttpRoute& leaf,
                                               const HttpMatches& own) const {
    if (matches.size() * own.size() > kDelegatedMatchesMax) {
      return refused(leaf,
                     fmt::format("{} matches of the root times {} of the delegate are more than {}",
                                 matches.size(), own.size(), kDelegatedMatchesMax),
                     delegate);
    }
    HttpMatches merged = own.empty() ? matches : own;
    if (!own.empty() && !matches.empty()) {
      merged.clear();
      for (const auto& above : matches) {
        for (const auto& below : own) {
          if (auto both = narrow_match(above, below)) merged.push_back(std::move(*both));
        }
      }
      if (merged.empty()) {
        scope.complain(delegate, leaf.line,
                       fmt::format("the route is left out: its matches contradict those of the route of "
                                   "VirtualService {} that delegates to it, or take more than it hands on",
                                   root.meta.key()));
        return std::nullopt;
      }
    }
    model::HttpRoute out = Compiler(delegate, scope).route(inherit_route(route, leaf), route_matches(merged));
    if (leaf.mirrors.empty() && forwards(leaf)) out.mirrors = Compiler(root, scope).mirrors(route);
    // Who owns the host; the delegate shows in what is complained of.
    out.origin = Compiler(root, scope).origin();
    return out;
  }

  // Whatever the root hands on, so that nothing goes where the delegate would not have sent it.
  model::HttpRoute refused(const kube::VirtualService::HttpRoute& leaf, const std::string& why,
                           const kube::VirtualService& delegate) const {
    scope.complain(delegate, leaf.line, "requests for the route are answered 500: " + why);
    model::HttpRoute out;
    out.name = leaf.name;
    out.origin = Compiler(root, scope).origin();
    out.matches = route_matches(matches);
    out.broken = why;
    return out;
  }
};

// Equal to prefix "/" and nothing else: nothing after it can match.
bool catches_all(const model::HttpRoute& route) {
  if (route.matches.empty()) return true;
  return std::any_of(route.matches.begin(), route.matches.end(), [](const model::RouteMatch& match) {
    model::RouteMatch bare = match;
    bare.name.clear();
    if (bare.path && bare.path->kind() == TextMatch::Kind::kPrefix && bare.path->text() == "/")
      bare.path.reset();
    return bare == model::RouteMatch{};
  });
}

}  // namespace

model::RetryPolicy compile_retries(const kube::HttpRetries& retries) {
  static const std::pair<std::string_view, uint32_t> kTokens[] = {
      {"5xx", model::kRetry5xx},
      {"gateway-error", model::kRetryGatewayError},
      {"reset", model::kRetryReset},
      {"reset-before-request", model::kRetryResetBeforeRequest},
      {"connect-failure", model::kRetryConnectFailure},
      {"refused-stream", model::kRetryRefusedStream},
      {"retriable-4xx", model::kRetry4xx},
      {"retriable-status-codes", model::kRetryStatusCodes},
      {"retriable-headers", model::kRetryHeaders},
      {"envoy-ratelimited", model::kRetryRateLimited},
      {"cancelled", model::kRetryGrpcCancelled},
      {"deadline-exceeded", model::kRetryGrpcDeadlineExceeded},
      {"internal", model::kRetryGrpcInternal},
      {"resource-exhausted", model::kRetryGrpcResourceExhausted},
      {"unavailable", model::kRetryGrpcUnavailable},
  };
  model::RetryPolicy out;
  out.attempts = retries.attempts;
  if (retries.per_try_timeout) out.per_try_timeout = *retries.per_try_timeout;
  if (!retries.retry_on.empty() || !retries.retry_codes.empty()) {
    out.on = retries.retry_codes.empty() ? 0 : model::kRetryStatusCodes;
    for (const std::string& token : retries.retry_on) {
      for (const auto& [name, bit] : kTokens) out.on |= token == name ? bit : 0;
    }
  }
  out.status_codes = retries.retry_codes;
  if (retries.backoff) out.backoff = *retries.backoff;
  out.avoid_tried_hosts = retries.retry_ignore_previous_hosts.value_or(true);
  out.other_localities = retries.retry_remote_localities.value_or(false);
  return out;
}

std::vector<model::HttpRoute> compile_http(const kube::VirtualService& source, uint16_t port,
                                           const RouteScope& scope) {
  Compiler compiler(source, scope);
  std::vector<model::HttpRoute> out;
  for (const kube::VirtualService::HttpRoute& route : source.http) {
    auto matches = matches_for(route, port);
    if (!matches) continue;
    std::vector<model::HttpRoute> made;
    if (route.delegate) {
      made = Delegation{source, route, *matches, port, scope}.compile();
    } else {
      made.push_back(compiler.route(route, route_matches(*matches)));
    }
    for (model::HttpRoute& one : made) {
      out.push_back(std::move(one));
      if (!catches_all(out.back())) continue;
      if (&one != &made.back() || &route != &source.http.back()) {
        scope.complain(source, route.line,
                       "this route takes every request: the routes after it are never reached");
      }
      return out;
    }
  }
  return out;
}

std::vector<model::TcpRoute> compile_tcp(const kube::VirtualService& source, uint16_t port,
                                         const RouteScope& scope) {
  Compiler compiler(source, scope);
  std::vector<model::TcpRoute> out;
  auto add = [&](const kube::VirtualService::L4Route& route, bool tls) {
    auto base = [&] {
      model::TcpRoute one;
      one.origin = compiler.origin();
      one.tls = tls;
      for (const auto& destination : route.destinations) {
        model::RouteTarget target = compiler.target(destination.destination);
        target.weight = route.destinations.size() == 1 ? 1 : destination.weight;
        one.targets.push_back(std::move(target));
      }
      return one;
    };
    if (route.match.empty()) out.push_back(base());
    for (const auto& match : route.match) {
      if ((match.port != 0 && match.port != port) || !for_mesh(match.gateways)) continue;
      model::TcpRoute one = base();
      one.server_names = match.sni_hosts;
      one.source.labels = match.source_labels;
      one.source.ns = match.source_namespace;
      bool readable = true;
      auto add_range = [&](const std::string& text, std::vector<base::Cidr>& into) {
        auto range = base::Cidr::parse(text);
        readable = readable && range.has_value();
        if (range) into.push_back(*range);
      };
      for (const std::string& subnet : match.destination_subnets) add_range(subnet, one.destinations);
      if (!match.source_subnet.empty()) add_range(match.source_subnet, one.source.ip);
      // A range that cannot be read must not become "any".
      if (readable) out.push_back(std::move(one));
    }
  };
  for (const auto& route : source.tls) add(route, true);
  for (const auto& route : source.tcp) add(route, false);
  return out;
}

}  // namespace culvert::control
