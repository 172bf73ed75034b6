// SPDX-License-Identifier: Apache-2.0
// Gateway API routes and ReferenceGrant (spec waypoint section 2.4), with the API's defaults.
#pragma once

#include <variant>

#include "mesh/kube/meta.h"

namespace culvert::kube {

struct ParentRef {
  std::string group = "gateway.networking.k8s.io";
  std::string kind = "Gateway";
  std::string ns;  // the route's own if not given
  std::string name;
  std::string section_name;
  uint16_t port = 0;  // 0: any
  int line = 0;
};

// A reference to a backend, without weight and filters.
struct BackendObject {
  std::string group;
  std::string kind = "Service";
  std::string ns;  // the route's own if not given
  std::string name;
  uint16_t port = 0;  // 0: not given
  int line = 0;
};

struct RoutePath {
  enum class Type : unsigned char { kPrefix, kExact, kRegex };
  Type type = Type::kPrefix;
  std::string value = "/";
};

// Of a header or a query parameter. Of equal names only the first counts (the compiler's part).
struct ValueMatch {
  std::string name;
  bool regex = false;
  std::string value;
};

struct HttpRouteMatch {
  RoutePath path;
  std::vector<ValueMatch> headers;
  std::vector<ValueMatch> query_params;
  std::string method;  // empty: any
};

struct PathModifier {
  bool prefix = false;  // ReplacePrefixMatch, else ReplaceFullPath
  std::string value;
};

struct RequestHeaderModifier {
  HeaderEdits edits;
};
struct ResponseHeaderModifier {
  HeaderEdits edits;
};
struct RequestRedirect {
  std::string scheme;
  std::string hostname;
  std::optional<PathModifier> path;
  uint16_t port = 0;  // 0: by scheme, else the request's
  uint16_t status = 302;
};
struct UrlRewrite {
  std::string hostname;
  std::optional<PathModifier> path;
};
struct RequestMirror {
  BackendObject backend;
  double percent = 100;  // of percent, or of fraction
};
struct CorsFilter {
  std::vector<std::string> allow_origins, allow_methods, allow_headers, expose_headers;
  bool allow_credentials = false;
  base::Duration max_age = std::chrono::seconds(5);
};
struct ExternalAuth {
  bool http = false;  // else gRPC
  BackendObject backend;
  std::vector<std::string> allowed_headers;           // empty: gRPC all, HTTP the fixed few
  std::string path;                                   // http: prefix
  std::vector<std::string> allowed_response_headers;  // http
  uint32_t forward_body_max = 0;                      // 0: no body
};
struct ExtensionRef {
  std::string group, kind, name;
};
using RouteFilter = std::variant<RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, UrlRewrite,
                                 RequestMirror, CorsFilter, ExternalAuth, ExtensionRef>;

struct RouteBackend : BackendObject {
  uint32_t weight = 1;
  std::vector<RouteFilter> filters;
};

struct SessionPersistence {
  std::string name;     // empty: ours
  bool header = false;  // else a cookie
  bool permanent = false;
  std::optional<base::Duration> absolute_timeout, idle_timeout;
};

struct HttpRoute {
  struct Retry {
    std::vector<uint16_t> codes;
    std::optional<uint32_t> attempts;
    std::optional<base::Duration> backoff;
  };
  struct Rule {
    std::string name;
    std::vector<HttpRouteMatch> matches;  // never empty: what is not given is the prefix "/"
    std::vector<RouteFilter> filters;
    std::vector<RouteBackend> backends;
    std::optional<base::Duration> request_timeout;          // 0: none
    std::optional<base::Duration> backend_request_timeout;  // 0: none
    std::optional<Retry> retry;
    std::optional<SessionPersistence> session;
    int line = 0;
  };
  Meta meta;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;
  std::vector<Rule> rules;
};

struct GrpcRoute {
  struct Match {
    bool regex = false;
    std::string service;  // empty: any
    std::string method;   // empty: any
    std::vector<ValueMatch> headers;
  };
  struct Rule {
    std::string name;
    std::vector<Match> matches;  // empty: every call
    std::vector<RouteFilter> filters;
    std::vector<RouteBackend> backends;
    std::optional<SessionPersistence> session;
    int line = 0;
  };
  Meta meta;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;
  std::vector<Rule> rules;
};

struct L4RouteRule {
  std::string name;
  std::vector<RouteBackend> backends;  // without filters
  int line = 0;
};

struct TcpRoute {
  Meta meta;
  std::vector<ParentRef> parents;
  std::vector<L4RouteRule> rules;
};

struct TlsRoute {
  Meta meta;
  std::vector<ParentRef> parents;
  std::vector<std::string> hostnames;  // SNI
  std::vector<L4RouteRule> rules;
};

struct ReferenceGrant {
  struct From {
    std::string group, kind, ns;
  };
  struct To {
    std::string group, kind;
    std::string name;  // empty: all of the kind
  };
  Meta meta;
  std::vector<From> from;
  std::vector<To> to;
};

}  // namespace culvert::kube
