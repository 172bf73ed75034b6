// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/live_connections.h"

#include <utility>

namespace culvert::ztunnel {

LiveConnections::Entry::Entry(LiveConnections& owner, async::StopSignal& signal,
                              decide::ConnectionFacts facts, model::WorkloadRef destination)
    : owner_(owner), signal_(signal), facts_(std::move(facts)), destination_(std::move(destination)) {
  place_ = owner_.entries_.insert(owner_.entries_.end(), this);
}

LiveConnections::Entry::~Entry() { owner_.entries_.erase(place_); }

size_t LiveConnections::recheck(const model::MeshView& view, const model::WorkloadRef& present) {
  size_t stopped = 0;
  for (Entry* entry : entries_) {
    if (present) entry->destination_ = present;
    decide::Verdict verdict = decide::authorize(view, *entry->destination_, entry->facts_);
    // A policy that is named but not here yet refuses new connections; a live one is judged when it
    // has come.
    if (verdict.allowed() || verdict.decision == decide::Decision::kUnknownPolicy) continue;
    entry->signal_.stop(
        base::Error(base::Code::kDenied, "connection closed due to policy change: " + verdict.reason()));
    ++stopped;
  }
  return stopped;
}

}  // namespace culvert::ztunnel
