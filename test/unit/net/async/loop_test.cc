// SPDX-License-Identifier: Apache-2.0
#include "net/async/loop.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "net/base/rng.h"
#include "test/support/sim_loop.h"

namespace culvert::async {
namespace {

using std::chrono::seconds;

}  // namespace

TEST_CASE("timers fire by time, and in order of arming at equal times") {
  test::SimLoop loop;
  std::string trace;
  CallTimer a([&] { trace += 'a'; }), b([&] { trace += 'b'; }), c([&] { trace += 'c'; }),
      d([&] { trace += 'd'; });
  loop.arm(b, loop.now() + seconds(2));
  loop.arm(a, loop.now() + seconds(1));
  loop.arm(c, loop.now() + seconds(2));
  loop.arm(d, loop.now() + seconds(3));
  loop.arm(a, loop.now() + seconds(2));  // armed again: now last of the three
  d.disarm();
  loop.run_for(seconds(10));
  CHECK(trace == "bca");
  CHECK(loop.quiet());
}

TEST_CASE("a firing timer may arm, disarm and destroy others and itself") {
  test::SimLoop loop;
  std::string trace;
  auto victim = std::make_unique<CallTimer>([&] { trace += 'v'; });
  std::unique_ptr<CallTimer> self;
  CallTimer again([&] {
    trace += 'r';
    if (trace.size() < 4) loop.arm(again, loop.now());
  });
  self = std::make_unique<CallTimer>([&] {
    trace += 's';
    victim.reset();
    loop.arm(again, loop.now() - seconds(5));
  });
  loop.arm(*self, loop.now() + seconds(1));
  loop.arm(*victim, loop.now() + seconds(1));
  loop.run_for(seconds(1));
  CHECK(trace == "srrr");
  CHECK(loop.quiet());
}

TEST_CASE("a timer armed with a past time from a timer waits for the next turn") {
  test::SimLoop loop;
  int fired = 0, jobs_before_second = 0;
  CallJob job([&] { jobs_before_second = fired; });
  CallTimer timer([&] {
    if (++fired == 1) {
      loop.arm(timer, loop.now() - seconds(1));
      loop.defer(job);
    }
  });
  loop.arm(timer, loop.now());
  loop.run_ready();
  CHECK(fired == 2);
  CHECK(jobs_before_second == 1);
}

TEST_CASE("many timers, armed and disarmed at random, fire in order") {
  test::SimLoop loop;
  base::Rng rng(7);
  base::TimePoint last{};
  size_t fired = 0, live = 0;
  std::vector<std::unique_ptr<CallTimer>> timers;
  for (int i = 0; i < 2000; ++i) {
    timers.push_back(std::make_unique<CallTimer>([&] {
      CHECK(loop.now() >= last);
      last = loop.now();
      ++fired;
    }));
    loop.arm(*timers.back(), loop.now() + base::Duration(rng.below(1'000'000)));
  }
  for (auto& timer : timers) {
    if (rng.below(3) == 0) {
      timer.reset();
    } else {
      if (rng.below(2) == 0) loop.arm(*timer, loop.now() + base::Duration(rng.below(1'000'000)));
      ++live;
    }
  }
  loop.run_for(seconds(1));
  CHECK(fired == live);
}

TEST_CASE("jobs run in order, then the end of the turn, then the next turn") {
  test::SimLoop loop;
  std::string trace;
  CallJob late([&] { trace += 'l'; });
  CallJob end([&] { trace += 'e'; });
  CallJob next([&] { trace += 'n'; });
  CallJob second([&] { trace += '2'; });
  CallJob first([&] {
    trace += '1';
    loop.defer_next_turn(next);
    loop.at_turn_end(end);
    loop.defer(late);
    loop.defer(late);  // queued already
  });
  loop.defer(first);
  loop.defer(second);
  loop.run_ready();
  CHECK(trace == "12len");
}

TEST_CASE("a destroyed job does not run, whichever queue it was in") {
  test::SimLoop loop;
  int ran = 0;
  auto count = [&] { ++ran; };
  auto a = std::make_unique<CallJob>(count), b = std::make_unique<CallJob>(count),
       c = std::make_unique<CallJob>(count);
  CallJob killer([&] {
    a.reset();
    b.reset();
    c.reset();
  });
  loop.defer(killer);
  loop.defer(*a);
  loop.at_turn_end(*b);
  loop.defer_next_turn(*c);
  loop.run_ready();
  CHECK(ran == 0);
  CHECK(loop.quiet());
}

TEST_CASE("timers and jobs may outlive their loop") {
  CallTimer timer([] {});
  CallJob job([] {}), end([] {}), next([] {});
  {
    test::SimLoop loop;
    loop.arm(timer, loop.now());
    loop.defer(job);
    loop.at_turn_end(end);
    loop.defer_next_turn(next);
  }
  CHECK(!timer.armed());
  CHECK(!job.queued());
  CHECK(!end.queued());
  CHECK(!next.queued());
}

}  // namespace culvert::async
