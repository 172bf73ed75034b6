// SPDX-License-Identifier: Apache-2.0
#include "mesh/ca/cert_store.h"

#include <algorithm>

namespace culvert::ca {

using base::fail;
using base::Result;

base::WallTime CertSchedule::renew_at(const wire::CertInfo& leaf, base::WallTime now) {
  if (leaf.not_after <= leaf.not_before) return now;
  // CAs date certificates back by minutes; for a short-lived one the half may lie in the past, and renewing
  // at once would never end. A quarter of what is left is waited for in any case.
  base::WallTime half = leaf.not_before + (leaf.not_after - leaf.not_before) / 2;
  return std::max({now, half, now + (leaf.not_after - now) / 4});
}

base::Duration CertSchedule::after_failure(base::Rng& rng) {
  auto jittered = std::chrono::duration_cast<base::Duration>(backoff_ * (0.8 + 0.4 * rng.unit()));
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
  return std::min(jittered, kBackoffMax);
}

struct CertStore::Entry {
  Entry(async::Loop& loop, CertStore& store, model::Identity who)
      : identity(std::move(who)),
        answered(loop),
        due([this, &store] { store.enqueue(store.entries_.at(identity), Priority::kBackground); }) {}
  model::Identity identity;
  wire::TlsIdentityRef current;
  std::optional<base::Error> failure;
  CertSchedule schedule;
  bool fetching = false;
  bool forgotten = false;
  std::optional<std::pair<int, uint64_t>> ticket;  // its place in the queue
  async::Event answered;                           // pulsed by every answer
  async::CallTimer due;                            // the next renewal or retry
};

CertStore::CertStore(async::Loop& loop, base::Log& log, base::Rng rng, CertFetcher& fetcher)
    : loop_(loop), log_(log), rng_(rng), fetcher_(fetcher), fetches_(loop) {}

CertStore::~CertStore() = default;

CertStore::EntryRef CertStore::entry_for(const model::Identity& identity, Priority priority) {
  EntryRef& entry = entries_[identity];
  if (!entry) {
    entry = std::make_shared<Entry>(loop_, *this, identity);
    enqueue(entry, priority);
  } else if (entry->ticket) {
    enqueue(entry, priority);  // raises it
  }
  return entry;
}

void CertStore::enqueue(const EntryRef& entry, Priority priority) {
  if (entry->fetching) return;
  int rank = -static_cast<int>(priority);
  if (entry->ticket) {
    if (entry->ticket->first <= rank) return;
    queue_.erase(*entry->ticket);
    entry->ticket->first = rank;
  } else {
    entry->ticket = {rank, next_ticket_++};
  }
  queue_[*entry->ticket] = entry;
  start_fetches();
}

void CertStore::start_fetches() {
  while (fetching_ < kFetchesMax && !queue_.empty()) {
    EntryRef entry = queue_.begin()->second;
    queue_.erase(queue_.begin());
    entry->ticket.reset();
    entry->fetching = true;
    fetching_++;
    fetches_.spawn(fetch(std::move(entry)));
  }
}

async::Task<void> CertStore::fetch(EntryRef entry) {
  Result<wire::TlsIdentityRef> result = co_await fetcher_.fetch(entry->identity);
  fetching_--;
  entry->fetching = false;
  if (!entry->forgotten) settle(entry, std::move(result));
  start_fetches();
}

void CertStore::settle(const EntryRef& entry, Result<wire::TlsIdentityRef> result) {
  base::WallTime now = loop_.wall_now();
  base::Duration wait;
  if (result) {
    entry->current = std::move(*result);
    entry->failure.reset();
    entry->schedule.succeeded();
    wait = CertSchedule::renew_at(entry->current->leaf(), now) - now;
  } else {
    wait = entry->schedule.after_failure(rng_);
    bool still_valid = entry->current && entry->current->leaf().not_after > now;
    log_.warn("ca", still_valid ? "certificate not renewed, the old one is still valid" : "no certificate",
              {base::Field::text("identity", entry->identity.to_string()),
               base::Field::text("error", result.error().message()),
               base::Field::text("retry_in", base::format_duration(wait))});
    if (still_valid) {
      wait = std::min(wait, entry->current->leaf().not_after - now);
    } else {
      entry->current.reset();
      entry->failure = std::move(result).error();
    }
  }
  loop_.arm(entry->due, loop_.now() + wait);
  entry->answered.pulse();
}

async::Task<Result<wire::TlsIdentityRef>> CertStore::get(model::Identity identity, Priority priority) {
  EntryRef entry = entry_for(identity, priority);
  for (;;) {
    if (entry->forgotten) {
      co_return fail(base::Code::kCancelled,
                     "the identity was forgotten: its last pod on this node has gone");
    }
    if (entry->current && entry->current->leaf().not_after > loop_.wall_now()) co_return entry->current;
    if (entry->failure) co_return fail(*entry->failure);
    // Expired between two looks (a suspended machine): fetch at once.
    if (entry->current) {
      entry->current.reset();
      enqueue(entry, priority);
    }
    co_await entry->answered.wait();
  }
}

void CertStore::warm(const model::Identity& identity) { entry_for(identity, Priority::kWarmup); }

void CertStore::forget(const model::Identity& identity) {
  auto it = entries_.find(identity);
  if (it == entries_.end()) return;
  EntryRef entry = std::move(it->second);
  entries_.erase(it);
  if (entry->ticket) queue_.erase(*entry->ticket);
  entry->ticket.reset();
  entry->due.disarm();
  entry->forgotten = true;
  entry->answered.pulse();
}

std::vector<CertStore::Row> CertStore::rows() const {
  std::vector<Row> rows;
  for (const auto& [identity, entry] : entries_) {
    rows.push_back(
        {identity, entry->current, entry->failure ? std::optional(entry->failure->message()) : std::nullopt});
  }
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.identity.to_string() < b.identity.to_string(); });
  return rows;
}

}  // namespace culvert::ca
