// SPDX-License-Identifier: Apache-2.0
#include "net/conn/relay.h"

#include <utility>

namespace culvert::conn {

namespace {

bool is_clean_end(const base::Error& error) {
  return error.code() == base::Code::kReset || error.code() == base::Code::kClosed;
}

}  // namespace

std::unique_ptr<io::SplicePipe> RelayBuffer::take_pipe() {
  if (!pipes_.empty()) {
    std::unique_ptr<io::SplicePipe> pipe = std::move(pipes_.back());
    pipes_.pop_back();
    return pipe;
  }
  base::Result<io::SplicePipe> made = io::SplicePipe::make();
  return made ? std::make_unique<io::SplicePipe>(std::move(*made)) : nullptr;
}

void RelayBuffer::give_back(std::unique_ptr<io::SplicePipe> pipe) {
  if (pipe && pipe->held() == 0 && pipes_.size() < kPipesMax) pipes_.push_back(std::move(pipe));
}

// Private bases would hide on_ready from the streams; each side has a Waiter of its own because a
// source and a sink may become ready in the same turn.
class Relay::Pump final : private async::Job {
 public:
  Pump(Relay& relay, RelayBuffer& buffer, io::ByteStream& source, io::ByteStream& sink)
      : relay_(relay), buffer_(buffer), source_(source), sink_(sink) {}
  ~Pump() override { stop(); }

  void start() { relay_.loop_.defer(*this); }
  void stop() {
    source_.arm_read(nullptr);
    sink_.arm_write(nullptr);
    unqueue();
    state_ = State::kDone;
  }
  bool done() const { return state_ == State::kDone; }
  // The stream this pump writes to is dead both ways: what could still be read has nowhere to go, and a
  // silent peer that ignores our half-close would keep the connection for ever.
  void lose_sink() {
    if (done()) return;
    stop();
    drop_rest();
    relay_.pump_done();
  }
  uint64_t bytes() const { return bytes_; }

 private:
  static constexpr int kPartsMax = 32;
  enum class State : unsigned char { kReading, kWriting, kPiping, kClosing, kDone };
  class Wake final : public io::Waiter {
   public:
    explicit Wake(Pump& pump) : pump_(pump) {}
    void on_ready() override { pump_.step(); }

   private:
    Pump& pump_;
  };

  void run() override { step(); }

  void step() {
    size_t moved = 0;
    for (;;) {
      switch (state_) {
        case State::kReading:
          if (moved >= kTurnBytesMax) return relay_.loop_.defer_next_turn(*this);
          if (!read_once(moved)) return;
          break;
        case State::kWriting:
          if (!write_rest(moved)) return;
          break;
        case State::kPiping:
          if (!empty_pipe(moved)) return;
          break;
        case State::kClosing:
          if (!sink_.flushed()) return sink_.arm_write(&wake_);
          finish();
          return;
        case State::kDone: return;
      }
    }
  }

  // Passes on what lies in the source already, without a copy. False: wait for a wake-up.
  bool pass_on(std::span<const iovec> parts, size_t& moved) {
    io::IoResult put = sink_.try_write(parts);
    if (put.is_would_block()) {
      sink_.arm_write(&wake_);  // what waits stays where it is
      return false;
    }
    if (!put.ok()) {
      sink_broke(put);
      return true;
    }
    source_.consume(put.count());
    count(put.count(), moved);
    return true;
  }

  // False: wait for a wake-up.
  bool read_once(size_t& moved) {
    iovec parts[kPartsMax];
    if (int found = source_.peek(parts, kPartsMax); found > 0)
      return pass_on({parts, static_cast<size_t>(found)}, moved);
    if (bytes_ >= kCopiedBytes && !no_pipe_ && source_.can_splice() && sink_.can_splice())
      return fill_pipe(moved);
    io::IoResult got = source_.try_read(buffer_.span());
    if (got.is_would_block()) {
      source_.arm_read(&wake_);
      return false;
    }
    if (!got.ok()) return source_over(got);
    base::ByteView bytes = buffer_.span().first(got.count());
    io::IoResult put = sink_.try_write(bytes);
    if (put.ok()) {
      count(put.count(), moved);
      bytes = bytes.subspan(put.count());
    } else if (!put.is_would_block()) {
      sink_broke(put);
      return true;
    }
    if (!bytes.empty()) {
      rest_.append(bytes);
      state_ = State::kWriting;
    }
    return true;
  }

  bool source_over(const io::IoResult& got) {
    close_sink();
    if (got.is_error()) {
      note(got.error());
      relay_.source_died(*this);
    }
    return true;
  }

  bool fill_pipe(size_t& moved) {
    pipe_ = buffer_.take_pipe();
    if (!pipe_) {
      no_pipe_ = true;  // out of descriptors or pipe memory: copying works
      return true;
    }
    io::IoResult got = source_.splice_in(*pipe_);
    if (got.ok()) {
      state_ = State::kPiping;
      return empty_pipe(moved);
    }
    buffer_.give_back(std::move(pipe_));
    if (!got.is_would_block()) return source_over(got);
    source_.arm_read(&wake_);
    return false;
  }

  bool empty_pipe(size_t& moved) {
    while (pipe_->held() > 0) {
      io::IoResult put = sink_.splice_out(*pipe_);
      if (put.is_would_block()) {
        sink_.arm_write(&wake_);
        return false;
      }
      if (!put.ok()) {
        sink_broke(put);
        return true;
      }
      count(put.count(), moved);
    }
    buffer_.give_back(std::move(pipe_));
    state_ = State::kReading;
    return true;
  }

  bool write_rest(size_t& moved) {
    while (!rest_.empty()) {
      io::IoResult put = sink_.try_write(rest_.front());
      if (put.is_would_block()) {
        sink_.arm_write(&wake_);
        return false;
      }
      if (!put.ok()) {
        sink_broke(put);
        return true;
      }
      count(put.count(), moved);
      rest_.consume(put.count());
    }
    state_ = State::kReading;
    return true;
  }

  void count(size_t written, size_t& moved) {
    bytes_ += written;
    moved += written;
  }

  void note(const base::Error& error) {
    if (!is_clean_end(error) && !relay_.error_) relay_.error_ = error;
  }

  void sink_broke(const io::IoResult& put) {
    if (put.is_error()) note(put.error());
    drop_rest();
    close_sink();
  }

  void drop_rest() {
    rest_.clear();
    pipe_.reset();  // with what it holds
  }

  void close_sink() {
    sink_.shutdown_write();
    state_ = State::kClosing;
  }

  void finish() {
    state_ = State::kDone;
    relay_.pump_done();
  }

  Relay& relay_;
  RelayBuffer& buffer_;
  io::ByteStream& source_;
  io::ByteStream& sink_;
  Wake wake_{*this};
  base::ByteQueue rest_;
  std::unique_ptr<io::SplicePipe> pipe_;  // only while bytes are in it
  bool no_pipe_ = false;
  uint64_t bytes_ = 0;
  State state_ = State::kReading;
};

Relay::Relay(async::Loop& loop, RelayBuffer& buffer, io::ByteStream& downstream, io::ByteStream& upstream)
    : loop_(loop),
      downstream_(downstream),
      upstream_(upstream),
      finished_(loop),
      up_(std::make_unique<Pump>(*this, buffer, downstream, upstream)),
      down_(std::make_unique<Pump>(*this, buffer, upstream, downstream)) {}

Relay::~Relay() = default;

async::Task<base::Result<>> Relay::run() {
  if (!finished_.is_set()) {
    up_->start();
    down_->start();
    co_await finished_.wait();
  }
  if (error_) co_return base::fail(*error_);
  co_return base::Result<>{};
}

void Relay::abort(base::Error reason) {
  if (finished_.is_set()) return;
  error_ = std::move(reason);
  up_->stop();
  down_->stop();
  downstream_.abort();
  upstream_.abort();
  finished_.set();
}

void Relay::source_died(const Pump& pump) { (&pump == up_.get() ? *down_ : *up_).lose_sink(); }

void Relay::pump_done() {
  if (up_->done() && down_->done()) finished_.set();
}

uint64_t Relay::bytes_to_upstream() const { return up_->bytes(); }
uint64_t Relay::bytes_to_downstream() const { return down_->bytes(); }

}  // namespace culvert::conn
