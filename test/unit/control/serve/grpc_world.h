// SPDX-License-Identifier: Apache-2.0
// GrpcWorld: a GrpcServer and clients of it, joined by memory pipes, in virtual time.
#pragma once

#include <memory>

#include "control/serve/ca_service.h"
#include "net/conn/grpc.h"
#include "net/io/memory_pipe.h"
#include "test/support/sim_loop.h"

namespace culvert::test {

struct GrpcWorld {
  SimLoop loop;
  base::NullLog log;
  control::TokenKey key = control::TokenKey::generate();
  control::Authenticator authenticator{loop, log, key, "cluster.local", "istio-ca"};
  conn::GrpcServer server{loop, {}};
  // Derived worlds reset it before what their handlers use.
  std::unique_ptr<async::Scope> serving = std::make_unique<async::Scope>(loop);

  // One client connection. Destroy it before the world.
  struct Connection {
    Connection(GrpcWorld& world, wire::PeerInfo peer, io::MemoryPipeOptions pipe_options) {
      auto pipe = io::make_memory_pipe(world.loop, pipe_options);
      world.serving->spawn(world.server.serve(std::move(pipe.second), std::move(peer)));
      http2 = std::make_unique<conn::Http2Conn>(world.loop, std::move(pipe.first),
                                                wire::H2Engine::Role::kClient, conn::Http2Options{});
      client = std::make_unique<conn::GrpcClient>(world.loop, *http2, "istiod:15012", 64 * 1024 * 1024);
    }
    std::unique_ptr<conn::Http2Conn> http2;
    std::unique_ptr<conn::GrpcClient> client;
  };
  std::unique_ptr<Connection> connect(wire::PeerInfo peer = {}, io::MemoryPipeOptions options = {}) {
    return std::make_unique<Connection>(*this, std::move(peer), options);
  }

  conn::Metadata bearer(control::CallerIdentity caller) const {
    control::TokenClaims claims{std::move(caller), "istio-ca", loop.wall_now(),
                                loop.wall_now() + std::chrono::hours(1)};
    return {{"authorization", "Bearer " + key.issue(claims)}, {"clusterid", "Kubernetes"}};
  }
};

}  // namespace culvert::test
