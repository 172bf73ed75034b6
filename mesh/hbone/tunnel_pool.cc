// SPDX-License-Identifier: Apache-2.0
#include "mesh/hbone/tunnel_pool.h"

#include <algorithm>
#include <utility>

namespace culvert::hbone {

// A pooled tunnel. Its seat count is what limits streams; a seat is taken before the CONNECT goes out.
struct TunnelPool::Entry {
  Entry(TunnelPool& pool, std::shared_ptr<Slot> slot_, std::unique_ptr<Tunnel> tunnel_)
      : slot(std::move(slot_)),
        tunnel(std::move(tunnel_)),
        idle_timer([this, &pool] { pool.release_idle(*this); }) {}
  std::shared_ptr<Slot> slot;
  std::unique_ptr<Tunnel> tunnel;
  size_t seats = 0;
  bool pooled = true;
  bool idle = false;
  uint64_t idle_since = 0;  // order of becoming idle
  async::CallTimer idle_timer;
};

struct TunnelPool::Dial {
  explicit Dial(async::Loop& loop) : done(loop) {}
  async::Event done;
  std::shared_ptr<Entry> entry;
  std::optional<OpenError> failure;
  size_t waiters = 0;
};

struct TunnelPool::Slot {
  Slot(async::Loop& loop, TunnelKey key_) : key(std::move(key_)), changed(loop) {}
  TunnelKey key;
  std::vector<std::shared_ptr<Entry>> entries;
  std::vector<std::shared_ptr<Dial>> dials;
  size_t callers = 0;    // inside open(): keeps the slot
  async::Event changed;  // pulsed when a seat or a dial became free
};

namespace {
// Counts a caller in and out, also when it is cancelled while waiting.
class Counted {
 public:
  explicit Counted(size_t& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  size_t& count_;
};

// The peer cannot have acted on the CONNECT, or the connection had died before it was sent.
bool worth_another_tunnel(const base::Error& error) {
  return error.code() == base::Code::kClosed || error.code() == base::Code::kRefused ||
         error.code() == base::Code::kReset;
}

constexpr int kRoundsMax = 8;
constexpr int kFreshRetriesMax = 2;
}  // namespace

// A taken seat that has not become a stream yet.
class TunnelPool::Seat {
 public:
  Seat(std::shared_ptr<TunnelPool*> pool, std::shared_ptr<Entry> entry)
      : pool_(std::move(pool)), entry_(std::move(entry)) {
    ++entry_->seats;
    if (std::exchange(entry_->idle, false)) --(*pool_)->idle_tunnels_;
    entry_->idle_timer.disarm();
  }
  ~Seat() {
    if (entry_ && *pool_) (*pool_)->give_back(entry_);
  }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  Entry& entry() { return *entry_; }
  std::shared_ptr<Entry> keep() { return std::exchange(entry_, nullptr); }

 private:
  std::shared_ptr<TunnelPool*> pool_;
  std::shared_ptr<Entry> entry_;
};

TunnelPool::TunnelPool(async::Loop& loop, TunnelDialer& dialer, TunnelPoolOptions options)
    : loop_(loop),
      dialer_(dialer),
      options_(options),
      burial_([this] {
        std::vector<std::shared_ptr<Entry>> dead = std::move(graveyard_);
        graveyard_.clear();
      }),
      self_(std::make_shared<TunnelPool*>(this)),
      tasks_(loop) {}

TunnelPool::~TunnelPool() {
  *self_ = nullptr;
  for (auto& [key, slot] : slots_) {
    for (auto& entry : slot->entries) {
      entry->idle_timer.disarm();
      entry->tunnel->abort();
    }
    // An entry keeps its slot; here the ring is opened.
    slot->entries.clear();
  }
}

async::Task<std::expected<TunnelStream, OpenError>> TunnelPool::open(TunnelKey key, HeaderList headers,
                                                                     async::Deadline deadline) {
  std::shared_ptr<Slot> slot = slot_for(key);
  Counted caller(slot->callers);
  auto timeout = [] {
    return std::unexpected(OpenError{base::Error(base::Code::kTimeout, "no tunnel became free in time"),
                                     Stage::kConnectTimeout});
  };
  int refused_by_fresh = 0;
  for (int round = 0; round < kRoundsMax;) {
    std::shared_ptr<Entry> entry = reusable(*slot);
    bool fresh = !entry;
    if (!entry) {
      std::shared_ptr<Dial> dial = join_or_start(key, slot);
      if (!dial) {
        bool woken = co_await slot->changed.wait(deadline);
        if (!woken) co_return timeout();
        continue;
      }
      {
        Counted waiter(dial->waiters);
        bool finished = co_await dial->done.wait(deadline);
        if (!finished) co_return timeout();
      }
      if (dial->failure) co_return std::unexpected(*dial->failure);
      entry = dial->entry;
      ++round;
      if (!entry->tunnel->usable() || !has_room(*entry)) continue;
    }
    Seat seat(self_, std::move(entry));
    base::Result<ConnectReply> reply = co_await seat.entry().tunnel->connect(headers, deadline);
    if (reply) {
      ++stats_.streams;
      co_return TunnelStream(self_, seat.keep(), std::move(*reply));
    }
    // A peer that is about to go (GOAWAY) may have refused it: nothing has been carried yet, so another
    // tunnel is safe. From fresh ones only a few times, or a peer that refuses all would be dialled on and
    // on.
    if (fresh) ++refused_by_fresh;
    bool again = worth_another_tunnel(reply.error()) && refused_by_fresh <= kFreshRetriesMax &&
                 !deadline.passed(loop_.now());
    if (worth_another_tunnel(reply.error())) retire(seat.entry());
    if (!again) co_return std::unexpected(OpenError{std::move(reply).error(), Stage::kHttp2});
    ++round;
  }
  co_return std::unexpected(OpenError{
      base::Error(base::Code::kExhausted, "the peer closes its tunnels, or allows no streams on them"),
      Stage::kHttp2});
}

std::shared_ptr<TunnelPool::Slot> TunnelPool::slot_for(const TunnelKey& key) {
  auto found = slots_.find(key);
  if (found == slots_.end()) {
    // Slots nobody uses go when another key comes: no map that only grows.
    std::erase_if(slots_, [](const auto& item) {
      const Slot& slot = *item.second;
      return slot.entries.empty() && slot.dials.empty() && slot.callers == 0;
    });
    found = slots_.emplace(key, std::make_shared<Slot>(loop_, key)).first;
  }
  return found->second;
}

bool TunnelPool::has_room(const Entry& entry) const {
  return entry.seats < std::min(options_.streams_max, entry.tunnel->peer_streams_max());
}

std::shared_ptr<TunnelPool::Entry> TunnelPool::reusable(Slot& slot) {
  for (size_t at = 0; at < slot.entries.size();) {
    std::shared_ptr<Entry> entry = slot.entries[at];
    if (!entry->tunnel->usable()) {
      discard(entry);
      continue;
    }
    if (has_room(*entry)) return entry;
    ++at;
  }
  return nullptr;
}

std::shared_ptr<TunnelPool::Dial> TunnelPool::join_or_start(const TunnelKey& key,
                                                            const std::shared_ptr<Slot>& slot) {
  for (const auto& dial : slot->dials) {
    if (dial->waiters < options_.streams_max) return dial;
  }
  if (slot->dials.size() >= options_.parallel_dials_max) return nullptr;
  auto dial = std::make_shared<Dial>(loop_);
  slot->dials.push_back(dial);
  ++stats_.dials;
  tasks_.spawn(run_dial(*this, key, slot, dial));
  return dial;
}

async::Task<void> TunnelPool::run_dial(TunnelPool& pool, TunnelKey key, std::shared_ptr<Slot> slot,
                                       std::shared_ptr<Dial> dial) {
  std::expected<std::unique_ptr<Tunnel>, OpenError> tunnel = co_await pool.dialer_.dial(std::move(key));
  std::erase(slot->dials, dial);
  if (tunnel) {
    dial->entry = std::make_shared<Entry>(pool, slot, std::move(*tunnel));
    slot->entries.push_back(dial->entry);
    ++pool.stats_.tunnels;
    pool.rest(*dial->entry);  // until the first waiter takes its seat; all of them may have gone
    pool.tasks_.spawn(watch(pool, dial->entry));
  } else {
    ++pool.stats_.dial_failures;
    dial->failure = std::move(tunnel.error());
  }
  dial->done.set();
  slot->changed.pulse();
}

async::Task<void> TunnelPool::watch(TunnelPool& pool, std::shared_ptr<Entry> entry) {
  co_await entry->tunnel->closed().wait();
  pool.discard(entry);
}

void TunnelPool::rest(Entry& entry) {
  entry.idle = true;
  entry.idle_since = ++idle_sequence_;
  ++idle_tunnels_;
  loop_.arm(entry.idle_timer, loop_.now() + options_.idle_release);
}

void TunnelPool::give_back(const std::shared_ptr<Entry>& entry) {
  --entry->seats;
  if (!entry->pooled) {
    if (entry.use_count() <= 2) bury(entry);
    return;
  }
  if (!entry->tunnel->usable()) {
    std::shared_ptr<Slot> slot = entry->slot;
    discard(entry);
    slot->changed.pulse();
    return;
  }
  if (entry->seats == 0) {
    rest(*entry);
    if (idle_tunnels_ > options_.idle_tunnels_max) trim_idle();
  }
  entry->slot->changed.pulse();
}

void TunnelPool::discard(const std::shared_ptr<Entry>& entry) {
  if (!std::exchange(entry->pooled, false)) return;
  --stats_.tunnels;
  if (std::exchange(entry->idle, false)) --idle_tunnels_;
  entry->idle_timer.disarm();
  bury(entry);
  std::erase(entry->slot->entries, entry);
}

void TunnelPool::release_idle(Entry& entry) {
  ++stats_.idle_releases;
  retire(entry);
}

// No new streams on it; it ends with those it has.
void TunnelPool::retire(Entry& entry) {
  entry.tunnel->drain();
  auto& entries = entry.slot->entries;
  auto own =
      std::find_if(entries.begin(), entries.end(), [&](const auto& item) { return item.get() == &entry; });
  if (own != entries.end()) discard(std::shared_ptr<Entry>(*own));
}

void TunnelPool::trim_idle() {
  Entry* oldest = nullptr;
  for (auto& [key, slot] : slots_) {
    for (auto& entry : slot->entries) {
      if (entry->idle && (!oldest || entry->idle_since < oldest->idle_since)) oldest = entry.get();
    }
  }
  if (oldest) release_idle(*oldest);
}

void TunnelPool::evict(const std::function<bool(const TunnelKey&)>& matches) {
  for (auto& [key, slot] : slots_) {
    if (!matches(key)) continue;
    std::vector<std::shared_ptr<Entry>> entries = slot->entries;
    for (auto& entry : entries) {
      entry->tunnel->drain();
      discard(entry);
    }
    slot->changed.pulse();
  }
}

void TunnelPool::drain() {
  evict([](const TunnelKey&) { return true; });
}

// A tunnel never dies inside a call that may have come from it: the loop lets it go later.
void TunnelPool::bury(std::shared_ptr<Entry> entry) {
  graveyard_.push_back(std::move(entry));
  loop_.defer(burial_);
}

TunnelPool::Stats TunnelPool::stats() const { return stats_; }

TunnelStream::TunnelStream(std::shared_ptr<TunnelPool*> pool, std::shared_ptr<TunnelPool::Entry> entry,
                           ConnectReply reply)
    : pool_(std::move(pool)), entry_(std::move(entry)), reply_(std::move(reply)) {}

TunnelStream::TunnelStream(TunnelStream&& other) noexcept = default;

TunnelStream::~TunnelStream() {
  reply_.stream.reset();
  if (entry_ && *pool_) (*pool_)->give_back(entry_);
}

const model::Identity& TunnelStream::peer_identity() const { return entry_->tunnel->peer_identity(); }

}  // namespace culvert::hbone

size_t std::hash<culvert::hbone::TunnelKey>::operator()(const culvert::hbone::TunnelKey& key) const noexcept {
  auto mix = [](size_t a, size_t b) { return (a ^ (b + 0x9e3779b97f4a7c15ULL)) * 0xff51afd7ed558ccdULL; };
  size_t hash = std::hash<culvert::model::Identity>()(key.source);
  for (const auto& identity : key.allowed) hash = mix(hash, std::hash<culvert::model::Identity>()(identity));
  hash = mix(hash, std::hash<culvert::base::SocketAddr>()(key.hop));
  hash = mix(hash, std::hash<culvert::base::IpAddr>()(key.source_ip));
  return mix(hash, std::hash<std::string>()(key.destination_uid));
}
