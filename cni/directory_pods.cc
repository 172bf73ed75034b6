// SPDX-License-Identifier: Apache-2.0
#include "cni/directory_pods.h"

#include "cni/tree_watch.h"
#include "mesh/kube/directory_source.h"
#include "net/async/scope.h"

namespace culvert::cni {
namespace {

constexpr base::Duration kRetry = std::chrono::seconds(1);

class DirectoryPods final : public PodSource {
 public:
  DirectoryPods(async::Loop& loop, base::Log& log, std::string directory, std::string node)
      : loop_(loop),
        log_(log),
        node_(std::move(node)),
        source_(loop, log, directory),
        // Posted from the watch's thread, which ends before this object does.
        watch_(directory,
               [this] {
                 loop_.post([alive = std::weak_ptr<bool>(alive_), this] {
                   if (alive.lock()) source_.changed();
                 });
               }),
        scope_(loop) {}
  ~DirectoryPods() override { watch_.stop(); }

  void start(std::function<void(ClusterRef)> changed) override {
    changed_ = std::move(changed);
    source_.on_change([this] { tell(); });
    scope_.spawn(run(*this));
  }

 private:
  static async::Task<void> run(DirectoryPods& pods) {
    while (true) {
      if (auto watching = pods.watch_.start(); !watching) {
        pods.log_.warn("cni-agent", "changes of the manifest directory are seen late",
                       {base::Field::text("error", watching.error().message())});
      }
      auto read = pods.source_.start();
      if (read) break;
      pods.log_.error("cni-agent", "the manifest directory cannot be read, trying again",
                      {base::Field::text("error", read.error().message())});
      pods.watch_.stop();
      co_await async::sleep_for(pods.loop_, kRetry);
    }
    pods.tell();
  }
  void tell() {
    // Never an incomplete picture: pods missing from it would leave the mesh.
    if (source_.synced()) changed_(std::make_shared<Cluster>(cluster_of(*source_.objects(), node_)));
  }

  async::Loop& loop_;
  base::Log& log_;
  std::string node_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  kube::DirectorySource source_;
  TreeWatch watch_;
  std::function<void(ClusterRef)> changed_;
  async::Scope scope_;
};

}  // namespace

Cluster cluster_of(const kube::Objects& objects, const std::string& node) {
  Cluster cluster;
  for (const auto& [name, name_space] : objects.namespaces)
    cluster.namespaces[name_space->meta.name] = name_space->meta.labels;
  for (const auto& [key, pod] : objects.pods) {
    if (pod->node != node) continue;
    PodInfo info;
    info.uid = pod->meta.uid;
    info.name = pod->meta.name;
    info.name_space = pod->meta.ns;
    info.service_account = pod->service_account;
    info.node = pod->node;
    info.labels = pod->meta.labels;
    info.annotations = pod->meta.annotations;
    // Our own answer, laid over the pod by the source: not an input.
    info.annotations.erase("ambient.istio.io/redirection");
    info.host_network = pod->host_network;
    info.terminal = pod->phase == "Failed" || pod->phase == "Succeeded";
    for (const auto& text : pod->ips) {
      auto ip = base::IpAddr::parse(text);
      if (ip) info.ips.push_back(*ip);
    }
    cluster.pods[info.key()] = std::move(info);
  }
  return cluster;
}

std::unique_ptr<PodSource> make_directory_pods(async::Loop& loop, base::Log& log, std::string directory,
                                               std::string node) {
  return std::make_unique<DirectoryPods>(loop, log, std::move(directory), std::move(node));
}

}  // namespace culvert::cni
