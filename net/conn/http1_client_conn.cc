// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http1_core.h"

namespace culvert::conn {

using base::Code;
using base::Error;
using base::fail;
using base::Result;
using wire::Http1Decoder;

namespace {

// 16 bytes in base64 (RFC 6455 section 4.1). A nonce against caches, not a secret.
std::string new_websocket_key(base::Rng& rng) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string key;
  for (int i = 0; i < 21; ++i) key += kDigits[rng.below(64)];
  // The last digit holds two bits of the sixteenth byte.
  key += kDigits[rng.below(4) * 16];
  return key + "==";
}

}  // namespace

// | state_ | has_answer | the lower stream's bytes are            |
// |--------|------------|-----------------------------------------|
// | none   |            | unasked for: the connection ends        |
// | some   | no         | 1xx or the answer's head                |
// | some   | yes        | the body, read when its reader wants it |
class Http1ClientCore final : public Http1Core {
 public:
  Http1ClientCore(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, base::Rng rng,
                  Http1Options options)
      : Http1Core(loop, std::move(lower), Http1Decoder::Kind::kResponse, std::move(options)), rng_(rng) {}

  void start() { await_lower(); }

  Result<std::unique_ptr<HttpStream>> open(const wire::Headers& headers, bool end_stream) {
    if (ended_ || !keep_alive_) return fail(Code::kRefused, "the connection takes no new request");
    if (state_) return fail(Code::kExhausted, "the connection has a request under way");
    auto state = std::make_shared<State>(loop_);
    const std::string* method = wire::find_header(headers, ":method");
    const std::string* protocol = upgrade_of(headers);
    state->method = protocol ? "GET" : method ? *method : "";
    if (protocol) {
      state->upgrade = *protocol;
      const std::string* key = wire::find_header(headers, "sec-websocket-key");
      state->own_websocket_key = !key;
      state->websocket_key = key ? *key : new_websocket_key(rng_);
    }
    size_t before = out_.size();
    if (Result<> encoded = encoder_.request(headers, end_stream, state->websocket_key, out_); !encoded)
      return fail(std::move(encoded).error());
    state->counts.header_bytes_out = state->counts.wire_bytes_out = out_.size() - before;
    state->upgrade_pending = protocol != nullptr;
    state->write_ready = !state->upgrade_pending;
    state->local_end = encoder_.finished();
    decoder_.expect_answer_to(state->method, state->upgrade);
    state_ = state;
    ++requests_;
    schedule_flush();
    await_lower();
    return std::make_unique<Http1Stream>(shared_from_this(), std::move(state));
  }

  bool reusable() const { return !ended_ && !state_ && keep_alive_; }
  bool busy() const { return state_ != nullptr; }
  uint64_t requests() const { return requests_; }

  void let_go(State&) override { end(Error(Code::kClosed, "the exchange was dropped before its end")); }

 private:
  void lower_readable() override {
    auto keep = shared_from_this();
    if (!state_) return check_idle();
    if (!state_->has_answer) read_answer();
  }

  void check_idle() {
    io::IoResult got = pull_lower();
    if (got.is_would_block()) return await_lower();
    if (got.ok()) return end(Error(Code::kProtocol, "bytes that answer nothing"));
    end(got.is_eof() ? std::nullopt : std::optional(lower_error(got)));
  }

  void read_answer() {
    while (!ended_ && state_ && !state_->has_answer) {
      if (in_.empty()) {
        io::IoResult got = pull_lower();
        if (got.is_would_block()) return await_lower();
        if (!got.ok()) return answer_missing(got);
      }
      Http1Decoder::Step step = decoder_.next(in_.front());
      update_counts_in();
      in_.consume(step.used);
      switch (step.event) {
        case Http1Decoder::Event::kInformational: tell_informational(); break;
        case Http1Decoder::Event::kHead: take_answer(); break;
        case Http1Decoder::Event::kFault: refuse(decoder_.fault()); break;
        default: break;
      }
    }
  }

  void tell_informational() {
    wire::Http1Head head = decoder_.take_head();
    std::function<void(const wire::Headers&)> tell = state_->inform;
    if (tell) tell(head.headers);
  }

  void answer_missing(const io::IoResult& got) {
    if (got.is_eof() && decoder_.started()) return refuse(wire::Http1Fault::kTruncated);
    end(lower_error(got));
  }

  void refuse(wire::Http1Fault fault) {
    state_->fault = fault;
    Code code = fault == wire::Http1Fault::kTruncated ? Code::kReset : Code::kProtocol;
    end(Error(code, "no proper HTTP/1 answer: " + std::string(to_string(fault))));
  }

  void take_answer() {
    wire::Http1Head head = decoder_.take_head();
    State& state = *state_;
    if (std::exchange(state.upgrade_pending, false)) {
      bool granted = head.body == wire::Http1Body::kRaw;
      if (granted && !proves_key(state, head.headers)) return refuse(wire::Http1Fault::kUnaskedUpgrade);
      // In HTTP/2 form every 2xx grants; only a 101 may be told as one.
      const std::string* status = wire::find_header(head.headers, ":status");
      if (!granted && status && status->starts_with('2')) return refuse(wire::Http1Fault::kIgnoredUpgrade);
      state.raw = granted;
      state.write_ready = granted;
      if (!granted) {
        (void)encoder_.finish({}, out_);
        state.local_end = true;
        state.end_sent = out_.empty();
      }
    }
    state.version = head.minor_version == 0 ? HttpVersion::k10 : HttpVersion::k11;
    state.headers = std::move(head.headers);
    keep_alive_ = head.keep_alive;
    state.has_answer = state.body_ready = true;
    state.answered.set();
    state.readable.tell();
    state.writable.tell();
    settle_end();
  }

  // The server must show that it read our key (RFC 6455 section 4.1).
  static bool proves_key(const State& state, wire::Headers& headers) {
    if (state.upgrade != "websocket") return true;
    const std::string* proof = wire::find_header(headers, "sec-websocket-accept");
    if (!proof || *proof != wire::websocket_accept(state.websocket_key)) return false;
    if (state.own_websocket_key)
      std::erase_if(headers, [](const auto& field) { return field.first == "sec-websocket-accept"; });
    return true;
  }

  void body_broken() override { end(*state_->error); }

  // An answer may have come before the peer stopped reading.
  void write_failed(Error error) override {
    if (!state_ || state_->remote_end) return end(std::move(error));
    write_dead_ = true;
    keep_alive_ = false;
    out_.clear();
    state_->writable.tell();
    await_lower();
  }

  void check_over() override {
    if (ended_ || !state_) return;
    bool sent = state_->local_end && state_->end_sent;
    if (!state_->remote_end || (!sent && !write_dead_)) return;
    bool go_on = keep_alive_ && in_.empty() && !state_->raw && !write_dead_;
    release_exchange();
    if (!go_on)
      return end(in_.empty() || !keep_alive_
                     ? std::nullopt
                     : std::optional(Error(Code::kProtocol, "bytes behind the answer")));
    decoder_.next_message();
    await_lower();
  }

  base::Rng rng_;
  bool keep_alive_ = true;
  uint64_t requests_ = 0;
};

Http1ClientConn::Http1ClientConn(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, base::Rng rng,
                                 Http1Options options)
    : core_(std::make_shared<Http1ClientCore>(loop, std::move(lower), rng, std::move(options))) {
  core_->start();
}
Http1ClientConn::~Http1ClientConn() { core_->abort(); }
Result<std::unique_ptr<HttpStream>> Http1ClientConn::open(wire::Headers headers, bool end_stream) {
  return core_->open(headers, end_stream);
}
bool Http1ClientConn::reusable() const { return core_->reusable(); }
bool Http1ClientConn::busy() const { return core_->busy(); }
uint64_t Http1ClientConn::requests() const { return core_->requests(); }
void Http1ClientConn::abort() { core_->abort(); }
async::Event& Http1ClientConn::closed() { return core_->closed(); }
const std::optional<Error>& Http1ClientConn::error() const { return core_->error(); }

}  // namespace culvert::conn
