// SPDX-License-Identifier: Apache-2.0
// The mesh most worlds start from: web on one node calls api on another through a service.
#pragma once

#include "test/sim/world.h"

namespace culvert::test {

inline void raise_two_nodes(World& world) {
  world.start_control();
  world.add_node("n1", "192.0.2.1");
  world.add_node("n2", "192.0.2.2");
  world.add_pod({.name = "web", .node = "n1", .ip = "10.0.1.1"});
  world.add_pod({.name = "api", .node = "n2", .ip = "10.0.2.1"});
  world.add_service("api", "10.96.0.1", 80, 8080);
  world.serve_echo(world.pod("api"), 8080);
  world.start_proxy(world.node("n1"));
  world.start_proxy(world.node("n2"));
  world.settle();
}
inline constexpr char kApi[] = "10.96.0.1:80";

}  // namespace culvert::test
