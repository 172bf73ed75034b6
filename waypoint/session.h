// SPDX-License-Identifier: Apache-2.0
// Sessions that stay with an endpoint (SessionPersistence; GEP-1619, gap G9). What clients keep is a sealed
// token: it names the endpoint, tells its holder nothing, and cannot be made by anybody else. A token that is
// not ours, too old, or for somebody who has gone is as none: the choice is made anew, and told again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mesh/decide/http_request.h"
#include "mesh/model/route.h"
#include "net/base/duration.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

struct Session {
  ClusterKey cluster;  // without the name that clients say
  std::string host;    // Host::key
  base::WallTime began{}, used{};
};

// `key`: WaypointSettings::session_key; `use`: what the session is for, so that one route's token says
// nothing to another.
std::optional<Session> read_session(const model::SessionPersistence& rules,
                                    const decide::HttpRequestFacts& facts, std::string_view key,
                                    std::string_view use, base::WallTime now);

// The response header that tells the client: set-cookie, or the rule's own. Nothing without a key.
std::optional<std::pair<std::string, std::string>> write_session(const model::SessionPersistence& rules,
                                                                 const Session& session, std::string_view key,
                                                                 std::string_view use, bool https);

// The token is told again before it would be too old by `idle`.
bool is_stale(const model::SessionPersistence& rules, const Session& session, base::WallTime now);

}  // namespace culvert::waypoint
