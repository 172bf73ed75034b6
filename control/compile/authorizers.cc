// SPDX-License-Identifier: Apache-2.0
#include "control/compile/authorizers.h"

#include <fmt/format.h>

#include <utility>

#include "control/compile/route_match.h"
#include "control/compile/trace_provider.h"

namespace culvert::control {

namespace {

// "abc", "abc*" and "*abc" in lower case, as header names come.
std::vector<model::TextMatch> name_matches(const std::vector<std::string>& names) {
  std::vector<model::TextMatch> out;
  for (const std::string& written : names) {
    std::string name = lower_case(written);
    if (name.ends_with('*')) {
      out.push_back(model::TextMatch::prefix(name.substr(0, name.size() - 1)));
    } else if (name.starts_with('*')) {
      // A suffix is never refused: there is nothing to compile.
      out.push_back(*model::TextMatch::make(model::TextMatch::Kind::kSuffix, name.substr(1)));
    } else {
      out.push_back(model::TextMatch::exact(name));
    }
  }
  return out;
}

// "host" or "namespace/host"; short names without a namespace are of the root namespace.
std::optional<model::NamespacedHostname> find_service(const std::string& written,
                                                      const AuthorizerScope& scope) {
  size_t slash = written.find('/');
  std::string ns = slash == written.npos ? scope.root_namespace : written.substr(0, slash);
  std::string host = slash == written.npos ? written : written.substr(slash + 1);
  if (host.ends_with(".svc")) host += "." + scope.cluster_domain;
  return scope.service(host, ns);
}

}  // namespace

std::optional<model::Authorizer> compile_authorizer(const std::string& name, const AuthorizerScope& scope,
                                                    const Complain& complain) {
  auto refuse = [&](const std::string& why) {
    complain(fmt::format("what it matches is refused: {}", why));
    return std::nullopt;
  };
  const kube::ExtensionProvider* defined = find_provider(scope.mesh, name);
  if (!defined) {
    return refuse(
        fmt::format("meshConfig.extensionProviders has no provider {}; define it there as "
                    "envoyExtAuthzHttp or envoyExtAuthzGrpc",
                    name));
  }
  const auto* in = std::get_if<kube::ExtAuthzProvider>(&defined->config);
  if (!in) {
    return refuse(
        fmt::format("provider {} authorizes nobody; envoyExtAuthzHttp and envoyExtAuthzGrpc do", name));
  }
  auto service = find_service(in->service.service, scope);
  if (!service) {
    return refuse(
        fmt::format("provider {}: the mesh has no service {}; write namespace/host, or add a "
                    "ServiceEntry for it",
                    name, in->service.service));
  }
  if (!scope.has_port(*service, in->service.port)) {
    return refuse(
        fmt::format("provider {}: service {} has no port {}", name, service->to_string(), in->service.port));
  }
  model::Authorizer out;
  out.name = name;
  out.http = in->http;
  out.service = std::move(*service);
  out.port = in->service.port;
  out.timeout = in->timeout;
  out.fail_open = in->fail_open;
  out.clear_route_cache = in->clear_route_cache;
  out.status_on_error = in->status_on_error;
  if (in->body) out.body = {in->body->max_bytes, in->body->allow_partial, in->body->as_bytes};
  out.path_prefix = in->path_prefix;
  out.request_headers = name_matches(in->request_headers);
  for (const kube::HeaderValue& header : in->additional_headers) {
    out.more_headers.emplace_back(lower_case(header.name), header.value);
  }
  out.to_upstream_on_allow = name_matches(in->headers_to_upstream_on_allow);
  out.to_client_on_allow = name_matches(in->headers_to_downstream_on_allow);
  out.to_client_on_deny = name_matches(in->headers_to_downstream_on_deny);
  return out;
}

}  // namespace culvert::control
