// SPDX-License-Identifier: Apache-2.0
// VirtualServices to the routes of a waypoint (spec waypoint sections 2.1 and 2.2). Pure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mesh/kube/virtual_service.h"
#include "mesh/model/route.h"
#include "net/base/result.h"

namespace culvert::control {

struct RouteScope {
  std::string cluster_domain = "cluster.local";
  // The key of the service that a host stands for, seen from `ns`; none: nobody has it.
  std::function<std::optional<model::NamespacedHostname>(const std::string& host, const std::string& ns)>
      service;
  // The only port of a service; 0: it has several.
  std::function<uint16_t(const model::NamespacedHostname& service)> only_port;
  // The VirtualService that a route of `root` delegates to; an error: there is none that it may use, and why.
  std::function<base::Result<const kube::VirtualService*>(const kube::VirtualService& root,
                                                          const kube::VirtualService::Delegate& delegate)>
      delegate;
  // Something in `service` does not hold together; where, and what it means.
  std::function<void(const kube::VirtualService& service, int line, const std::string& what)> complain;
};

// The http and tcp (tls first) routes for one port of the service they are attached to, in order. Entries for
// other ports or gateways are left out, and so is a route whose delegate cannot be used (section 2.1.7); a
// route that cannot be compiled answers 500 and says why.
std::vector<model::HttpRoute> compile_http(const kube::VirtualService& source, uint16_t port,
                                           const RouteScope& scope);
std::vector<model::TcpRoute> compile_tcp(const kube::VirtualService& source, uint16_t port,
                                         const RouteScope& scope);

// Defaults of section 2.1.5 filled in; unknown tokens were refused when the object was read.
model::RetryPolicy compile_retries(const kube::HttpRetries& retries);

}  // namespace culvert::control
