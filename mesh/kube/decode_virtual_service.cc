// SPDX-License-Identifier: Apache-2.0
// VirtualService, strictly (spec waypoint sections 2.1 and 2.2).
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"
#include "mesh/model/text_match.h"
#include "net/base/ip.h"

namespace culvert::kube {

namespace {

using Vs = VirtualService;

constexpr size_t kBodyBytesMax = 1 << 20;  // of a direct response (spec 2.1.4)

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

Vs::Destination decode_destination(const Cursor& at) {
  at.only({"host", "subset", "port"});
  Vs::Destination out;
  if (at.absent()) {
    at.fail("is missing");
    return out;
  }
  out.line = at.line();
  if (at.at("host").absent()) {
    at.at("host").fail("is missing");
  } else {
    out.host = decode_host(at.at("host"), false);
  }
  out.subset = at.at("subset").text();
  at.at("port").only({"number"});
  out.port = decode_port(at.at("port").at("number"));
  return out;
}

void decode_headers(const Cursor& at, HeaderEdits& request, HeaderEdits& response) {
  at.only({"request", "response"});
  request = decode_header_edits(at.at("request"));
  response = decode_header_edits(at.at("response"));
  for (const std::string& name : request.remove) {
    if (lower(name) == "host" || name.starts_with(":")) {
      at.at("request").at("remove").fail(fmt::format("\"{}\" must not be removed", name));
    }
  }
}

// {value: 12.5}; absent: `fallback`.
double decode_percentage(const Cursor& at, double fallback) {
  if (at.absent()) return fallback;
  at.only({"value"});
  return decode_number(at.at("value"), 0, 100, 0);
}

std::map<std::string, StringMatch> decode_matches(const Cursor& at, bool headers) {
  std::map<std::string, StringMatch> out;
  for (const auto& [name, match] : at.fields()) {
    bool claim = headers && name.starts_with("@request.auth.claims");
    if (headers && !claim) check_header_name(match, name);
    std::string key = headers && !claim ? lower(name) : name;
    StringMatch value = decode_string_match(match, true);
    if (!out.emplace(key, std::move(value)).second) match.fail("is given twice, in other capitals");
  }
  return out;
}

std::optional<StringMatch> decode_optional_match(const Cursor& at) {
  if (at.absent()) return std::nullopt;
  return decode_string_match(at);
}

Vs::HttpMatch decode_http_match(const Cursor& at) {
  at.only({"name", "uri", "scheme", "method", "authority", "headers", "port", "sourceLabels", "gateways",
           "queryParams", "ignoreUriCase", "withoutHeaders", "sourceNamespace", "statPrefix"});
  Vs::HttpMatch match;
  match.line = at.line();
  match.name = at.at("name").text();
  match.uri = decode_optional_match(at.at("uri"));
  match.scheme = decode_optional_match(at.at("scheme"));
  match.method = decode_optional_match(at.at("method"));
  match.authority = decode_optional_match(at.at("authority"));
  match.ignore_uri_case = at.at("ignoreUriCase").flag();
  match.headers = decode_matches(at.at("headers"), true);
  match.without_headers = decode_matches(at.at("withoutHeaders"), true);
  match.query_params = decode_matches(at.at("queryParams"), false);
  match.port = decode_port(at.at("port"));
  match.source_labels = at.at("sourceLabels").labels();
  match.source_namespace = at.at("sourceNamespace").text();
  match.gateways = at.at("gateways").texts();
  match.stat_prefix = at.at("statPrefix").text();
  return match;
}

// What all destinations weigh together must be something, and fit.
template <class Destination>
void check_weights(const Cursor& at, const std::vector<Destination>& destinations) {
  uint64_t sum = 0;
  for (const Destination& destination : destinations) sum += destination.weight;
  if (destinations.size() > 1 && sum == 0) {
    at.fail(
        "the weights of several destinations must not all be 0; give each its share, for example 90 and "
        "10");
  }
  if (sum > UINT32_MAX) at.fail("the weights are too large together");
}

std::vector<Vs::HttpDestination> decode_http_destinations(const Cursor& at) {
  std::vector<Vs::HttpDestination> out;
  for (const Cursor& item : at.items()) {
    item.only({"destination", "weight", "headers"});
    Vs::HttpDestination destination;
    destination.destination = decode_destination(item.at("destination"));
    destination.weight = decode_count(item.at("weight"), 0, INT32_MAX);
    decode_headers(item.at("headers"), destination.request_headers, destination.response_headers);
    out.push_back(std::move(destination));
  }
  check_weights(at, out);
  return out;
}

Vs::Redirect decode_redirect(const Cursor& at) {
  at.only({"uri", "prefixRewrite", "authority", "port", "derivePort", "scheme", "redirectCode"});
  Vs::Redirect redirect;
  redirect.uri = at.at("uri").text();
  redirect.prefix_rewrite = at.at("prefixRewrite").text();
  if (!redirect.uri.empty() && !redirect.prefix_rewrite.empty()) {
    at.fail("uri and prefixRewrite exclude one another");
  }
  for (const char* key : {"uri", "prefixRewrite", "authority"}) {
    check_header_value(at.at(key), at.at(key).text());
  }
  redirect.authority = at.at("authority").text();
  redirect.scheme = at.at("scheme").text();
  if (!redirect.scheme.empty() && redirect.scheme != "http" && redirect.scheme != "https") {
    at.at("scheme").fail(fmt::format("\"{}\" must be http or https", redirect.scheme));
  }
  using Port = Vs::Redirect::Port;
  redirect.port = decode_choice<Port>(
      at.at("derivePort"), Port::kUnset,
      {{"FROM_PROTOCOL_DEFAULT", Port::kProtocolDefault}, {"FROM_REQUEST_PORT", Port::kFromRequest}});
  if (Cursor port = at.at("port"); !port.absent()) {
    if (redirect.port != Port::kUnset) port.fail("excludes derivePort");
    redirect.port = Port::kNumber;
    redirect.port_number = decode_port(port);
  }
  redirect.code = static_cast<uint16_t>(at.at("redirectCode").integer(0, 999, 301));
  if (redirect.code == 0) redirect.code = 301;
  constexpr uint16_t kCodes[] = {301, 302, 303, 307, 308};
  if (std::find(std::begin(kCodes), std::end(kCodes), redirect.code) == std::end(kCodes)) {
    at.at("redirectCode").fail(fmt::format("{} must be 301, 302, 303, 307 or 308", redirect.code));
  }
  return redirect;
}

Vs::DirectResponse decode_direct_response(const Cursor& at) {
  at.only({"status", "body"});
  Vs::DirectResponse response;
  if (at.at("status").absent()) at.at("status").fail("is missing");
  response.status = static_cast<uint16_t>(at.at("status").integer(200, 599, 200));
  Cursor body = at.at("body");
  body.only({"string", "bytes"});
  if (!body.at("string").absent() && !body.at("bytes").absent()) body.fail("must have string or bytes");
  response.body = body.at("string").text();
  if (Cursor bytes = body.at("bytes"); !bytes.absent()) {
    auto decoded = decode_base64(bytes.text());
    if (!decoded) bytes.fail("must be base64");
    if (decoded) response.body = std::move(*decoded);
  }
  if (response.body.size() > kBodyBytesMax) {
    body.fail(fmt::format("must not be longer than {} bytes", kBodyBytesMax));
  }
  return response;
}

Vs::Rewrite decode_rewrite(const Cursor& at) {
  at.only({"uri", "authority", "uriRegexRewrite"});
  Vs::Rewrite rewrite;
  rewrite.uri = at.at("uri").text();
  rewrite.authority = at.at("authority").text();
  check_header_value(at.at("uri"), rewrite.uri);
  check_header_value(at.at("authority"), rewrite.authority);
  Cursor regex = at.at("uriRegexRewrite");
  if (regex.absent()) return rewrite;
  if (!rewrite.uri.empty()) regex.fail("excludes uri");
  regex.only({"match", "rewrite"});
  rewrite.regex = decode_needed(regex, "match");
  rewrite.regex_rewrite = regex.at("rewrite").text();
  check_header_value(regex.at("rewrite"), rewrite.regex_rewrite);
  auto compiled = model::Regex::compile(rewrite.regex);
  if (!compiled) {
    regex.at("match").fail(compiled.error().message());
  } else if (auto good = compiled->check_rewrite(rewrite.regex_rewrite); !good) {
    regex.at("rewrite").fail(good.error().message());
  }
  return rewrite;
}

void decode_fault(const Cursor& at, Vs::HttpRoute& route) {
  at.only({"delay", "abort"});
  if (Cursor delay = at.at("delay"); !delay.absent()) {
    delay.only({"percent", "percentage", "fixedDelay", "exponentialDelay"});
    if (!delay.at("exponentialDelay").absent()) {
      delay.at("exponentialDelay").fail("is not supported; write fixedDelay");
    }
    if (delay.at("fixedDelay").absent()) delay.at("fixedDelay").fail("is missing");
    Vs::Delay out;
    out.fixed = decode_duration(delay.at("fixedDelay"), {});
    out.percent = decode_percentage(delay.at("percentage"), decode_number(delay.at("percent"), 0, 100, 0));
    if (!delay.at("percent").absent()) delay.at("percent").note("is deprecated; write percentage.value");
    route.delay = out;
  }
  if (Cursor abort = at.at("abort"); !abort.absent()) {
    abort.only({"httpStatus", "grpcStatus", "http2Error", "percentage"});
    if (!abort.at("http2Error").absent()) {
      abort.at("http2Error").fail("is not supported; write httpStatus or grpcStatus");
    }
    Vs::Abort out;
    if (abort.at("httpStatus").absent() == abort.at("grpcStatus").absent()) {
      abort.fail("must have one of httpStatus and grpcStatus");
    }
    if (Cursor status = abort.at("httpStatus"); !status.absent()) {
      out.http_status = static_cast<uint16_t>(status.integer(200, 599, 500));
    }
    if (Cursor status = abort.at("grpcStatus"); !status.absent()) {
      out.grpc_status = decode_grpc_status(status);
    }
    out.percent = decode_percentage(abort.at("percentage"), 0);
    route.abort = out;
  }
}

void decode_mirrors(const Cursor& at, Vs::HttpRoute& route) {
  Cursor one = at.at("mirror"), many = at.at("mirrors");
  if (!one.absent() && !many.absent()) one.fail("excludes mirrors; write both there");
  if (!one.absent()) {
    Vs::Mirror mirror{decode_destination(one), 100};
    if (Cursor old = at.at("mirrorPercent"); !old.absent()) {
      mirror.percent = decode_number(old, 0, 100, 100);
      old.note("is deprecated; write mirrorPercentage.value");
    }
    mirror.percent = decode_percentage(at.at("mirrorPercentage"), mirror.percent);
    route.mirrors.push_back(std::move(mirror));
  } else if (!at.at("mirrorPercentage").absent()) {
    at.at("mirrorPercentage").fail("without mirror; in mirrors each has its own percentage");
  }
  for (const Cursor& item : many.items()) {
    item.only({"destination", "percentage"});
    route.mirrors.push_back(
        {decode_destination(item.at("destination")), decode_percentage(item.at("percentage"), 100)});
  }
}

Vs::Cors decode_cors(const Cursor& at) {
  at.only({"allowOrigin", "allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge",
           "allowCredentials", "unmatchedPreflights"});
  Vs::Cors cors;
  for (const Cursor& item : at.at("allowOrigins").items()) {
    cors.allow_origins.push_back(decode_string_match(item));
  }
  if (Cursor old = at.at("allowOrigin"); !old.absent()) {
    if (!cors.allow_origins.empty()) old.fail("excludes allowOrigins; write all of them there");
    old.note("is deprecated; write allowOrigins");
    for (std::string& origin : old.texts()) {
      cors.allow_origins.push_back({StringMatch::Kind::kExact, std::move(origin)});
    }
  }
  for (auto [key, list] :
       {std::pair("allowMethods", &cors.allow_methods), std::pair("allowHeaders", &cors.allow_headers),
        std::pair("exposeHeaders", &cors.expose_headers)}) {
    *list = at.at(key).texts();
    for (const std::string& value : *list) check_header_value(at.at(key), value);
  }
  cors.max_age = decode_duration(at.at("maxAge"));
  cors.allow_credentials = at.at("allowCredentials").flag();
  cors.forward_unmatched_preflights = decode_choice<bool>(
      at.at("unmatchedPreflights"), true, {{"UNSPECIFIED", true}, {"FORWARD", true}, {"IGNORE", false}});
  return cors;
}

// A route does one thing, and what goes with it (spec 2.1.7).
void check_http_route(const Cursor& at, const Vs::HttpRoute& route, bool delegated) {
  int actions = !route.destinations.empty() + route.redirect.has_value() + route.direct_response.has_value() +
                route.delegate.has_value();
  if (actions > 1) at.fail("must have only one of route, redirect, directResponse and delegate");
  if (actions == 0 && !delegated) at.fail("must have one of route, redirect, directResponse and delegate");
  if (route.delegate && delegated) at.at("delegate").fail("must not be in a VirtualService without hosts");
  if (!route.redirect && !route.direct_response) return;
  std::string action = route.redirect ? "redirect" : "directResponse";
  for (const char* key : {"fault", "retries", "timeout", "rewrite"}) {
    if (!at.at(key).absent()) at.at(key).fail("goes only with route, not with " + action);
  }
  if (!route.mirrors.empty()) at.fail("a mirror goes only with route, not with " + action);
}

Vs::HttpRoute decode_http_route(const Cursor& at, bool delegated) {
  at.only({"name", "match", "route", "redirect", "directResponse", "delegate", "rewrite", "timeout",
           "retries", "fault", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "corsPolicy",
           "headers"});
  Vs::HttpRoute route;
  route.line = at.line();
  route.name = at.at("name").text();
  for (const Cursor& item : at.at("match").items()) route.match.push_back(decode_http_match(item));
  route.destinations = decode_http_destinations(at.at("route"));
  if (!at.at("redirect").absent()) route.redirect = decode_redirect(at.at("redirect"));
  if (!at.at("directResponse").absent()) {
    route.direct_response = decode_direct_response(at.at("directResponse"));
  }
  if (Cursor delegate = at.at("delegate"); !delegate.absent()) {
    delegate.only({"name", "namespace"});
    route.delegate = Vs::Delegate{decode_needed(delegate, "name"), delegate.at("namespace").text()};
  }
  if (!at.at("rewrite").absent()) route.rewrite = decode_rewrite(at.at("rewrite"));
  route.timeout = decode_duration(at.at("timeout"));
  if (!at.at("retries").absent()) route.retries = decode_retries(at.at("retries"));
  decode_fault(at.at("fault"), route);
  decode_mirrors(at, route);
  if (!at.at("corsPolicy").absent()) route.cors = decode_cors(at.at("corsPolicy"));
  decode_headers(at.at("headers"), route.request_headers, route.response_headers);
  check_http_route(at, route, delegated);
  return route;
}

Vs::L4Match decode_l4_match(const Cursor& at, bool tls) {
  if (tls) {
    at.only({"sniHosts", "destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace"});
  } else {
    at.only({"destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace", "sourceSubnet"});
  }
  Vs::L4Match match;
  match.line = at.line();
  for (const Cursor& host : at.at("sniHosts").items()) match.sni_hosts.push_back(decode_host(host, true));
  if (tls && match.sni_hosts.empty()) at.at("sniHosts").fail("must name at least one host");
  match.destination_subnets = at.at("destinationSubnets").texts();
  match.source_subnet = at.at("sourceSubnet").text();
  for (const std::string& subnet : match.destination_subnets)
    check_subnet(at.at("destinationSubnets"), subnet);
  if (!match.source_subnet.empty()) check_subnet(at.at("sourceSubnet"), match.source_subnet);
  match.port = decode_port(at.at("port"));
  match.source_labels = at.at("sourceLabels").labels();
  match.source_namespace = at.at("sourceNamespace").text();
  match.gateways = at.at("gateways").texts();
  return match;
}

Vs::L4Route decode_l4_route(const Cursor& at, bool tls) {
  at.only({"match", "route"});
  Vs::L4Route route;
  route.line = at.line();
  for (const Cursor& item : at.at("match").items()) route.match.push_back(decode_l4_match(item, tls));
  if (tls && route.match.empty()) at.at("match").fail("must have at least one item");
  for (const Cursor& item : at.at("route").items()) {
    item.only({"destination", "weight"});
    route.destinations.push_back(
        {decode_destination(item.at("destination")), decode_count(item.at("weight"), 0, INT32_MAX)});
  }
  if (route.destinations.empty()) at.at("route").fail("must have at least one destination");
  check_weights(at.at("route"), route.destinations);
  return route;
}

}  // namespace

void check_subnet(const Cursor& at, const std::string& text) {
  if (!base::Cidr::parse(text)) at.fail(fmt::format("\"{}\" is not an address or a CIDR", text));
}

int decode_grpc_status(const Cursor& at) {
  static constexpr std::string_view kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  std::string text = at.text();
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (text == kNames[i] || text == std::to_string(i)) return static_cast<int>(i);
  }
  at.fail(fmt::format("\"{}\" must be a gRPC status: {}", text, fmt::join(kNames, ", ")));
  return -1;
}

HttpRetries decode_retries(const Cursor& at) {
  at.only({"attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts",
           "backoff"});
  static const std::set<std::string_view> kConditions = {"5xx",
                                                         "gateway-error",
                                                         "reset",
                                                         "reset-before-request",
                                                         "connect-failure",
                                                         "refused-stream",
                                                         "retriable-4xx",
                                                         "retriable-status-codes",
                                                         "retriable-headers",
                                                         "envoy-ratelimited",
                                                         "http3-post-connect-failure",
                                                         "cancelled",
                                                         "deadline-exceeded",
                                                         "internal",
                                                         "resource-exhausted",
                                                         "unavailable"};
  constexpr uint32_t kAttemptsMax = 1000;
  HttpRetries retries;
  retries.attempts = decode_count(at.at("attempts"), 0, kAttemptsMax);
  retries.per_try_timeout = decode_duration(at.at("perTryTimeout"));
  retries.retry_remote_localities = decode_flag(at.at("retryRemoteLocalities"));
  retries.retry_ignore_previous_hosts = decode_flag(at.at("retryIgnorePreviousHosts"));
  retries.backoff = decode_duration(at.at("backoff"));
  Cursor on = at.at("retryOn");
  std::string text = on.text();
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    std::string token = text.substr(begin, end - begin);
    begin = end + 1;
    std::erase_if(token, [](unsigned char c) { return std::isspace(c); });
    uint16_t code = 0;
    auto [rest, error] = std::from_chars(token.data(), token.data() + token.size(), code);
    if (error == std::errc() && rest == token.data() + token.size() && code >= 100 && code <= 599) {
      retries.retry_codes.push_back(code);
    } else if (kConditions.contains(token)) {
      retries.retry_on.push_back(std::move(token));
    } else if (!token.empty()) {
      on.fail(fmt::format("\"{}\" must be a status code or one of: {}", token, fmt::join(kConditions, ", ")));
    }
  }
  return retries;
}

VirtualService decode_virtual_service(const Cursor& root, Meta meta) {
  Vs service;
  service.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"hosts", "gateways", "http", "tls", "tcp", "exportTo"});
  for (const Cursor& host : spec.at("hosts").items()) service.hosts.push_back(decode_host(host, true));
  service.gateways = spec.at("gateways").texts();
  service.export_to = decode_export_to(spec.at("exportTo"));
  bool delegated = service.hosts.empty();
  for (const Cursor& item : spec.at("http").items()) {
    service.http.push_back(decode_http_route(item, delegated));
  }
  for (const Cursor& item : spec.at("tcp").items()) service.tcp.push_back(decode_l4_route(item, false));
  for (const Cursor& item : spec.at("tls").items()) service.tls.push_back(decode_l4_route(item, true));
  if (service.http.empty() && service.tcp.empty() && service.tls.empty()) {
    spec.fail("must have http, tcp or tls");
  }
  if (delegated && (!service.tcp.empty() || !service.tls.empty() || !service.gateways.empty())) {
    spec.fail("without hosts it is a delegate's target, which has only http");
  }
  return service;
}

}  // namespace culvert::kube
