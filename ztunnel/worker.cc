// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/worker.h"

#include <utility>

#include "ztunnel/pod_proxy.h"

namespace culvert::ztunnel {

Worker::Worker(const config::ZtunnelConfig& config, async::Loop& loop, io::Network& network, base::Log& log,
               observe::MetricsShard& metrics, ca::CertRequest certificates, base::Rng rng)
    : config_(config),
      loop_(loop),
      network_(network),
      log_(log),
      metrics_(metrics),
      rng_(rng),
      certificates_(loop, std::move(certificates)),
      view_changed_(loop),
      endings_(loop) {}

Worker::~Worker() = default;

base::Result<> Worker::start_pod(PodInfo info) {
  std::string uid = info.uid;
  if (pods_.contains(uid)) return base::fail(base::Code::kExists, "the pod is proxied already");
  base::Result<std::unique_ptr<PodProxy>> pod = PodProxy::start(*this, std::move(info));
  if (!pod) return base::fail(std::move(pod).error());
  if ((*pod)->info().kind != PodKind::kSelf) by_workload_[(*pod)->info().name] = pod->get();
  pods_.emplace(std::move(uid), std::move(*pod));
  return {};
}

void Worker::stop_pod(const std::string& uid, async::DrainMode mode, async::Deadline deadline,
                      std::function<void()> done) {
  auto found = pods_.find(uid);
  if (found == pods_.end()) {
    done();
    return;
  }
  std::unique_ptr<PodProxy> pod = std::move(found->second);
  pods_.erase(found);
  auto named = by_workload_.find(pod->info().name);
  if (named != by_workload_.end() && named->second == pod.get()) by_workload_.erase(named);
  endings_.spawn(end_pod(*this, std::move(pod), mode, deadline, std::move(done)));
}

PodProxy* Worker::pod_of(const model::Workload& workload) const {
  auto found = by_workload_.find({workload.ns.str(), workload.name.str(), workload.service_account.str()});
  if (found == by_workload_.end()) return nullptr;
  // Several workloads may bear one name (another node's, another network's): only the one xDS calls ours.
  const config::WorkloadName& name = found->second->info().name;
  model::WorkloadRef own = view_->local_workload(name.namespace_, name.name, name.service_account);
  return own && own->uid == workload.uid ? found->second : nullptr;
}

async::Task<void> Worker::end_pod(Worker& worker, std::unique_ptr<PodProxy> pod, async::DrainMode mode,
                                  async::Deadline deadline, std::function<void()> done) {
  auto place = worker.ending_.insert(worker.ending_.end(), pod.get());
  co_await pod->drain(mode, deadline);
  worker.ending_.erase(place);
  pod.reset();
  done();
}

void Worker::set_view(model::ViewRef view, bool policies_changed) {
  view_ = std::move(view);
  view_changed_.pulse();
  for (auto& [uid, pod] : pods_) pod->view_changed(policies_changed);
  for (PodProxy* pod : ending_) pod->view_changed(policies_changed);
}

async::Task<base::Result<model::WorkloadRef>> Worker::local_workload(config::WorkloadName name,
                                                                     async::Deadline deadline) {
  for (;;) {
    if (auto workload = view_->local_workload(name.namespace_, name.name, name.service_account))
      co_return workload;
    bool changed = co_await view_changed_.wait(deadline);
    if (!changed) {
      co_return base::fail(base::Code::kNotFound, "failed to fetch information about local workload " +
                                                      name.namespace_ + "/" + name.name +
                                                      " (service account " + name.service_account + ")");
    }
  }
}

}  // namespace culvert::ztunnel
