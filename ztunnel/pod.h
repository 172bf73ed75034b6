// SPDX-License-Identifier: Apache-2.0
// PodInfo: what a proxy is told about the pod it serves, by ZDS or by configuration; immutable and
// shared across loops.
#pragma once

#include <string>

#include "mesh/config/ztunnel_config.h"
#include "net/io/network.h"

namespace culvert::ztunnel {

enum class PodKind : unsigned char {
  kPod,        // shared mode: sockets in the pod's namespace, marked
  kDedicated,  // dedicated mode: our own namespace
  kSelf,       // the self listener: 15008 for our own identity, unmarked, never spoofing (section 1)
};

struct PodInfo {
  std::string uid;  // of the Kubernetes pod; a fixed name for kDedicated and kSelf
  config::WorkloadName name;
  io::NetNsRef netns;  // null: our own
  PodKind kind = PodKind::kPod;
};

}  // namespace culvert::ztunnel
