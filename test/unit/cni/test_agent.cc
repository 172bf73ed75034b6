// SPDX-License-Identifier: Apache-2.0
// The agent's flows against a table instead of a kernel (N1-N9, D1-D5, C1, C2).
#include <sched.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>
#include <thread>

#include "cni/agent.h"
#include "cni/files.h"
#include "test/support/sim_loop.h"

using namespace culvert;
using namespace culvert::cni;

namespace {

NetnsRef own_netns() { return *Netns::open("/proc/self/ns/net"); }
const base::IpAddr kIp = base::IpAddr::v4(10, 0, 0, 1);
const base::IpAddr kIp2 = base::IpAddr::v4(10, 0, 0, 2);

class FakeKernel final : public Kernel {
 public:
  base::Result<NetnsRef> open_netns(const std::string& path, const std::vector<base::IpAddr>&) override {
    if (path.starts_with("/bad")) return base::fail(base::Code::kDenied, "not a pod's namespace");
    return netns;
  }
  base::Result<std::map<std::string, NetnsRef>> scan(const WantedPods& wanted) override {
    std::map<std::string, NetnsRef> found;
    for (const auto& [uid, ips] : wanted) {
      if (findable) found[uid] = netns;
    }
    return found;
  }
  base::Result<std::string> apply_pod(const NetnsRef&, const PodRuleInput& input) override {
    log.push_back("apply");
    if (fail_apply) return base::fail(base::Code::kIo, "rules refused");
    last_rules = input;
    pod_listing = "rules";
    return pod_listing;
  }
  base::Result<std::string> list_pod(const NetnsRef&, const PodRuleInput&) override { return pod_listing; }
  base::Result<> repair_routes(const NetnsRef&, bool) override { return {}; }
  base::Result<uint64_t> conntrack_drops(const NetnsRef&) override { return drops; }
  uint64_t drops = 0;
  base::Result<> remove_pod(const NetnsRef&) override {
    log.push_back("remove");
    if (fail_remove) return base::fail(base::Code::kIo, "busy");
    return {};
  }
  base::Result<std::string> apply_host(const HostRuleInput&) override {
    host_listing = "host";
    return host_listing;
  }
  base::Result<std::string> list_host() override { return host_listing; }
  base::Result<> remove_host() override { return {}; }
  base::Result<std::vector<SetEntry>> list_host_set(bool) override {
    if (fail_list) return base::fail(base::Code::kIo, "no set");
    return std::vector<SetEntry>(set.begin(), set.end());
  }
  base::Result<> upsert_host_set(const std::vector<SetEntry>& entries) override {
    log.push_back("set");
    if (fail_set) return base::fail(base::Code::kExhausted, "no room");
    for (const auto& entry : entries) {
      std::erase_if(set, [&](const SetEntry& old) { return old.ip == entry.ip; });
      set.insert(entry);
    }
    return {};
  }
  base::Result<> delete_host_set(const std::vector<SetEntry>& entries, bool) override {
    log.push_back("unset");
    for (const auto& entry : entries) set.erase(entry);
    return {};
  }
  base::Result<uint32_t> kubelet_uid() override { return 0; }

  NetnsRef netns = own_netns();
  bool findable = true, fail_apply = false, fail_remove = false, fail_list = false, fail_set = false;
  std::set<SetEntry> set;
  std::string pod_listing, host_listing;
  PodRuleInput last_rules;
  std::vector<std::string> log;
};

// A ztunnel that acknowledges everything, on a socket without bytes: it decodes nothing.
class FakeProxy final : public io::PacketSocket {
 public:
  struct State {
    std::vector<std::string> messages;
    std::string nack;
    bool gone = false;
    bool hello = true;
    int owed = 0;
    io::Waiter* reader = nullptr;
  };
  explicit FakeProxy(std::shared_ptr<State> state) : state_(std::move(state)) {}
  base::Result<std::optional<io::Packet>> try_receive(size_t) override {
    if (std::exchange(state_->hello, false))
      return std::optional<io::Packet>(io::Packet{"\x08\x01", {}, false});
    if (state_->owed > 0) {
      --state_->owed;
      // WorkloadResponse{ack{error}}
      std::string ack;
      if (!state_->nack.empty())
        ack = std::string("\x0a") + static_cast<char>(state_->nack.size()) + state_->nack;
      return std::optional<io::Packet>(
          io::Packet{std::string("\x0a") + static_cast<char>(ack.size()) + ack, {}, false});
    }
    if (state_->gone) return std::optional<io::Packet>(io::Packet{});
    return std::optional<io::Packet>();
  }
  base::Result<bool> try_send(std::string_view bytes, int) override {
    state_->messages.emplace_back(bytes);
    ++state_->owed;
    return true;
  }
  void arm_receive(io::Waiter* waiter) override { state_->reader = waiter; }
  void arm_send(io::Waiter*) override {}
  base::Result<uint32_t> peer_uid() const override { return 0; }

 private:
  std::shared_ptr<State> state_;
};

class FakeListener final : public io::PacketListener {
 public:
  base::Result<std::unique_ptr<io::PacketSocket>> try_accept() override {
    return std::exchange(next, nullptr);
  }
  void arm_accept(io::Waiter* waiter) override { waiter_ = waiter; }
  std::shared_ptr<FakeProxy::State> connect() {
    auto state = std::make_shared<FakeProxy::State>();
    next = std::make_unique<FakeProxy>(state);
    if (auto* waiter = std::exchange(waiter_, nullptr)) waiter->on_ready();
    return state;
  }
  std::unique_ptr<io::PacketSocket> next;

 private:
  io::Waiter* waiter_ = nullptr;
};

struct World {
  World() {
    char pattern[] = "/tmp/cvt-cni-XXXXXX";
    dir = ::mkdtemp(pattern);
    cluster.namespaces["prod"] = {};
    boot();
  }
  ~World() {
    agent.reset();
    std::filesystem::remove_all(dir);
  }
  void boot() {
    AgentOptions options;
    options.node = "node1";
    options.bindings_dir = dir + "/bindings";
    options.seen_dir = dir + "/pods";
    agent = std::make_unique<Agent>(loop, log, kernel, worker, options,
                                    Enrolment(Enrolment::default_pairs(), excluded));
  }
  void start() {
    push();
    auto started = loop.run(agent->start());
    REQUIRE(started);
    agent->zds().start(listener);
    step();
  }
  void step(int milliseconds = 5) { loop.run_for(std::chrono::milliseconds(milliseconds)); }
  void push() {
    agent->update(std::make_shared<Cluster>(cluster));
    step();
  }
  PodInfo& pod(const std::string& name = "web", const std::string& uid = "uid-1",
               std::vector<base::IpAddr> ips = {kIp}) {
    PodInfo info;
    info.uid = uid;
    info.name = name;
    info.name_space = "prod";
    info.node = "node1";
    info.ips = std::move(ips);
    return cluster.pods["prod/" + name] = info;
  }
  void label(const std::string& mode) {
    cluster.namespaces["prod"] = mode.empty() ? Labels{} : Labels{{"istio.io/dataplane-mode", mode}};
    push();
  }
  std::string binding(const std::string& name = "web") {
    auto text = read_small_file(dir + "/bindings/prod_" + name + ".yaml");
    if (!text) return "none";
    return std::string(to_string(parse_binding(*text)->redirection));
  }
  std::shared_ptr<FakeProxy::State> ztunnel() {
    auto state = listener.connect();
    step(300);
    return state;
  }
  CmdAnswer add(const std::string& uid = "uid-1", const std::string& netns = "/run/netns/x") {
    return loop.run(agent->cmd_add(R"({"Netns":")" + netns +
                                   R"(","PodName":"web","PodNamespace":"prod","K8S_POD_UID":")" + uid +
                                   R"(","IPs":[{"Address":{"IP":"10.0.0.1"}}]})"));
  }
  test::SimLoop loop;
  base::NullLog log;
  FakeKernel kernel;
  InlineWorker worker;
  FakeListener listener;
  Cluster cluster;
  std::vector<std::string> excluded{"kube-system"};
  std::string dir;
  std::unique_ptr<Agent> agent;
};

}  // namespace

TEST_CASE("a namespace label brings running pods in and takes them out", "[N1][D1]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  CHECK(world.binding() == "none");
  world.kernel.log.clear();
  world.label("ambient");
  CHECK(world.binding() == "enabled");
  CHECK(world.kernel.log == std::vector<std::string>{"apply", "set"});
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp, "uid-1"}});
  world.kernel.log.clear();
  world.label("");
  CHECK(world.binding() == "none");
  CHECK(world.kernel.log == std::vector<std::string>{"unset", "remove"});
  CHECK(world.kernel.set.empty());
}

TEST_CASE("without ztunnel a pod is pending and whole as soon as one comes", "[N2][D1]") {
  World world;
  world.pod();
  world.start();
  world.label("ambient");
  CHECK(world.binding() == "pending");
  CHECK(world.kernel.set.empty());
  world.step(60'000);
  CHECK(world.binding() == "pending");
  auto proxy = world.ztunnel();
  CHECK(world.binding() == "enabled");
  CHECK(world.agent->redirections().at("uid-1") == Redirection::kEnabled);
}

TEST_CASE("rules that fail are not retried until something changes", "[N2][D1]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.kernel.fail_apply = true;
  world.label("ambient");
  CHECK(world.binding() == "none");
  world.kernel.log.clear();
  world.step(5'000);
  CHECK(world.kernel.log.empty());
  world.kernel.fail_apply = false;
  world.pod().labels["x"] = "y";
  world.push();
  CHECK(world.binding() == "enabled");
}

TEST_CASE("no address, host network, foreign namespace: left alone", "[N3]") {
  World world;
  world.pod("a", "uid-a", {});
  world.pod("b", "uid-b", {kIp}).host_network = true;
  world.pod("c", "uid-c", {kIp2}).name_space = "unknown";
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  CHECK(world.binding("a") == "none");
  CHECK(world.binding("b") == "none");
  world.pod("a", "uid-a", {kIp, *base::IpAddr::parse("fd00::1")});
  world.push();
  CHECK(world.binding("a") == "enabled");
  CHECK(world.kernel.set.size() == 2);
}

TEST_CASE("a finished pod leaves, with the address it had", "[N4]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  auto& pod = world.pod();
  pod.terminal = true;
  pod.ips.clear();
  world.push();
  CHECK(world.kernel.set.empty());
  CHECK(world.binding() == "none");
}

TEST_CASE("a deleted pod is taken down; its address may belong to another by then", "[N5][D2]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.cluster.pods.clear();
  world.pod("api", "uid-2", {kIp});
  world.push();
  CHECK(world.binding("web") == "none");
  CHECK(world.binding("api") == "enabled");
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp, "uid-2"}});
  CHECK_FALSE(world.agent->redirections().contains("uid-1"));
}

TEST_CASE("a recreated pod of the same name keeps its own binding", "[N5]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.pod("web", "uid-2", {kIp2});
  world.push();
  CHECK(world.binding() == "enabled");
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp2, "uid-2"}});
}

TEST_CASE("a removal that fails is tried again and stays announced", "[N6][D3]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.kernel.fail_remove = true;
  world.label("");
  CHECK(world.binding() == "enabled");
  CHECK(world.kernel.set.empty());
  world.kernel.fail_remove = false;
  world.step(6'000);
  CHECK(world.binding() == "none");
}

TEST_CASE("addresses that change move the set", "[N8]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.pod("web", "uid-1", {kIp2});
  world.push();
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp2, "uid-1"}});
  world.kernel.log.clear();
  world.pod("web", "uid-1", {kIp2}).labels["a"] = "b";
  world.push();
  CHECK(world.kernel.log.empty());
}

TEST_CASE("annotations change rules; garbage does not", "[N10]") {
  World world;
  auto& pod = world.pod();
  pod.annotations = {{"ambient.istio.io/bypass-inbound-capture", "T"},
                     {"ambient.istio.io/dns-capture", "perhaps"},
                     {"istio.io/reroute-virtual-interfaces", "veth0, bad name"}};
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  CHECK(world.kernel.last_rules.ingress_mode);
  CHECK_FALSE(world.kernel.last_rules.dns_capture);
  CHECK(world.kernel.last_rules.virtual_interfaces == std::vector<std::string>{"veth0"});
}

TEST_CASE("a namespace that vanishes exposes nobody") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.cluster.namespaces.clear();
  world.push();
  CHECK(world.binding() == "enabled");
}

TEST_CASE("CNI ADD: enrolled, not enrolled, refused", "[S1][S2][S3]") {
  World world;
  CHECK(world.add().status == 500);  // not started
  world.pod("web", "uid-1", {});
  world.start();
  CHECK(world.add().body == "{\"enrolled\":false}");
  world.label("ambient");
  CHECK(world.add().status == 500);  // no ztunnel: the sandbox must not start
  CHECK(world.binding() == "pending");
  auto proxy = world.ztunnel();
  auto answer = world.add();
  CHECK(answer.body == "{\"enrolled\":true}");
  CHECK(world.binding() == "enabled");
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp, "uid-1"}});
  CHECK(world.add("uid-9").status == 500);  // another pod's UID
  CHECK(world.add("uid-1", "/bad/path").status == 500);
  CHECK(world.loop.run(world.agent->cmd_add("{")).status == 400);
  proxy->nack = "no";
  CHECK(world.add().status == 500);
}

TEST_CASE("a pod told at ADD is found again by a label later, and after a restart", "[D4]") {
  World world;
  world.kernel.findable = false;  // no process in a kubelet cgroup
  world.pod("web", "uid-1", {});
  world.start();
  auto proxy = world.ztunnel();
  CHECK(world.add().status == 200);
  world.pod();
  world.label("ambient");
  CHECK(world.binding() == "enabled");

  world.boot();
  world.kernel.log.clear();
  world.start();
  CHECK(world.kernel.log.front() == "set");
  CHECK(std::count(world.kernel.log.begin(), world.kernel.log.end(), "apply") == 1);
  auto again = world.ztunnel();
  REQUIRE(again->messages.size() == 2);  // Add and SnapshotSent
  CHECK(again->messages[0].find("uid-1") != std::string::npos);
  CHECK(world.agent->redirections().at("uid-1") == Redirection::kEnabled);
}

TEST_CASE("start-up: unknown namespace means Keep, gone pods are taken down, failures empty nothing",
          "[D4][D5][N7][C2]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.pod("old", "uid-old", {kIp2});
  world.push();
  REQUIRE(world.kernel.set.size() == 2);

  world.cluster.pods.erase("prod/old");
  world.kernel.findable = false;
  world.kernel.fail_list = true;
  world.boot();
  world.start();
  auto again = world.ztunnel();
  REQUIRE(again->messages.size() >= 2);
  CHECK(again->messages[0] == *encode_zds_keep("uid-1"));
  CHECK(again->messages[1] == encode_zds_snapshot_sent());
  CHECK(world.binding("old") == "none");
  CHECK(world.binding() == "enabled");
}

TEST_CASE("a full table of connections is told: what was lost since the last look") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.kernel.drops = 7;
  world.step(11'000);
  CHECK(world.agent->counters().conntrack_drops == 7);
  world.step(11'000);
  CHECK(world.agent->counters().conntrack_drops == 7);
  world.kernel.drops = 9;
  world.step(11'000);
  CHECK(world.agent->counters().conntrack_drops == 9);
}

TEST_CASE("drift is put back") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.kernel.pod_listing = "someone was here";
  world.kernel.host_listing = "";
  world.kernel.set.clear();
  world.step(11'000);
  CHECK(world.kernel.pod_listing == "rules");
  CHECK(world.kernel.host_listing == "host");
  CHECK(world.kernel.set.size() == 1);
  CHECK(world.agent->counters().drift_repaired == 2);
}

TEST_CASE("the same namespace told twice keeps the first descriptor, another one replaces it", "[C1]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  const auto first = world.kernel.netns;
  REQUIRE(world.add().status == 200);

  const auto second = world.kernel.netns = own_netns();
  REQUIRE(second->fd() != first->fd());
  REQUIRE(world.add().status == 200);
  CHECK(second.use_count() == 2);  // here and in the table: the agent kept the first
  CHECK(first.use_count() == 2);

  NetnsRef other;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) other = *Netns::open("/proc/thread-self/ns/net");
  }).join();
  if (!other) {
    std::cerr << "skipped: making a network namespace needs root\n";
    return;
  }
  world.kernel.netns = other;
  REQUIRE(world.add().status == 200);
  CHECK(first.use_count() == 1);
  CHECK(other.use_count() == 3);
}

TEST_CASE("a pod that is gone is taken down once", "[C2]") {
  World world;
  world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  world.cluster.pods.clear();
  world.push();
  world.push();
  world.step(20'000);
  CHECK(std::count(world.kernel.log.begin(), world.kernel.log.end(), "unset") == 1);
  CHECK(world.agent->redirections().empty());
  CHECK(world.kernel.netns.use_count() == 1);  // its descriptor is closed
}

TEST_CASE("an address that could not be moved at once does not stay behind in the set", "[N8][D2]") {
  World world;
  auto& pod = world.pod();
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  REQUIRE(world.kernel.set == std::set<SetEntry>{{kIp, "uid-1"}});
  pod.ips = {kIp2};
  world.kernel.fail_set = true;
  world.push();
  world.kernel.fail_set = false;
  world.step(11'000);
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp2, "uid-1"}});
  CHECK(world.binding() == "enabled");
}

TEST_CASE("a namespace that is excluded stays outside, and its pods leave", "[N9]") {
  World world;
  world.pod();
  auto& other = world.pod("dns", "uid-2", {kIp2});
  other.name_space = "kube-system";
  world.cluster.pods["kube-system/dns"] = other;
  world.cluster.pods.erase("prod/dns");
  world.cluster.namespaces["kube-system"] = Labels{{"istio.io/dataplane-mode", "ambient"}};
  world.start();
  auto proxy = world.ztunnel();
  world.label("ambient");
  CHECK(world.agent->redirections().at("uid-2") == Redirection::kNone);
  CHECK(world.binding() == "enabled");

  world.excluded = {"prod"};
  world.boot();
  world.start();
  auto again = world.ztunnel();
  CHECK(world.binding() == "none");
  CHECK(world.agent->redirections().at("uid-2") == Redirection::kEnabled);
  world.cluster.pods.erase("prod/web");
  world.push();
  CHECK_FALSE(world.agent->redirections().contains("uid-1"));
  CHECK(world.kernel.set == std::set<SetEntry>{{kIp2, "uid-2"}});
}
