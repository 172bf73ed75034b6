// SPDX-License-Identifier: Apache-2.0
// TunnelPool: hands out CONNECT streams by full key, sharing tunnels and their dials (spec ztunnel
// section 3.5, with defects 1 and 2 of section 13 put right). One per pod and data loop; must
// outlive the tasks that call it, and may be destroyed before the streams it gave.
//
// | a caller finds                               | it                                              |
// |----------------------------------------------|-------------------------------------------------|
// | a usable tunnel with room                    | opens a stream on it                            |
// | a dial on its way with a free seat           | waits; success and failure reach every waiter   |
// | fewer than kParallelDialsMax dials           | starts one                                      |
// | neither                                      | waits for any dial or stream of that key to end |
//
// A tunnel that was full comes back when a stream ends. One that saw GOAWAY or broke is
// never given out again. After a shared failure the next caller dials anew.
#pragma once

#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <unordered_map>

#include "mesh/hbone/tunnel.h"
#include "net/async/loop.h"
#include "net/async/scope.h"

namespace culvert::hbone {

struct TunnelPoolOptions {
  size_t streams_max = 100;                               // per tunnel; the peer's own limit counts too
  base::Duration idle_release = std::chrono::minutes(5);  // without a stream
  size_t parallel_dials_max = 8;                          // per key
  size_t idle_tunnels_max = 500;                          // the longest idle goes first
};

// A stream of a pooled tunnel. Keeps the tunnel; destroying it gives the seat back.
class TunnelStream;

class TunnelPool {
 public:
  struct Stats {
    uint64_t dials = 0;
    uint64_t dial_failures = 0;
    uint64_t streams = 0;
    uint64_t idle_releases = 0;
    size_t tunnels = 0;  // pooled now
  };

  TunnelPool(async::Loop& loop, TunnelDialer& dialer, TunnelPoolOptions options);
  ~TunnelPool();
  TunnelPool(const TunnelPool&) = delete;
  TunnelPool& operator=(const TunnelPool&) = delete;

  // Any answer of the peer is a success here, also one that is not 200.
  async::Task<std::expected<TunnelStream, OpenError>> open(TunnelKey key, HeaderList headers,
                                                           async::Deadline deadline);
  // No new streams on tunnels whose key matches; those with streams end with the last of them.
  void evict(const std::function<bool(const TunnelKey&)>& matches);
  // Gracefully ends every tunnel. open() keeps working, with new tunnels.
  void drain();
  Stats stats() const;

 private:
  friend class TunnelStream;
  struct Entry;
  struct Dial;
  struct Slot;
  class Seat;
  using Slots = std::unordered_map<TunnelKey, std::shared_ptr<Slot>>;

  std::shared_ptr<Slot> slot_for(const TunnelKey& key);
  std::shared_ptr<Entry> reusable(Slot& slot);
  std::shared_ptr<Dial> join_or_start(const TunnelKey& key, const std::shared_ptr<Slot>& slot);
  static async::Task<void> run_dial(TunnelPool& pool, TunnelKey key, std::shared_ptr<Slot> slot,
                                    std::shared_ptr<Dial> dial);
  static async::Task<void> watch(TunnelPool& pool, std::shared_ptr<Entry> entry);
  bool has_room(const Entry& entry) const;
  void give_back(const std::shared_ptr<Entry>& entry);
  void discard(const std::shared_ptr<Entry>& entry);
  void release_idle(Entry& entry);
  void retire(Entry& entry);
  void rest(Entry& entry);
  void trim_idle();
  void bury(std::shared_ptr<Entry> entry);

  async::Loop& loop_;
  TunnelDialer& dialer_;
  TunnelPoolOptions options_;
  Slots slots_;
  std::vector<std::shared_ptr<Entry>> graveyard_;
  async::CallJob burial_;
  size_t idle_tunnels_ = 0;
  uint64_t idle_sequence_ = 0;
  Stats stats_;
  std::shared_ptr<TunnelPool*> self_;  // null inside once the pool has gone
  async::Scope tasks_;
};

class TunnelStream {
 public:
  TunnelStream(TunnelStream&&) noexcept;
  TunnelStream& operator=(TunnelStream&&) = delete;
  ~TunnelStream();

  uint16_t status() const { return reply_.status; }
  const HeaderList& headers() const { return reply_.headers; }
  io::ByteStream& stream() { return *reply_.stream; }  // only with status 200
  const model::Identity& peer_identity() const;

 private:
  friend class TunnelPool;
  TunnelStream(std::shared_ptr<TunnelPool*> pool, std::shared_ptr<TunnelPool::Entry> entry,
               ConnectReply reply);
  std::shared_ptr<TunnelPool*> pool_;
  std::shared_ptr<TunnelPool::Entry> entry_;
  ConnectReply reply_;
};

}  // namespace culvert::hbone
