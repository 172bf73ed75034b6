// SPDX-License-Identifier: Apache-2.0
// Gateway API routes to the routes of a waypoint (spec waypoint section 2.4): who they are attached to, what
// each may refer to, their order, and what their status says. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/compile/context.h"
#include "mesh/model/route.h"

namespace culvert::control {

// What could not be carried out, gathered while the rules of a route are compiled.
struct RouteFlaws {
  std::string unresolved_reason;  // of ResolvedRefs; empty: all are resolved
  std::vector<std::string> unresolved;
  std::vector<std::string> unsupported;
  void refer(std::string reason, std::string message);
};

// The services that routes may name, and by whose leave (ReferenceGrant).
class BackendRefs {
 public:
  explicit BackendRefs(const Context& context);
  // Keys of the services of "Service ns/name" or "ServiceEntry ns/name", in order; null: it is not there.
  const std::vector<std::string>* keys(const std::string& object) const;
  // `kind`, `ns`: of the route; `parent`: the service it is attached to, which it may always send to. What
  // may not be used comes back with `invalid`.
  model::RouteTarget target(const kube::BackendObject& ref, std::string_view kind, const std::string& ns,
                            const std::string& parent, RouteFlaws& flaws) const;

 private:
  bool granted(std::string_view kind, const std::string& ns, const std::string& to_ns,
               const std::string& to) const;
  std::optional<std::string> resolve(const kube::BackendObject& ref, const std::string& ns) const;

  const Context& context_;
  std::map<std::string, std::vector<std::string>> keys_;
  std::map<std::string, std::string> by_host_;  // the canonical service of a host
};

// One match of one rule, with its place among all that are attached to a port (section 2.4.2). gRPC calls are
// looked up first: their matches take nothing else.
struct RankedRoute {
  struct Rank {
    enum class Path : unsigned char { kRegex, kPrefix, kExact, kGrpc };
    Path path = Path::kPrefix;
    size_t length = 0;         // of the path, or of the gRPC service
    size_t method_length = 0;  // of the gRPC method
    bool method = false;
    size_t headers = 0;
    size_t query = 0;
    auto operator<=>(const Rank&) const = default;
  };
  Rank rank;
  model::HttpRoute route;
};

// gateway_rules.cc. For the service `parent`, in the order of rules and matches.
std::vector<RankedRoute> compile_gateway_rules(const kube::HttpRoute& route, const std::string& parent,
                                               const BackendRefs& refs, RouteFlaws& flaws);
std::vector<RankedRoute> compile_gateway_rules(const kube::GrpcRoute& route, const std::string& parent,
                                               const BackendRefs& refs, RouteFlaws& flaws);
std::vector<model::TcpRoute> compile_gateway_rules(const kube::TcpRoute& route, const std::string& parent,
                                                   const BackendRefs& refs, RouteFlaws& flaws);
std::vector<model::TcpRoute> compile_gateway_rules(const kube::TlsRoute& route, const std::string& parent,
                                                   const BackendRefs& refs, RouteFlaws& flaws);

model::SessionPersistence compile_session(const kube::SessionPersistence& in);

// gateway_routes.cc. By service key, for services that have a waypoint. Writes findings and status.
std::map<std::string, model::ServiceRoutes> compile_gateway_routes(Context& context);
// Lays them over what VirtualServices say: where a port has a table of the Gateway API, that alone counts,
// for HTTP and for connections each. True: something of a VirtualService was replaced.
bool lay_over(const model::ServiceRoutes& gateway, model::ServiceRoutes& out);

// gateway_policies.cc. BackendTLSPolicy and XBackendTrafficPolicy (section 2.5), laid over what
// DestinationRules say.
class GatewayPolicies {
 public:
  explicit GatewayPolicies(Context& context);
  void apply(const std::string& key, const ServiceSource& source, model::Backend& out);
  // Those that no service has felt.
  void report();

 private:
  Context& context_;
  std::vector<const kube::BackendTlsPolicy*> tls_;  // oldest first
  std::vector<const kube::BackendTrafficPolicy*> traffic_;
  std::set<const void*> in_force_;
};

}  // namespace culvert::control
