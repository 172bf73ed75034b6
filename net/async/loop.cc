// SPDX-License-Identifier: Apache-2.0
#include "net/async/loop.h"

#include <utility>

#include "net/base/check.h"

namespace culvert::async {

void Job::unqueue() {
  if (!next_) return;
  prev_->next_ = next_;
  next_->prev_ = prev_;
  prev_ = next_ = nullptr;
}

JobList::JobList() { head_.prev_ = head_.next_ = &head_; }

JobList::~JobList() {
  while (Job* job = pop_front()) (void)job;
  head_.prev_ = head_.next_ = nullptr;
}

bool JobList::empty() const { return head_.next_ == &head_; }

void JobList::push_back(Job& job) {
  job.prev_ = head_.prev_;
  job.next_ = &head_;
  head_.prev_->next_ = &job;
  head_.prev_ = &job;
}

Job* JobList::pop_front() {
  if (empty()) return nullptr;
  Job* job = head_.next_;
  job->unqueue();
  return job;
}

void JobList::splice_to(JobList& other) {
  while (Job* job = pop_front()) other.push_back(*job);
}

Loop::~Loop() {
  for (Timer* timer : heap_) timer->loop_ = nullptr;
}

void Loop::defer(Job& job) {
  if (job.queued()) return;
  bool was_idle = !has_jobs() && !running_jobs_;
  jobs_.push_back(job);
  if (was_idle) wake();
}

void Loop::at_turn_end(Job& job) {
  if (job.queued()) return;
  bool was_idle = !has_jobs() && !running_jobs_;
  turn_end_.push_back(job);
  if (was_idle) wake();
}

void Loop::defer_next_turn(Job& job) {
  if (job.queued()) return;
  bool was_idle = !has_jobs() && !running_jobs_;
  next_turn_.push_back(job);
  if (was_idle) wake();
}

void Loop::run_jobs() {
  CULVERT_CHECK(!running_jobs_);
  running_jobs_ = true;
  next_turn_.splice_to(jobs_);
  do {
    while (Job* job = jobs_.pop_front()) job->run();
    JobList ending;
    turn_end_.splice_to(ending);
    while (Job* job = ending.pop_front()) job->run();
  } while (!jobs_.empty() || !turn_end_.empty());
  running_jobs_ = false;
}

bool Loop::earlier(const Timer* a, const Timer* b) const {
  return a->when_ != b->when_ ? a->when_ < b->when_ : a->sequence_ < b->sequence_;
}

void Loop::sift_up(size_t index) {
  while (index > 0) {
    size_t parent = (index - 1) / 2;
    if (!earlier(heap_[index], heap_[parent])) break;
    std::swap(heap_[index], heap_[parent]);
    heap_[index]->heap_index_ = index;
    index = parent;
  }
  heap_[index]->heap_index_ = index;
}

void Loop::sift_down(size_t index) {
  for (;;) {
    size_t least = index;
    for (size_t child : {2 * index + 1, 2 * index + 2}) {
      if (child < heap_.size() && earlier(heap_[child], heap_[least])) least = child;
    }
    if (least == index) break;
    std::swap(heap_[index], heap_[least]);
    heap_[index]->heap_index_ = index;
    index = least;
  }
  heap_[index]->heap_index_ = index;
}

void Loop::arm(Timer& timer, base::TimePoint when) {
  timer.disarm();
  timer.loop_ = this;
  timer.when_ = when;
  timer.sequence_ = next_sequence_++;
  heap_.push_back(&timer);
  sift_up(heap_.size() - 1);
  if (heap_.front() == &timer) wake();
}

void Timer::disarm() {
  if (loop_) loop_->disarm(*this);
}

void Loop::disarm(Timer& timer) {
  size_t index = timer.heap_index_;
  timer.loop_ = nullptr;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  heap_[index] = last;
  last->heap_index_ = index;
  sift_up(index);
  sift_down(last->heap_index_);
}

void Loop::run_due_timers(base::TimePoint now) {
  // A timer armed by a firing timer waits for the next turn, even with a time in the past:
  // its sequence is at or above the limit.
  uint64_t limit = next_sequence_;
  while (!heap_.empty() && heap_.front()->when_ <= now && heap_.front()->sequence_ < limit) {
    Timer* timer = heap_.front();
    disarm(*timer);
    timer->fire();
  }
}

}  // namespace culvert::async
