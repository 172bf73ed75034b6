// SPDX-License-Identifier: Apache-2.0
// Inbound: one HBONE tunnel to a pod, accepted on 15008, and its CONNECT streams (spec ztunnel section 4.1
// to 4.4).
#pragma once

#include <string>
#include <vector>

#include "mesh/model/identity.h"
#include "net/async/task.h"
#include "net/base/result.h"
#include "net/io/network.h"

namespace culvert::ztunnel {

class PodProxy;

// Handshake as the pod, then a coroutine per stream; ends when the tunnel has.
async::Task<void> serve_tunnel(PodProxy& pod, io::Accepted accepted);

// The same for one stream that came over the local path: everything but the handshake.
struct LocalArrival;
async::Task<void> serve_local_stream(PodProxy& pod, LocalArrival arrival);

// Who the client is for policies and logs: the first SPIFFE name of its certificate.
base::Result<model::Identity> identify(const std::vector<std::string>& uri_sans);
// Some SPIFFE name of the client must lie in our own trust domain (section 3.1).
base::Result<> check_client(const std::vector<std::string>& uri_sans, const std::string& trust_domain);

}  // namespace culvert::ztunnel
