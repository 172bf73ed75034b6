// SPDX-License-Identifier: Apache-2.0
#include "net/async/scope.h"

namespace culvert::async {

Scope::~Scope() {
  // Newest first: a child may refer to what an older sibling owns. Each entry leaves the list
  // before its frame dies, so that a spawn from a destructor cannot touch a half-dead list.
  while (!entries_.empty()) {
    std::list<Entry> last;
    last.splice(last.begin(), entries_, std::prev(entries_.end()));
  }
}

Task<void> Scope::drive(Scope& scope, Entry& entry, Task<void> body) {
  co_await body;
  entry.finished = true;
  scope.running_--;
  scope.loop_.defer(scope.reaper_);
}

void Scope::spawn(Task<void> task) {
  entries_.emplace_back();
  Entry& entry = entries_.back();
  running_++;
  idle_.reset();
  entry.task = drive(*this, entry, std::move(task));
  entry.task.start(std::noop_coroutine());
}

void Scope::cancel_all() {
  cancelling_ = true;
  loop_.defer(reaper_);
}

void Scope::reap() {
  bool all = std::exchange(cancelling_, false);
  std::list<Entry> dead;
  for (auto it = entries_.begin(); it != entries_.end();) {
    auto next = std::next(it);
    if (all || it->finished) {
      if (!it->finished) running_--;
      dead.splice(dead.end(), entries_, it);
    }
    it = next;
  }
  dead.clear();
  if (entries_.empty()) idle_.set();
}

}  // namespace culvert::async
