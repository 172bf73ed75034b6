// SPDX-License-Identifier: Apache-2.0
// Http1Core: what the two roles of an HTTP/1 connection share: body bytes in and out of the exchange under
// way, the send buffer and its stall timer, the end. The roles (http1_server_conn.cc, http1_client_conn.cc)
// decide what a head means and what comes after an exchange. Internal to net/conn.
//
// An exchange (State) is held by its stream handle and, while it is under way, by the core. Once it is over
// for both directions the core lets go (`over`), and the handle lives on what the State remembers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "net/conn/http1_conn.h"
#include "net/conn/wake.h"

namespace culvert::conn {

struct Http1Exchange {
  explicit Http1Exchange(async::Loop& loop) : answered(loop), gone(loop), readable(loop), writable(loop) {}

  wire::Headers headers;  // server: the request; client: the answer
  wire::Headers trailers;
  HttpVersion version = HttpVersion::k11;
  wire::Http1Fault fault = wire::Http1Fault::kNone;
  std::string method;              // as on the wire
  std::string upgrade;             // asked for
  std::string websocket_key;       // of that
  bool own_websocket_key = false;  // client: made here, the answer's proof is not for others
  bool host_ignored = false;
  bool expects_continue = false;  // server: until a 100 was sent or a body byte came
  bool upgrade_pending = false;   // asked, neither granted nor refused
  bool raw = false;               // granted
  bool has_answer = false;        // server: respond() was called; client: the answer's head has come
  bool body_ready = false;        // the peer's body may be read
  bool write_ready = false;       // ours may be written
  async::Event answered;          // client: that, or an end
  async::Event gone;
  std::function<void(const wire::Headers&)> inform;
  Wake readable;
  Wake writable;
  bool remote_end = false;           // the peer's message was read to its end
  bool local_end = false;            // ours is complete, perhaps still in the send buffer
  bool end_sent = false;             // and has left
  bool over = false;                 // both, or broken: the core knows it no more
  bool broken = false;               // the connection ended first
  bool aborted = false;              // by us
  bool started = false;              // client: some byte of the request has left
  std::optional<base::Error> error;  // why it broke
  std::optional<uint32_t> reset_code;
  HttpCounts counts;
};

class Http1Core : public std::enable_shared_from_this<Http1Core> {
 public:
  using State = Http1Exchange;
  Http1Core(async::Loop& loop, std::unique_ptr<io::ByteStream> lower, wire::Http1Decoder::Kind kind,
            Http1Options options);
  virtual ~Http1Core() = default;

  // Ends everything at once; an exchange under way is broken.
  void abort();
  async::Event& closed() { return closed_; }
  const std::optional<base::Error>& error() const { return error_; }

  // --- for the stream ---
  io::IoResult read(State& state, base::ByteSpan into);
  io::IoResult write(State& state, std::span<const iovec> from);
  void arm_read(State& state, io::Waiter* waiter);
  void arm_write(State& state, io::Waiter* waiter);
  void finish(State& state, const wire::Headers& trailers);
  void reset(State& state, uint32_t code);
  void abort_stream(State& state);
  virtual void inform(State&, const wire::Headers&) {}
  virtual void respond(State&, const wire::Headers&, bool) {}
  // The handle goes.
  virtual void let_go(State& state) = 0;
  bool all_sent() const { return out_.empty() && lower_->flushed(); }
  base::SocketAddr local_addr() const { return local_; }
  base::SocketAddr peer_addr() const { return peer_; }

 protected:
  // The lower stream has something, and nobody waits for body bytes.
  virtual void lower_readable() = 0;
  // A direction of the exchange has ended, or the send buffer has emptied: see whether it is over.
  virtual void check_over() = 0;
  // state_->error says what was wrong with the peer's body.
  virtual void body_broken() = 0;
  // Nothing more can be sent.
  virtual void write_failed(base::Error error) { end(std::move(error)); }
  // After end(): let go of what holds the core.
  virtual void on_ended() {}

  // Reads some wire bytes into in_. kBytes: they are there.
  io::IoResult pull_lower();
  void await_lower() {
    if (!ended_) lower_->arm_read(&lower_readable_);
  }
  // Takes note if the body has just ended without another byte.
  void settle_end();
  void peer_finished();
  // What a failed or ended read of the lower stream means in the middle of something.
  base::Error lower_error(const io::IoResult& got) const;
  void schedule_flush() {
    if (!ended_) loop_.at_turn_end(flush_job_);
  }
  void update_counts_in();
  void release_exchange();
  // The end of the connection: in good order without an error, by reset with one.
  void end(std::optional<base::Error> error);

  async::Loop& loop_;
  std::unique_ptr<io::ByteStream> lower_;
  base::SocketAddr local_;
  base::SocketAddr peer_;
  Http1Options options_;
  wire::Http1Decoder decoder_;
  wire::Http1Encoder encoder_;
  bool write_dead_ = false;  // nothing more can be sent, the answer may still be there
  base::ByteQueue in_;       // read from the peer, not yet decoded: at most one read
  base::ByteQueue out_;      // bounded by send_bytes_max and one head
  std::shared_ptr<State> state_;
  async::Event closed_;
  std::optional<base::Error> error_;
  bool ended_ = false;

 private:
  // in_ takes this much at most per read.
  static constexpr size_t kReadBytes = 16 * 1024;

  class LowerReadable final : public io::Waiter {
   public:
    explicit LowerReadable(Http1Core& core) : core_(core) {}
    void on_ready() override { core_.on_lower_readable(); }

   private:
    Http1Core& core_;
  };
  class LowerWritable final : public io::Waiter {
   public:
    explicit LowerWritable(Http1Core& core) : core_(core) {}
    void on_ready() override { core_.flush(); }

   private:
    Http1Core& core_;
  };
  void on_lower_readable();
  void flush();
  void sent_all();
  bool can_read(const State& state) const;
  io::IoResult read_plain(State& state, base::ByteSpan into, uint64_t left);
  io::IoResult read_ended(State& state, const io::IoResult& got);

  LowerReadable lower_readable_{*this};
  LowerWritable lower_writable_{*this};
  async::CallJob flush_job_{[this] { flush(); }};
  async::CallTimer stall_timer_{
      [this] { end(base::Error(base::Code::kTimeout, "the peer takes nothing of what is sent to it")); }};
};

class Http1Stream final : public HttpStream {
 public:
  Http1Stream(std::shared_ptr<Http1Core> core, std::shared_ptr<Http1Exchange> state);
  ~Http1Stream() override;

  HttpVersion version() const override { return state_->version; }
  const wire::Headers& headers() const override { return state_->headers; }
  const wire::Headers& trailers() const override { return state_->trailers; }
  async::Task<base::Result<wire::Headers>> response(async::Deadline deadline) override;
  void set_inform(std::function<void(const wire::Headers&)> inform) override {
    state_->inform = std::move(inform);
  }
  bool request_started() const override { return state_->started; }
  wire::Http1Fault fault() const override { return state_->fault; }
  bool host_ignored() const override { return state_->host_ignored; }
  void inform(wire::Headers headers) override { core_->inform(*state_, headers); }
  void respond(wire::Headers headers, bool end_stream) override {
    core_->respond(*state_, headers, end_stream);
  }
  void send_trailers(wire::Headers trailers) override { core_->finish(*state_, trailers); }
  void reset(uint32_t code) override { core_->reset(*state_, code); }
  std::optional<uint32_t> reset_code() const override { return state_->reset_code; }
  async::Event& gone() override { return state_->gone; }
  HttpCounts counts() const override { return state_->counts; }

  io::IoResult try_read(base::ByteSpan into) override { return core_->read(*state_, into); }
  using io::ByteStream::try_write;
  io::IoResult try_write(std::span<const iovec> from) override { return core_->write(*state_, from); }
  void arm_read(io::Waiter* waiter) override { core_->arm_read(*state_, waiter); }
  void arm_write(io::Waiter* waiter) override { core_->arm_write(*state_, waiter); }
  void shutdown_write() override { core_->finish(*state_, {}); }
  bool flushed() const override;
  void abort() override { core_->abort_stream(*state_); }
  base::SocketAddr local_addr() const override { return core_->local_addr(); }
  base::SocketAddr peer_addr() const override { return core_->peer_addr(); }

 private:
  std::shared_ptr<Http1Core> core_;
  std::shared_ptr<Http1Exchange> state_;
};

}  // namespace culvert::conn
