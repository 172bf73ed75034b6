// SPDX-License-Identifier: Apache-2.0
// How fast the control plane derives: objects to a served snapshot, first whole, then after one pod changed.
// Prints milliseconds and resident bytes; one JSON line at the end.
//
//   bench_derive [pods, default 100000]
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "control/compile/compile.h"
#include "control/serve/snapshot.h"
#include "mesh/kube/directory_source.h"

namespace {

using namespace culvert;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

using Items = std::vector<std::shared_ptr<const kube::AnyObject>>;

kube::Meta meta(size_t number, const char* prefix, size_t namespaces) {
  kube::Meta out;
  out.ns = fmt::format("ns{}", number % namespaces);
  out.name = fmt::format("{}{}", prefix, number);
  return out;
}

std::shared_ptr<const kube::AnyObject> pod(size_t number, size_t namespaces, size_t services, uint8_t block) {
  kube::Pod out;
  out.meta = meta(number, "pod", namespaces);
  out.meta.labels = {{"app", fmt::format("app{}", number % services)}};
  out.meta.annotations = {{"ambient.istio.io/redirection", "enabled"}};
  out.node = fmt::format("node{}", number % 1000);
  out.service_account = fmt::format("sa{}", number % 20);
  out.ips = {fmt::format("{}.{}.{}.{}", block, number >> 16 & 255, number >> 8 & 255, number & 255)};
  return std::make_shared<const kube::AnyObject>(std::move(out));
}

// One service to five pods, one selector policy to twenty, STRICT in every namespace.
Items make_mesh(size_t pods) {
  size_t services = pods / 5 + 1, policies = pods / 20, namespaces = std::max<size_t>(1, pods / 200);
  Items out;
  for (size_t i = 0; i < pods; ++i) out.push_back(pod(i, namespaces, services, 10));
  for (size_t i = 0; i < services; ++i) {
    kube::Service service;
    service.meta = meta(i, "svc", namespaces);
    service.cluster_ips = {fmt::format("11.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255)};
    service.selector = {{"app", fmt::format("app{}", i)}};
    service.ports.push_back({"http", 80, "TCP", "", 8080, ""});
    out.push_back(std::make_shared<const kube::AnyObject>(std::move(service)));
  }
  for (size_t i = 0; i < policies; ++i) {
    kube::AuthorizationPolicy policy;
    policy.meta = meta(i, "policy", namespaces);
    policy.selector = kube::Labels{{"app", fmt::format("app{}", i)}};
    kube::AuthorizationPolicy::Rule rule;
    rule.from.emplace_back().principals = {fmt::format("cluster.local/ns/a/sa/b{}", i)};
    policy.rules.push_back(std::move(rule));
    out.push_back(std::make_shared<const kube::AnyObject>(std::move(policy)));
  }
  for (size_t i = 0; i < namespaces; ++i) {
    kube::PeerAuthentication policy;
    policy.meta = meta(i, "peer", namespaces);
    policy.mode = kube::PeerAuthentication::Mode::kStrict;
    out.push_back(std::make_shared<const kube::AnyObject>(std::move(policy)));
  }
  return out;
}

struct Times {
  double assemble_ms, compile_ms, snapshot_ms;
  double sum() const { return assemble_ms + compile_ms + snapshot_ms; }
};

Times derive(const Items& items, control::SnapshotRef& snapshot) {
  std::vector<kube::Problem> problems;
  auto start = Clock::now();
  kube::ObjectsRef objects = kube::assemble(items, problems);
  double assemble_ms = ms_since(start);
  start = Clock::now();
  control::Compiled compiled = control::compile(*objects, {}, snapshot ? &snapshot->compiled : nullptr);
  double compile_ms = ms_since(start);
  start = Clock::now();
  snapshot = control::make_snapshot(std::move(compiled), snapshot);
  return {assemble_ms, compile_ms, ms_since(start)};
}

}  // namespace

int main(int argc, char** argv) {
  size_t pods = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
  Items items = make_mesh(pods);
  control::SnapshotRef snapshot;
  Times whole = derive(items, snapshot);
  fmt::print("{} pods: assemble {:.0f} ms, compile {:.0f} ms, encode {:.0f} ms\n", pods, whole.assemble_ms,
             whole.compile_ms, whole.snapshot_ms);
  std::vector<Times> changes;
  for (uint8_t round = 0; round < 5; ++round) {
    items[7 % pods] =
        pod(7 % pods, std::max<size_t>(1, pods / 200), pods / 5 + 1, static_cast<uint8_t>(100 + round));
    control::SnapshotRef before = snapshot;
    changes.push_back(derive(items, snapshot));
    size_t changed = control::changed_names(before->addresses, snapshot->addresses).size();
    if (changed != 1) fmt::print("expected one changed resource, found {}\n", changed);
  }
  std::sort(changes.begin(), changes.end(), [](const Times& a, const Times& b) { return a.sum() < b.sum(); });
  const Times& middle = changes[changes.size() / 2];
  fmt::print("one pod changed: assemble {:.0f} ms, compile {:.0f} ms, encode {:.0f} ms\n", middle.assemble_ms,
             middle.compile_ms, middle.snapshot_ms);
  fmt::print("{{\"pods\": {}, \"whole_ms\": {:.0f}, \"one_pod_ms\": {:.0f}, \"resident_bytes\": {}}}\n", pods,
             whole.sum(), middle.sum(), resident_bytes());
}
