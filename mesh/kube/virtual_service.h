// SPDX-License-Identifier: Apache-2.0
// VirtualService (spec waypoint sections 2.1 and 2.2). Hosts are as written: resolving short names is the
// compiler's part.
#pragma once

#include "mesh/kube/meta.h"

namespace culvert::kube {

struct HttpRetries {
  uint32_t attempts = 0;  // tries after the first; 0: none
  std::optional<base::Duration> per_try_timeout;
  // Tokens in lower case, checked; both empty: the default conditions. Codes imply retriable-status-codes.
  std::vector<std::string> retry_on;
  std::vector<uint16_t> retry_codes;
  std::optional<bool> retry_remote_localities;
  std::optional<bool> retry_ignore_previous_hosts;
  std::optional<base::Duration> backoff;
};

struct VirtualService {
  struct Destination {
    std::string host;
    std::string subset;
    uint16_t port = 0;  // 0: not given
    int line = 0;
  };
  struct HttpDestination {
    Destination destination;
    uint32_t weight = 0;  // meaningless if it is the only one
    HeaderEdits request_headers;
    HeaderEdits response_headers;
  };
  struct HttpMatch {
    std::string name;
    std::optional<StringMatch> uri, scheme, method, authority;
    bool ignore_uri_case = false;
    std::map<std::string, StringMatch> headers;  // names in lower case, except "@request.auth.claims..."
    std::map<std::string, StringMatch> without_headers;
    std::map<std::string, StringMatch> query_params;
    uint16_t port = 0;  // 0: any
    Labels source_labels;
    std::string source_namespace;
    std::vector<std::string> gateways;
    std::string stat_prefix;
    int line = 0;
  };
  struct Redirect {
    enum class Port : unsigned char { kUnset, kNumber, kProtocolDefault, kFromRequest };
    std::string uri;             // the whole path
    std::string prefix_rewrite;  // in place of uri: replaces the matched prefix
    std::string authority;
    std::string scheme;
    Port port = Port::kUnset;
    uint16_t port_number = 0;  // of kNumber
    uint16_t code = 301;
  };
  struct DirectResponse {
    uint16_t status = 0;
    std::string body;  // of body.string, or of body.bytes decoded
  };
  struct Rewrite {
    std::string uri;
    std::string authority;
    std::string regex;  // uriRegexRewrite.match; excludes uri
    std::string regex_rewrite;
  };
  struct Delay {
    base::Duration fixed{};
    double percent = 0;  // not given: never
  };
  struct Abort {
    uint16_t http_status = 0;  // 0: grpc_status
    int grpc_status = -1;
    double percent = 0;
  };
  struct Mirror {
    Destination destination;
    double percent = 100;
  };
  struct Cors {
    std::vector<StringMatch> allow_origins;  // exact "*" is any
    std::vector<std::string> allow_methods, allow_headers, expose_headers;
    std::optional<base::Duration> max_age;
    bool allow_credentials = false;
    bool forward_unmatched_preflights = true;
  };
  struct Delegate {
    std::string name;
    std::string ns;  // the VirtualService's own if not given
  };
  struct HttpRoute {
    std::string name;
    std::vector<HttpMatch> match;  // any of; empty: everything
    // At most one of destinations, redirect, direct_response and delegate. None only where there is no host
    // to send to: such a route is refused, except in a delegate's target (no hosts) which may inherit it.
    std::vector<HttpDestination> destinations;
    std::optional<Redirect> redirect;
    std::optional<DirectResponse> direct_response;
    std::optional<Delegate> delegate;
    std::optional<Rewrite> rewrite;
    std::optional<base::Duration> timeout;  // 0: none, as if not given
    std::optional<HttpRetries> retries;
    std::optional<Delay> delay;
    std::optional<Abort> abort;
    std::vector<Mirror> mirrors;
    std::optional<Cors> cors;
    HeaderEdits request_headers;
    HeaderEdits response_headers;
    int line = 0;
  };
  // Of tcp and tls; sni_hosts of tls alone, where it is not empty.
  struct L4Match {
    std::vector<std::string> sni_hosts;
    std::vector<std::string> destination_subnets;
    uint16_t port = 0;
    Labels source_labels;
    std::string source_namespace;
    std::string source_subnet;
    std::vector<std::string> gateways;
    int line = 0;
  };
  struct L4Destination {
    Destination destination;
    uint32_t weight = 0;
  };
  struct L4Route {
    std::vector<L4Match> match;  // any of
    std::vector<L4Destination> destinations;
    int line = 0;
  };

  Meta meta;
  std::vector<std::string> hosts;     // empty: only a delegate's target
  std::vector<std::string> gateways;  // empty: the mesh
  std::vector<HttpRoute> http;
  std::vector<L4Route> tcp;
  std::vector<L4Route> tls;
  std::vector<std::string> export_to;  // empty: all; ".", "*" or namespaces
};

}  // namespace culvert::kube
