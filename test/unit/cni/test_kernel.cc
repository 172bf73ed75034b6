// SPDX-License-Identifier: Apache-2.0
// Rules, routes, set and namespace checks in real network namespaces of this process's own making.
// Needs root; says so and passes without checks otherwise (spec cni 8.3: L8, L12-L14, L16).
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <thread>

#include "cni/kernel.h"
#include "cni/nft.h"
#include "cni/proc_scan.h"
#include "cni/route.h"

using namespace culvert;
using namespace culvert::cni;

namespace {

// A namespace that lives as long as the descriptor, with lo up.
NetnsRef fresh_netns() {
  NetnsRef netns;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) return;
    base::UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    (void)::ioctl(socket.get(), SIOCSIFFLAGS, &request);
    auto opened = Netns::open("/proc/thread-self/ns/net");
    if (opened) netns = *opened;
  }).join();
  return netns;
}

NetnsRef netns_or_skip() {
  auto netns = ::geteuid() == 0 ? fresh_netns() : nullptr;
  if (!netns) std::cerr << "skipped: making a network namespace needs root\n";
  return netns;
}

std::string ruleset(const NetnsRef& netns) {
  std::string text;
  auto done = run_in_netns(netns, [&]() -> base::Result<> {
    auto listed = nft_run("list ruleset\n");
    if (!listed) return base::fail(listed.error());
    text = *listed;
    return {};
  });
  REQUIRE(done);
  return text;
}

base::Result<> script(const NetnsRef& netns, const std::string& text) {
  return run_in_netns(netns, [&]() -> base::Result<> {
    auto ran = nft_run(text);
    if (!ran) return base::fail(ran.error());
    return {};
  });
}

// Where a TCP connection from inside `netns` to `address` ends up: the first of `ports` that accepts.
uint16_t connect_arrives_at(const NetnsRef& netns, const char* address, uint16_t port, uint32_t mark,
                            std::vector<uint16_t> ports) {
  uint16_t arrived = 0;
  auto done = run_in_netns(netns, [&]() -> base::Result<> {
    std::vector<base::UniqueFd> listeners;
    for (uint16_t each : ports) {
      base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      const int one = 1;
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
      sockaddr_in bound{};
      bound.sin_family = AF_INET;
      bound.sin_port = htons(each);
      if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&bound), sizeof(bound)) != 0 ||
          ::listen(fd.get(), 4) != 0) {
        return base::fail(base::Error::from_errno(errno, "listen"));
      }
      listeners.push_back(std::move(fd));
    }
    base::UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (mark) ::setsockopt(client.get(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    inet_pton(AF_INET, address, &to.sin_addr);
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return {};
    for (size_t i = 0; i < ports.size(); ++i) {
      base::UniqueFd accepted(::accept(listeners[i].get(), nullptr, nullptr));
      if (accepted.valid()) arrived = ports[i];
    }
    return {};
  });
  REQUIRE(done);
  return arrived;
}

void add_address(const NetnsRef& netns, const char* name, const char* address) {
  REQUIRE(run_in_netns(netns, [&]() -> base::Result<> {
    base::UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strcpy(request.ifr_name, name);
    auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    if (::ioctl(socket.get(), SIOCSIFADDR, &request) != 0)
      return base::fail(base::Error::from_errno(errno, "add an address"));
    return {};
  }));
}

}  // namespace

TEST_CASE("pod rules: applied twice they are the same, deleted twice nothing is left", "[L8][L12][L13]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  LinuxKernel kernel({});
  for (bool ipv6 : {true, false}) {
    for (bool dns : {true, false}) {
      PodRuleInput input{.dns_capture = dns, .ipv6 = ipv6, .virtual_interfaces = {"fake1s0f0"}};
      auto first = kernel.apply_pod(netns, input);
      if (!first) FAIL(first.error().message());
      const auto whole = ruleset(netns);
      auto second = kernel.apply_pod(netns, input);
      REQUIRE(second);
      CHECK(*first == *second);
      CHECK(whole == ruleset(netns));
      CHECK((whole.find("istio-ambient-raw") != std::string::npos) == dns);
      CHECK(kernel.list_pod(netns, input) == *first);
    }
  }
  CHECK(kernel.remove_pod(netns));
  CHECK(ruleset(netns).empty());
  CHECK(kernel.remove_pod(netns));
}

TEST_CASE("a changed chain is replaced whole, other people's tables stay", "[L9][L10]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  LinuxKernel kernel({});
  REQUIRE(script(netns,
                 "add table inet other\nadd chain inet other mine\nadd table inet istio-ambient-nat\n"
                 "add chain inet istio-ambient-nat output { type filter hook output priority 5; }\n"));
  auto applied = kernel.apply_pod(netns, {});
  if (!applied) FAIL(applied.error().message());
  REQUIRE(script(netns, "flush chain inet istio-ambient-nat istio-output\n"));
  CHECK(kernel.list_pod(netns, {}) != *applied);
  CHECK(kernel.apply_pod(netns, {}) == *applied);
  CHECK(ruleset(netns).find("table inet other") != std::string::npos);
  REQUIRE(kernel.remove_pod(netns));
  CHECK(ruleset(netns).find("table inet other") != std::string::npos);
}

TEST_CASE("IPv6 turned on later adds the v6 rule; routes are idempotent", "[L14]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  CHECK(run_in_netns(netns, [] { return add_pod_routes(false); }));
  CHECK(run_in_netns(netns, [] { return add_pod_routes(true); }));
  CHECK(run_in_netns(netns, [] { return add_pod_routes(true); }));
  CHECK(run_in_netns(netns, [] { return remove_pod_routes(); }));
  CHECK(run_in_netns(netns, [] { return remove_pod_routes(); }));
}

TEST_CASE("what packets do: captured, marked, to itself", "[L1]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  LinuxKernel kernel({});
  // The pod's address on lo; 203.0.113.0/24 is reached through lo as well, for want of a peer.
  add_address(netns, "lo:1", "10.9.9.9");
  auto applied = kernel.apply_pod(netns, {});
  REQUIRE(applied);
  CHECK(connect_arrives_at(netns, "127.0.0.1", 8080, 0, {8080, 15001, 15006}) == 8080);
  CHECK(connect_arrives_at(netns, "10.9.9.9", 8080, 0, {8080, 15001, 15006}) == 8080);
  REQUIRE(kernel.remove_pod(netns));
}

TEST_CASE("host rules and set: comments follow the pod, rules renewed without losing elements",
          "[L15][L16][D2]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  LinuxKernel kernel({.host = netns});
  const auto ip = base::IpAddr::v4(10, 0, 0, 1);
  const auto ip6 = *base::IpAddr::parse("fd00::1");
  auto listing = kernel.apply_host({});
  if (!listing) FAIL(listing.error().message());
  auto upserted = kernel.upsert_host_set({{ip, "uid-a"}, {ip6, "uid-a"}});
  if (!upserted) FAIL(upserted.error().message());
  REQUIRE(kernel.upsert_host_set({{ip, "uid-b"}}));
  auto entries = kernel.list_host_set(true);
  if (!entries) FAIL(entries.error().message());
  CHECK(std::find(entries->begin(), entries->end(), SetEntry{ip, "uid-b"}) != entries->end());
  CHECK(entries->size() == 2);
  CHECK(kernel.list_host() == *listing);
  CHECK(kernel.apply_host({}) == *listing);
  CHECK(kernel.list_host_set(true)->size() == 2);
  // Another pod's element stays.
  REQUIRE(kernel.delete_host_set({{ip, "uid-a"}, {ip6, "uid-a"}}, true));
  CHECK(*kernel.list_host_set(true) == std::vector<SetEntry>{{ip, "uid-b"}});
  REQUIRE(kernel.delete_host_set({{ip6, "uid-a"}}, true));
  REQUIRE(kernel.remove_host());
  REQUIRE(kernel.remove_host());
  CHECK(ruleset(netns).empty());
}

TEST_CASE("a path given by the plugin is checked", "[P3][P4][P5]") {
  auto netns = netns_or_skip();
  if (!netns) return;
  LinuxKernel kernel({});
  const std::string path = "/proc/self/fd/" + std::to_string(netns->fd());
  CHECK(kernel.open_netns(path, {}));
  CHECK(kernel.open_netns(path, {base::IpAddr::loopback_v4()}));
  CHECK(kernel.open_netns(path, {base::IpAddr::v4(10, 1, 2, 3)}).error().code() == base::Code::kDenied);
  CHECK(kernel.open_netns("/proc/self/ns/net", {}).error().code() == base::Code::kDenied);
  CHECK(kernel.open_netns("/proc/1/ns/net", {}).error().code() == base::Code::kDenied);
  CHECK(kernel.open_netns("/proc/self/ns/mnt", {}).error().code() == base::Code::kInvalid);
  CHECK(kernel.open_netns("/etc/passwd", {}).error().code() == base::Code::kInvalid);
  CHECK(kernel.open_netns("relative", {}).error().code() == base::Code::kInvalid);
  CHECK(kernel.open_netns("/run/netns/../../etc/passwd", {}).error().code() == base::Code::kInvalid);
  LinuxKernel narrow({.netns_dir = "/run/netns"});
  CHECK(narrow.open_netns(path, {}).error().code() == base::Code::kDenied);
}

TEST_CASE("of a pod's processes the oldest one's namespace is taken; nothing stays open", "[P2][P5]") {
  namespace fs = std::filesystem;
  auto host = netns_or_skip();
  if (!host) return;
  const std::string uid = "0fa81afa-6d4c-4aeb-9a3c-6b1d4e8ad2f0";
  char pattern[] = "/tmp/cvt-proc-XXXXXX";
  const fs::path root = ::mkdtemp(pattern);
  const auto ip = base::IpAddr::v4(10, 1, 2, 3);
  auto process = [&](const std::string& pid, const NetnsRef& netns, int started) {
    fs::create_directories(root / pid / "ns");
    fs::create_symlink("/proc/self/fd/" + std::to_string(netns->fd()), root / pid / "ns/net");
    std::ofstream(root / pid / "cgroup") << "0::/kubepods/besteffort/pod" << uid << "/abc" << pid << "\n";
    std::ofstream(root / pid / "stat")
        << pid << " (sleep) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 " << started << " 1 1\n";
  };
  process("1", host, 1);
  process("5", host, 2);  // names the pod, but lives in the host's namespace
  std::vector<NetnsRef> pods;
  int pid = 10;
  for (int started : {300, 100, 200}) {
    pods.push_back(fresh_netns());
    add_address(pods.back(), "lo", "10.1.2.3");
    process(std::to_string(pid), pods.back(), started);
    pid += 10;
  }
  auto open_files = [] {
    const fs::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  const auto open_before = open_files();
  {
    auto found = scan_pod_netns(root, {{uid, {ip}}});
    REQUIRE(found);
    REQUIRE(found->size() == 1);
    CHECK(found->at(uid)->id() == pods[1]->id());
    CHECK(open_files() == open_before + 1);
  }
  CHECK(open_files() == open_before);
  CHECK(scan_pod_netns(root, {{uid, {base::IpAddr::v4(10, 9, 9, 9)}}})->empty());
  CHECK(open_files() == open_before);
  fs::remove_all(root);
}

TEST_CASE("kubelet's user: by its name, in a distribution's program, never a decoy's", "[S6]") {
  namespace fs = std::filesystem;
  char pattern[] = "/tmp/cvt-proc-XXXXXX";
  const fs::path root = ::mkdtemp(pattern);
  auto process = [&](const std::string& pid, const std::string& comm, const std::string& cmdline, int uid) {
    fs::create_directories(root / pid);
    std::ofstream(root / pid / "comm") << comm << "\n";
    std::ofstream(root / pid / "cmdline") << cmdline;
    std::ofstream(root / pid / "status") << "Name:\t" << comm << "\nUid:\t" << uid << "\t0\t0\t0\n";
  };
  CHECK_FALSE(find_kubelet_uid(root));
  process("10", "bash", "vi kubelet.conf", 1000);
  process("11", "kubelet-shim", "kubelet", 1001);
  process("12", "kubelite", "/snap/microk8s/other", 1002);
  CHECK(find_kubelet_uid(root).error().code() == base::Code::kNotFound);
  for (const auto& [comm, cmdline] :
       std::map<std::string, std::string>{{"kubelet", "/usr/bin/kubelet --v=2"},
                                          {"kubelite", "/snap/kubelite --kubelet-args"},
                                          {"k3s", ""}}) {
    process("20", comm, cmdline, 7);
    auto uid = find_kubelet_uid(root);
    INFO(comm);
    REQUIRE(uid);
    CHECK(*uid == 7);
  }
  fs::remove_all(root);
}

TEST_CASE("rules of many pods at once, and of one pod twice at once", "[S8]") {
  auto shared = netns_or_skip();
  if (!shared) return;
  LinuxKernel kernel({});
  std::vector<NetnsRef> pods(4, shared);
  for (int i = 0; i < 4; ++i) pods.push_back(fresh_netns());
  std::vector<std::string> errors(pods.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < pods.size(); ++i) {
    threads.emplace_back([&, i] {
      auto applied = kernel.apply_pod(pods[i], {});
      if (!applied) errors[i] = applied.error().message();
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(errors == std::vector<std::string>(pods.size()));
  const auto alone = ruleset(pods.back());
  CHECK_FALSE(alone.empty());
  for (const auto& pod : pods) CHECK(ruleset(pod) == alone);
}

TEST_CASE("packets lost to a full table of connections are counted over all CPUs", "[cni-2.10]") {
  auto drops = parse_conntrack_drops(
      "entries  clashres found insert_failed drop early_drop icmp_error\n"
      "00000003  00000000 00000000 00000000 0000000a 00000000 00000000\n"
      "00000003  00000000 00000000 00000000 00000006 00000001 00000000\n");
  REQUIRE(drops.has_value());
  CHECK(*drops == 16);
  CHECK_FALSE(parse_conntrack_drops("").has_value());
  CHECK_FALSE(parse_conntrack_drops("entries found\n0 0\n").has_value());
}
