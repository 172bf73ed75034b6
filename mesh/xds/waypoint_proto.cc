// SPDX-License-Identifier: Apache-2.0
#include "mesh/xds/waypoint_proto.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <limits>
#include <type_traits>

#include "proto/waypoint.pb.h"

namespace culvert::xds {
namespace {

namespace pbw = ::culvert::waypoint::v1;
using base::Code;
using base::Result;
using namespace model;

constexpr uint32_t kVersion = 1;

// Every message is described once, by a function over a Way: Encode copies values into the message, Decode
// reads and checks them. FIELD and its kin name the value and its accessors together.
struct Encode {
  template <class T, class Got, class Set>
  void scalar(const char*, T& value, const Got&, Set set) {
    if constexpr (std::is_same_v<T, Name>) {
      set(value.str());
    } else {
      set(value);
    }
  }
  template <class Set>
  void duration(const char*, base::Duration& value, int64_t, Set set) {
    set(value.count());
  }
  template <class E, class P, class Set>
  void choice(const char*, E& value, P, E, Set set) {
    set(static_cast<P>(static_cast<int>(value) + 1));
  }
  template <class T, class List, class Make, class Map>
  void list(const char*, std::vector<T>& values, List& out, Make, Map map) {
    for (T& value : values) map(value, *out.Add());
  }
  template <class T, class List>
  void plain_list(const char*, std::vector<T>& values, List& out) {
    for (const T& value : values) out.Add(typename List::value_type(value));
  }
  template <class T, class Make, class Mutable, class Map>
  void optional(const char*, std::optional<T>& value, bool, Make, Mutable mutable_message, Map map) {
    if (value) map(*value, *mutable_message());
  }
  template <class T, class Set>
  void optional_scalar(const char*, std::optional<T>& value, bool, int64_t, Set set) {
    if (!value) return;
    if constexpr (std::is_same_v<T, base::Duration>) {
      set(value->count());
    } else {
      set(*value);
    }
  }
  void labels(const char*, LabelMap& value, google::protobuf::Map<std::string, std::string>& out) {
    for (const auto& [key, text] : value) out[key] = text;
  }
  void text(const char*, TextMatch& match, pbw::TextMatch& out) {
    out.set_kind(static_cast<pbw::TextMatch::Kind>(static_cast<int>(match.kind()) + 1));
    out.set_text(match.text());
    out.set_ignore_case(match.ignore_case());
  }
  void range(const char*, base::Cidr& range, pbw::Range& out) {
    auto bytes = range.base().bytes();
    out.set_address(std::string(bytes.begin(), bytes.end()));
    out.set_length(static_cast<uint32_t>(range.prefix_bits()));
  }
  void regex(const char*, std::optional<Regex>& regex, const std::string&, std::string* out) {
    if (regex) *out = regex->pattern();
  }
};

struct Decode {
  std::optional<base::Error> error;

  void fail(const char* field, const std::string& why) {
    if (!error) error = base::Error(Code::kInvalid, std::string(field) + ": " + why);
  }
  template <class T, class Got, class Set>
  void scalar(const char* field, T& value, const Got& got, Set) {
    if constexpr (std::is_same_v<T, uint16_t>) {
      if (got > 65535) fail(field, std::to_string(got) + " is above 65535");
      value = static_cast<uint16_t>(got);
    } else if constexpr (std::is_same_v<T, Name>) {
      value = Name(got);
    } else {
      value = static_cast<T>(got);
    }
  }
  template <class Set>
  void duration(const char* field, base::Duration& value, int64_t got, Set) {
    if (got < 0) fail(field, "a negative duration");
    value = base::Duration(got);
  }
  template <class E, class P, class Set>
  void choice(const char* field, E& value, P got, E last, Set) {
    int number = static_cast<int>(got) - 1;
    if (number < 0 || number > static_cast<int>(last)) {
      fail(field, "unknown value " + std::to_string(static_cast<int>(got)));
      return;
    }
    value = static_cast<E>(number);
  }
  template <class T, class List, class Make, class Map>
  void list(const char*, std::vector<T>& values, List& in, Make make, Map map) {
    for (auto& item : in) {
      T value = make();
      map(value, item);
      values.push_back(std::move(value));
    }
  }
  template <class T, class List>
  void plain_list(const char* field, std::vector<T>& values, List& in) {
    for (const auto& item : in) {
      if constexpr (std::is_same_v<T, uint16_t>) {
        if (item > 65535) fail(field, std::to_string(item) + " is above 65535");
      }
      values.push_back(static_cast<T>(item));
    }
  }
  template <class T, class Make, class Mutable, class Map>
  void optional(const char*, std::optional<T>& value, bool present, Make make, Mutable mutable_message,
                Map map) {
    if (!present) return;
    value.emplace(make());
    map(*value, *mutable_message());
  }
  template <class T, class Set>
  void optional_scalar(const char* field, std::optional<T>& value, bool present, int64_t got, Set) {
    if (!present) return;
    if constexpr (std::is_same_v<T, base::Duration>) {
      if (got < 0) fail(field, "a negative duration");
      value = base::Duration(got);
    } else {
      value = static_cast<T>(got);
    }
  }
  void labels(const char*, LabelMap& value, google::protobuf::Map<std::string, std::string>& in) {
    value = LabelMap(in.begin(), in.end());
  }
  void text(const char* field, TextMatch& match, pbw::TextMatch& in) {
    TextMatch::Kind kind{};
    choice(field, kind, in.kind(), TextMatch::Kind::kPathTemplate, 0);
    if (error) return;
    Result<TextMatch> made = TextMatch::make(kind, in.text(), in.ignore_case());
    if (!made) return fail(field, made.error().message());
    match = std::move(*made);
  }
  void range(const char* field, base::Cidr& range, pbw::Range& in) {
    if (in.address().size() != 4 && in.address().size() != 16) return fail(field, "no address");
    base::IpAddr ip = *base::IpAddr::from_bytes(base::as_bytes(in.address()));
    Result<base::Cidr> made = base::Cidr::make(ip, static_cast<int>(std::min<uint32_t>(in.length(), 1000)));
    if (!made) return fail(field, made.error().message());
    range = *made;
  }
  void regex(const char* field, std::optional<Regex>& regex, const std::string& pattern, std::string*) {
    if (pattern.empty()) return;
    Result<Regex> made = Regex::compile(pattern);
    if (!made) return fail(field, made.error().message());
    regex = std::move(*made);
  }
};

#define FIELD(name) way.scalar(#name, m.name, p.name(), [&](const auto& v) { p.set_##name(v); })
#define DURATION(name) way.duration(#name, m.name, p.name(), [&](int64_t v) { p.set_##name(v); })
#define CHOICE(name, last) way.choice(#name, m.name, p.name(), last, [&](auto v) { p.set_##name(v); })
#define TEXTS(name) text_list(way, #name, m.name, *p.mutable_##name())
#define RANGES(name) range_list(way, #name, m.name, *p.mutable_##name())
#define STRINGS(name) way.plain_list(#name, m.name, *p.mutable_##name())
#define MESSAGE(name) map(way, m.name, *p.mutable_##name())
#define LIST(name, make) \
  way.list(#name, m.name, *p.mutable_##name(), make, [&](auto& a, auto& b) { map(way, a, b); })
#define OPTIONAL(name, Type)                                                                    \
  way.optional(                                                                                 \
      #name, m.name, p.has_##name(), [] { return Type{}; }, [&] { return p.mutable_##name(); }, \
      [&](auto& a, auto& b) { map(way, a, b); })
#define OPTIONAL_SCALAR(name) \
  way.optional_scalar(#name, m.name, p.has_##name(), p.name(), [&](auto v) { p.set_##name(v); })

template <class T>
T fresh() {
  return T{};
}

template <class Way, class List>
void text_list(Way& way, const char* field, std::vector<TextMatch>& values, List& list) {
  way.list(
      field, values, list, [] { return TextMatch::present(); },
      [&](TextMatch& a, pbw::TextMatch& b) { way.text(field, a, b); });
}
template <class Way, class List>
void range_list(Way& way, const char* field, std::vector<base::Cidr>& values, List& list) {
  way.list(
      field, values, list, [] { return base::Cidr(); },
      [&](base::Cidr& a, pbw::Range& b) { way.range(field, a, b); });
}

using TextPair = std::pair<std::string, std::string>;
template <class Way>
void map(Way& way, TextPair& m, pbw::Pair& p) {
  way.scalar("name", m.first, p.name(), [&](const auto& v) { p.set_name(v); });
  way.scalar("value", m.second, p.value(), [&](const auto& v) { p.set_value(v); });
}

template <class Way>
void map(Way& way, NamespacedHostname& m, pbw::ServiceName& p) {
  way.scalar("namespace", m.ns, p.namespace_(), [&](const auto& v) { p.set_namespace_(v); });
  FIELD(hostname);
}

template <class Way>
void map(Way& way, SourceMatch& m, pbw::SourceMatch& p) {
  way.labels("labels", m.labels, *p.mutable_labels());
  way.scalar("namespace", m.ns, p.namespace_(), [&](const auto& v) { p.set_namespace_(v); });
  RANGES(ip);
}

template <class Way>
void map(Way& way, HeaderMatch& m, pbw::NamedMatch& p) {
  FIELD(name);
  way.text("value", m.value, *p.mutable_value());
  FIELD(invert);
}
template <class Way>
void map(Way& way, QueryMatch& m, pbw::NamedMatch& p) {
  FIELD(name);
  way.text("value", m.value, *p.mutable_value());
}
template <class Way>
void map(Way& way, ClaimMatch& m, pbw::NamedMatch& p) {
  STRINGS(path);
  way.text("value", m.value, *p.mutable_value());
  FIELD(invert);
}

#define OPTIONAL_TEXT(name)                                               \
  way.optional(                                                           \
      #name, m.name, p.has_##name(), [] { return TextMatch::present(); }, \
      [&] { return p.mutable_##name(); }, [&](TextMatch& a, pbw::TextMatch& b) { way.text(#name, a, b); })

template <class Way>
void map(Way& way, RouteMatch& m, pbw::RouteMatch& p) {
  FIELD(name);
  OPTIONAL_TEXT(path);
  OPTIONAL_TEXT(method);
  OPTIONAL_TEXT(scheme);
  OPTIONAL_TEXT(authority);
  LIST(headers, ([] { return HeaderMatch{"", TextMatch::present(), false}; }));
  LIST(query, ([] { return QueryMatch{"", TextMatch::present()}; }));
  LIST(claims, ([] { return ClaimMatch{{}, TextMatch::present(), false}; }));
  MESSAGE(source);
  FIELD(grpc);
}

template <class Way>
void map(Way& way, HeaderEdits& m, pbw::HeaderEdits& p) {
  LIST(set, fresh<TextPair>);
  LIST(add, fresh<TextPair>);
  STRINGS(remove);
}

template <class Way>
void map(Way& way, PathEdit& m, pbw::PathEdit& p) {
  CHOICE(kind, PathEdit::Kind::kRegex);
  FIELD(text);
  way.regex("regex", m.regex, p.regex(), p.mutable_regex());
}

template <class Way>
void map(Way& way, Rewrite& m, pbw::Rewrite& p) {
  MESSAGE(path);
  FIELD(authority);
}

template <class Way>
void map(Way& way, RouteTarget& m, pbw::RouteTarget& p) {
  MESSAGE(service);
  FIELD(subset);
  FIELD(port);
  FIELD(weight);
  MESSAGE(request);
  MESSAGE(response);
  MESSAGE(rewrite);
  FIELD(invalid);
}

template <class Way>
void map(Way& way, Redirect& m, pbw::Redirect& p) {
  MESSAGE(path);
  FIELD(authority);
  FIELD(scheme);
  FIELD(port);
  CHOICE(port_from, Redirect::PortFrom::kRequest);
  FIELD(status);
}

template <class Way>
void map(Way& way, DirectResponse& m, pbw::DirectResponse& p) {
  FIELD(status);
  FIELD(body);
}

template <class Way>
void map(Way& way, RetryPolicy& m, pbw::RetryPolicy& p) {
  FIELD(attempts);
  DURATION(per_try_timeout);
  FIELD(on);
  way.plain_list("status_codes", m.status_codes, *p.mutable_status_codes());
  STRINGS(response_headers);
  DURATION(backoff);
  FIELD(avoid_tried_hosts);
  FIELD(other_localities);
}

template <class Way>
void map(Way& way, FaultInjection& m, pbw::FaultInjection& p) {
  DURATION(delay);
  FIELD(delay_percent);
  FIELD(abort_status);
  OPTIONAL_SCALAR(abort_grpc_status);
  FIELD(abort_percent);
}

template <class Way>
void map(Way& way, Mirror& m, pbw::Mirror& p) {
  MESSAGE(target);
  FIELD(percent);
}

template <class Way>
void map(Way& way, Cors& m, pbw::Cors& p) {
  TEXTS(origins);
  STRINGS(methods);
  STRINGS(headers);
  STRINGS(expose);
  OPTIONAL_SCALAR(max_age);
  OPTIONAL_SCALAR(credentials);
  FIELD(forward_unmatched_preflights);
}

template <class Way>
void map(Way& way, SessionPersistence& m, pbw::SessionPersistence& p) {
  FIELD(name);
  FIELD(header);
  FIELD(permanent);
  DURATION(absolute);
  DURATION(idle);
}

template <class Way>
void map(Way& way, HttpRoute& m, pbw::HttpRoute& p) {
  FIELD(name);
  FIELD(origin);
  LIST(matches, fresh<RouteMatch>);
  LIST(targets, fresh<RouteTarget>);
  OPTIONAL(redirect, Redirect);
  OPTIONAL(direct, DirectResponse);
  FIELD(broken);
  MESSAGE(rewrite);
  MESSAGE(request);
  MESSAGE(response);
  DURATION(timeout);
  OPTIONAL(retries, RetryPolicy);
  OPTIONAL(fault, FaultInjection);
  LIST(mirrors, fresh<Mirror>);
  OPTIONAL(cors, Cors);
  OPTIONAL(session, SessionPersistence);
}

template <class Way>
void map(Way& way, TcpRoute& m, pbw::TcpRoute& p) {
  FIELD(name);
  FIELD(origin);
  FIELD(tls);
  STRINGS(server_names);
  RANGES(destinations);
  MESSAGE(source);
  LIST(targets, fresh<RouteTarget>);
}

template <class Way>
void map(Way& way, PortRoutes& m, pbw::PortRoutes& p) {
  FIELD(port);
  bool has_http = m.http.has_value(), has_tcp = m.tcp.has_value();
  way.scalar("has_http", has_http, p.has_http(), [&](bool v) { p.set_has_http(v); });
  way.scalar("has_tcp", has_tcp, p.has_tcp(), [&](bool v) { p.set_has_tcp(v); });
  auto each = [&](auto& a, auto& b) { map(way, a, b); };
  if (has_http) {
    if (!m.http) m.http.emplace();
    way.list("http", *m.http, *p.mutable_http(), fresh<HttpRoute>, each);
  }
  if (has_tcp) {
    if (!m.tcp) m.tcp.emplace();
    way.list("tcp", *m.tcp, *p.mutable_tcp(), fresh<TcpRoute>, each);
  }
}

// --- guard ---

template <class Way>
void map(Way& way, Either<TextMatch>& m, pbw::TextList& p) {
  TEXTS(any);
  TEXTS(none);
}
template <class Way>
void map(Way& way, Either<base::Cidr>& m, pbw::RangeList& p) {
  RANGES(any);
  RANGES(none);
}
template <class Way>
void map(Way& way, Either<uint16_t>& m, pbw::PortList& p) {
  STRINGS(any);
  STRINGS(none);
}
template <class Way>
void map(Way& way, ServiceAccountMatch& m, pbw::Pair& p) {
  way.scalar("name", m.ns, p.name(), [&](const auto& v) { p.set_name(v); });
  way.scalar("value", m.service_account, p.value(), [&](const auto& v) { p.set_value(v); });
}
template <class Way>
void map(Way& way, Either<ServiceAccountMatch>& m, pbw::AccountList& p) {
  LIST(any, fresh<ServiceAccountMatch>);
  LIST(none, fresh<ServiceAccountMatch>);
}

template <class Way>
void map(Way& way, HttpSource& m, pbw::HttpSource& p) {
  MESSAGE(principals);
  MESSAGE(request_principals);
  MESSAGE(namespaces);
  MESSAGE(service_accounts);
  MESSAGE(ip_blocks);
  MESSAGE(remote_ip_blocks);
  MESSAGE(trust_domains);
}

template <class Way>
void map(Way& way, HttpOperation& m, pbw::HttpOperation& p) {
  MESSAGE(hosts);
  MESSAGE(methods);
  MESSAGE(paths);
  MESSAGE(ports);
}

template <class Way>
void map(Way& way, Condition& m, pbw::Condition& p) {
  CHOICE(key, Condition::Key::kConnectionSni);
  FIELD(name);
  STRINGS(path);
  MESSAGE(values);
  MESSAGE(ranges);
}

template <class Way>
void map(Way& way, HttpRule& m, pbw::HttpRule& p) {
  LIST(from, fresh<HttpSource>);
  LIST(to, fresh<HttpOperation>);
  LIST(when, fresh<Condition>);
}

template <class Way, class Policy, class Message>
void map_selector(Way& way, Policy& m, Message& p) {
  way.optional(
      "selector", m.selector, p.has_selector(), [] { return LabelMap(); },
      [&] { return p.mutable_selector(); },
      [&](LabelMap& a, pbw::PodSelector& b) {
        way.labels("labels", a, *b.mutable_labels());
        way.scalar("everywhere", m.selector_everywhere, b.everywhere(), [&](bool v) { b.set_everywhere(v); });
      });
}

#define NAMESPACE_AND_NAME                                                                    \
  way.scalar("namespace", m.ns, p.namespace_(), [&](const auto& v) { p.set_namespace_(v); }); \
  FIELD(name)

template <class Way>
void map(Way& way, HttpPolicy& m, pbw::HttpPolicy& p) {
  NAMESPACE_AND_NAME;
  CHOICE(action, HttpPolicy::Action::kCustom);
  FIELD(dry_run);
  FIELD(provider);
  LIST(rules, fresh<HttpRule>);
  map_selector(way, m, p);
  FIELD(selector_ns);
}

template <class Way>
void map(Way& way, Authorizer::Body& m, pbw::Authorizer::Body& p) {
  FIELD(bytes_max);
  FIELD(partial);
  FIELD(as_bytes);
}

template <class Way>
void map(Way& way, Authorizer& m, pbw::Authorizer& p) {
  FIELD(name);
  FIELD(http);
  MESSAGE(service);
  FIELD(port);
  DURATION(timeout);
  FIELD(fail_open);
  FIELD(clear_route_cache);
  FIELD(status_on_error);
  OPTIONAL(body, Authorizer::Body);
  FIELD(path_prefix);
  TEXTS(request_headers);
  LIST(more_headers, fresh<TextPair>);
  TEXTS(to_upstream_on_allow);
  TEXTS(to_client_on_allow);
  TEXTS(to_client_on_deny);
}

template <class Way>
void map(Way& way, TokenPlace& m, pbw::TokenPlace& p) {
  CHOICE(kind, TokenPlace::Kind::kCookie);
  FIELD(name);
  FIELD(prefix);
}

template <class Way>
void map(Way& way, JwtRule& m, pbw::JwtRule& p) {
  FIELD(issuer);
  STRINGS(audiences);
  FIELD(jwks);
  FIELD(inline_keys);
  LIST(places, fresh<TokenPlace>);
  FIELD(payload_header);
  LIST(claim_headers, fresh<TextPair>);
  FIELD(forward_token);
  STRINGS(space_delimited_claims);
}

template <class Way>
void map(Way& way, RequestAuthentication& m, pbw::RequestAuthentication& p) {
  NAMESPACE_AND_NAME;
  LIST(rules, fresh<JwtRule>);
  map_selector(way, m, p);
}

template <class Way>
void map(Way& way, RateLimitKey& m, pbw::RateLimitKey& p) {
  CHOICE(kind, RateLimitKey::Kind::kQuery);
  FIELD(name);
}

template <class Way>
void map(Way& way, RateLimitRule& m, pbw::RateLimitRule& p) {
  FIELD(name);
  LIST(matches, fresh<RouteMatch>);
  LIST(from, fresh<HttpSource>);
  LIST(key, fresh<RateLimitKey>);
  FIELD(requests);
  DURATION(per);
  FIELD(burst);
  FIELD(cost);
  FIELD(cost_header);
  FIELD(keys_max);
  FIELD(route);
  FIELD(global);
}

template <class Way>
void map(Way& way, RateLimitService& m, pbw::RateLimitService& p) {
  MESSAGE(service);
  FIELD(port);
  FIELD(domain);
  DURATION(timeout);
  FIELD(deny_on_failure);
}

template <class Way>
void map(Way& way, RateLimitPolicy& m, pbw::RateLimitPolicy& p) {
  NAMESPACE_AND_NAME;
  FIELD(shadow);
  LIST(rules, fresh<RateLimitRule>);
  FIELD(status);
  CHOICE(headers, RateLimitPolicy::HeaderStyle::kNone);
  FIELD(grpc_status);
  OPTIONAL(service, RateLimitService);
}

// --- telemetry ---

template <class Way>
void map(Way& way, MetricOverride& m, pbw::MetricOverride& p) {
  FIELD(metric);
  FIELD(disabled);
  way.labels("tags", m.tags, *p.mutable_tags());
}

template <class Way>
void map(Way& way, AccessLogRule& m, pbw::AccessLogRule& p) {
  FIELD(enabled);
  FIELD(filter);
}

template <class Way>
void map(Way& way, TraceTag& m, pbw::TraceTag& p) {
  CHOICE(kind, TraceTag::Kind::kHeader);
  FIELD(value);
  FIELD(fallback);
}

template <class Way>
void map(Way& way, TraceRule& m, pbw::TraceRule& p) {
  CHOICE(protocol, TraceRule::Protocol::kOtlpHttp);
  FIELD(host);
  FIELD(port);
  FIELD(path);
  FIELD(sampling_percent);
  FIELD(disabled);
  FIELD(request_id_decides);
  FIELD(istio_tags);
  FIELD(with_w3c);
  FIELD(propagate);
  DURATION(timeout);
  FIELD(path_bytes_max);
  auto tags = [&](auto& ours, auto& theirs) {
    if constexpr (std::is_same_v<Way, Encode>) {
      for (auto& [name, tag] : ours) map(way, tag, theirs[name]);
    } else {
      for (auto& [name, tag] : theirs) map(way, ours[name], tag);
    }
  };
  tags(m.tags, *p.mutable_tags());
  tags(m.headers, *p.mutable_headers());
}

// --- what is sent ---

template <class Way, class Message>
void map_version(Way& way, Message& p) {
  uint32_t version = kVersion;
  way.scalar("version", version, p.version(), [&](uint32_t v) { p.set_version(v); });
  if constexpr (std::is_same_v<Way, Decode>) {
    if (version != kVersion) way.fail("version", std::to_string(version) + " is not one this build knows");
  }
}

template <class Way>
void map(Way& way, WaypointService& m, pbw::WaypointService& p) {
  map_version(way, p);
  MESSAGE(service);
  auto each = [&](auto& a, auto& b) { map(way, a, b); };
  way.list("ports", m.routes.ports, *p.mutable_ports(), fresh<PortRoutes>, each);
  if constexpr (std::is_same_v<Way, Encode>) {
    for (auto& [ns, ports] : m.routes.by_client_namespace) {
      pbw::ClientRoutes& routes = *p.add_clients();
      routes.set_namespace_(ns);
      way.list("clients", ports, *routes.mutable_ports(), fresh<PortRoutes>, each);
    }
  } else {
    for (pbw::ClientRoutes& routes : *p.mutable_clients()) {
      std::vector<PortRoutes>& ports = m.routes.by_client_namespace[routes.namespace_()];
      way.list("clients", ports, *routes.mutable_ports(), fresh<PortRoutes>, each);
    }
  }
  way.list("policies", m.guard.policies, *p.mutable_policies(), fresh<HttpPolicy>, each);
  way.list("authentications", m.guard.authentications, *p.mutable_authentications(),
           fresh<RequestAuthentication>, each);
  way.list("rate_limits", m.guard.rate_limits, *p.mutable_rate_limits(), fresh<RateLimitPolicy>, each);
  way.list("authorizers", m.guard.authorizers, *p.mutable_authorizers(), fresh<Authorizer>, each);
  way.list("metrics", m.telemetry.metrics, *p.mutable_metrics(), fresh<MetricOverride>, each);
  way.list("access_logs", m.telemetry.access_logs, *p.mutable_access_logs(), fresh<AccessLogRule>, each);
  way.optional(
      "trace", m.telemetry.trace, p.has_trace(), fresh<TraceRule>, [&] { return p.mutable_trace(); }, each);
}

template <class Way>
void map(Way& way, HashPolicy& m, pbw::HashPolicy& p) {
  CHOICE(kind, HashPolicy::Kind::kCookie);
  FIELD(name);
  OPTIONAL_SCALAR(ttl);
  FIELD(path);
  LIST(attributes, fresh<TextPair>);
}

template <class Way>
void map(Way& way, LocalityPreference::Distribute& m, pbw::LocalityPreference::Distribute& p) {
  FIELD(from);
  if constexpr (std::is_same_v<Way, Encode>) {
    for (const auto& [to, weight] : m.to) (*p.mutable_to())[to] = weight;
  } else {
    m.to = {p.to().begin(), p.to().end()};
  }
}

template <class Way>
void map(Way& way, LocalityPreference& m, pbw::LocalityPreference& p) {
  FIELD(enabled);
  LIST(distribute, fresh<LocalityPreference::Distribute>);
  LIST(failover, fresh<TextPair>);
  STRINGS(failover_priority);
  FIELD(effective);
}

template <class Way>
void map(Way& way, Balancer& m, pbw::Balancer& p) {
  CHOICE(kind, Balancer::Kind::kMaglev);
  OPTIONAL(hash, HashPolicy);
  FIELD(table_size);
  MESSAGE(locality);
  DURATION(warmup);
  FIELD(warmup_percent_min);
  FIELD(warmup_aggression);
}

template <class Way>
void map(Way& way, PoolLimits& m, pbw::PoolLimits& p) {
  FIELD(connections_max);
  FIELD(pending_max);
  FIELD(requests_max);
  FIELD(requests_per_connection_max);
  FIELD(retries_max);
  FIELD(streams_max);
  DURATION(connect_timeout);
  DURATION(tcp_idle_timeout);
  DURATION(http_idle_timeout);
  DURATION(connection_duration_max);
  FIELD(keepalive_probes);
  DURATION(keepalive_time);
  DURATION(keepalive_interval);
  DURATION(ping_interval);
  DURATION(ping_timeout);
  CHOICE(upgrade, PoolLimits::Upgrade::kDoNotUpgrade);
  FIELD(use_client_protocol);
}

template <class Way>
void map(Way& way, OutlierDetection& m, pbw::OutlierDetection& p) {
  FIELD(consecutive_5xx);
  FIELD(consecutive_gateway_errors);
  FIELD(split_local_errors);
  FIELD(consecutive_local_errors);
  using Codes = std::pair<uint16_t, uint16_t>;
  way.list("error_codes", m.error_codes, *p.mutable_error_codes(), fresh<Codes>,
           [&](Codes& a, pbw::OutlierDetection::Codes& b) {
             way.scalar("from", a.first, b.from(), [&](auto v) { b.set_from(v); });
             way.scalar("to", a.second, b.to(), [&](auto v) { b.set_to(v); });
           });
  DURATION(interval);
  DURATION(base_ejection_time);
  FIELD(ejection_percent_max);
  FIELD(health_percent_min);
  FIELD(request_volume_min);
}

template <class Way>
void map(Way& way, BackendTls& m, pbw::BackendTls& p) {
  FIELD(verify);
  FIELD(server_name);
  STRINGS(subject_alt_names);
  FIELD(roots);
  FIELD(certificate);
  FIELD(key);
  FIELD(key_owner);
  FIELD(broken);
}

template <class Way>
void map(Way& way, HttpTunnel& m, pbw::HttpTunnel& p) {
  FIELD(authority);
  FIELD(broken);
}

template <class Way>
void map(Way& way, RetryBudget& m, pbw::RetryBudget& p) {
  FIELD(percent);
  FIELD(concurrency_min);
}

template <class Way>
void map(Way& way, TrafficPolicy& m, pbw::TrafficPolicy& p) {
  MESSAGE(balancer);
  MESSAGE(pool);
  OPTIONAL(outliers, OutlierDetection);
  OPTIONAL(tls, BackendTls);
  OPTIONAL(retry_budget, RetryBudget);
  FIELD(proxy_protocol);
  OPTIONAL(tunnel, HttpTunnel);
  OPTIONAL(session, SessionPersistence);
}

template <class Way>
void map(Way& way, PortedPolicy& m, pbw::PortedPolicy& p) {
  MESSAGE(all);
  if constexpr (std::is_same_v<Way, Encode>) {
    for (auto& [port, policy] : m.by_port) map(way, policy, (*p.mutable_by_port())[port]);
  } else {
    for (auto& [port, policy] : *p.mutable_by_port()) {
      if (port > 65535) way.fail("by_port", std::to_string(port) + " is above 65535");
      map(way, m.by_port[static_cast<uint16_t>(port)], policy);
    }
  }
}

template <class Way>
void map(Way& way, Subset& m, pbw::Subset& p) {
  FIELD(name);
  way.labels("labels", m.labels, *p.mutable_labels());
  MESSAGE(policy);
}

template <class Way>
void map(Way& way, Backend& m, pbw::Backend& p) {
  map_version(way, p);
  MESSAGE(service);
  MESSAGE(policy);
  LIST(subsets, fresh<Subset>);
  CHOICE(names, Backend::Names::kRace);
}

template <class Way>
void map(Way& way, WorkloadLabels& m, pbw::WorkloadLabels& p) {
  map_version(way, p);
  FIELD(uid);
  way.labels("labels", m.labels, *p.mutable_labels());
}

template <class Way>
void map(Way& way, WaypointSettings& m, pbw::WaypointSettings& p) {
  map_version(way, p);
  FIELD(access_log_file);
  FIELD(access_log_format);
  FIELD(access_log_json);
  CHOICE(paths, WaypointSettings::PathNormalization::kDecodeAndMergeSlashes);
  MESSAGE(default_retries);
  STRINGS(trust_domain_aliases);
  FIELD(trusted_proxies);
  FIELD(allow_any_outbound);
  FIELD(server_header);
  FIELD(client_retry_hints);
  DURATION(dns_refresh);
  FIELD(session_key);
}

template <class Message, class Value>
std::string encode_as(const Value& value) {
  Message message;
  Encode way;
  Value copy = value;
  map(way, copy, message);
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);  // maps in the order of their keys
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

template <class Message, class Value>
Result<Value> decode_as(base::ByteView bytes) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return base::fail(Code::kInvalid, "not a " + message.GetTypeName());
  }
  Decode way;
  Value value;
  map(way, value, message);
  if (way.error) return base::fail(std::move(*way.error));
  return value;
}

template <class Value>
Result<Value> named(Result<Value> value, std::string_view xds_name, const std::string& own_name) {
  if (value && !xds_name.empty() && xds_name != own_name) {
    return base::fail(Code::kInvalid,
                      "sent as \"" + std::string(xds_name) + "\", but is \"" + own_name + "\"");
  }
  return value;
}

}  // namespace

std::string encode(const WaypointService& service) { return encode_as<pbw::WaypointService>(service); }
std::string encode(const Backend& backend) { return encode_as<pbw::Backend>(backend); }
std::string encode(const WorkloadLabels& labels) { return encode_as<pbw::WorkloadLabels>(labels); }
std::string encode(const WaypointSettings& settings) { return encode_as<pbw::WaypointSettings>(settings); }

Result<WaypointService> decode_waypoint_service(base::ByteView bytes, std::string_view xds_name) {
  auto value = decode_as<pbw::WaypointService, WaypointService>(bytes);
  std::string own = value ? value->service.to_string() : "";
  return named(std::move(value), xds_name, own);
}
Result<Backend> decode_backend(base::ByteView bytes, std::string_view xds_name) {
  auto value = decode_as<pbw::Backend, Backend>(bytes);
  std::string own = value ? value->service.to_string() : "";
  return named(std::move(value), xds_name, own);
}
Result<WorkloadLabels> decode_workload_labels(base::ByteView bytes, std::string_view xds_name) {
  auto value = decode_as<pbw::WorkloadLabels, WorkloadLabels>(bytes);
  std::string own = value ? value->uid : "";
  return named(std::move(value), xds_name, own);
}
Result<WaypointSettings> decode_waypoint_settings(base::ByteView bytes, std::string_view xds_name) {
  return named(decode_as<pbw::WaypointSettings, WaypointSettings>(bytes), xds_name,
               std::string(kSettingsName));
}

}  // namespace culvert::xds
