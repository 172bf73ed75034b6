// SPDX-License-Identifier: Apache-2.0
// Gateway API routes and ReferenceGrant, strictly (spec waypoint section 2.4).
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "mesh/kube/decode.h"
#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

constexpr std::string_view kMethods[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                         "CONNECT", "OPTIONS", "TRACE", "PATCH"};

std::vector<ParentRef> decode_parents(const Cursor& at) {
  std::vector<ParentRef> out;
  for (const Cursor& item : at.items()) {
    item.only({"group", "kind", "namespace", "name", "sectionName", "port"});
    ParentRef parent;
    parent.line = item.line();
    parent.group = item.at("group").text(parent.group);
    parent.kind = item.at("kind").text(parent.kind);
    parent.ns = item.at("namespace").text();
    parent.name = decode_needed(item, "name");
    parent.section_name = item.at("sectionName").text();
    parent.port = decode_port(item.at("port"));
    out.push_back(std::move(parent));
  }
  return out;
}

std::vector<std::string> decode_hostnames(const Cursor& at) {
  std::vector<std::string> out;
  for (const Cursor& item : at.items()) out.push_back(decode_host(item, true));
  return out;
}

ValueMatch decode_value_match(const Cursor& item, bool header) {
  item.only({"type", "name", "value"});
  ValueMatch match;
  match.name = decode_needed(item, "name");
  if (header && !match.name.empty()) check_header_name(item.at("name"), match.name);
  match.regex = decode_choice<bool>(item.at("type"), false, {{"Exact", false}, {"RegularExpression", true}});
  if (item.at("value").absent()) item.at("value").fail("is missing");
  match.value = item.at("value").text();
  if (match.regex) check_regex(item.at("value"), match.value);
  return match;
}

PathModifier decode_path_modifier(const Cursor& at) {
  at.only({"type", "replaceFullPath", "replacePrefixMatch"});
  PathModifier modifier;
  if (at.at("type").absent()) at.at("type").fail("is missing");
  modifier.prefix =
      decode_choice<bool>(at.at("type"), false, {{"ReplaceFullPath", false}, {"ReplacePrefixMatch", true}});
  const char* wanted = modifier.prefix ? "replacePrefixMatch" : "replaceFullPath";
  const char* other = modifier.prefix ? "replaceFullPath" : "replacePrefixMatch";
  if (at.at(wanted).absent()) at.at(wanted).fail("is missing");
  if (!at.at(other).absent()) at.at(other).fail(fmt::format("does not go with this type; write {}", wanted));
  modifier.value = at.at(wanted).text();
  check_header_value(at.at(wanted), modifier.value);
  return modifier;
}

HeaderEdits decode_route_edits(const Cursor& at) {
  at.only({"set", "add", "remove"});
  HeaderEdits edits;
  for (auto [key, list] : {std::pair("set", &edits.set), std::pair("add", &edits.add)}) {
    for (const Cursor& item : at.at(key).items()) {
      item.only({"name", "value"});
      HeaderValue header{decode_needed(item, "name"), item.at("value").text()};
      if (item.at("value").absent()) item.at("value").fail("is missing");
      check_header_name(item.at("name"), header.name);
      check_header_value(item.at("value"), header.value);
      list->push_back(std::move(header));
    }
  }
  for (const Cursor& item : at.at("remove").items()) {
    edits.remove.push_back(decode_header_name(item));
    std::string name = edits.remove.back();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (name == "host" || name.starts_with(":")) item.fail(fmt::format("\"{}\" must not be removed", name));
  }
  return edits;
}

// Without weight and filters.
BackendObject decode_backend_fields(const Cursor& at) {
  BackendObject out;
  if (at.absent()) {
    at.fail("is missing");
    return out;
  }
  out.line = at.line();
  out.group = at.at("group").text();
  out.kind = at.at("kind").text(out.kind);
  out.ns = at.at("namespace").text();
  out.name = decode_needed(at, "name");
  out.port = decode_port(at.at("port"));
  if (out.port == 0 && out.group.empty() && out.kind == "Service") {
    at.at("port").fail("is missing: the Service's port");
  }
  return out;
}

RequestRedirect decode_redirect(const Cursor& at) {
  at.only({"scheme", "hostname", "path", "port", "statusCode"});
  RequestRedirect redirect;
  redirect.scheme = decode_choice<std::string>(at.at("scheme"), "", {{"http", "http"}, {"https", "https"}});
  if (!at.at("hostname").absent()) redirect.hostname = decode_host(at.at("hostname"), false);
  if (!at.at("path").absent()) redirect.path = decode_path_modifier(at.at("path"));
  redirect.port = decode_port(at.at("port"));
  redirect.status = decode_choice<uint16_t>(
      at.at("statusCode"), 302, {{"301", 301}, {"302", 302}, {"303", 303}, {"307", 307}, {"308", 308}});
  return redirect;
}

UrlRewrite decode_url_rewrite(const Cursor& at) {
  at.only({"hostname", "path"});
  UrlRewrite rewrite;
  if (!at.at("hostname").absent()) rewrite.hostname = decode_host(at.at("hostname"), false);
  if (!at.at("path").absent()) rewrite.path = decode_path_modifier(at.at("path"));
  return rewrite;
}

RequestMirror decode_mirror(const Cursor& at) {
  at.only({"backendRef", "percent", "fraction"});
  RequestMirror mirror;
  mirror.backend = decode_backend_ref(at.at("backendRef"));
  mirror.percent = decode_number(at.at("percent"), 0, 100, 100);
  if (Cursor fraction = at.at("fraction"); !fraction.absent()) {
    if (!at.at("percent").absent()) fraction.fail("excludes percent; keep one of the two");
    fraction.only({"numerator", "denominator"});
    if (fraction.at("numerator").absent()) fraction.at("numerator").fail("is missing");
    auto part = static_cast<double>(fraction.at("numerator").integer(0, INT32_MAX, 0));
    auto whole = static_cast<double>(fraction.at("denominator").integer(1, INT32_MAX, 100));
    if (part > whole) fraction.fail("must not be more than the whole");
    mirror.percent = std::min(100.0, 100 * part / whole);
  }
  return mirror;
}

CorsFilter decode_cors(const Cursor& at) {
  at.only({"allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "allowCredentials", "maxAge"});
  CorsFilter cors;
  for (auto [key, list] :
       {std::pair("allowOrigins", &cors.allow_origins), std::pair("allowMethods", &cors.allow_methods),
        std::pair("allowHeaders", &cors.allow_headers), std::pair("exposeHeaders", &cors.expose_headers)}) {
    *list = at.at(key).texts();
    for (const std::string& value : *list) check_header_value(at.at(key), value);
  }
  cors.allow_credentials = at.at("allowCredentials").flag();
  if (!at.at("maxAge").absent()) {
    cors.max_age = std::chrono::seconds(at.at("maxAge").integer(1, INT32_MAX, 5));
  }
  return cors;
}

ExternalAuth decode_external_auth(const Cursor& at) {
  at.only({"protocol", "backendRef", "grpc", "http", "forwardBody"});
  ExternalAuth auth;
  if (at.at("protocol").absent()) at.at("protocol").fail("is missing");
  auth.http = decode_choice<bool>(at.at("protocol"), false, {{"GRPC", false}, {"HTTP", true}});
  auth.backend = decode_backend_ref(at.at("backendRef"));
  Cursor grpc = at.at("grpc"), http = at.at("http");
  grpc.only({"allowedHeaders"});
  http.only({"path", "allowedHeaders", "allowedResponseHeaders"});
  if (auth.http && !grpc.absent()) grpc.fail("does not go with protocol HTTP");
  if (!auth.http && !http.absent()) http.fail("does not go with protocol GRPC");
  auth.allowed_headers = (auth.http ? http : grpc).at("allowedHeaders").texts();
  auth.path = http.at("path").text();
  check_header_value(http.at("path"), auth.path);
  auth.allowed_response_headers = http.at("allowedResponseHeaders").texts();
  at.at("forwardBody").only({"maxSize"});
  auth.forward_body_max = decode_count(at.at("forwardBody").at("maxSize"), 0, UINT16_MAX);
  return auth;
}

std::optional<RouteFilter> decode_filter(const Cursor& at, bool grpc) {
  if (grpc) {
    at.only({"type", "requestHeaderModifier", "responseHeaderModifier", "requestMirror", "extensionRef"});
  } else {
    at.only({"type", "requestHeaderModifier", "responseHeaderModifier", "requestMirror", "requestRedirect",
             "urlRewrite", "cors", "externalAuth", "extensionRef"});
  }
  std::string type = decode_needed(at, "type");
  struct Form {
    std::string_view type;
    const char* field;
    RouteFilter (*decode)(const Cursor&);
  };
  static const Form kForms[] = {
      {"RequestHeaderModifier", "requestHeaderModifier",
       [](const Cursor& c) { return RouteFilter(RequestHeaderModifier{decode_route_edits(c)}); }},
      {"ResponseHeaderModifier", "responseHeaderModifier",
       [](const Cursor& c) { return RouteFilter(ResponseHeaderModifier{decode_route_edits(c)}); }},
      {"RequestMirror", "requestMirror", [](const Cursor& c) { return RouteFilter(decode_mirror(c)); }},
      {"ExtensionRef", "extensionRef",
       [](const Cursor& c) {
         c.only({"group", "kind", "name"});
         return RouteFilter(
             ExtensionRef{c.at("group").text(), decode_needed(c, "kind"), decode_needed(c, "name")});
       }},
      {"RequestRedirect", "requestRedirect", [](const Cursor& c) { return RouteFilter(decode_redirect(c)); }},
      {"URLRewrite", "urlRewrite", [](const Cursor& c) { return RouteFilter(decode_url_rewrite(c)); }},
      {"CORS", "cors", [](const Cursor& c) { return RouteFilter(decode_cors(c)); }},
      {"ExternalAuth", "externalAuth", [](const Cursor& c) { return RouteFilter(decode_external_auth(c)); }},
  };
  constexpr size_t kGrpcForms = 4;  // the first ones
  const Form* form = nullptr;
  std::vector<std::string_view> known;
  for (size_t i = 0; i < (grpc ? kGrpcForms : std::size(kForms)); ++i) {
    known.push_back(kForms[i].type);
    if (kForms[i].type == type) form = &kForms[i];
  }
  if (!form) {
    if (!type.empty()) {
      at.at("type").fail(fmt::format("\"{}\" must be one of: {}", type, fmt::join(known, ", ")));
    }
    return std::nullopt;
  }
  for (const auto& [key, value] : at.fields()) {
    if (key != "type" && key != form->field && !value.absent()) {
      value.fail(fmt::format("does not go with type {}; write {}", type, form->field));
    }
  }
  if (at.at(form->field).absent()) {
    at.at(form->field).fail("is missing");
    return std::nullopt;
  }
  return form->decode(at.at(form->field));
}

std::vector<RouteFilter> decode_filters(const Cursor& at, bool grpc) {
  std::vector<RouteFilter> out;
  size_t seen[std::variant_size_v<RouteFilter>] = {};
  bool redirect = false, rewrite = false;
  for (const Cursor& item : at.items()) {
    std::optional<RouteFilter> filter = decode_filter(item, grpc);
    if (!filter) continue;
    bool many =
        std::holds_alternative<RequestMirror>(*filter) || std::holds_alternative<ExtensionRef>(*filter);
    if (++seen[filter->index()] > 1 && !many) item.fail("a filter of this type is given twice");
    redirect = redirect || std::holds_alternative<RequestRedirect>(*filter);
    rewrite = rewrite || std::holds_alternative<UrlRewrite>(*filter);
    out.push_back(std::move(*filter));
  }
  if (redirect && rewrite) at.fail("RequestRedirect and URLRewrite exclude one another");
  return out;
}

std::vector<RouteBackend> decode_backends(const Cursor& at, bool filters, bool grpc) {
  std::vector<RouteBackend> out;
  for (const Cursor& item : at.items()) {
    if (filters) {
      item.only({"group", "kind", "namespace", "name", "port", "weight", "filters"});
    } else {
      item.only({"group", "kind", "namespace", "name", "port", "weight"});
    }
    RouteBackend backend;
    static_cast<BackendObject&>(backend) = decode_backend_fields(item);
    backend.weight = decode_count(item.at("weight"), 1, 1'000'000);
    backend.filters = decode_filters(item.at("filters"), grpc);
    out.push_back(std::move(backend));
  }
  return out;
}

bool has_redirect(const std::vector<RouteFilter>& filters) {
  return std::any_of(filters.begin(), filters.end(),
                     [](const RouteFilter& f) { return std::holds_alternative<RequestRedirect>(f); });
}

// Replacing a prefix needs one that was matched.
void check_prefix_replacement(const Cursor& at, const HttpRoute::Rule& rule) {
  for (const RouteFilter& filter : rule.filters) {
    const std::optional<PathModifier>* path = nullptr;
    if (const auto* redirect = std::get_if<RequestRedirect>(&filter)) path = &redirect->path;
    if (const auto* rewrite = std::get_if<UrlRewrite>(&filter)) path = &rewrite->path;
    if (!path || !path->has_value() || !(*path)->prefix) continue;
    for (const HttpRouteMatch& match : rule.matches) {
      if (match.path.type != RoutePath::Type::kPrefix) {
        at.at("matches").fail("ReplacePrefixMatch needs matches of path type PathPrefix");
        return;
      }
    }
  }
}

HttpRoute::Rule decode_http_rule(const Cursor& at) {
  at.only({"name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence"});
  HttpRoute::Rule rule;
  rule.line = at.line();
  rule.name = at.at("name").text();
  for (const Cursor& item : at.at("matches").items()) rule.matches.push_back(decode_http_route_match(item));
  if (rule.matches.empty()) rule.matches.emplace_back();
  rule.filters = decode_filters(at.at("filters"), false);
  rule.backends = decode_backends(at.at("backendRefs"), true, false);
  check_prefix_replacement(at, rule);
  if (has_redirect(rule.filters) && !rule.backends.empty()) {
    at.at("backendRefs").fail("must be empty with a RequestRedirect");
  }
  Cursor timeouts = at.at("timeouts");
  timeouts.only({"request", "backendRequest"});
  rule.request_timeout = decode_duration(timeouts.at("request"));
  rule.backend_request_timeout = decode_duration(timeouts.at("backendRequest"));
  if (rule.request_timeout && rule.backend_request_timeout && *rule.request_timeout != base::Duration{} &&
      *rule.backend_request_timeout > *rule.request_timeout) {
    timeouts.at("backendRequest").fail("must not be longer than request");
  }
  if (Cursor retry = at.at("retry"); !retry.absent()) {
    retry.only({"codes", "attempts", "backoff"});
    rule.retry.emplace();
    for (const Cursor& code : retry.at("codes").items()) {
      rule.retry->codes.push_back(static_cast<uint16_t>(code.integer(400, 599, 500)));
    }
    if (!retry.at("attempts").absent()) rule.retry->attempts = decode_count(retry.at("attempts"), 0, 1000);
    rule.retry->backoff = decode_duration(retry.at("backoff"));
  }
  if (!at.at("sessionPersistence").absent()) rule.session = decode_session(at.at("sessionPersistence"));
  return rule;
}

GrpcRoute::Match decode_grpc_match(const Cursor& at) {
  at.only({"method", "headers"});
  GrpcRoute::Match match;
  if (Cursor method = at.at("method"); !method.absent()) {
    method.only({"type", "service", "method"});
    match.regex =
        decode_choice<bool>(method.at("type"), false, {{"Exact", false}, {"RegularExpression", true}});
    match.service = method.at("service").text();
    match.method = method.at("method").text();
    if (match.service.empty() && match.method.empty()) method.fail("must have service, method or both");
    for (auto [key, text] : {std::pair("service", &match.service), std::pair("method", &match.method)}) {
      if (match.regex && !text->empty()) check_regex(method.at(key), *text);
      if (!match.regex && text->find('/') != std::string::npos) method.at(key).fail("must not hold a slash");
    }
  }
  for (const Cursor& item : at.at("headers").items()) match.headers.push_back(decode_value_match(item, true));
  return match;
}

GrpcRoute::Rule decode_grpc_rule(const Cursor& at) {
  at.only({"name", "matches", "filters", "backendRefs", "sessionPersistence"});
  GrpcRoute::Rule rule;
  rule.line = at.line();
  rule.name = at.at("name").text();
  for (const Cursor& item : at.at("matches").items()) rule.matches.push_back(decode_grpc_match(item));
  rule.filters = decode_filters(at.at("filters"), true);
  rule.backends = decode_backends(at.at("backendRefs"), true, true);
  if (!at.at("sessionPersistence").absent()) rule.session = decode_session(at.at("sessionPersistence"));
  return rule;
}

std::vector<L4RouteRule> decode_l4_rules(const Cursor& at) {
  std::vector<L4RouteRule> out;
  for (const Cursor& item : at.items()) {
    item.only({"name", "backendRefs"});
    out.push_back(
        {item.at("name").text(), decode_backends(item.at("backendRefs"), false, false), item.line()});
    if (out.back().backends.empty()) item.at("backendRefs").fail("must have at least one item");
  }
  if (out.empty()) at.fail("must have at least one rule");
  return out;
}

}  // namespace

HttpRouteMatch decode_http_route_match(const Cursor& at) {
  at.only({"path", "headers", "queryParams", "method"});
  HttpRouteMatch match;
  if (Cursor path = at.at("path"); !path.absent()) {
    path.only({"type", "value"});
    using Type = RoutePath::Type;
    match.path.type = decode_choice<Type>(
        path.at("type"), Type::kPrefix,
        {{"Exact", Type::kExact}, {"PathPrefix", Type::kPrefix}, {"RegularExpression", Type::kRegex}});
    match.path.value = path.at("value").text("/");
    if (match.path.type == Type::kRegex) {
      check_regex(path.at("value"), match.path.value);
    } else if (!match.path.value.starts_with("/")) {
      path.at("value").fail(fmt::format("\"{}\" must begin with a slash", match.path.value));
    }
  }
  for (const Cursor& item : at.at("headers").items()) match.headers.push_back(decode_value_match(item, true));
  for (const Cursor& item : at.at("queryParams").items()) {
    match.query_params.push_back(decode_value_match(item, false));
  }
  match.method = at.at("method").text();
  if (!match.method.empty() &&
      std::find(std::begin(kMethods), std::end(kMethods), match.method) == std::end(kMethods)) {
    at.at("method").fail(fmt::format("\"{}\" must be one of: {}", match.method, fmt::join(kMethods, ", ")));
  }
  return match;
}

BackendObject decode_backend_ref(const Cursor& at) {
  at.only({"group", "kind", "namespace", "name", "port"});
  return decode_backend_fields(at);
}

SessionPersistence decode_session(const Cursor& at) {
  at.only({"sessionName", "absoluteTimeout", "idleTimeout", "type", "cookieConfig"});
  SessionPersistence out;
  out.name = at.at("sessionName").text();
  if (!out.name.empty()) check_header_name(at.at("sessionName"), out.name);
  out.header = decode_choice<bool>(at.at("type"), false, {{"Cookie", false}, {"Header", true}});
  out.absolute_timeout = decode_duration(at.at("absoluteTimeout"));
  out.idle_timeout = decode_duration(at.at("idleTimeout"));
  Cursor cookie = at.at("cookieConfig");
  cookie.only({"lifetimeType"});
  out.permanent =
      decode_choice<bool>(cookie.at("lifetimeType"), false, {{"Session", false}, {"Permanent", true}});
  if (out.header && !cookie.absent()) cookie.fail("does not go with type Header");
  if (out.permanent && !out.absolute_timeout) {
    at.at("absoluteTimeout").fail("is missing: a Permanent cookie needs it");
  }
  return out;
}

HttpRoute decode_http_route_object(const Cursor& root, Meta meta) {
  HttpRoute route;
  route.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"parentRefs", "hostnames", "rules"});
  route.parents = decode_parents(spec.at("parentRefs"));
  route.hostnames = decode_hostnames(spec.at("hostnames"));
  for (const Cursor& item : spec.at("rules").items()) route.rules.push_back(decode_http_rule(item));
  if (spec.at("rules").absent()) {  // the API's default: everything, and no backend
    route.rules.emplace_back().matches.emplace_back();
  }
  return route;
}

GrpcRoute decode_grpc_route(const Cursor& root, Meta meta) {
  GrpcRoute route;
  route.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"parentRefs", "hostnames", "rules"});
  route.parents = decode_parents(spec.at("parentRefs"));
  route.hostnames = decode_hostnames(spec.at("hostnames"));
  for (const Cursor& item : spec.at("rules").items()) route.rules.push_back(decode_grpc_rule(item));
  return route;
}

TcpRoute decode_tcp_route(const Cursor& root, Meta meta) {
  Cursor spec = root.at("spec");
  spec.only({"parentRefs", "rules"});
  return {std::move(meta), decode_parents(spec.at("parentRefs")), decode_l4_rules(spec.at("rules"))};
}

TlsRoute decode_tls_route(const Cursor& root, Meta meta) {
  Cursor spec = root.at("spec");
  spec.only({"parentRefs", "hostnames", "rules"});
  return {std::move(meta), decode_parents(spec.at("parentRefs")), decode_hostnames(spec.at("hostnames")),
          decode_l4_rules(spec.at("rules"))};
}

ReferenceGrant decode_reference_grant(const Cursor& root, Meta meta) {
  ReferenceGrant grant;
  grant.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"from", "to"});
  for (const Cursor& item : spec.at("from").items()) {
    item.only({"group", "kind", "namespace"});
    grant.from.push_back(
        {item.at("group").text(), decode_needed(item, "kind"), decode_needed(item, "namespace")});
  }
  for (const Cursor& item : spec.at("to").items()) {
    item.only({"group", "kind", "name"});
    grant.to.push_back({item.at("group").text(), decode_needed(item, "kind"), item.at("name").text()});
  }
  for (const char* key : {"from", "to"}) {
    if (spec.at(key).absent() || (spec.at(key).is_list() && spec.at(key).items().empty())) {
      spec.at(key).fail("must have at least one item");
    }
  }
  return grant;
}

}  // namespace culvert::kube
