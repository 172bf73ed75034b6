// SPDX-License-Identifier: Apache-2.0
// World: a whole mesh as objects in one process: the real control plane on manifests in memory, real node
// proxies, a node agent that speaks ZDS, and applications, on SimLoop and SimNetwork from one seed (design
// section 5). What must hold in every world is watched all the time and summed up by check_end().
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control/plane.h"
#include "mesh/kube/resource_source.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"
#include "ztunnel/app.h"

namespace culvert::test {

// Every application byte is a part of this pattern, so that plaintext on a link is recognised.
inline constexpr std::string_view kMarker = "<culvert-simulated-plaintext-payload>";

// Manifests by name instead of files in a directory.
class MemorySource final : public kube::ResourceSource {
 public:
  explicit MemorySource(async::Loop& loop) : loop_(loop) {}
  // Replaces or adds; "" removes. Tells in the next turn.
  void put(const std::string& name, std::string yaml);
  kube::ObjectsRef objects() const override { return objects_; }
  bool synced() const override { return true; }
  const std::vector<kube::Problem>& problems() const override { return problems_; }
  void on_change(std::function<void()> call) override { changed_ = std::move(call); }

 private:
  async::Loop& loop_;
  std::map<std::string, std::string> texts_;
  kube::ObjectsRef objects_ = std::make_shared<kube::Objects>();
  std::vector<kube::Problem> problems_;
  std::function<void()> changed_;
  async::CallJob tell_{[this] {
    if (changed_) changed_();
  }};
};

class World;

struct PodSpec {
  std::string name;
  std::string ns = "shop";
  std::string node = "n1";
  std::string ip;
  std::string app;      // label app; default: name
  std::string account;  // default: app
  bool enrolled = true;
};

// What one client did and saw.
struct CallResult {
  bool connected = false;
  uint64_t sent = 0;
  uint64_t received = 0;
  bool intact = true;      // what came back is what was sent
  bool clean_end = false;  // the server's eof was seen
  std::string error;
  bool done = false;
};

struct SimPod {
  PodSpec spec;
  std::string uid;
  SimHost* host = nullptr;
  std::unique_ptr<io::Network> network;
  // Of the server that runs in it.
  std::unique_ptr<io::Listener> listener;
  uint64_t accepted = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
  std::set<std::string> peers_seen;  // source addresses
  bool reading = true;               // a server that stops reading: slow reader
  std::unique_ptr<async::Event> resume;
  std::unique_ptr<async::Scope> tasks;
};

struct SimNode {
  std::string name;
  SimHost* host = nullptr;
  std::unique_ptr<io::Network> agent_network, proxy_network;
  std::unique_ptr<io::PacketListener> agent_listener;
  std::unique_ptr<async::Scope> agent;
  struct Update {
    bool add = false;
    std::string uid;
  };
  // One for each proxy that is connected.
  struct Feed {
    explicit Feed(async::Loop& loop) : changed(loop) {}
    std::deque<Update> updates;
    async::Event changed;
  };
  std::list<Feed*> feeds;
  std::unique_ptr<base::LineLog> log;
  std::unique_ptr<ztunnel::App> proxy;
  std::unique_ptr<async::Scope> proxy_task;
  bool proxy_ended = false;
};

class World {
 public:
  explicit World(uint64_t seed, base::Duration certificate_lifetime = std::chrono::hours(24),
                 SimOptions options = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  SimLoop loop;
  SimNetwork network;

  // --- the mesh ---
  void start_control();
  void stop_control();
  bool control_running() const { return plane_ != nullptr; }
  void put(const std::string& name, std::string yaml) { source_.put(name, std::move(yaml)); }
  // Of proxies started from now on: CULVERT_LOCAL_PATH.
  bool local_path = true;
  SimNode& add_node(const std::string& name, const std::string& ip);
  void start_proxy(SimNode& node);
  // As kill -9 does: everything drops at once.
  void kill_proxy(SimNode& node);
  SimNode& node(const std::string& name) { return *nodes_.at(name); }

  SimPod& add_pod(PodSpec spec);
  void delete_pod(const std::string& name);
  SimPod& pod(const std::string& name) { return *pods_.at(name); }
  // Pods that were deleted, for what they saw.
  std::vector<const SimPod*> gone() const {
    std::vector<const SimPod*> all;
    for (const auto& pod : deleted_) all.push_back(pod.get());
    return all;
  }
  // A ClusterIP service over pods with the label app=<name>.
  void add_service(const std::string& name, const std::string& vip, uint16_t port, uint16_t target);
  // Both proxies know their pods and the mesh.
  bool ready() const;
  void settle(base::Duration limit = std::chrono::seconds(30));

  // --- applications ---
  // Echoes what comes, then ends its side when the client has.
  void serve_echo(SimPod& pod, uint16_t port);
  // Sends `bytes` of the pattern in pieces, reads them back, closes. The result lives as long as the world.
  CallResult& call(SimPod& from, const std::string& to, uint64_t bytes,
                   base::Duration pause = base::Duration{0});
  void finish(CallResult& result, base::Duration limit = std::chrono::minutes(5));

  // --- what was seen ---
  uint64_t plaintext_runs = 0;  // marker seen between nodes
  uint64_t bytes_between = 0;   // any bytes between nodes, to and from pods
  std::string metrics(SimNode& node);
  uint64_t metric(SimNode& node, const std::string& family);
  const std::vector<std::string>& log_lines() const { return log_lines_; }
  bool logged(const std::string& text) const;
  // Waits until nothing is open, then checks what must hold at the end of every world.
  void check_end();

 private:
  class Agent;
  static async::Task<void> run_plane(World& world);
  static async::Task<void> run_proxy(SimNode& node);
  static async::Task<void> agent_accept(World& world, SimNode& node);
  static async::Task<void> agent_serve(World& world, SimNode& node, std::unique_ptr<io::PacketSocket> socket);
  static async::Task<base::Result<>> agent_send(World& world, io::PacketSocket& socket,
                                                SimNode::Update update);
  static async::Task<void> accept_echo(World& world, SimPod& pod);
  static async::Task<void> echo(World& world, SimPod& pod, std::unique_ptr<io::ByteStream> stream);
  static async::Task<void> run_call(World& world, SimPod& from, base::SocketAddr to, uint64_t bytes,
                                    base::Duration pause, CallResult& result);
  static async::Task<void> run_upload(World& world, io::ByteStream& stream, uint64_t bytes,
                                      base::Duration pause, CallResult& result);
  void write_pod(const SimPod& pod);
  SimPod* pod_by_uid(const std::string& uid);

  uint64_t seed_;
  base::Duration certificate_lifetime_;
  std::string state_path_;
  MemorySource source_{loop};
  base::NullLog quiet_log_;
  SimHost* control_host_ = nullptr;
  std::unique_ptr<io::Network> control_network_;
  std::unique_ptr<control::ControlPlane> plane_;
  std::unique_ptr<async::Scope> plane_task_;
  std::map<std::string, std::unique_ptr<SimNode>> nodes_;
  std::map<std::string, std::unique_ptr<SimPod>> pods_;
  std::vector<std::unique_ptr<SimPod>> deleted_;
  std::list<CallResult> results_;
  std::vector<std::string> log_lines_;
  uint64_t next_uid_ = 1;
};

}  // namespace culvert::test
