// SPDX-License-Identifier: Apache-2.0
// CertStore: the current certificate of each identity, and who waits for it (spec ztunnel section 9).
// Lives on the control loop.
//
// | state        | get()                       | leaves when                                |
// |--------------|-----------------------------|--------------------------------------------|
// | initializing | waits                       | the first answer -> available, unavailable |
// | available    | the certificate             | it expires with no successor -> unavailable|
// | unavailable  | the cached error, at once   | a retry succeeds -> available              |
//
// A certificate is renewed at half its lifetime; while it is valid a failed renewal changes nothing but
// the time of the next try.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "mesh/model/identity.h"
#include "net/async/loop.h"
#include "net/async/scope.h"
#include "net/async/wait.h"
#include "net/base/log.h"
#include "net/base/rng.h"
#include "net/wire/tls.h"

namespace culvert::ca {

class CertFetcher {
 public:
  virtual ~CertFetcher() = default;
  // One certificate from the CA; has its own deadline.
  virtual async::Task<base::Result<wire::TlsIdentityRef>> fetch(model::Identity identity) = 0;
};

// Who asks decides who goes first.
enum class Priority : unsigned char { kBackground, kWarmup, kRealTime };

// When the next try is due; pure.
class CertSchedule {
 public:
  static constexpr base::Duration kFirstBackoff = std::chrono::seconds(1);
  static constexpr base::Duration kBackoffMax = std::chrono::seconds(150);

  // not_before + lifetime/2, but not before a quarter of what is left; nonsense dates: now.
  static base::WallTime renew_at(const wire::CertInfo& leaf, base::WallTime now);
  // After a failure: 1 s, doubled, +-20 %, at most 150 s.
  base::Duration after_failure(base::Rng& rng);
  void succeeded() { backoff_ = kFirstBackoff; }

 private:
  base::Duration backoff_ = kFirstBackoff;
};

class CertStore {
 public:
  static constexpr size_t kFetchesMax = 8;  // requests under way at once

  CertStore(async::Loop& loop, base::Log& log, base::Rng rng, CertFetcher& fetcher);
  ~CertStore();
  CertStore(const CertStore&) = delete;

  // Errors: what the CA said, or kCancelled if the identity is forgotten meanwhile.
  async::Task<base::Result<wire::TlsIdentityRef>> get(model::Identity identity,
                                                      Priority priority = Priority::kRealTime);
  // Fetches ahead of use.
  void warm(const model::Identity& identity);
  void forget(const model::Identity& identity);

  struct Row {
    model::Identity identity;
    wire::TlsIdentityRef certificate;  // null unless available
    std::optional<std::string> error;  // unavailable
  };
  std::vector<Row> rows() const;

 private:
  struct Entry;
  using EntryRef = std::shared_ptr<Entry>;
  EntryRef entry_for(const model::Identity& identity, Priority priority);
  void enqueue(const EntryRef& entry, Priority priority);
  void start_fetches();
  async::Task<void> fetch(EntryRef entry);
  void settle(const EntryRef& entry, base::Result<wire::TlsIdentityRef> result);

  async::Loop& loop_;
  base::Log& log_;
  base::Rng rng_;
  CertFetcher& fetcher_;
  std::unordered_map<model::Identity, EntryRef> entries_;
  // Ordered: highest priority first, then the longest waiting.
  std::map<std::pair<int, uint64_t>, EntryRef> queue_;
  uint64_t next_ticket_ = 0;
  size_t fetching_ = 0;
  async::Scope fetches_;
};

}  // namespace culvert::ca
