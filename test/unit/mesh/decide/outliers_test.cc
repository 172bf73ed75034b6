// SPDX-License-Identifier: Apache-2.0
// Section 2.3.4 of spec waypoint.
#include "mesh/decide/outliers.h"

#include <catch2/catch.hpp>

using namespace culvert;
using namespace culvert::decide;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Kind = HostOutcome::Kind;

namespace {

struct World {
  model::OutlierDetection rules;
  OutlierDetector detector;
  base::TimePoint now{};

  explicit World(int hosts = 10) {
    std::vector<std::string> names;
    for (int i = 0; i < hosts; ++i) names.push_back("h" + std::to_string(i));
    detector.set_hosts(names);
    detector.sweep(rules, now);
  }
  std::vector<OutlierDetector::Change> status(const std::string& host, uint16_t code) {
    return detector.report(rules, host, {Kind::kResponse, code}, now);
  }
  std::vector<OutlierDetector::Change> failure(const std::string& host, Kind kind = Kind::kConnectFailure) {
    return detector.report(rules, host, {kind, 0}, now);
  }
  // Whether any of `times` reports of `code` ejected the host.
  bool fails(const std::string& host, int times, uint16_t code = 500) {
    bool out = false;
    for (int i = 0; i < times; ++i) {
      for (const auto& change : status(host, code)) out |= change.ejected && change.host == host;
    }
    return out;
  }
  // Lets time pass in steps, sweeping; who came back.
  std::vector<std::string> pass(base::Duration time) {
    std::vector<std::string> back;
    for (base::TimePoint end = now + time; now < end;) {
      now += std::min<base::Duration>(seconds(1), end - now);
      for (const auto& change : detector.sweep(rules, now)) back.push_back(change.host);
    }
    return back;
  }
};

}  // namespace

TEST_CASE("the k-th error in a row ejects at once", "[2.3.4]") {
  World world;
  CHECK_FALSE(world.fails("h0", 4));
  auto changes = world.status("h0", 503);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].host == "h0");
  CHECK(changes[0].ejected);
  CHECK(changes[0].reason == "consecutive_5xx");
  CHECK(changes[0].duration == seconds(30));
  CHECK(world.detector.ejected("h0"));
  CHECK_FALSE(world.detector.ejected("h1"));
  CHECK(world.detector.ejected_count() == 1);
}

TEST_CASE("a success starts the count again; other hosts do not matter", "[2.3.4]") {
  World world;
  CHECK_FALSE(world.fails("h0", 4));
  world.status("h0", 200);
  CHECK_FALSE(world.fails("h0", 4));
  CHECK_FALSE(world.fails("h1", 4));
  world.status("h0", 404);
  CHECK_FALSE(world.fails("h0", 4));
  CHECK(world.fails("h0", 1));
}

TEST_CASE("0 turns a detector off", "[2.3.4]") {
  World world;
  world.rules.consecutive_5xx = 0;
  CHECK_FALSE(world.fails("h0", 100));
}

TEST_CASE("failures of our own count as 5xx unless split", "[2.3.4]") {
  World world;
  for (Kind kind : {Kind::kConnectFailure, Kind::kReset, Kind::kTimeout, Kind::kTimeout}) {
    CHECK(world.failure("h0", kind).empty());
  }
  CHECK(world.failure("h0").size() == 1);

  World split;
  split.rules.split_local_errors = true;
  split.rules.consecutive_local_errors = 3;
  CHECK_FALSE(split.fails("h0", 4));
  split.failure("h0");
  split.failure("h0");
  auto changes = split.failure("h0");
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].reason == "consecutive_local_origin_failure");
  // Any answer, even an error, shows that the host can be reached.
  split.failure("h1");
  split.failure("h1");
  split.status("h1", 500);
  CHECK(split.failure("h1").empty());
}

TEST_CASE("gateway errors have a count of their own", "[2.3.4]") {
  World world;
  world.rules.consecutive_5xx = 0;
  world.rules.consecutive_gateway_errors = 3;
  CHECK_FALSE(world.fails("h0", 10, 500));
  CHECK_FALSE(world.fails("h0", 2, 502));
  world.status("h0", 500);
  CHECK_FALSE(world.fails("h0", 2, 504));
  auto changes = world.status("h0", 503);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].reason == "consecutive_gateway_failure");
}

TEST_CASE("configured codes count instead of 5xx", "[2.3.4][G7]") {
  World world;
  world.rules.error_codes = {{429, 429}, {500, 501}};
  CHECK_FALSE(world.fails("h0", 10, 503));
  CHECK(world.fails("h0", 5, 429));
  CHECK(world.fails("h1", 5, 501) == false);  // 10 % of ten hosts are out already
}

TEST_CASE("not more than maxEjectionPercent are out, but one of two may always go", "[2.3.4][G13]") {
  struct Row {
    int hosts;
    uint32_t percent;
    size_t out;
  };
  auto row = GENERATE(Row{10, 10, 1}, Row{10, 50, 5}, Row{10, 100, 10}, Row{10, 0, 1}, Row{20, 10, 2},
                      Row{2, 10, 1}, Row{3, 10, 1}, Row{1, 10, 0}, Row{1, 100, 1}, Row{3, 50, 1},
                      Row{4, 50, 2}, Row{3, 67, 2}, Row{3, 66, 1});
  CAPTURE(row.hosts, row.percent);
  World world(row.hosts);
  world.rules.ejection_percent_max = row.percent;
  for (int i = 0; i < row.hosts; ++i) world.fails("h" + std::to_string(i), 5);
  CHECK(world.detector.ejected_count() == row.out);
}

TEST_CASE("minRequestVolume is asked of the current interval", "[2.3.4][seed]") {
  World world;
  world.rules.request_volume_min = 8;
  CHECK_FALSE(world.fails("h0", 7));
  CHECK(world.fails("h0", 1));
  world.fails("h1", 7);
  world.pass(seconds(10));
  world.rules.ejection_percent_max = 100;
  CHECK_FALSE(world.fails("h1", 7));
  CHECK(world.fails("h1", 1));
}

TEST_CASE("who is out comes back at the first sweep after its time, with counters at zero", "[2.3.4]") {
  World world;
  CHECK(world.fails("h0", 5));
  CHECK(world.pass(milliseconds(29999)).empty());
  CHECK(world.pass(milliseconds(1)) == std::vector<std::string>{"h0"});
  CHECK(world.detector.ejected_count() == 0);
  CHECK_FALSE(world.fails("h0", 4));
  // Ejected between two sweeps: the sweep at 40 s is too early.
  world.pass(seconds(5));
  CHECK(world.fails("h0", 1));
}

TEST_CASE("ejections grow, up to five minutes, and are forgiven by good sweeps", "[2.3.4]") {
  World world;
  world.rules.interval = seconds(1);
  std::vector<int64_t> lengths;
  for (int i = 0; i < 12; ++i) {
    base::Duration length{0};
    for (int k = 0; k < 5; ++k) {
      for (const auto& change : world.status("h0", 500)) {
        if (change.ejected) length = change.duration;
      }
    }
    lengths.push_back(std::chrono::duration_cast<seconds>(length).count());
    world.now += length;
    // The sweep that brings it back does not forgive yet.
    REQUIRE(world.detector.sweep(world.rules, world.now).size() == 1);
  }
  CHECK(lengths == std::vector<int64_t>{30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300});
  world.pass(seconds(8));
  CHECK(world.fails("h0", 5));
  CHECK(world.pass(seconds(89)).empty());
  CHECK(world.pass(seconds(2)).size() == 1);
}

TEST_CASE("a base above five minutes is the bound itself", "[2.3.4]") {
  World world;
  world.rules.base_ejection_time = seconds(400);
  world.fails("h0", 4);
  CHECK(world.status("h0", 500)[0].duration == seconds(400));
}

TEST_CASE("hosts that stay keep what is known of them; others are forgotten", "[2.3.4]") {
  World world;
  CHECK(world.fails("h0", 5));
  world.fails("h1", 4);
  world.detector.set_hosts({"h0", "h1", "new"});
  CHECK(world.detector.ejected_count() == 1);
  world.rules.ejection_percent_max = 100;
  CHECK(world.fails("h1", 1));
  world.detector.set_hosts({"h1", "new"});
  CHECK(world.detector.ejected_count() == 1);
  world.detector.set_hosts({"h0", "h1"});
  CHECK_FALSE(world.detector.ejected("h0"));
  CHECK(world.status("gone", 500).empty());
}

TEST_CASE("when the rules go, everybody comes back", "[2.3.4]") {
  World world;
  world.fails("h0", 5);
  auto changes = world.detector.clear();
  REQUIRE(changes.size() == 1);
  CHECK_FALSE(changes[0].ejected);
  CHECK(world.detector.ejected_count() == 0);
}

TEST_CASE("gRPC statuses as HTTP", "[2.3.4]") {
  CHECK(http_status_of_grpc(0) == 200);
  CHECK(http_status_of_grpc(14) == 503);
  CHECK(http_status_of_grpc(4) == 504);
  CHECK(http_status_of_grpc(13) == 500);
  CHECK(http_status_of_grpc(5) == 404);
  CHECK(http_status_of_grpc(99) == 500);
}
