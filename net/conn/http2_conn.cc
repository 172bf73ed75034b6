// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http2_conn.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "net/base/check.h"

namespace culvert::conn {

using base::Code;
using base::Error;
using base::fail;
using base::Result;
using wire::H2Engine;

namespace {

// One waiter, told through a job.
class Wake final : private async::Job {
 public:
  explicit Wake(async::Loop& loop) : loop_(loop) {}
  ~Wake() override = default;
  void arm(io::Waiter* waiter, bool ready) {
    waiter_ = waiter;
    if (!waiter_) {
      unqueue();
    } else if (ready) {
      loop_.defer(*this);
    }
  }
  void tell() {
    if (waiter_) loop_.defer(*this);
  }

 private:
  void run() override {
    if (waiter_) std::exchange(waiter_, nullptr)->on_ready();
  }
  async::Loop& loop_;
  io::Waiter* waiter_ = nullptr;
};

}  // namespace

// Shared by the core (while the peer may still say something) and the handle.
struct Http2Stream::State {
  explicit State(async::Loop& loop) : answered(loop), readable(loop), writable(loop) {}
  int32_t id = 0;
  wire::Headers headers;  // server: request; client: response
  wire::Headers trailers;
  bool has_headers = false;
  async::Event answered;  // client: headers or an end
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
        acceptable_(loop),
        scratch_(std::make_unique_for_overwrite<uint8_t[]>(kReadBytes)) {}

  void start() {
    loop_.arm(settings_timer_, loop_.now() + options_.settings_timeout);
    if (options_.ping_every > base::Duration::zero())
      loop_.arm(ping_timer_, loop_.now() + options_.ping_every);
    schedule_flush();
    lower_->arm_read(&lower_readable_);
  }

  Result<std::unique_ptr<Http2Stream>> open(wire::Headers headers, bool end_stream) {
    if (ended_ || draining_ || goaway_received_) {
      return fail(Code::kRefused, "the connection takes no new streams");
    }
    Result<int32_t> id = engine_.open(headers, end_stream);
    if (!id) return fail(std::move(id).error());
    auto state = std::make_shared<State>(loop_);
    state->id = *id;
    state->local_end = end_stream;
    streams_[*id] = state;
    schedule_flush();
    return handle_for(std::move(state));
  }

  async::Task<std::unique_ptr<Http2Stream>> accept() {
    while (accepted_.empty() && !ended_) {
      acceptable_.reset();
      co_await acceptable_.wait();
    }
    if (accepted_.empty()) co_return nullptr;
    std::unique_ptr<Http2Stream> next = std::move(accepted_.front());
    accepted_.pop_front();
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
    if (state.closed) return;
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
  void reset(State& state, uint32_t code) {
    if (state.closed) return;
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
    reset(state, state.local_end ? wire::kH2NoError : wire::kH2Cancel);
  }
  void consumed(State& state, size_t bytes) {
    if (ended_) return;
    engine_.consume(state.id, bytes, !state.closed && !state.remote_end);
    schedule_flush();
  }

  bool usable() const { return !ended_ && !draining_ && !goaway_received_; }
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

  std::unique_ptr<Http2Stream> handle_for(std::shared_ptr<State> state) {
    return std::unique_ptr<Http2Stream>(new Http2Stream(shared_from_this(), std::move(state)));
  }

  void wake_all(State& state) {
    state.answered.set();
    state.readable.tell();
    state.writable.tell();
  }

  void schedule_flush() {
    if (!ended_) loop_.at_turn_end(flush_job_);
  }

  void read_lower() {
    auto keep = shared_from_this();
    size_t taken = 0;
    while (!ended_) {
      if (taken >= kTurnBytesMax) {
        loop_.defer_next_turn(read_job_);
        break;
      }
      io::IoResult got = lower_->try_read({scratch_.get(), kReadBytes});
      if (got.is_would_block()) {
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
        return;
      }
      if (!put.ok()) {
        end(put.is_error() ? put.error() : Error(Code::kReset, "the connection is gone"));
        return;
      }
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
    auto state = std::make_shared<State>(loop_);
    state->id = id;
    state->headers = std::move(headers);
    state->has_headers = true;
    streams_[id] = state;
    accepted_.push_back(handle_for(std::move(state)));
    acceptable_.set();
  }
  void on_data(int32_t id, base::ByteView bytes) override {
    auto it = streams_.find(id);
    if (it == streams_.end() || it->second.use_count() == 1 || it->second->aborted) {
      engine_.consume(id, bytes.size(), it != streams_.end());
      return;
    }
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
    if (it == streams_.end()) return;
    std::shared_ptr<State> state = std::move(it->second);
    streams_.erase(it);
    state->closed = true;
    // After both END_STREAMs an end with NO_ERROR is no reset.
    if (code != wire::kH2NoError || !state->remote_end || !state->local_end) state->reset_code = code;
    state->refused = code == wire::kH2RefusedStream;
    wake_all(*state);
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
  void on_sent(int32_t id, size_t) override {
    if (auto it = streams_.find(id); it != streams_.end()) it->second->writable.tell();
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
    settings_timer_.disarm();
  }

  async::Loop& loop_;
  std::unique_ptr<io::ByteStream> lower_;
  base::SocketAddr local_;
  base::SocketAddr peer_;
  H2Engine::Role role_;
  Http2Options options_;
  H2Engine engine_;
  async::Event closed_;
  async::Event acceptable_;
  std::deque<std::unique_ptr<Http2Stream>> accepted_;
  std::unordered_map<int32_t, std::shared_ptr<State>> streams_;
  base::ByteQueue out_;
  std::unique_ptr<uint8_t[]> scratch_;
  std::optional<Error> error_;
  uint32_t goaway_code_ = 0;
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
  async::CallTimer drain_timer_{[this] { send_final_goaway(); }};
  async::CallTimer settings_timer_{
      [this] { end(Error(Code::kTimeout, "the peer did not speak HTTP/2 in time")); }};
};

Http2Stream::Http2Stream(std::shared_ptr<Http2Core> core, std::shared_ptr<State> state)
    : core_(std::move(core)), state_(std::move(state)) {}

Http2Stream::~Http2Stream() {
  state_->readable.arm(nullptr, false);
  state_->writable.arm(nullptr, false);
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
  // NO_ERROR and CANCEL from the peer are an ordinary end (spec ztunnel section 3.4).
  if (state_->reset_code == wire::kH2NoError || state_->reset_code == wire::kH2Cancel)
    return io::IoResult::eof();
  if (state_->connection_lost) return io::IoResult::failed({Code::kReset, "the http2 connection ended"});
  return io::IoResult::failed(
      {Code::kProtocol, std::string("the peer reset the stream: ") +
                            std::string(wire::h2_code_name(state_->reset_code.value_or(0)))});
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
void Http2Conn::drain() { core_->drain(); }
void Http2Conn::abort(uint32_t code) { core_->abort(code); }
async::Event& Http2Conn::closed() { return core_->closed(); }
const std::optional<Error>& Http2Conn::error() const { return core_->error(); }

}  // namespace culvert::conn
