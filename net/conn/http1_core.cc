// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http1_core.h"

#include <algorithm>
#include <cstring>

#include "net/base/check.h"

namespace culvert::conn {

using base::Code;
using base::Error;
using base::fail;
using base::Result;
using Event = wire::Http1Decoder::Event;

Http1Core::Http1Core(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, wire::Http1Decoder::Kind kind,
                     Http1Options options)
    : loop_(loop),
      lower_(std::move(lower)),
      local_(lower_->local_addr()),
      peer_(lower_->peer_addr()),
      options_(std::move(options)),
      decoder_(kind, options_.limits),
      closed_(loop) {}

void Http1Core::abort() {
  if (!ended_) end(Error(Code::kClosed, "the connection was dropped"));
}

void Http1Core::end(std::optional<Error> error) {
  if (ended_) return;
  auto keep = shared_from_this();
  ended_ = true;
  error_ = std::move(error);
  stall_timer_.disarm();
  flush_job_.unqueue();
  lower_->arm_read(nullptr);
  lower_->arm_write(nullptr);
  in_.clear();
  if (state_ && !(state_->remote_end && state_->end_sent)) {
    state_->broken = true;
    if (!state_->error) state_->error = error_ ? *error_ : Error(Code::kReset, "the connection ended");
    if (!state_->aborted && !state_->reset_code) state_->reset_code = wire::kH2Cancel;
  }
  bool orderly = !error_ && out_.empty();
  out_.clear();
  release_exchange();
  orderly ? lower_->shutdown_write() : lower_->abort();
  closed_.set();
  on_ended();
}

void Http1Core::release_exchange() {
  if (!state_) return;
  std::shared_ptr<State> state = std::exchange(state_, nullptr);
  state->over = true;
  state->answered.set();
  state->gone.set();
  state->readable.tell();
  state->writable.tell();
}

// --- in ---

io::IoResult Http1Core::pull_lower() {
  io::IoResult got = lower_->try_read(in_.reserve(kReadBytes));
  in_.commit(got.ok() ? got.count() : 0);
  return got;
}

void Http1Core::update_counts_in() {
  if (!state_) return;
  state_->counts.header_bytes_in = decoder_.header_bytes();
  state_->counts.wire_bytes_in = decoder_.wire_bytes();
}

Error Http1Core::lower_error(const io::IoResult& got) const {
  if (got.is_error()) return Error(Code::kReset, "the connection broke: " + got.error().message());
  return Error(Code::kClosed, "the peer closed the connection");
}

void Http1Core::peer_finished() {
  if (!state_ || state_->remote_end) return;
  state_->trailers = decoder_.take_trailers();
  state_->remote_end = true;
  state_->readable.tell();
  check_over();
}

void Http1Core::settle_end() {
  if (!state_ || state_->remote_end || decoder_.plain_bytes_left() > 0) return;
  // Needs no byte: says whether the message is complete as it is.
  if (decoder_.next({}).event == Event::kEnd) peer_finished();
}

// Straight into the reader's buffer.
io::IoResult Http1Core::read_plain(State& state, base::ByteSpan into, uint64_t left) {
  io::IoResult got = lower_->try_read(into.first(static_cast<size_t>(std::min<uint64_t>(into.size(), left))));
  if (got.is_would_block()) return got;
  if (!got.ok()) return read_ended(state, got);
  decoder_.took(got.count());
  update_counts_in();
  state.expects_continue = false;
  state.counts.body_bytes_in += got.count();
  settle_end();
  return got;
}

io::IoResult Http1Core::read(State& state, base::ByteSpan into) {
  if (state.aborted) return io::IoResult::failed({Code::kClosed, "read after abort"});
  if (state.remote_end) return io::IoResult::eof();
  if (state.error) return io::IoResult::failed(*state.error);
  if (state.over) return io::IoResult::failed({Code::kReset, "the exchange is over"});
  if (!state.body_ready) return io::IoResult::would_block();
  for (;;) {
    if (in_.empty()) {
      if (uint64_t left = decoder_.plain_bytes_left(); left > 0) return read_plain(state, into, left);
      io::IoResult got = pull_lower();
      if (got.is_would_block()) return got;
      if (!got.ok()) return read_ended(state, got);
    }
    base::ByteView front = in_.front();
    wire::Http1Decoder::Step taken = decoder_.next(front.first(std::min(front.size(), into.size())));
    update_counts_in();
    size_t count = taken.data.size();
    if (count > 0) std::memcpy(into.data(), taken.data.data(), count);
    in_.consume(taken.used);
    switch (taken.event) {
      case Event::kData:
        state.counts.body_bytes_in += count;
        state.expects_continue = false;
        settle_end();
        return io::IoResult::bytes(count);
      case Event::kEnd: peer_finished(); return io::IoResult::eof();
      case Event::kFault: {
        state.fault = decoder_.fault();
        Error error(Code::kProtocol, "malformed HTTP/1 body: " + std::string(to_string(state.fault)));
        state.error = error;
        in_.clear();
        body_broken();
        return io::IoResult::failed(std::move(error));
      }
      default: break;
    }
  }
}

// The lower stream ended or failed while body bytes were wanted.
io::IoResult Http1Core::read_ended(State& state, const io::IoResult& got) {
  if (got.is_eof() && decoder_.end_of_input().event == Event::kEnd) {
    peer_finished();
    return io::IoResult::eof();
  }
  if (got.is_eof()) state.fault = wire::Http1Fault::kTruncated;
  Error error = got.is_eof() ? Error(Code::kReset, "the peer closed inside its message") : lower_error(got);
  end(std::move(error).with_code(Code::kReset));
  return io::IoResult::failed(*state.error);
}

bool Http1Core::can_read(const State& state) const {
  return state.remote_end || state.over || state.aborted || state.error || (state.body_ready && !in_.empty());
}

void Http1Core::arm_read(State& state, io::Waiter* waiter) {
  bool ready = can_read(state);
  state.readable.arm(waiter, ready);
  if (waiter && !ready) await_lower();
}

void Http1Core::on_lower_readable() {
  auto keep = shared_from_this();
  if (ended_) return;
  bool body_wanted = state_ && state_->body_ready && !state_->remote_end && state_->readable.armed();
  body_wanted ? state_->readable.tell() : lower_readable();
}

// --- out ---

io::IoResult Http1Core::write(State& state, std::span<const iovec> from) {
  if (state.local_end || state.aborted) return io::IoResult::failed({Code::kClosed, "write after shutdown"});
  if (state.broken) return io::IoResult::failed({Code::kReset, state.error->message()});
  if (state.over) return io::IoResult::failed({Code::kReset, "the exchange is over"});
  if (write_dead_) return io::IoResult::failed({Code::kReset, "the peer takes nothing more"});
  if (!state.write_ready) return io::IoResult::would_block();
  size_t room = options_.send_bytes_max - std::min(options_.send_bytes_max, out_.size());
  if (room == 0) return io::IoResult::would_block();
  size_t count = 0;
  for (const iovec& part : from) count += part.iov_len;
  count = std::min(count, room);
  size_t before = out_.size();
  if (Result<> encoded = encoder_.body(from, count, out_); !encoded) {
    Error error = std::move(encoded).error();
    end(error);
    return io::IoResult::failed(error);
  }
  state.counts.wire_bytes_out += out_.size() - before;
  state.counts.body_bytes_out += count;
  schedule_flush();
  return io::IoResult::bytes(count);
}

void Http1Core::arm_write(State& state, io::Waiter* waiter) {
  bool ready = state.local_end ? state.end_sent : state.write_ready && out_.size() < options_.send_bytes_max;
  state.writable.arm(waiter, ready || write_dead_ || state.over || state.aborted);
}

void Http1Core::finish(State& state, const wire::Headers& trailers) {
  if (state.over || state.local_end) return;
  if (!state.write_ready) {
    // A server that answers nothing, or a client that gives up its upgrade.
    end(Error(Code::kClosed, "the exchange was given up"));
    return;
  }
  size_t before = out_.size();
  if (Result<> encoded = encoder_.finish(trailers, out_); !encoded) {
    end(std::move(encoded).error());
    return;
  }
  state.counts.wire_bytes_out += out_.size() - before;
  state.local_end = true;
  schedule_flush();
}

void Http1Core::reset(State& state, uint32_t) {
  if (!state.over) end(Error(Code::kClosed, "the exchange was reset"));
}

void Http1Core::abort_stream(State& state) {
  if (std::exchange(state.aborted, true)) return;
  if (!state.over) end(Error(Code::kClosed, "the exchange was aborted"));
  state.readable.tell();
  state.writable.tell();
}

void Http1Core::flush() {
  auto keep = shared_from_this();
  bool progress = false;
  while (!ended_ && !out_.empty()) {
    iovec parts[16];
    int count = out_.gather(parts, 16);
    io::IoResult put = lower_->try_write(std::span<const iovec>(parts, static_cast<size_t>(count)));
    if (put.is_would_block()) {
      lower_->arm_write(&lower_writable_);
      if (options_.stall_timeout > base::Duration::zero() && (progress || !stall_timer_.armed()))
        loop_.arm(stall_timer_, loop_.now() + options_.stall_timeout);
      break;
    }
    if (!put.ok()) {
      write_failed(lower_error(put));
      return;
    }
    progress = true;
    out_.consume(put.count());
    if (state_) state_->started = true;
  }
  if (ended_) return;
  if (state_ && progress && out_.size() < options_.send_bytes_max) state_->writable.tell();
  if (out_.empty()) sent_all();
}

void Http1Core::sent_all() {
  stall_timer_.disarm();
  if (state_ && state_->local_end && !state_->end_sent) {
    state_->end_sent = true;
    // Raw bytes have no other end.
    if (state_->raw) lower_->shutdown_write();
    state_->writable.tell();
  }
  check_over();
}

// --- Http1Stream ---

Http1Stream::Http1Stream(std::shared_ptr<Http1Core> core, std::shared_ptr<Http1Exchange> state)
    : core_(std::move(core)), state_(std::move(state)) {}

Http1Stream::~Http1Stream() {
  state_->readable.arm(nullptr, false);
  state_->writable.arm(nullptr, false);
  state_->inform = nullptr;
  if (!state_->over) core_->let_go(*state_);
}

bool Http1Stream::flushed() const {
  return state_->over || state_->aborted || (state_->local_end ? state_->end_sent : core_->all_sent());
}

async::Task<Result<wire::Headers>> Http1Stream::response(async::Deadline deadline) {
  bool answered = co_await state_->answered.wait(deadline);
  if (!answered) co_return fail(Code::kTimeout, "the peer did not answer in time");
  if (state_->has_answer) co_return state_->headers;
  if (state_->error) co_return fail(*state_->error);
  co_return fail(Code::kClosed, "the connection ended before an answer came");
}

}  // namespace culvert::conn
