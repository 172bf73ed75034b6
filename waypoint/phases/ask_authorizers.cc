// SPDX-License-Identifier: Apache-2.0
// The phase that asks outside whether a request may pass (spec waypoint section 2.6.6).
#include "waypoint/exchange_state.h"
#include "waypoint/worker.h"

namespace culvert::waypoint {

std::optional<Reply> ask_authorizers(Exchange& x, const std::vector<decide::CustomHit>& hits) {
  if (hits.empty()) return std::nullopt;
  // Nobody tells us providers, so none is known: what it would have said can only be taken as no.
  const decide::CustomHit& hit = hits.front();
  x.record.denied_by = hit.name;
  x.worker.log().warn(
      "authorization", "refused: the policy's provider is not known to this waypoint",
      {base::Field::text("policy", hit.name), base::Field::text("provider", hit.policy->provider),
       base::Field::text("src.identity", x.client->identity.to_string())});
  return replies::authorizer_failed(403);
}

}  // namespace culvert::waypoint
