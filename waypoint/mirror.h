// SPDX-License-Identifier: Apache-2.0
// Mirrors: copies of requests on their way to other endpoints (spec waypoint section 2.1.6). A copy never
// delays its request: what the client sends is put aside up to a bound, and a copy that cannot keep up is
// given up. What is answered to it is read and thrown away. Data loop; tasks belong to the worker, since a
// copy may outlive its exchange.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/async/scope.h"
#include "net/async/stop_signal.h"
#include "net/async/wait.h"
#include "net/base/bytes.h"
#include "waypoint/exchange_state.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

class Mirrors;

// One copy. Its exchange feeds it; its task sends it.
class Mirror {
 public:
  static constexpr size_t kBytesMax = 1024 * 1024;                       // put aside for one copy
  static constexpr base::Duration kPatience = std::chrono::seconds(60);  // where the route sets no timeout

  Mirror(async::Loop& loop, Mirrors& owner, base::Duration patience);
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  void feed(base::ByteView bytes);
  // The request is complete; the copy has its patience from now on.
  void end(const wire::Headers& trailers);
  // The request is over; a copy that is not complete by then never looks so.
  void leave();

 private:
  friend class Mirrors;
  void give_up(std::string_view why);
  void close();  // its task has ended: takes no more

  async::Loop& loop_;
  Mirrors& owner_;
  base::Duration patience_;
  std::string waiting_;
  wire::Headers trailers_;
  bool ended_ = false;
  async::Event changed_;
  async::StopSignal stop_;
  async::CallTimer timer_;
};
using MirrorRef = std::shared_ptr<Mirror>;

class Mirrors {
 public:
  static constexpr size_t kRunningMax = 1000;            // copies under way
  static constexpr size_t kBytesMax = 32 * 1024 * 1024;  // put aside for all of them

  explicit Mirrors(Worker& worker);

  // Starts those mirrors of the request's route that are drawn. Headers are final, the body has not begun.
  std::vector<MirrorRef> start(Exchange& x);
  void cancel() { tasks_.cancel_all(); }
  async::Event& idle() { return tasks_.idle(); }
  uint64_t sent() const { return sent_; }
  // Not sent, or not to the end: a bound, nobody healthy, a policy, a broken connection.
  uint64_t dropped() const { return dropped_; }

 private:
  friend class Mirror;
  struct Copy;
  MirrorRef start_one(Exchange& x, const model::Mirror& rule);
  static async::Task<void> run(Mirrors& owner, MirrorRef mirror, std::unique_ptr<Copy> copy);
  static async::Task<base::Result<>> send(Worker& worker, Mirror& mirror, Copy& copy);
  static async::Task<void> upload(Mirror& mirror, conn::HttpStream& stream);

  Worker& worker_;
  size_t bytes_ = 0;  // put aside
  uint64_t sent_ = 0, dropped_ = 0;
  async::Scope tasks_;
};

// The host of a copy: "api:80" becomes "api-shadow:80".
std::string shadow_authority(std::string_view authority);

}  // namespace culvert::waypoint
