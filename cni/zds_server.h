// SPDX-License-Identifier: Apache-2.0
// ZdsServer: tells every connected ztunnel which pods of this node are in the mesh and hands over
// their network namespaces (spec cni 4, apis 5). Lives on the control loop, owned by the agent.
//
// One connection:  hello -> snapshot (Add or Keep each, then SnapshotSent) -> serving
// Each message awaits its ack; a missing ack ends the connection, so that a late one is never
// taken for the next message's answer ([D]); ztunnel reconnects and the snapshot heals.
// Adds go to the newest connection only, deletes to all.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cni/netns.h"
#include "net/async/scope.h"
#include "net/base/log.h"
#include "net/io/network.h"

namespace culvert::cni {

struct ZdsPod {
  std::string uid;
  std::string name;
  std::string name_space;
  std::string service_account;
  NetnsRef netns;  // null: the pod is enrolled but its namespace is not known now (Keep)
};

// Wire forms; pure. Each is below kZdsMessageBytesMax or an error.
inline constexpr size_t kZdsMessageBytesMax = 1024;
base::Result<std::string> encode_zds_add(const ZdsPod& pod);
base::Result<std::string> encode_zds_keep(const std::string& uid);
base::Result<std::string> encode_zds_delete(const std::string& uid);
std::string encode_zds_snapshot_sent();
base::Result<> check_zds_hello(std::string_view bytes);
// Success is an empty text; otherwise the proxy's reason. An undecodable answer is an error.
base::Result<std::string> parse_zds_ack(std::string_view bytes);

class ZdsServer {
 public:
  static constexpr size_t kQueueMax = 100;  // updates waiting per connection
  static constexpr base::Duration kIoLimit = std::chrono::seconds(5);
  static constexpr base::Duration kAcceptPause = std::chrono::milliseconds(200);

  // `snapshot` is asked once per connection. nullopt: not known completely yet; the connection is
  // then closed without SnapshotSent, because ztunnel would drop what is not named.
  using Snapshot = std::function<std::optional<std::vector<ZdsPod>>()>;
  ZdsServer(async::Loop& loop, base::Log& log, Snapshot snapshot, uint32_t allowed_uid = 0);
  ~ZdsServer();

  // Accepts until the owner cancels. The listener must outlive the server.
  void start(io::PacketListener& listener);

  // kUnavailable without a connection; kRefused with the proxy's words on a nack.
  async::Task<base::Result<>> add(ZdsPod pod);
  // To every connection; a nack counts as done.
  async::Task<base::Result<>> remove(std::string uid);

  size_t connected() const { return connections_.size(); }
  // Called after the number of connections changed or a snapshot was delivered.
  void on_change(std::function<void()> call) { changed_ = std::move(call); }

 private:
  struct Request;
  class Connection;
  static async::Task<void> accept_loop(ZdsServer& server, io::PacketListener& listener);
  static async::Task<void> run_connection(ZdsServer& server, std::unique_ptr<io::PacketSocket> socket);
  void drop(Connection& connection);

  async::Loop& loop_;
  base::Log& log_;
  Snapshot snapshot_;
  uint32_t allowed_uid_;
  std::function<void()> changed_;
  std::list<Connection*> connections_;  // oldest first
  uint64_t next_id_ = 1;
  async::Scope scope_;
};

}  // namespace culvert::cni
