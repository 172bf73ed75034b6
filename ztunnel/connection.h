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

// Copies until both directions have ended or the signal stops it, then closes the record.
async::Task<void> relay_and_close(Worker& worker, observe::ConnRecord& record, async::StopSignal& signal,
                                  io::ByteStream& downstream, io::ByteStream& upstream);

// The flag of a tunnel that could not be opened.
observe::Flag flag_of(hbone::Stage stage);

// Labels of a peer that xDS does not know but that named itself.
observe::PartyLabels party_of(const hbone::Baggage& baggage);

// Tells who decided what about a connection, at debug or (AUTHZ_POLICY_INFO_LOGGING) info level.
void log_verdict(Worker& worker, const decide::Verdict& verdict, const decide::ConnectionFacts& facts);

}  // namespace culvert::ztunnel
