// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "net/conn/http1_core.h"

namespace culvert::conn {

using base::Code;
using base::Error;
using base::Result;
using wire::Http1Decoder;
using wire::Http1Fault;

// | phase    | waits for                      | timer  | next                                             |
// |----------|--------------------------------|--------|--------------------------------------------------|
// | idle     | the first byte of a head       | idle   | head; closed                                     |
// | head     | the rest of it                 | head   | exchange (perhaps with a fault, then it closes)  |
// | exchange | the answer, the request's body |        | idle; discard; linger; closed when it is broken  |
// | discard  | the rest of an unread body     | linger | idle; linger when it is too long                 |
// | linger   | the client to read and close   | linger | closed                                           |
class Http1ServerCore final : public Http1Core {
 public:
  Http1ServerCore(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, Http1Options options)
      : Http1Core(loop, std::move(lower), Http1Decoder::Kind::kRequest, std::move(options)),
        acceptable_(loop) {}

  void start() { await_request(); }

  async::Task<std::unique_ptr<HttpStream>> accept() {
    while (!accepted_ && !ended_) {
      acceptable_.reset();
      co_await acceptable_.wait();
    }
    co_return std::move(accepted_);
  }

  void drain() {
    draining_ = true;
    if (phase_ == Phase::kIdle && in_.empty()) end(std::nullopt);
  }

  void inform(State& state, const wire::Headers& headers) override {
    if (state.over || state.has_answer || state.version == HttpVersion::k10) return;
    size_t before = out_.size();
    if (!encoder_.informational(headers, out_)) return;
    count_head_out(state, before);
    const std::string* status = wire::find_header(headers, ":status");
    if (*status == "100") state.expects_continue = false;
    schedule_flush();
  }

  void respond(State& state, const wire::Headers& headers, bool end_stream) override {
    if (state.over || state.has_answer) return;
    bool trusted = state.fault == Http1Fault::kNone && !state.error;
    bool last = options_.requests_max > 0 && requests_ >= options_.requests_max;
    // A client that still waits for its 100 may or may not send the body: nobody could tell what comes next.
    bool in_doubt = state.expects_continue && !state.remote_end;
    bool keep_alive = keep_alive_ && trusted && !draining_ && !last && !in_doubt;
    wire::Http1Encoder::Answering answering{
        state.method, state.version == HttpVersion::k10 ? 0 : 1, keep_alive && !state.upgrade_pending,
        state.upgrade_pending ? std::string_view(state.upgrade) : "", state.websocket_key};
    size_t before = out_.size();
    if (Result<> encoded = encoder_.response(headers, end_stream, answering, out_); !encoded) {
      end(std::move(encoded).error().wrap("answer"));
      return;
    }
    count_head_out(state, before);
    state.has_answer = state.write_ready = true;
    keep_alive_ = encoder_.keeps_alive();
    if (std::exchange(state.upgrade_pending, false)) settle_upgrade(state);
    state.local_end = encoder_.finished();
    state.writable.tell();
    schedule_flush();
  }

  void let_go(State& state) override {
    if (!state.local_end) {
      // What was begun must never look complete.
      end(Error(Code::kClosed, "the answer was left unfinished"));
      return;
    }
    handle_gone_ = true;
    check_over();
  }

 private:
  enum class Phase : unsigned char { kIdle, kHead, kExchange, kDiscard, kLinger };
  // Read and dropped while lingering, at most.
  static constexpr size_t kLingerBytesMax = 1024 * 1024;

  static void count_out(State& state, size_t bytes) {
    state.counts.header_bytes_out += bytes;
    state.counts.wire_bytes_out += bytes;
  }
  void count_head_out(State& state, size_t before) { count_out(state, out_.size() - before); }

  void settle_upgrade(State& state) {
    if (encoder_.framing() == wire::Http1Body::kRaw) {
      state.raw = true;
      state.body_ready = true;
      decoder_.become_raw();
      state.readable.tell();
      return;
    }
    // Refused: whatever came behind the head may have been meant for the other protocol (request splitting).
    in_.clear();
    keep_alive_ = false;
    state.remote_end = true;
    state.readable.tell();
  }

  void enter(Phase phase, base::Duration limit) {
    phase_ = phase;
    limit > base::Duration::zero() ? loop_.arm(timer_, loop_.now() + limit) : timer_.disarm();
  }

  void await_request() {
    enter(Phase::kIdle, options_.idle_timeout);
    in_.empty() ? await_lower() : loop_.defer(next_head_);
  }
  bool awaits_head() const { return phase_ == Phase::kIdle || phase_ == Phase::kHead; }

  void lower_readable() override {
    switch (phase_) {
      case Phase::kIdle:
      case Phase::kHead: read_head(); break;
      case Phase::kExchange:
        watching_ = false;
        hear_client();
        break;
      case Phase::kDiscard: discard(); break;
      case Phase::kLinger: linger(); break;
    }
  }

  void read_head() {
    auto keep = shared_from_this();
    while (!ended_) {
      if (in_.empty()) {
        io::IoResult got = pull_lower();
        if (got.is_would_block()) return await_lower();
        if (!got.ok()) return end(got.is_eof() ? std::nullopt : std::optional(lower_error(got)));
      }
      if (phase_ == Phase::kIdle) enter(Phase::kHead, options_.head_timeout);
      Http1Decoder::Step step = decoder_.next(in_.front());
      in_.consume(step.used);
      if (step.event == Http1Decoder::Event::kNeedMore) continue;
      begin_exchange(decoder_.fault());
      return;
    }
  }

  void begin_exchange(Http1Fault fault) {
    enter(Phase::kExchange, base::Duration::zero());
    wire::Http1Head head = decoder_.take_head();
    ++requests_;
    handle_gone_ = watching_ = false;
    state_ = std::make_shared<State>(loop_);
    State& state = *state_;
    state.fault = fault;
    state.version = head.minor_version == 0 ? HttpVersion::k10 : HttpVersion::k11;
    state.headers = std::move(head.headers);
    state.host_ignored = head.host_ignored;
    for (auto& [name, value] : state.headers) {
      if (name == ":scheme" && value.empty()) value = options_.scheme;
      if (name == ":method") state.method = head.upgrade.empty() ? value : "GET";
    }
    keep_alive_ = head.keep_alive && fault == Http1Fault::kNone;
    update_counts_in();
    if (fault != Http1Fault::kNone) {
      in_.clear();
      state.remote_end = true;
    } else if (!head.upgrade.empty()) {
      state.upgrade = head.upgrade;
      state.websocket_key = head.websocket_key;
      state.upgrade_pending = true;
      (void)decoder_.next({});  // the request itself has ended
    } else {
      state.body_ready = true;
      state.expects_continue = head.expect_continue;
      settle_end();
    }
    accepted_ = std::make_unique<Http1Stream>(shared_from_this(), state_);
    acceptable_.set();
    watch_client();
  }

  // Nothing more belongs to this request: a client that goes now must be noticed. Bytes of the next request
  // stay where they are and end the watch; raw bytes may end one way and go on the other.
  void watch_client() {
    bool unread = !(state_->remote_end || state_->upgrade_pending);
    if (ended_ || unread || state_->raw || watching_ || !in_.empty() || eof_seen_) return;
    watching_ = true;
    await_lower();
  }
  void hear_client() {
    if (!state_ || !(state_->remote_end || state_->upgrade_pending) || state_->raw || !in_.empty() ||
        eof_seen_)
      return;
    io::IoResult got = pull_lower();
    if (got.ok()) return;
    if (got.is_would_block()) return watch_client();
    if (got.is_error()) return end(lower_error(got));
    if (options_.half_close_is_gone || state_->upgrade_pending)
      return end(Error(Code::kReset, "the client closed before its answer was complete"));
    eof_seen_ = true;
    keep_alive_ = false;
  }

  void body_broken() override { keep_alive_ = false; }

  void check_over() override {
    if (ended_ || phase_ != Phase::kExchange || !state_) return;
    if (!state_->end_sent) {
      if (state_->remote_end) watch_client();
      return;
    }
    if (state_->remote_end) return finish_exchange();
    bool ends_here = encoder_.framing() == wire::Http1Body::kUntilClose;
    if (state_->error || ends_here || (handle_gone_ && !keep_alive_)) return begin_linger();
    if (!handle_gone_) return;
    enter(Phase::kDiscard, options_.linger_timeout);
    discarded_ = 0;
    discard();
  }

  void discard() {
    auto keep = shared_from_this();
    while (!ended_ && discarded_ <= options_.unread_body_bytes_max) {
      if (in_.empty()) {
        io::IoResult got = pull_lower();
        if (got.is_would_block()) return await_lower();
        if (!got.ok()) return end(got.is_eof() ? std::nullopt : std::optional(lower_error(got)));
      }
      Http1Decoder::Step step = decoder_.next(in_.front());
      update_counts_in();
      discarded_ += step.data.size();
      in_.consume(step.used);
      if (step.event == Http1Decoder::Event::kFault) break;
      if (step.event == Http1Decoder::Event::kEnd) return finish_exchange();
    }
    if (!ended_) begin_linger();
  }

  void finish_exchange() {
    bool go_on = keep_alive_ && !draining_;
    release_exchange();
    if (!go_on) return begin_linger();
    decoder_.next_message();
    await_request();
  }

  // A socket closed with unread input resets its peer, which may then never read our answer.
  void begin_linger() {
    auto keep = shared_from_this();
    release_exchange();
    enter(Phase::kLinger, options_.linger_timeout);
    in_.clear();
    discarded_ = 0;
    lower_->shutdown_write();
    linger();
  }
  void linger() {
    while (!ended_) {
      io::IoResult got = pull_lower();
      in_.clear();
      if (got.is_would_block()) return await_lower();
      discarded_ += got.ok() ? got.count() : 0;
      if (!got.ok() || discarded_ > kLingerBytesMax) return end(std::nullopt);
    }
  }

  void on_timer() {
    switch (phase_) {
      case Phase::kHead: begin_exchange(Http1Fault::kHeadTooSlow); break;
      case Phase::kDiscard: begin_linger(); break;
      case Phase::kIdle:
      case Phase::kLinger: end(std::nullopt); break;
      case Phase::kExchange: break;
    }
  }

  void on_ended() override {
    timer_.disarm();
    next_head_.unqueue();
    // A request nobody took holds us.
    auto dropped = std::exchange(accepted_, nullptr);
    acceptable_.set();
  }

  Phase phase_ = Phase::kIdle;
  bool keep_alive_ = true;
  bool draining_ = false;
  bool handle_gone_ = false;
  bool watching_ = false;  // the lower stream is armed to tell of the client's end
  bool eof_seen_ = false;  // the client half-closed and still gets its answer
  uint64_t requests_ = 0;
  size_t discarded_ = 0;
  std::unique_ptr<HttpStream> accepted_;
  async::Event acceptable_;
  async::CallJob next_head_{[this] {
    if (awaits_head()) read_head();
  }};
  async::CallTimer timer_{[this] { on_timer(); }};
};

Http1ServerConn::Http1ServerConn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower,
                                 Http1Options options)
    : core_(std::make_shared<Http1ServerCore>(loop, std::move(lower), std::move(options))) {
  core_->start();
}
Http1ServerConn::~Http1ServerConn() { core_->abort(); }
async::Task<std::unique_ptr<HttpStream>> Http1ServerConn::accept() { return core_->accept(); }
void Http1ServerConn::drain() { core_->drain(); }
void Http1ServerConn::abort() { core_->abort(); }
async::Event& Http1ServerConn::closed() { return core_->closed(); }
const std::optional<Error>& Http1ServerConn::error() const { return core_->error(); }

}  // namespace culvert::conn
