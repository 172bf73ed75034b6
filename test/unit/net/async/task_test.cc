// SPDX-License-Identifier: Apache-2.0
#include "net/async/task.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "net/async/drain.h"
#include "net/async/queue.h"
#include "net/async/scope.h"
#include "net/async/stop_signal.h"
#include "net/async/wait.h"
#include "test/support/sim_loop.h"

namespace culvert::async {
namespace {

using base::Code;
using base::Result;
using std::chrono::seconds;
using test::SimLoop;

// Shows whether frames die.
struct Guard {
  explicit Guard(int& count) : live(count) { ++live; }
  ~Guard() { --live; }
  int& live;
};

Task<int> at_once(int value) { co_return value; }

Task<int> later(SimLoop& loop, int value) {
  co_await sleep_for(loop, seconds(1));
  co_return value;
}

Task<int> sum_of_many(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await at_once(1);
  co_return sum;
}

Task<Result<int>> slow_answer(SimLoop& loop, int& live, base::Duration delay) {
  Guard guard(live);
  co_await sleep_for(loop, delay);
  co_return 42;
}

Task<Result<int>> quick_answer() { co_return 7; }

// Every kind of suspension, one after the other; `stage` says which one it is in.
Task<void> tour(SimLoop& loop, Event& event, BoundedQueue<int>& queue, Scope& scope, int& live, int& stage) {
  Guard guard(live);
  stage = 1;
  co_await sleep_for(loop, seconds(1));
  stage = 2;
  co_await event.wait();
  stage = 3;
  event.reset();
  co_await event.wait(Deadline::in(loop, seconds(1)));
  stage = 4;
  (void)co_await with_deadline(loop, Deadline::in(loop, seconds(10)), "answer",
                               slow_answer(loop, live, seconds(2)));
  stage = 5;
  (void)co_await queue.pop();
  stage = 6;
  (void)co_await later(loop, 1);
  stage = 7;
  co_await scope.idle().wait();
  stage = 8;
}

Task<void> hold(SimLoop& loop, int& live) {
  Guard guard(live);
  co_await sleep_until(loop, Deadline::never());
}

}  // namespace

TEST_CASE("a child that ends at once costs no stack") {
  SimLoop loop;
  CHECK(loop.run(sum_of_many(300'000)) == 300'000);
}

TEST_CASE("values come back, at once and later") {
  SimLoop loop;
  CHECK(loop.run(at_once(3)) == 3);
  base::TimePoint before = loop.now();
  CHECK(loop.run(later(loop, 4)) == 4);
  CHECK(loop.now() - before == seconds(1));
}

TEST_CASE("a task may be destroyed at every suspension point", "[Z4]") {
  for (int stop_at = 0; stop_at <= 8; ++stop_at) {
    int live = 0, other_live = 0, stage = 0;
    SimLoop loop;
    Event event(loop);
    BoundedQueue<int> queue(loop, 4);
    Scope other(loop);
    other.spawn(hold(loop, other_live));
    {
      Scope scope(loop);
      Task<void> task = tour(loop, event, queue, other, live, stage);
      if (stop_at == 0) continue;  // never started
      scope.spawn(std::move(task));
      if (stop_at >= 2) loop.run_for(seconds(1));
      if (stop_at >= 3) {
        event.set();
        loop.run_ready();
      }
      if (stop_at >= 4) loop.run_for(seconds(1));
      if (stop_at >= 5) loop.run_for(seconds(2));
      if (stop_at >= 6) {
        CHECK(queue.try_push(1));
        loop.run_ready();
      }
      if (stop_at >= 7) loop.run_for(seconds(1));
      if (stop_at >= 8) {
        other.cancel_all();
        loop.run_ready();
      }
      CHECK(stage == stop_at);
      CHECK(live == (stop_at == 8 ? 0 : stop_at == 4 ? 2 : 1));
    }
    CHECK(live == 0);
    // Nothing is left behind that could wake a dead frame.
    event.set();
    (void)queue.try_push(2);
    other.cancel_all();
    loop.run_for(seconds(100));
    CHECK(loop.quiet());
    CHECK(live == 0);
    CHECK(other_live == 0);
  }
}

TEST_CASE("a waiter that was woken and then destroyed does not run") {
  SimLoop loop;
  Event event(loop);
  int live = 0, resumed = 0;
  auto wait = [](Event& e, int& alive, int& count) -> Task<void> {
    Guard guard(alive);
    co_await e.wait();
    ++count;
  };
  {
    Scope scope(loop);
    scope.spawn(wait(event, live, resumed));
    event.set();
  }
  loop.run_ready();
  CHECK(live == 0);
  CHECK(resumed == 0);
}

TEST_CASE("events wake all in order; a pulse does not stay") {
  SimLoop loop;
  Event event(loop);
  std::string trace;
  auto wait = [](Event& e, std::string& out, char name) -> Task<void> {
    co_await e.wait();
    out += name;
  };
  Scope scope(loop);
  for (char name : {'a', 'b', 'c'}) scope.spawn(wait(event, trace, name));
  CHECK(trace.empty());
  event.pulse();
  CHECK(trace.empty());  // only from the loop
  loop.run_ready();
  CHECK(trace == "abc");
  scope.spawn(wait(event, trace, 'd'));
  loop.run_ready();
  CHECK(trace == "abc");
  event.set();
  scope.spawn(wait(event, trace, 'e'));
  CHECK(trace == "abce");  // set: no waiting at all
  loop.run_ready();
  CHECK(trace == "abced");
  CHECK(event.is_set());
}

TEST_CASE("a wait with a deadline says which came first") {
  SimLoop loop;
  Event event(loop);
  auto wait = [](SimLoop& on, Event& e, base::Duration limit) -> Task<bool> {
    co_return co_await e.wait(Deadline::in(on, limit));
  };
  CHECK(!loop.run(wait(loop, event, seconds(5))));
  CallTimer setter([&] { event.set(); });
  loop.arm(setter, loop.now() + seconds(3));
  CHECK(loop.run(wait(loop, event, seconds(5))));
  event.reset();
  // In the same turn and armed earlier: the event wins.
  loop.arm(setter, loop.now() + seconds(5));
  CHECK(loop.run(wait(loop, event, seconds(5))));
  CHECK(loop.quiet());
}

TEST_CASE("with_deadline cancels the child and says what it was doing") {
  SimLoop loop;
  int live = 0;
  auto limited = [](SimLoop& on, Task<Result<int>> task, base::Duration limit) -> Task<Result<int>> {
    co_return co_await with_deadline(on, Deadline::in(on, limit), "ask", std::move(task));
  };
  Result<int> late = loop.run(limited(loop, slow_answer(loop, live, seconds(9)), seconds(3)));
  REQUIRE(!late.has_value());
  CHECK(late.error().code() == Code::kTimeout);
  CHECK(late.error().message().find("ask") != std::string::npos);
  CHECK(live == 0);
  CHECK(loop.quiet());
  Result<int> in_time = loop.run(limited(loop, slow_answer(loop, live, seconds(1)), seconds(3)));
  CHECK(in_time == 42);
  CHECK(loop.run(limited(loop, quick_answer(), seconds(0))) == 7);
  CHECK(loop.quiet());
}

TEST_CASE("a scope cancels, reaps and tells when it is idle") {
  int live = 0;
  SimLoop loop;
  Scope scope(loop);
  CHECK(scope.idle().is_set());
  for (int i = 0; i < 3; ++i) scope.spawn(hold(loop, live));
  CHECK(scope.running() == 3);
  CHECK(!scope.idle().is_set());
  // From inside one of its own tasks.
  auto cancel = [](Scope& all) -> Task<void> {
    all.cancel_all();
    co_return;
  };
  scope.spawn(cancel(scope));
  CHECK(live == 3);
  loop.run_ready();
  CHECK(live == 0);
  CHECK(scope.running() == 0);
  CHECK(scope.idle().is_set());
  CHECK(loop.quiet());
}

TEST_CASE("a task may spawn siblings, also from a destructor while the scope dies") {
  SimLoop loop;
  int live = 0;
  struct Respawn {
    Scope& scope;
    SimLoop& loop;
    int& live;
    ~Respawn() { scope.spawn(hold(loop, live)); }
  };
  auto body = [](Scope& scope, SimLoop& on, int& alive) -> Task<void> {
    Respawn respawn{scope, on, alive};
    co_await sleep_until(on, Deadline::never());
  };
  {
    Scope scope(loop);
    scope.spawn(body(scope, loop, live));
  }
  CHECK(live == 0);
}

TEST_CASE("a bounded queue has a limit and an end") {
  SimLoop loop;
  BoundedQueue<std::string> queue(loop, 2);
  std::string kept = "c";
  CHECK(queue.try_push("a"));
  CHECK(queue.try_push("b"));
  CHECK(!queue.try_push(std::move(kept)));
  CHECK(kept == "c");
  CHECK(loop.run(queue.pop()) == "a");
  queue.close();
  CHECK(!queue.try_push("d"));
  CHECK(loop.run(queue.pop()) == "b");
  CHECK(loop.run(queue.pop()) == std::nullopt);
}

TEST_CASE("a drain begins once; immediate may overtake graceful") {
  SimLoop loop;
  Drain drain(loop);
  drain.start(DrainMode::kGraceful, Deadline::in(loop, seconds(5)));
  Deadline first = drain.deadline();
  drain.start(DrainMode::kGraceful, Deadline::in(loop, seconds(50)));
  CHECK(drain.deadline().when() == first.when());
  drain.start(DrainMode::kImmediate, Deadline::in(loop, seconds(0)));
  CHECK(drain.mode() == DrainMode::kImmediate);
}

Task<Result<int>> stops_itself(SimLoop& loop, StopSignal& signal, int& live) {
  Guard guard(live);
  signal.stop(base::Error(Code::kClosed, "from within"));
  co_await sleep_for(loop, std::chrono::hours(1));
  co_return 1;
}

Task<std::string> what_stopped(SimLoop& loop, StopSignal& signal, int& live) {
  Result<int> result = co_await until_stopped(signal, stops_itself(loop, signal, live));
  co_return result ? "" : result.error().message();
}

TEST_CASE("a task that stops itself before it first waits is stopped") {
  SimLoop loop;
  StopSignal signal(loop);
  int live = 0;
  base::TimePoint began = loop.now();
  CHECK(loop.run(what_stopped(loop, signal, live)) == "from within");
  CHECK(live == 0);
  CHECK(loop.now() == began);
}

}  // namespace culvert::async
