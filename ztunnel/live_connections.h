// SPDX-License-Identifier: Apache-2.0
// LiveConnections: the admitted inbound connections of one pod, checked again whenever a policy or the
// pod's workload changes (spec ztunnel section 6). Upstream checks with the workload as it was
// when the connection came and only after policy pushes; we take the present one, so that a new
// policy reference closes what it forbids at once.
#pragma once

#include <list>
#include <memory>

#include "mesh/decide/authorize.h"
#include "mesh/model/view.h"
#include "net/async/stop_signal.h"

namespace culvert::ztunnel {

class LiveConnections {
 public:
  class Entry {
   public:
    Entry(LiveConnections& owner, async::StopSignal& signal, decide::ConnectionFacts facts,
          model::WorkloadRef destination);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class LiveConnections;
    LiveConnections& owner_;
    async::StopSignal& signal_;
    decide::ConnectionFacts facts_;
    model::WorkloadRef destination_;
    std::list<Entry*>::iterator place_;
  };

  // Checks all; those no longer allowed are told to stop. `present`: the workload as it is now, null
  // if it has gone (then each is judged with the one it was admitted with). Returns how many stop.
  size_t recheck(const model::MeshView& view, const model::WorkloadRef& present);
  size_t size() const { return entries_.size(); }

 private:
  std::list<Entry*> entries_;
};

}  // namespace culvert::ztunnel
