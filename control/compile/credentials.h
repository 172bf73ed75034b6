// SPDX-License-Identifier: Apache-2.0
// Where the TLS settings of a DestinationRule find certificates: Secrets and ConfigMaps of the waypoint's
// namespace (spec waypoint section 2.3.5). Pure.
#pragma once

#include <string>

#include "mesh/kube/objects.h"
#include "mesh/model/backend.h"

namespace culvert::control {

struct Credentials {
  const kube::Objects* objects = nullptr;  // null: there are none
  std::string ns;                          // where credentialName leads
};

// What `tls` asks for towards endpoints; none: nothing. What cannot be carried out is `broken`: such a
// backend refuses, it never falls back to plaintext or to other roots.
std::optional<model::BackendTls> compile_backend_tls(const kube::ClientTls& tls,
                                                     const Credentials& credentials);

}  // namespace culvert::control
