// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/fleet.h"

#include <utility>

namespace culvert::ztunnel {

namespace {

// Answers of all workers to one question; shared by the calls in flight and the one who waits.
template <class T>
struct Gather {
  Gather(async::Loop& loop, size_t count) : missing(count), done(loop) {
    if (count == 0) done.set();
  }
  void add(T value) {
    answers.push_back(std::move(value));
    if (--missing == 0) done.set();
  }
  size_t missing;
  std::vector<T> answers;
  async::Event done;
};

// Runs `ask` on every worker's loop; the answers come back to `control`. A plain function: the coroutine that
// calls it waits for `done`.
template <class T, class Ask>
std::shared_ptr<Gather<T>> ask_all(async::Loop& control, const std::vector<Worker*>& workers, Ask ask) {
  auto gather = std::make_shared<Gather<T>>(control, workers.size());
  for (Worker* worker : workers) {
    worker->loop().post([worker, ask, gather, &control]() mutable {
      auto answer = std::make_shared<T>(ask(*worker));
      control.post([gather = std::move(gather), answer] { gather->add(std::move(*answer)); });
    });
  }
  return gather;
}

}  // namespace

Fleet::Fleet(async::Loop& control, observe::MetricsShard& metrics, std::vector<Worker*> workers)
    : control_(control), metrics_(metrics), workers_(std::move(workers)), settled_(control) {
  settled_.set();
}

async::Task<base::Result<>> Fleet::start_pod(PodInfo pod) {
  started_.insert(pod.uid);
  auto gather =
      ask_all<base::Result<>>(control_, workers_, [pod](Worker& worker) { return worker.start_pod(pod); });
  co_await gather->done.wait();
  for (base::Result<>& answer : gather->answers) {
    if (!answer) co_return base::fail(std::move(answer).error());
  }
  co_return base::Result<>{};
}

void Fleet::stop_pod(std::string uid, async::DrainMode mode, async::Deadline deadline) {
  if (started_.erase(uid) == 0) return;
  for (Worker* worker : workers_) {
    ++stopping_;
    settled_.reset();
    worker->loop().post([this, worker, uid, mode, deadline] {
      worker->stop_pod(uid, mode, deadline, [this] { control_.post([this] { stopped_one(); }); });
    });
  }
  metrics_.cell(observe::families::proxies_stopped(), "").add();
}

void Fleet::stopped_one() {
  if (--stopping_ == 0) settled_.set();
}

async::Task<void> Fleet::drain(async::Deadline deadline) {
  std::set<std::string> uids = started_;
  for (const std::string& uid : uids) stop_pod(uid, async::DrainMode::kGraceful, deadline);
  co_await settled_.wait();
}

void Fleet::set_view(const model::ViewRef& view, bool policies_changed) {
  for (Worker* worker : workers_) {
    worker->loop().post([worker, view, policies_changed] { worker->set_view(view, policies_changed); });
  }
}

void Fleet::forget_identity(const model::Identity& identity) {
  for (Worker* worker : workers_) {
    worker->loop().post([worker, identity] { worker->forget_identity(identity); });
  }
}

async::Task<std::vector<observe::ConnTable::Row>> Fleet::connections() {
  using Rows = std::vector<observe::ConnTable::Row>;
  auto gather = ask_all<Rows>(control_, workers_, [](Worker& worker) {
    worker.sync_counters();
    return worker.connections().rows();
  });
  co_await gather->done.wait();
  Rows all;
  for (Rows& rows : gather->answers) {
    for (auto& row : rows) all.push_back(std::move(row));
  }
  co_return all;
}

async::Task<void> Fleet::sync_counters() {
  auto gather = ask_all<bool>(control_, workers_, [](Worker& worker) {
    worker.sync_counters();
    return true;
  });
  co_await gather->done.wait();
}

}  // namespace culvert::ztunnel
