// SPDX-License-Identifier: Apache-2.0
#include "mesh/ca/cert_cache.h"

#include <utility>

namespace culvert::ca {

void CertCache::ask(const model::Identity& identity, const std::shared_ptr<Entry>& entry) {
  if (entry->asking) return;
  entry->asking = true;
  entry->asked_at = loop_.now();
  // The answer holds the entry, not the cache: it may come after the cache has gone.
  request_(identity, [entry](base::Result<wire::TlsIdentityRef> answer) {
    entry->asking = false;
    if (answer) {
      entry->current = std::move(*answer);
      entry->failure.reset();
    } else {
      entry->failure = std::move(answer).error();
    }
    entry->answered.pulse();
  });
}

async::Task<base::Result<wire::TlsIdentityRef>> CertCache::get(model::Identity identity,
                                                               async::Deadline deadline) {
  if (entries_.size() >= kEntriesMax && !entries_.contains(identity)) entries_.clear();
  std::shared_ptr<Entry>& slot = entries_[identity];
  if (!slot) slot = std::make_shared<Entry>(loop_);
  std::shared_ptr<Entry> entry = slot;

  if (entry->current) {
    base::WallTime now = loop_.wall_now();
    base::WallTime begin = entry->current->leaf().not_before;
    base::WallTime end = entry->current->leaf().not_after;
    bool due = now >= begin + (end - begin) / 2;
    if (due && loop_.now() - entry->asked_at >= kAskAgain) ask(identity, entry);
    if (now < end) co_return entry->current;
  } else {
    ask(identity, entry);
  }
  while (entry->asking) {
    bool answered = co_await entry->answered.wait(deadline);
    if (!answered) {
      co_return base::fail(base::Code::kTimeout,
                           "no certificate for " + identity.to_string() + " before the deadline");
    }
  }
  if (entry->current && loop_.wall_now() < entry->current->leaf().not_after) co_return entry->current;
  if (entry->failure) co_return base::fail(*entry->failure);
  co_return base::fail(base::Code::kUnavailable,
                       "the certificate of " + identity.to_string() + " has expired");
}

}  // namespace culvert::ca
