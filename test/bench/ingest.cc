// SPDX-License-Identifier: Apache-2.0
// How fast and how large: a snapshot of many workloads from wire bytes to a published view, then single
// changes. Prints workloads per second and resident bytes per workload; one JSON line at the end.
//
//   bench_ingest [workloads, default 100000]
#include <fmt/core.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "mesh/model/store.h"
#include "mesh/xds/delta_xds.h"
#include "mesh/xds/from_proto.h"
#include "mesh/xds/to_proto.h"
#include "proto/discovery.pb.h"

namespace {

using namespace culvert;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of our own: the wire bytes are a file's.
size_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  size_t kib = 0;
  while (status >> word && word != "RssAnon:") {
  }
  status >> kib;
  return kib * 1024;
}

// A pod as in spec apis section 6: one address, one service port, node and locality, no policies.
model::Workload pod(size_t i) {
  std::string ns = fmt::format("namespace-{}", i / 10 % 200), app = fmt::format("app-{}", i / 10);
  model::Workload w;
  w.name = fmt::format("{}-6d4cf56db6-{:05x}", app, i);
  w.uid = "Kubernetes//Pod/" + ns + "/" + w.name;
  w.ns = ns;
  w.addresses = {base::IpAddr::v4(10, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                                  static_cast<uint8_t>(i))};
  w.protocol = model::TunnelProtocol::kHbone;
  w.trust_domain = "cluster.local";
  w.service_account = app;
  w.cluster_id = "Kubernetes";
  w.node = fmt::format("ip-10-0-{}-{}.region.internal", i / 30 / 250, i / 30 % 250);
  w.canonical_name = w.workload_name = app;
  w.canonical_revision = "v1";
  w.type = model::WorkloadType::kPod;
  w.locality = {"eu-central-1", fmt::format("eu-central-1{}", static_cast<char>('a' + i % 3)), ""};
  w.services.push_back({{ns, app + "." + ns + ".svc.cluster.local"}, {{80, 8080}}});
  return w;
}

std::string snapshot(size_t workloads) {
  envoy::service::discovery::v3::DeltaDiscoveryResponse response;
  response.set_type_url(std::string(xds::kAddressType));
  response.set_nonce("n");
  auto add = [&](std::string name, std::string bytes) {
    auto& resource = *response.add_resources();
    resource.set_name(std::move(name));
    resource.set_version("0123456789abcdef");
    resource.mutable_resource()->set_type_url(std::string(xds::kAddressType));
    resource.mutable_resource()->set_value(std::move(bytes));
  };
  for (size_t i = 0; i < workloads; ++i) {
    auto w = pod(i);
    add(w.uid.str(), xds::encode_address(w));
    if (i % 10 != 0) continue;
    model::Service service;
    service.ns = w.ns;
    service.hostname = w.services[0].service.hostname;
    service.name = w.workload_name;
    service.vips = {{"", base::IpAddr::v4(172, static_cast<uint8_t>(16 + (i / 10 >> 16)),
                                          static_cast<uint8_t>(i / 10 >> 8), static_cast<uint8_t>(i / 10))}};
    service.ports = {{80, 8080}};
    service.canonical = true;
    add(service.key().to_string(), xds::encode_address(service));
  }
  return response.SerializeAsString();
}

// Made by a child, so that nothing of the making stays in our heap.
base::ByteView snapshot_of_child(size_t workloads) {
  int file = ::memfd_create("snapshot", 0);
  if (::fork() == 0) {
    std::string bytes = snapshot(workloads);
    for (size_t at = 0; at < bytes.size();) {
      ssize_t put = ::write(file, bytes.data() + at, bytes.size() - at);
      if (put <= 0) ::_exit(1);
      at += static_cast<size_t>(put);
    }
    ::_exit(0);
  }
  int status = 0;
  ::wait(&status);
  off_t size = ::lseek(file, 0, SEEK_END);
  void* at = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_SHARED, file, 0);
  if (status != 0 || at == MAP_FAILED) std::exit(1);
  return {static_cast<const uint8_t*>(at), static_cast<size_t>(size)};
}

}  // namespace

int main(int argc, char** argv) {
  size_t workloads = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100000;
  base::ByteView bytes = snapshot_of_child(workloads);
  size_t wire_bytes = bytes.size();
  size_t before = resident_bytes();

  model::MeshStore store("ip-10-0-0-0.region.internal");
  xds::DeltaXds machine({});
  machine.start_stream();
  auto start = Clock::now();
  auto outcome = machine.on_response(bytes, store.names());
  if (!outcome || !outcome->rejected.empty()) {
    fmt::print(stderr, "the snapshot was not accepted: {}\n",
               outcome ? outcome->rejected[0].reason : outcome.error().message());
    return 1;
  }
  double decode = seconds_since(start);
  start = Clock::now();
  store.apply(std::move(outcome->update));
  double apply = seconds_since(start);
  outcome = base::fail(base::Code::kClosed, "done");
  size_t peak = resident_bytes();
  malloc_trim(0);
  size_t after = resident_bytes();

  // One change after the other, each published, while a reader still holds the view before it.
  constexpr size_t kChanges = 2000;
  std::vector<double> single;
  for (size_t i = 0; i < kChanges; ++i) {
    auto w = pod(i * 37 % workloads);
    w.status = model::HealthStatus::kUnhealthy;
    model::MeshUpdate update;
    update.workloads.push_back(std::move(w));
    auto held = store.view();
    start = Clock::now();
    store.apply(std::move(update));
    single.push_back(seconds_since(start));
  }
  std::sort(single.begin(), single.end());

  size_t resident = after > before ? after - before : 0;
  fmt::print("{} workloads, {:.1f} MB on the wire\n", workloads, static_cast<double>(wire_bytes) / 1e6);
  fmt::print("decode {:.3f} s, apply {:.3f} s: {:.0f} workloads/s\n", decode, apply,
             static_cast<double>(workloads) / (decode + apply));
  fmt::print("resident {:.1f} MB (peak {:.1f} MB): {} bytes per workload\n",
             static_cast<double>(resident) / 1e6, static_cast<double>(peak - before) / 1e6,
             resident / workloads);
  fmt::print("single change: p50 {:.0f} us, p99 {:.0f} us\n", single[kChanges / 2] * 1e6,
             single[kChanges * 99 / 100] * 1e6);
  fmt::print(
      "{{\"workloads\":{},\"wire_bytes\":{},\"decode_s\":{:.4f},\"apply_s\":{:.4f},\"per_second\":{:.0f},"
      "\"resident_bytes\":{},\"bytes_per_workload\":{},\"change_p50_us\":{:.1f},\"change_p99_us\":{:.1f}}}\n",
      workloads, wire_bytes, decode, apply, static_cast<double>(workloads) / (decode + apply), resident,
      resident / workloads, single[kChanges / 2] * 1e6, single[kChanges * 99 / 100] * 1e6);
  return 0;
}
