// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http2_conn.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "net/base/check.h"
#include "net/conn/wake.h"

namespace culvert::conn {

using base::Code;
using base::Error;
using base::fail;
using base::Result;
using wire::H2Engine;

// Shared by the core (while the peer may still say something) and the handle.
struct Http2Stream::State {
  explicit State(async::Loop& loop) : answered(loop), gone(loop), readable(loop), writable(loop) {}
  int32_t id = 0;
  wire::Headers headers;  // server: request; client: response
  wire::Headers trailers;
  bool has_headers = false;
  async::Event answered;  // client: headers or an end
  async::Event gone;
  std::function<void(const wire::Headers&)> inform;
  HttpCounts counts;
  base::TimePoint began;
  base::TimePoint progress;  // when bytes last left, or there were none
  uint32_t window = 0;       // what the peer may have under way to us
  size_t moved = 0;          // bytes read since `moved_since`
  base::TimePoint moved_since;
  bool responded = false;  // server: respond() was called
  bool started = false;    // client: the request's headers have left
  bool reset_by_us = false;
  bool host_ignored = false;
  bool tunnel = true;  // not users' traffic
  base::ByteQueue received;
  bool remote_end = false;
  bool local_end = false;
  bool end_sent = false;     // our END_STREAM has left the engine
  bool let_go = false;       // the handle went before that
  bool ignore_rest = false;  // we answered in full before the peer had finished
  bool closed = false;       // the engine has forgotten the stream
  bool aborted = false;      // by us: over at once on our side, whenever the reset leaves
  std::optional<uint32_t> reset_code;
  bool connection_lost = false;
  bool refused = false;  // the peer has not looked at it
  Wake readable;
  Wake writable;
};

// Drives the engine. Kept alive by the connection handle and by every stream handle.
class Http2Core final : public std::enable_shared_from_this<Http2Core>, private wire::H2Visitor {
 public:
  using State = Http2Stream::State;
  static constexpr size_t kReadBytes = 64 * 1024;
  // Requests not yet taken by accept(); more are refused.
  static constexpr size_t kAcceptQueueMax = 1024;

  Http2Core(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, H2Engine::Role role,
            Http2Options options)
      : loop_(loop),
        lower_(std::move(lower)),
        local_(lower_->local_addr()),
        peer_(lower_->peer_addr()),
        role_(role),
        options_(options),
        engine_(role, options.settings, *this),
        closed_(loop),
        settings_(loop),
        acceptable_(loop) {}

  void start() {
    loop_.arm(settings_timer_, loop_.now() + options_.settings_timeout);
    if (options_.ping_every > base::Duration::zero())
      loop_.arm(ping_timer_, loop_.now() + options_.ping_every);
    if (options_.stream_stall_timeout > base::Duration::zero())
      loop_.arm(stream_stall_timer_, loop_.now() + options_.stream_stall_timeout / 2);
    watch_idle();
    schedule_flush();
    lower_->arm_read(&lower_readable_);
  }

  Result<std::unique_ptr<Http2Stream>> open(wire::Headers headers, bool end_stream) {
    if (ended_ || draining_ || goaway_received_) {
      return fail(Code::kRefused, "the connection takes no new streams");
    }
    if (options_.own_streams_max > 0 && room() == 0)
      return fail(Code::kExhausted, "the connection has as many streams as it may");
    Result<int32_t> id = engine_.open(headers, end_stream);
    if (!id) return fail(std::move(id).error());
    auto state = new_state(*id);
    state->local_end = end_stream;
    streams_[*id] = state;
    note_request();
    schedule_flush();
    return handle_for(std::move(state));
  }

  async::Task<std::unique_ptr<Http2Stream>> accept() {
    while ((accepted_.empty() || turn_is_full()) && !ended_) {
      acceptable_.reset();
      co_await acceptable_.wait();
    }
    if (accepted_.empty()) co_return nullptr;
    std::unique_ptr<Http2Stream> next = std::move(accepted_.front());
    accepted_.pop_front();
    if (options_.new_streams_per_turn_max > 0 && ++accepted_this_turn_ == options_.new_streams_per_turn_max)
      loop_.defer_next_turn(next_turn_job_);
    co_return next;
  }

  void drain() {
    if (ended_ || draining_) return;
    draining_ = true;
    engine_.announce_drain();
    // The real GOAWAY follows the PING's answer: by then streams under way have arrived (RFC 9113 6.8).
    if (role_ == H2Engine::Role::kServer) {
      engine_.ping();
      final_goaway_due_ = true;
      loop_.arm(drain_timer_, loop_.now() + std::chrono::seconds(1));
    } else {
      engine_.goaway(wire::kH2NoError);
    }
    schedule_flush();
    check_drained();
  }

  void abort(uint32_t code) {
    if (ended_) return;
    auto keep = shared_from_this();
    engine_.goaway(code);
    write_out();
    end(std::nullopt);
  }

  void end(std::optional<Error> error) {
    if (ended_) return;
    auto keep = shared_from_this();
    ended_ = true;
    error_ = std::move(error);
    settings_timer_.disarm();
    ping_timer_.disarm();
    drain_timer_.disarm();
    idle_timer_.disarm();
    stall_timer_.disarm();
    stream_stall_timer_.disarm();
    flush_job_.unqueue();
    lower_->arm_read(nullptr);
    lower_->arm_write(nullptr);
    for (auto& [id, state] : streams_) {
      state->closed = true;
      state->connection_lost = true;
      wake_all(*state);
    }
    streams_.clear();
    // Say what is left to say, then let the lower stream close in good order.
    if (!error_ && out_.empty()) {
      lower_->shutdown_write();
      linger_until_flushed();
    } else {
      lower_->abort();
    }
    acceptable_.set();
    settings_.set();
    closed_.set();
    // The requests nobody took hold us; without this nobody would ever let go.
    auto dropped = std::exchange(accepted_, {});
  }

  // --- used by Http2Stream ---
  async::Loop& loop() { return loop_; }
  base::SocketAddr local_addr() const { return local_; }
  base::SocketAddr peer_addr() const { return peer_; }
  size_t send_room(const State& state) const {
    size_t queued = engine_.queued(state.id);
    return queued >= options_.stream_send_bytes_max ? 0 : options_.stream_send_bytes_max - queued;
  }
  size_t queued(const State& state) const { return state.closed ? 0 : engine_.queued(state.id); }
  void write(State& state, base::ByteView bytes) {
    if (engine_.queued(state.id) == 0) state.progress = loop_.now();
    engine_.write(state.id, bytes);
    schedule_flush();
  }
  void finish(State& state, wire::Headers trailers) {
    if (state.closed || state.local_end) return;
    state.local_end = true;
    trailers.empty() ? engine_.finish(state.id) : engine_.finish_with_trailers(state.id, std::move(trailers));
    schedule_flush();
  }
  void respond(State& state, const wire::Headers& headers, bool end_stream) {
    if (state.closed || std::exchange(state.responded, true)) return;
    engine_.respond(state.id, headers, end_stream);
    if (end_stream) {
      state.local_end = true;
      // The answer is complete and the rest of the request is of no interest (RFC 9113 8.1). The reset
      // follows once the headers have left (on_end_sent): nghttp2 drops what waits on a stream that is being
      // reset.
      state.ignore_rest = true;
    }
    schedule_flush();
  }
  void inform(State& state, const wire::Headers& headers) {
    if (state.closed || state.responded || role_ != H2Engine::Role::kServer) return;
    engine_.inform(state.id, headers);
    schedule_flush();
  }
  void reset(State& state, uint32_t code) {
    if (state.closed) return;
    state.reset_by_us = true;
    engine_.reset(state.id, code);
    schedule_flush();
  }
  void abort_stream(State& state) {
    if (std::exchange(state.aborted, true)) return;
    reset(state, wire::kH2Cancel);
    if (size_t unread = state.received.size()) {
      state.received.clear();
      consumed(state, unread);
    }
    wake_all(state);
  }
  // The handle goes away. What it has finished is still delivered; what it has not is cancelled.
  void let_go(State& state) {
    state.let_go = true;
    if (state.closed || (state.local_end && (state.remote_end || !state.end_sent))) return;
    // A tunnel that has said all it had to say ends in peace; a client that no longer wants its answer says
    // so.
    bool peace = state.local_end && !(options_.settings.users_traffic && role_ == H2Engine::Role::kClient);
    reset(state, peace ? wire::kH2NoError : wire::kH2Cancel);
  }
  // Bytes of `received` have been read, or dropped.
  void consumed(State& state, size_t bytes) {
    if (ended_) return;
    held_ -= bytes;
    size_t owed = std::min(owed_, bytes);
    owed_ -= owed;
    engine_.consume_connection(owed);
    if (!state.closed && !state.remote_end) {
      widen(state, bytes);
      engine_.consume_stream(state.id, bytes);
    }
    schedule_flush();
  }

  bool usable() const {
    bool used_up = options_.requests_max > 0 && requests_ >= options_.requests_max;
    return !ended_ && !draining_ && !goaway_received_ && !used_up;
  }
  size_t room() const {
    if (!usable()) return 0;
    size_t most = peer_streams_max();
    if (options_.own_streams_max > 0) most = std::min(most, options_.own_streams_max);
    return most - std::min(most, streams_.size());
  }
  bool takes_upgrades() const { return engine_.peer_takes_protocol(); }
  async::Event& settings() { return settings_; }
  uint64_t requests() const { return requests_; }
  uint64_t refused() const { return refused_; }
  bool goaway_received() const { return goaway_received_; }
  size_t active_streams() const { return streams_.size(); }
  size_t peer_streams_max() const { return settings_seen_ ? engine_.peer_streams_max() : 100; }
  async::Event& closed() { return closed_; }
  const std::optional<Error>& error() const { return error_; }

 private:
  class LowerReadable final : public io::Waiter {
   public:
    explicit LowerReadable(Http2Core& core) : core_(core) {}
    void on_ready() override { core_.read_lower(); }

   private:
    Http2Core& core_;
  };
  class LowerWritable final : public io::Waiter {
   public:
    explicit LowerWritable(Http2Core& core) : core_(core) {}
    void on_ready() override { core_.ended_ ? core_.linger_until_flushed() : core_.flush(); }

   private:
    Http2Core& core_;
  };
  // One connection reads this much per turn, then gives way to others.
  static constexpr size_t kTurnBytesMax = 1024 * 1024;
  static constexpr size_t kFrameHeadBytes = 9;
  // A window below what a stream moves in this time is widened.
  static constexpr base::Duration kWindowWorth = std::chrono::milliseconds(200);

  std::unique_ptr<Http2Stream> handle_for(std::shared_ptr<State> state) {
    return std::unique_ptr<Http2Stream>(new Http2Stream(shared_from_this(), std::move(state)));
  }

  std::shared_ptr<State> new_state(int32_t id) {
    auto state = std::make_shared<State>(loop_);
    state->id = id;
    state->tunnel = !options_.settings.users_traffic;
    state->began = state->progress = state->moved_since = loop_.now();
    state->window = options_.settings.stream_window_bytes;
    return state;
  }

  void widen(State& state, size_t bytes) {
    uint32_t most = options_.stream_window_bytes_max;
    if (state.window >= most) return;
    state.moved += bytes;
    if (state.moved < state.window / 2) return;
    base::TimePoint now = loop_.now();
    bool fast = now - state.moved_since < kWindowWorth / 2;
    state.moved = 0;
    state.moved_since = now;
    uint32_t more = std::min(state.window, most - state.window);
    if (!fast || widened_ + more > options_.widened_bytes_max) return;
    widened_ += more;
    state.window += more;
    engine_.widen(state.id, state.window);
  }

  void wake_all(State& state) {
    state.answered.set();
    state.gone.set();
    state.readable.tell();
    state.writable.tell();
  }

  bool turn_is_full() const {
    return options_.new_streams_per_turn_max > 0 && accepted_this_turn_ >= options_.new_streams_per_turn_max;
  }
  void next_turn() {
    accepted_this_turn_ = 0;
    acceptable_.set();
  }

  void note_request() {
    ++requests_;
    idle_timer_.disarm();
    if (role_ == H2Engine::Role::kServer && options_.requests_max > 0 && requests_ >= options_.requests_max)
      drain();
  }
  void watch_idle() {
    if (options_.idle_timeout > base::Duration::zero() && streams_.empty() && !ended_)
      loop_.arm(idle_timer_, loop_.now() + options_.idle_timeout);
  }
  // Streams whose peer gives no window keep their bytes here; not for ever.
  void reset_stalled_streams() {
    auto keep = shared_from_this();
    std::vector<int32_t> stalled;
    for (auto& [id, state] : streams_) {
      bool waits = engine_.queued(id) > 0 && loop_.now() - state->progress >= options_.stream_stall_timeout;
      if (waits) stalled.push_back(id);
    }
    for (int32_t id : stalled) {
      engine_.reset(id, wire::kH2Cancel);
      streams_[id]->reset_by_us = true;
    }
    schedule_flush();
    loop_.arm(stream_stall_timer_, loop_.now() + options_.stream_stall_timeout / 2);
  }
  void drop_unaccepted(const State& state) {
    auto it = std::find_if(accepted_.begin(), accepted_.end(),
                           [&](const auto& handle) { return handle->id() == state.id; });
    if (it == accepted_.end()) return;
    std::unique_ptr<Http2Stream> dropped = std::move(*it);
    accepted_.erase(it);
  }

  // Resets that the peer's own faults provoke are the peer's.
  void judge_end(bool broken, const State* state) {
    ++closed_streams_;
    if (!broken) return;
    bool ours = state && (state->reset_by_us || state->let_go || state->ignore_rest);
    bool young = !state || !state->responded || loop_.now() - state->began < std::chrono::seconds(1);
    if (!ours && young) ++broken_streams_;
    if (closed_streams_ >= options_.rapid_resets_min && broken_streams_ * 2 > closed_streams_)
      calm_down_due_ = true;
  }
  void calm_down() {
    engine_.goaway(wire::kH2EnhanceYourCalm);
    write_out();
    end(Error(Code::kExhausted, "http2 flood: most streams were broken off by the peer"));
  }

  void schedule_flush() {
    if (!ended_) loop_.at_turn_end(flush_job_);
  }

  void read_lower() {
    auto keep = shared_from_this();
    if (!scratch_) scratch_ = std::make_unique_for_overwrite<uint8_t[]>(kReadBytes);
    size_t taken = 0;
    while (!ended_) {
      if (taken >= kTurnBytesMax) {
        loop_.defer_next_turn(read_job_);
        break;
      }
      io::IoResult got = lower_->try_read({scratch_.get(), kReadBytes});
      if (got.is_would_block()) {
        // An idle connection holds no buffer.
        if (streams_.empty()) scratch_.reset();
        lower_->arm_read(&lower_readable_);
        break;
      }
      if (!got.ok()) {
        lower_ended(got);
        return;
      }
      taken += got.count();
      if (Result<> fed = engine_.feed({scratch_.get(), got.count()}); !fed) {
        write_out();  // the GOAWAY that says why
        end(std::move(fed).error());
        return;
      }
      if (calm_down_due_ && !ended_) return calm_down();
    }
    schedule_flush();
  }

  void lower_ended(const io::IoResult& got) {
    bool clean = got.is_eof() || streams_.empty();
    if (clean) {
      end(std::nullopt);
    } else {
      end(got.is_error() ? got.error() : Error(Code::kReset, "the peer closed the connection"));
    }
  }

  void flush() {
    auto keep = shared_from_this();
    write_out();
    if (calm_down_due_ && !ended_) return calm_down();
    check_session_over();
    check_drained();
  }

  void write_out() {
    while (!ended_) {
      if (Result<> produced = engine_.produce(out_); !produced) {
        end(std::move(produced).error());
        return;
      }
      if (out_.empty()) break;
      iovec parts[16];
      int count = out_.gather(parts, 16);
      io::IoResult put = lower_->try_write(std::span<const iovec>(parts, static_cast<size_t>(count)));
      if (put.is_would_block()) {
        lower_->arm_write(&lower_writable_);
        if (options_.stall_timeout > base::Duration::zero() && !stall_timer_.armed())
          loop_.arm(stall_timer_, loop_.now() + options_.stall_timeout);
        return;
      }
      if (!put.ok()) {
        end(put.is_error() ? put.error() : Error(Code::kReset, "the connection is gone"));
        return;
      }
      stall_timer_.disarm();
      out_.consume(put.count());
    }
  }

  // nghttp2 answers a peer's fault with a GOAWAY of its own and is then deaf: nothing more will come of it.
  void check_session_over() {
    if (ended_ || final_goaway_due_ || !out_.empty() || engine_.wants_read() || engine_.wants_write()) return;
    bool orderly = streams_.empty() && (draining_ || goaway_received_);
    end(orderly ? std::nullopt : std::optional(Error(Code::kProtocol, "the peer broke the HTTP/2 protocol")));
  }

  void check_drained() {
    if (ended_ || !draining_ || final_goaway_due_ || !streams_.empty() || !out_.empty() ||
        engine_.wants_write()) {
      return;
    }
    end(std::nullopt);
  }

  void linger_until_flushed() {
    if (!lower_->flushed()) lower_->arm_write(&lower_writable_);
  }

  void send_final_goaway() {
    if (!std::exchange(final_goaway_due_, false) || ended_) return;
    drain_timer_.disarm();
    engine_.goaway(wire::kH2NoError);
    schedule_flush();
  }

  void on_ping_timer() {
    if (ping_unanswered_) {
      auto keep = shared_from_this();
      engine_.goaway(wire::kH2NoError);
      write_out();
      end(Error(Code::kTimeout, "the peer did not answer a keepalive PING in time"));
      return;
    }
    ping_unanswered_ = true;
    engine_.ping();
    schedule_flush();
    loop_.arm(ping_timer_, loop_.now() + options_.ping_timeout);
  }

  // --- H2Visitor ---
  void on_headers(int32_t id, wire::Headers headers) override {
    if (role_ == H2Engine::Role::kClient) {
      auto it = streams_.find(id);
      if (it == streams_.end()) return;
      it->second->headers = std::move(headers);
      it->second->has_headers = true;
      it->second->answered.set();
      return;
    }
    if (accepted_.size() >= kAcceptQueueMax) {
      engine_.reset(id, wire::kH2RefusedStream);
      return;
    }
    auto state = new_state(id);
    state->host_ignored = std::exchange(host_ignored_, 0) == id;
    state->headers = std::move(headers);
    state->has_headers = true;
    streams_[id] = state;
    accepted_.push_back(handle_for(std::move(state)));
    acceptable_.set();
    note_request();
  }
  void on_data(int32_t id, base::ByteView bytes) override {
    auto it = streams_.find(id);
    if (it == streams_.end() || it->second.use_count() == 1 || it->second->aborted) {
      engine_.consume_connection(bytes.size());
      engine_.consume_stream(id, bytes.size());
      return;
    }
    held_ += bytes.size();
    if (held_ <= options_.held_bytes_max) {
      engine_.consume_connection(bytes.size());
    } else {
      owed_ += bytes.size();
    }
    it->second->counts.body_bytes_in += bytes.size();
    it->second->counts.wire_bytes_in += bytes.size() + kFrameHeadBytes;
    it->second->received.append(bytes);
    it->second->readable.tell();
  }
  void on_trailers(int32_t id, wire::Headers trailers) override {
    if (auto it = streams_.find(id); it != streams_.end()) it->second->trailers = std::move(trailers);
  }
  void on_end(int32_t id) override {
    if (auto it = streams_.find(id); it != streams_.end()) {
      it->second->remote_end = true;
      it->second->readable.tell();
    }
  }
  void on_closed(int32_t id, uint32_t code) override {
    auto it = streams_.find(id);
    std::shared_ptr<State> state = it == streams_.end() ? nullptr : std::move(it->second);
    bool broken = code != wire::kH2NoError || !state || !state->remote_end || !state->local_end;
    if (role_ == H2Engine::Role::kServer && options_.rapid_resets_min > 0) judge_end(broken, state.get());
    if (!state) {
      ++refused_;
      return;
    }
    streams_.erase(it);
    state->closed = true;
    widened_ -= state->window - options_.settings.stream_window_bytes;
    // After both END_STREAMs an end with NO_ERROR is no reset.
    if (broken) state->reset_code = code;
    state->refused = code == wire::kH2RefusedStream;
    wake_all(*state);
    // Nobody has looked at it and nobody will.
    if (broken && role_ == H2Engine::Role::kServer) drop_unaccepted(*state);
    watch_idle();
    schedule_flush();
  }
  void on_goaway(int32_t, uint32_t code) override {
    goaway_received_ = true;
    goaway_code_ = code;
    schedule_flush();
  }
  void on_ping_ack() override {
    send_final_goaway();
    if (!std::exchange(ping_unanswered_, false)) return;
    loop_.arm(ping_timer_, loop_.now() + options_.ping_every);
  }
  void on_sent(int32_t id, size_t bytes) override {
    auto it = streams_.find(id);
    if (it == streams_.end()) return;
    it->second->counts.body_bytes_out += bytes;
    it->second->counts.wire_bytes_out += bytes + kFrameHeadBytes;
    it->second->progress = loop_.now();
    it->second->writable.tell();
  }
  void on_informational(int32_t id, wire::Headers headers) override {
    auto it = streams_.find(id);
    if (it == streams_.end() || !it->second->inform) return;
    std::function<void(const wire::Headers&)> tell = it->second->inform;
    tell(headers);
  }
  void on_host_ignored(int32_t id) override { host_ignored_ = id; }
  void on_header_bytes(int32_t id, bool incoming, size_t bytes) override {
    auto it = streams_.find(id);
    if (it == streams_.end()) return;
    HttpCounts& counts = it->second->counts;
    (incoming ? counts.header_bytes_in : counts.header_bytes_out) += bytes;
    (incoming ? counts.wire_bytes_in : counts.wire_bytes_out) += bytes;
    if (!incoming) it->second->started = true;
  }
  void on_end_sent(int32_t id) override {
    auto it = streams_.find(id);
    if (it == streams_.end()) return;
    State& state = *it->second;
    state.end_sent = true;
    state.writable.tell();
    // Nobody will read the rest of what the peer sends.
    if ((state.let_go || state.ignore_rest) && !state.remote_end) engine_.reset(id, wire::kH2NoError);
  }
  void on_settings() override {
    settings_seen_ = true;
    settings_.set();
    if (!options_.settings.users_traffic) settings_timer_.disarm();
  }
  // Users' peers also have to acknowledge ours in time: until then they are not held to our limits.
  void on_settings_ack() override {
    if (settings_seen_) settings_timer_.disarm();
  }

  async::Loop& loop_;
  std::unique_ptr<io::ByteStream> lower_;
  base::SocketAddr local_;
  base::SocketAddr peer_;
  H2Engine::Role role_;
  Http2Options options_;
  H2Engine engine_;
  async::Event closed_;
  async::Event settings_;
  async::Event acceptable_;
  std::deque<std::unique_ptr<Http2Stream>> accepted_;
  std::unordered_map<int32_t, std::shared_ptr<State>> streams_;
  base::ByteQueue out_;
  std::unique_ptr<uint8_t[]> scratch_;
  std::optional<Error> error_;
  uint32_t goaway_code_ = 0;
  size_t held_ = 0;     // in `received` of all streams
  size_t owed_ = 0;     // of these, not given back to the connection's window yet
  size_t widened_ = 0;  // windows above what streams begin with, of those still open
  uint64_t requests_ = 0;
  uint64_t refused_ = 0;
  int32_t host_ignored_ = 0;  // of the request that is about to be told
  size_t accepted_this_turn_ = 0;
  uint64_t closed_streams_ = 0;
  uint64_t broken_streams_ = 0;  // of these, by the peer, young or unanswered
  bool calm_down_due_ = false;
  bool ended_ = false;
  bool draining_ = false;
  bool final_goaway_due_ = false;
  bool goaway_received_ = false;
  bool settings_seen_ = false;
  bool ping_unanswered_ = false;
  LowerReadable lower_readable_{*this};
  LowerWritable lower_writable_{*this};
  async::CallJob flush_job_{[this] { flush(); }};
  async::CallJob read_job_{[this] { read_lower(); }};
  async::CallTimer ping_timer_{[this] { on_ping_timer(); }};
  async::CallJob next_turn_job_{[this] { next_turn(); }};
  async::CallTimer drain_timer_{[this] { send_final_goaway(); }};
  async::CallTimer idle_timer_{[this] { drain(); }};
  async::CallTimer stall_timer_{
      [this] { end(Error(Code::kTimeout, "the peer takes nothing of what is sent to it")); }};
  async::CallTimer stream_stall_timer_{[this] { reset_stalled_streams(); }};
  async::CallTimer settings_timer_{
      [this] { end(Error(Code::kTimeout, "the peer did not speak HTTP/2 in time")); }};
};

Http2Stream::Http2Stream(std::shared_ptr<Http2Core> core, std::shared_ptr<State> state)
    : core_(std::move(core)), state_(std::move(state)) {}

Http2Stream::~Http2Stream() {
  state_->readable.arm(nullptr, false);
  state_->writable.arm(nullptr, false);
  state_->inform = nullptr;
  core_->let_go(*state_);
  if (size_t unread = state_->received.size()) {
    state_->received.clear();
    core_->consumed(*state_, unread);
  }
}

int32_t Http2Stream::id() const { return state_->id; }
const wire::Headers& Http2Stream::headers() const { return state_->headers; }
const wire::Headers& Http2Stream::trailers() const { return state_->trailers; }
std::optional<uint32_t> Http2Stream::reset_code() const { return state_->reset_code; }
bool Http2Stream::request_started() const { return state_->started; }
bool Http2Stream::host_ignored() const { return state_->host_ignored; }
async::Event& Http2Stream::gone() { return state_->gone; }
HttpCounts Http2Stream::counts() const { return state_->counts; }
void Http2Stream::set_inform(std::function<void(const wire::Headers&)> inform) {
  state_->inform = std::move(inform);
}
void Http2Stream::inform(wire::Headers headers) { core_->inform(*state_, headers); }

async::Task<Result<wire::Headers>> Http2Stream::response(async::Deadline deadline) {
  bool answered = co_await state_->answered.wait(deadline);
  if (!answered) co_return fail(Code::kTimeout, "the peer did not answer in time");
  if (state_->has_headers) co_return state_->headers;
  if (state_->refused) co_return fail(Code::kRefused, "the peer refused the stream unprocessed");
  if (state_->connection_lost) co_return fail(Code::kClosed, "the connection ended before an answer came");
  co_return fail(Code::kReset, std::string("the peer reset the stream: ") +
                                   std::string(wire::h2_code_name(state_->reset_code.value_or(0))));
}

void Http2Stream::respond(wire::Headers headers, bool end_stream) {
  core_->respond(*state_, headers, end_stream);
}
void Http2Stream::send_trailers(wire::Headers trailers) { core_->finish(*state_, std::move(trailers)); }
void Http2Stream::reset(uint32_t code) { core_->reset(*state_, code); }

io::IoResult Http2Stream::try_read(base::ByteSpan into) {
  if (state_->aborted) return io::IoResult::failed({Code::kClosed, "read after abort"});
  if (!state_->received.empty()) {
    size_t got = state_->received.read(into);
    core_->consumed(*state_, got);
    return io::IoResult::bytes(got);
  }
  if (state_->remote_end) return io::IoResult::eof();
  if (!state_->closed) return io::IoResult::would_block();
  bool peaceful = state_->reset_code == wire::kH2NoError || state_->reset_code == wire::kH2Cancel;
  if (peaceful && state_->tunnel) return io::IoResult::eof();
  if (state_->connection_lost) return io::IoResult::failed({Code::kReset, "the http2 connection ended"});
  return io::IoResult::failed({peaceful ? Code::kReset : Code::kProtocol,
                               std::string("the peer reset the stream: ") +
                                   std::string(wire::h2_code_name(state_->reset_code.value_or(0)))});
}

int Http2Stream::peek(iovec* into, int count) {
  return state_->aborted ? 0 : state_->received.gather(into, count);
}

void Http2Stream::consume(size_t bytes) {
  state_->received.consume(bytes);
  core_->consumed(*state_, bytes);
}

io::IoResult Http2Stream::try_write(std::span<const iovec> from) {
  if (state_->local_end || state_->aborted)
    return io::IoResult::failed({Code::kClosed, "write after shutdown"});
  if (state_->closed) return io::IoResult::failed({Code::kReset, "the stream has ended"});
  size_t room = core_->send_room(*state_);
  if (room == 0) return io::IoResult::would_block();
  size_t put = 0;
  for (const iovec& part : from) {
    size_t here = std::min(part.iov_len, room - put);
    core_->write(*state_, base::ByteView(static_cast<const uint8_t*>(part.iov_base), here));
    put += here;
    if (put == room) break;
  }
  return io::IoResult::bytes(put);
}

void Http2Stream::arm_read(io::Waiter* waiter) {
  state_->readable.arm(waiter,
                       !state_->received.empty() || state_->remote_end || state_->closed || state_->aborted);
}

void Http2Stream::arm_write(io::Waiter* waiter) {
  bool ready =
      state_->closed || state_->aborted || (state_->local_end ? flushed() : core_->send_room(*state_) > 0);
  state_->writable.arm(waiter, ready);
}

void Http2Stream::shutdown_write() { core_->finish(*state_, {}); }
bool Http2Stream::flushed() const {
  return state_->closed || state_->aborted ||
         (core_->queued(*state_) == 0 && (!state_->local_end || state_->end_sent));
}
void Http2Stream::abort() { core_->abort_stream(*state_); }
base::SocketAddr Http2Stream::local_addr() const { return core_->local_addr(); }
base::SocketAddr Http2Stream::peer_addr() const { return core_->peer_addr(); }

void Http2Options::set_windows(uint32_t stream_bytes_max, uint32_t connection_bytes) {
  settings.stream_window_bytes = std::min<uint32_t>(256 * 1024, stream_bytes_max);
  settings.connection_window_bytes = connection_bytes;
  stream_window_bytes_max = stream_bytes_max;
  widened_bytes_max = connection_bytes;
}

Http2Options Http2Options::for_users_traffic() {
  Http2Options options;
  options.settings.stream_window_bytes = 256 * 1024;
  options.settings.connection_window_bytes = 1024 * 1024;
  options.held_bytes_max = 16 * 1024 * 1024;
  options.settings.frame_bytes_max = 16384;
  options.settings.header_bytes_max = 60 * 1024;
  options.settings.header_fields_max = 100;
  options.settings.streams_max = 1000;
  options.settings.users_traffic = true;
  options.settings.connect_protocol = true;
  options.idle_timeout = std::chrono::hours(1);
  options.stall_timeout = std::chrono::seconds(60);
  options.stream_stall_timeout = std::chrono::minutes(5);
  options.new_streams_per_turn_max = 32;
  options.rapid_resets_min = 500;
  return options;
}

Http2Conn::Http2Conn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, H2Engine::Role role,
                     Http2Options options)
    : core_(std::make_shared<Http2Core>(loop, std::move(lower), role, options)) {
  core_->start();
}
Http2Conn::~Http2Conn() { core_->abort(wire::kH2NoError); }
Result<std::unique_ptr<Http2Stream>> Http2Conn::open(wire::Headers headers, bool end_stream) {
  return core_->open(std::move(headers), end_stream);
}
async::Task<std::unique_ptr<Http2Stream>> Http2Conn::accept() { return core_->accept(); }
bool Http2Conn::usable() const { return core_->usable(); }
bool Http2Conn::goaway_received() const { return core_->goaway_received(); }
size_t Http2Conn::active_streams() const { return core_->active_streams(); }
size_t Http2Conn::peer_streams_max() const { return core_->peer_streams_max(); }
size_t Http2Conn::room() const { return core_->room(); }
bool Http2Conn::takes_upgrades() const { return core_->takes_upgrades(); }
async::Event& Http2Conn::settings() { return core_->settings(); }
uint64_t Http2Conn::requests() const { return core_->requests(); }
uint64_t Http2Conn::refused() const { return core_->refused(); }
void Http2Conn::drain() { core_->drain(); }
void Http2Conn::abort(uint32_t code) { core_->abort(code); }
async::Event& Http2Conn::closed() { return core_->closed(); }
const std::optional<Error>& Http2Conn::error() const { return core_->error(); }

}  // namespace culvert::conn
