// SPDX-License-Identifier: Apache-2.0
// HttpRequestFacts: what routes, policies and limits may look at (spec waypoint sections 2.1, 2.6, 4). Views
// into what the caller owns. The path is normalised, so that router and policy see what the upstream will.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mesh/model/identity.h"
#include "mesh/model/route.h"
#include "net/base/ip.h"

namespace culvert::decide {

using HeaderSpan = std::span<const std::pair<std::string, std::string>>;

// What verified tokens say.
class TokenClaims {
 public:
  virtual ~TokenClaims() = default;
  // The values at a path: one for a string, number or boolean, each element of a list; none if absent or of
  // another kind.
  virtual std::vector<std::string> at(std::span<const std::string> path) const = 0;
};

struct HttpRequestFacts {
  std::string_view method, scheme, authority;
  std::string_view path;   // without query
  std::string_view query;  // without '?'
  HeaderSpan headers;
  bool grpc = false;

  const model::Identity* peer = nullptr;           // null: nobody proven
  const model::LabelMap* source_labels = nullptr;  // of the peer's pod, if known
  base::IpAddr source_ip;                          // of the client pod
  base::IpAddr remote_ip;                          // from x-forwarded-for
  base::SocketAddr destination;                    // as dialled
  uint16_t port = 0;                               // of the service
  std::string_view sni;

  const TokenClaims* claims = nullptr;  // null: no valid token
  std::string_view token_principal;     // "iss/sub"
  std::vector<std::string> token_audiences;
  std::string_view token_presenter;  // azp
};

// The values of one header joined by ","; none if it is absent. `name` in lower case.
std::optional<std::string> joined_header(HeaderSpan headers, std::string_view name);
// The first parameter of that name, as written; "" for one without a value.
std::optional<std::string_view> query_parameter(std::string_view query, std::string_view name);
// The first cookie of that name, without quotes.
std::optional<std::string_view> cookie(HeaderSpan headers, std::string_view name);
// application/grpc, application/grpc+..., application/grpc;...
bool is_grpc(HeaderSpan headers);
// The client as the `trusted` proxies in front tell it: the entry of x-forwarded-for that the outermost of
// them added; `source` with none, or for what does not parse.
base::IpAddr remote_address(HeaderSpan headers, uint32_t trusted, const base::IpAddr& source);

}  // namespace culvert::decide
