// SPDX-License-Identifier: Apache-2.0
// What outbound, inbound and passthrough connections share: the copying with its counters, and
// failures put into flags (spec ztunnel section 2.7).
#pragma once

#include <string>
#include <string_view>

#include "mesh/hbone/connect_headers.h"
#include "mesh/hbone/tunnel.h"
#include "mesh/observe/conn_record.h"
#include "net/async/stop_signal.h"
#include "net/async/task.h"
#include "net/conn/relay.h"
#include "net/io/stream.h"
#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

// Deadline of section 2.1 step 4: how long a connection waits for its own workload.
inline constexpr base::Duration kWorkloadWait = std::chrono::seconds(5);

// Counts an accepted socket while it lives (istio_tcp_sockets_open).
class OpenSocket {
 public:
  OpenSocket(Worker& worker, observe::Reporter reporter);
  ~OpenSocket() { cell_.sub(); }
  OpenSocket(const OpenSocket&) = delete;
  OpenSocket& operator=(const OpenSocket&) = delete;

 private:
  observe::Cell& cell_;
};

// What a relay has carried, for a second record that follows it from outside; keeps the last figures.
class RelayCounts {
 public:
  observe::ConnRecord::Bytes now() const { return relay_ ? of(*relay_) : last_; }
  static observe::ConnRecord::Bytes of(const conn::Relay& relay) {
    return {relay.bytes_to_upstream(), relay.bytes_to_downstream()};
  }
  void attach(const conn::Relay& relay) { relay_ = &relay; }
  void detach() {
    last_ = now();
    relay_ = nullptr;
  }

 private:
  const conn::Relay* relay_ = nullptr;
  observe::ConnRecord::Bytes last_;
};

// What is joined.
struct Ends {
  io::ByteStream& downstream;
  io::ByteStream& upstream;
  RelayCounts* shared = nullptr;  // who else counts; outlives the relay
};

// Copies until both directions have ended or the signal stops it, then closes the record.
async::Task<void> relay_and_close(Worker& worker, observe::ConnRecord& record, async::StopSignal& signal,
                                  Ends ends);

// The flag of a tunnel that could not be opened.
observe::Flag flag_of(hbone::Stage stage);

// Labels of a peer that xDS does not know but that named itself.
observe::PartyLabels party_of(const hbone::Baggage& baggage);

// Tells who decided what about a connection, at debug or (AUTHZ_POLICY_INFO_LOGGING) info level.
void log_verdict(Worker& worker, const decide::Verdict& verdict, const decide::ConnectionFacts& facts);

}  // namespace culvert::ztunnel
