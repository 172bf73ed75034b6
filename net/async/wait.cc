// SPDX-License-Identifier: Apache-2.0
#include "net/async/wait.h"

namespace culvert::async {

Event::Awaiter::~Awaiter() { unlink(); }

void Event::Awaiter::unlink() {
  if (!linked_) return;
  (prev_ ? prev_->next_ : event_.first_) = next_;
  (next_ ? next_->prev_ : event_.last_) = prev_;
  prev_ = next_ = nullptr;
  linked_ = false;
}

void Event::Awaiter::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  prev_ = event_.last_;
  (prev_ ? prev_->next_ : event_.first_) = this;
  event_.last_ = this;
  linked_ = true;
  if (!deadline_.is_never()) event_.loop_.arm(*this, deadline_.when());
}

void Event::Awaiter::run() {
  disarm();
  handle_.resume();
}

void Event::Awaiter::fire() {
  if (queued()) return;  // woken in this very turn: the event came first
  timed_out_ = true;
  unlink();
  handle_.resume();
}

void Event::set() {
  set_ = true;
  pulse();
}

void Event::pulse() {
  while (first_) {
    Awaiter* waiter = first_;
    waiter->unlink();
    loop_.defer(*waiter);
  }
}

}  // namespace culvert::async
