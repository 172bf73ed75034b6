// SPDX-License-Identifier: Apache-2.0
// AuthorizationPolicy and RequestAuthentication to what a waypoint enforces (spec waypoint sections 2.6 and
// 2.7). Pure.
//
// A value that cannot be read never makes a policy weaker: an ALLOW rule with one is left out, a DENY or
// CUSTOM rule with one matches everything.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "mesh/kube/security.h"
#include "mesh/model/guard.h"

namespace culvert::control {

using Complain = std::function<void(const std::string& what)>;

// A source as rules of policies and of rate limits name it; service accounts without a namespace are of `ns`.
// nullopt: some value could not be read, and `complain` has been told.
std::optional<model::HttpSource> compile_source(const kube::AuthorizationPolicy::Source& source,
                                                const std::string& ns, const Complain& complain);

// Some part of it is not seen by a node proxy (selector_l7.cc).
bool needs_waypoint(const kube::AuthorizationPolicy::Rule& rule);

model::HttpPolicy compile_http_policy(const kube::AuthorizationPolicy& policy, const Complain& complain);

// `jwks`: the keys behind a URI as they were last fetched; null or empty: there are none, and tokens of that
// issuer are refused.
model::RequestAuthentication compile_authentication(
    const kube::RequestAuthentication& source,
    const std::function<std::string(const std::string& uri)>& jwks);

}  // namespace culvert::control
