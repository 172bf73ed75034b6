// SPDX-License-Identifier: Apache-2.0
// Zds: the node agent's protocol without I/O (spec ztunnel section 8, spec apis section 5): packets to
// messages, and the state that a connection and its snapshots build up. Driven by InpodClient on the
// control loop.
//
// | message, state              | effect                                             | answer            |
// |-----------------------------|----------------------------------------------------|-------------------|
// | Add, uid not running        | start                                              | ack, nack if it failed
// | | Add, same namespace         | nothing                                            | ack               |
// | Add, other namespace        | stop the old one at once, start                    | ack or nack       |
// | Add, start failed           | pending with its namespace; tried again every 5 s  | nack              |
// | Keep before the snapshot    | counts for the snapshot                            | ack               |
// | Keep, SnapshotSent after it | protocol error                                     | nack, reconnect   |
// | Del before the snapshot     | out of snapshot and pending; stopped by the snapshot | ack             |
// | Del after                   | stopped at once, out of pending                    | ack               |
// | SnapshotSent                | whatever it did not name is stopped at once        | ack               |
//
// A protocol error ends the connection, never the process (upstream exits).
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "net/base/result.h"
#include "net/io/network.h"
#include "ztunnel/pod.h"

namespace culvert::ztunnel {

// The receive buffer of both sides; the largest legal message is 621 bytes.
inline constexpr size_t kZdsPacketMax = 1024;
// Longer error texts are cut, so that the answer fits the agent's buffer.
inline constexpr size_t kZdsErrorMax = 900;

struct ZdsAdd {
  std::string uid;
  config::WorkloadName name;
  base::UniqueFd netns;
};
struct ZdsDel {
  std::string uid;
};
struct ZdsKeep {
  std::string uid;
};
struct ZdsSnapshotSent {};
using ZdsMessage = std::variant<ZdsAdd, ZdsDel, ZdsKeep, ZdsSnapshotSent>;

// Takes every descriptor of the packet; those the message may not carry are closed, with an error.
base::Result<ZdsMessage> decode_zds(io::Packet packet);
std::string encode_zds_hello();
// `error` "": success.
std::string encode_zds_ack(std::string_view error);

class ZdsState {
 public:
  // A new connection: the coming snapshot decides what stays. Running proxies go on.
  void connected();
  void disconnected() { snapshot_received_ = false; }

  enum class AddAction : unsigned char { kNothing, kStart, kReplace };
  // What an Add asks for. kReplace: stop the running one first.
  AddAction add(const PodInfo& pod);
  // How a start (of an Add or a retry) ended.
  void started(const PodInfo& pod);
  void failed(const PodInfo& pod, std::string why);
  base::Result<> keep(const std::string& uid);
  // True if a running proxy is to be stopped now.
  bool del(const std::string& uid);
  // The proxies to stop.
  base::Result<std::vector<std::string>> snapshot_sent();

  // Ready: the snapshot is complete and everything in it runs.
  bool ready() const { return snapshot_received_ && pending_.empty(); }
  std::vector<PodInfo> pending() const;
  const std::map<std::string, PodInfo>& running() const { return running_; }
  // uid to why it could not be started.
  const std::map<std::string, std::string>& failures() const { return failures_; }
  bool snapshot_received() const { return snapshot_received_; }

 private:
  std::map<std::string, PodInfo> running_;
  std::map<std::string, PodInfo> pending_;
  std::map<std::string, std::string> failures_;
  std::set<std::string> snapshot_;
  bool snapshot_received_ = false;
};

}  // namespace culvert::ztunnel
