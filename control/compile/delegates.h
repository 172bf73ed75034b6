// SPDX-License-Identifier: Apache-2.0
// A VirtualService's route that delegates, laid over the routes of its delegate (spec waypoint
// section 2.1.7). Pure; called by http_routes.cc.
#pragma once

#include <cstddef>
#include <optional>

#include "mesh/kube/virtual_service.h"

namespace culvert::control {

// Of one route, after the cross product; more are refused.
inline constexpr size_t kDelegatedMatchesMax = 4096;

// What both ask for; none: they contradict each other, or the delegate asks for more than the root hands on.
std::optional<kube::VirtualService::HttpMatch> narrow_match(const kube::VirtualService::HttpMatch& root,
                                                            const kube::VirtualService::HttpMatch& leaf);

// `leaf` with what only `root` says. Not the mirrors: their hosts are read in the namespace of their writer.
kube::VirtualService::HttpRoute inherit_route(const kube::VirtualService::HttpRoute& root,
                                              const kube::VirtualService::HttpRoute& leaf);

// Mirrors, like retries, go only with a route that forwards.
bool forwards(const kube::VirtualService::HttpRoute& route);

}  // namespace culvert::control
