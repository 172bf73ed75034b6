// SPDX-License-Identifier: Apache-2.0
// Local file mode: workloads, services and policies from a YAML text instead of, or beside, xDS
// (LOCAL_XDS_PATH, LOCAL_XDS; spec apis section 3.8). Read once at start; any error is fatal and names the
// line.
#pragma once

#include <string_view>

#include "mesh/model/store.h"
#include "net/base/result.h"

namespace culvert::config {

// `origin` names the text in errors: a path, or "LOCAL_XDS". Unknown keys are errors, also inside a match
// (where upstream skips them: a mistyped key would widen what the policy matches). Defaults of xDS are not
// applied: an omitted trust domain, service account or cluster id stays empty.
base::Result<model::MeshUpdate> parse_local_mesh(std::string_view yaml, std::string_view origin,
                                                 model::NamePool& names);

}  // namespace culvert::config
