// SPDX-License-Identifier: Apache-2.0
// Section 2.3.2 of spec waypoint.
#include "mesh/decide/balance.h"

#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <set>

#include "mesh/decide/balance_hash.h"
#include "test/unit/mesh/decide/http_facts.h"

using namespace culvert;
using namespace culvert::decide;
using Kind = model::Balancer::Kind;
using std::chrono::seconds;

namespace {

// Hosts with what is shared about them.
struct Cluster {
  model::Balancer policy;
  uint32_t health_percent_min = 0;
  std::deque<model::Workload> workloads;
  std::deque<std::atomic<uint32_t>> active;
  std::deque<std::atomic<bool>> ejected;
  std::vector<BalanceHost> hosts;
  model::Workload self;
  uint64_t ejections = 0;
  std::optional<HostPicker> picker;

  explicit Cluster(Kind kind, int count = 0) {
    policy.kind = kind;
    for (int i = 0; i < count; ++i) add();
  }
  size_t add(uint32_t weight = 1, std::string_view locality = "") {
    model::Workload& workload = workloads.emplace_back();
    workload.locality = parse(locality);
    BalanceHost host;
    host.key = "host-" + std::to_string(hosts.size());
    host.weight = weight;
    host.workload = &workload;
    host.active = &active.emplace_back(0);
    host.ejected = &ejected.emplace_back(false);
    hosts.push_back(host);
    return hosts.size() - 1;
  }
  static model::Locality parse(std::string_view text) {
    model::Locality out;
    size_t slash = text.find('/');
    out.region = text.substr(0, slash);
    if (slash == text.npos) return out;
    text.remove_prefix(slash + 1);
    slash = text.find('/');
    out.zone = text.substr(0, slash);
    if (slash != text.npos) out.subzone = text.substr(slash + 1);
    return out;
  }
  void eject(size_t host, bool out = true) {
    ejected[host] = out;
    ++ejections;
  }
  void build(uint64_t seed = 1) {
    picker.emplace(policy, health_percent_min, hosts, BalanceOrigin{&self, nullptr}, base::Rng(seed));
  }
  std::optional<size_t> pick(PickInput input = {}) {
    if (!picker) build();
    input.ejections = ejections;
    return picker->pick(input);
  }
  std::map<size_t, int> spread(int count, PickInput input = {}) {
    std::map<size_t, int> out;
    for (int i = 0; i < count; ++i) {
      std::optional<size_t> host = pick(input);
      if (host) ++out[*host];
    }
    return out;
  }
};

const Kind kKinds[] = {Kind::kLeastRequest, Kind::kRoundRobin, Kind::kRandom,
                       Kind::kPassthrough,  Kind::kRingHash,   Kind::kMaglev};

}  // namespace

TEST_CASE("every balancer: nobody, one, only who is in service", "[2.3.2]") {
  Kind kind = GENERATE(from_range(std::begin(kKinds), std::end(kKinds)));
  CAPTURE(int(kind));
  CHECK_FALSE(Cluster(kind).pick());
  CHECK(Cluster(kind, 1).pick() == 0u);
  Cluster cluster(kind, 5);
  cluster.eject(1);
  cluster.eject(3);
  for (uint64_t hash = 0; hash < 300; ++hash) {
    PickInput input;
    input.hash = hash * 0x9e3779b97f4a7c15ULL;
    size_t host = *cluster.pick(input);
    CHECK((host != 1 && host != 3));
    CHECK(cluster.pick().has_value());
  }
  for (size_t i = 0; i < 5; ++i) cluster.eject(i);
  CHECK_FALSE(cluster.pick());
  PickInput hashed;
  hashed.hash = 7;
  CHECK_FALSE(cluster.pick(hashed));
  cluster.eject(2, false);
  CHECK(cluster.pick(hashed) == 2u);
  // A host of weight 0 is never chosen.
  Cluster weights(kind);
  weights.add(0);
  weights.add(1);
  for (int i = 0; i < 50; ++i) CHECK(weights.pick() == 1u);
}

TEST_CASE("round robin: equal turns, exact by weight, a different start for each seed", "[2.3.2]") {
  Cluster cluster(Kind::kRoundRobin, 3);
  auto spread = cluster.spread(300);
  CHECK(spread == std::map<size_t, int>{{0, 100}, {1, 100}, {2, 100}});

  Cluster weighted(Kind::kRoundRobin);
  weighted.add(1);
  weighted.add(2);
  weighted.add(5);
  spread = weighted.spread(800);
  CHECK(spread[0] == Approx(100).margin(1));
  CHECK(spread[1] == Approx(200).margin(1));
  CHECK(spread[2] == Approx(500).margin(1));

  std::set<size_t> starts;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    cluster.build(seed);
    starts.insert(*cluster.pick());
  }
  CHECK(starts.size() == 3);
}

TEST_CASE("round robin shares what an ejected host leaves", "[2.3.2]") {
  Cluster cluster(Kind::kRoundRobin, 3);
  cluster.spread(30);
  cluster.eject(1);
  auto spread = cluster.spread(300);
  CHECK(spread == std::map<size_t, int>{{0, 150}, {2, 150}});
  cluster.eject(1, false);
  CHECK(cluster.spread(300)[1] == Approx(100).margin(1));
}

TEST_CASE("least request: the less busy of two", "[2.3.2]") {
  Cluster cluster(Kind::kLeastRequest, 4);
  cluster.active[2] = 10;
  auto spread = cluster.spread(4000);
  CHECK(spread.count(2) == 0);
  CHECK(spread[0] == Approx(1333).margin(200));
  // Everyone is as busy as the other in the end.
  Cluster even(Kind::kLeastRequest, 4);
  for (int i = 0; i < 4000; ++i) ++even.active[*even.pick()];
  for (const auto& active : even.active) CHECK(active.load() == Approx(1000).margin(10));
}

TEST_CASE("least request with weights: weight / (active + 1)", "[2.3.2]") {
  Cluster cluster(Kind::kLeastRequest);
  cluster.add(1);
  cluster.add(3);
  auto idle = cluster.spread(4000);
  CHECK(idle[1] == Approx(3000).margin(5));
  cluster.active[1] = 2;
  auto busy = cluster.spread(4000);
  CHECK(busy[1] == Approx(2000).margin(10));
}

TEST_CASE("random is uniform", "[2.3.2]") {
  Cluster cluster(Kind::kRandom);
  cluster.add(1);
  cluster.add(9);
  auto spread = cluster.spread(10000);
  CHECK(spread[0] == Approx(5000).margin(250));
}

TEST_CASE("warm-up: a new host's weight grows", "[2.3.2]") {
  auto kind = GENERATE(Kind::kRoundRobin, Kind::kLeastRequest);
  Cluster cluster(kind, 2);
  cluster.policy.warmup = seconds(100);
  base::TimePoint start{seconds(1000)};
  cluster.hosts[0].since = start - seconds(1000);
  cluster.hosts[1].since = start;
  struct Row {
    double aggression, minimum;
    int age;
    double weight;
  };
  auto row = GENERATE(Row{1, 10, 0, 0.1}, Row{1, 10, 5, 0.1}, Row{1, 10, 50, 0.5}, Row{1, 10, 100, 1},
                      Row{2, 10, 25, 0.5}, Row{1, 50, 20, 0.5});
  cluster.policy.warmup_aggression = row.aggression;
  cluster.policy.warmup_percent_min = row.minimum;
  PickInput input;
  input.now = start + seconds(row.age);
  double share = cluster.spread(10000, input)[1] / 10000.0;
  CAPTURE(int(kind), row.age, row.aggression);
  CHECK(share == Approx(row.weight / (1 + row.weight)).margin(0.02));
}

TEST_CASE("random knows no warm-up", "[2.3.2]") {
  Cluster cluster(Kind::kRandom, 2);
  cluster.policy.warmup = seconds(100);
  cluster.hosts[1].since = base::TimePoint{seconds(10)};
  PickInput input;
  input.now = base::TimePoint{seconds(10)};
  CHECK(cluster.spread(10000, input)[1] == Approx(5000).margin(250));
}

TEST_CASE("hash balancers: one host for one hash, spread by weight", "[2.3.2]") {
  Kind kind = GENERATE(Kind::kRingHash, Kind::kMaglev);
  CAPTURE(int(kind));
  Cluster cluster(kind, 3);
  cluster.add(3);
  std::map<size_t, int> spread;
  base::Rng hashes(5);
  for (int i = 0; i < 20000; ++i) {
    PickInput input;
    input.hash = hashes.next();
    size_t host = *cluster.pick(input);
    CHECK(cluster.pick(input) == host);
    ++spread[host];
  }
  double tolerance = kind == Kind::kMaglev ? 400 : 1200;
  for (size_t i = 0; i < 3; ++i) CHECK(spread[i] == Approx(20000 / 6).margin(tolerance));
  CHECK(spread[3] == Approx(10000).margin(2 * tolerance));
  // Without a hash: random.
  CHECK(cluster.spread(200).size() == 4);
}

TEST_CASE("hash balancers: hosts that go or are ejected move only their own", "[2.3.2]") {
  Kind kind = GENERATE(Kind::kRingHash, Kind::kMaglev);
  CAPTURE(int(kind));
  Cluster before(kind, 10);
  Cluster fewer(kind, 9);
  Cluster ejected(kind, 10);
  ejected.eject(9);
  base::Rng hashes(5);
  int moved = 0, total = 0;
  std::set<size_t> heirs;
  for (int i = 0; i < 5000; ++i) {
    PickInput input;
    input.hash = hashes.next();
    size_t host = *before.pick(input);
    if (host == 9) {
      heirs.insert(*ejected.pick(input));
      continue;
    }
    ++total;
    moved += fewer.pick(input) != host;
    CHECK(ejected.pick(input) == host);
  }
  // A ring moves nobody else; Maglev very few.
  CHECK(moved <= (kind == Kind::kMaglev ? total / 10 : 0));
  CHECK(heirs.size() > 3);
}

TEST_CASE("every replica builds the same table", "[2.3.2]") {
  Kind kind = GENERATE(Kind::kRingHash, Kind::kMaglev);
  Cluster one(kind, 6), other(kind, 6);
  std::reverse(other.hosts.begin(), other.hosts.end());
  one.build(1);
  other.build(2);
  base::Rng hashes(5);
  for (int i = 0; i < 500; ++i) {
    PickInput input;
    input.hash = hashes.next();
    CHECK(one.hosts[*one.pick(input)].key == other.hosts[*other.pick(input)].key);
  }
}

TEST_CASE("table sizes", "[2.3.2]") {
  std::vector<HashTable::Entry> entries = {{"a", 0, 1}, {"b", 1, 1}, {"c", 2, 2}};
  CHECK(HashTable::ring(entries, 0, 1 << 20).places().size() >= 1024);
  CHECK(HashTable::ring(entries, 0, 1 << 20).places().size() < 1100);
  CHECK(HashTable::ring(entries, 5000, 1 << 20).places().size() >= 5000);
  CHECK(HashTable::ring(entries, 5000, 100).places().size() <= 5002);
  CHECK(HashTable::maglev(entries, 0).places().size() == 65537);
  CHECK(HashTable::maglev(entries, 100).places().size() == 101);
  CHECK(HashTable::maglev(entries, 1).places().size() == 2);
  CHECK(HashTable::ring({}, 0, 100).find(1, [](size_t) { return true; }) == std::nullopt);
  CHECK(HashTable::maglev({}, 0).find(1, [](size_t) { return true; }) == std::nullopt);
  auto maglev = HashTable::maglev(entries, 65537);
  std::map<uint32_t, int> count;
  for (uint32_t host : maglev.places()) ++count[host];
  CHECK(count[0] == Approx(16384).margin(2));
  CHECK(count[2] == Approx(32768).margin(2));
  // One host a million times lighter than another neither fills memory nor is left out.
  auto ring = HashTable::ring({{"a", 0, 1}, {"b", 1, 1e6}}, 1024, 1 << 16);
  CHECK(ring.places().size() <= (1 << 16) + 1);
  CHECK(std::count(ring.places().begin(), ring.places().end(), 0u) == 1);
}

TEST_CASE("tried hosts are avoided while there are others", "[2.1.5]") {
  Kind kind = GENERATE(from_range(std::begin(kKinds), std::end(kKinds)));
  CAPTURE(int(kind));
  Cluster cluster(kind, 3);
  std::vector<size_t> tried = {0, 1};
  PickInput input;
  input.tried = tried;
  input.hash = 99;
  // Five tries of a random choice leave (2/3)^5 = 13 % with a tried host.
  int avoided = 0;
  for (int i = 0; i < 1000; ++i) avoided += cluster.pick(input) == 2u;
  CHECK(avoided > 800);
  tried = {0, 1, 2};
  input.tried = tried;
  CHECK(cluster.pick(input).has_value());
}

TEST_CASE("locality failover: levels by distance", "[2.3.2]") {
  Cluster cluster(Kind::kRandom);
  cluster.self.locality = Cluster::parse("us/a/1");
  for (const char* locality : {"us/a/1", "us/a/2", "us/b/1", "eu/a/1", "asia/a/1"}) cluster.add(1, locality);
  cluster.build();
  auto levels = [&] {
    return std::vector<uint32_t>(cluster.picker->levels().begin(), cluster.picker->levels().end());
  };
  // Only if outlier detection or a traffic distribution asks.
  CHECK(levels() == std::vector<uint32_t>{0, 0, 0, 0, 0});
  cluster.policy.locality.effective = true;
  cluster.build();
  CHECK(levels() == std::vector<uint32_t>{0, 1, 2, 3, 3});
  cluster.policy.locality.failover = {{"us", "asia"}, {"eu", "us"}};
  cluster.build();
  CHECK(levels() == std::vector<uint32_t>{0, 1, 2, 4, 3});
  cluster.policy.locality.enabled = false;
  cluster.build();
  CHECK(levels() == std::vector<uint32_t>{0, 0, 0, 0, 0});
  cluster.policy.locality.enabled = true;
  cluster.self.locality = {};
  cluster.build();
  CHECK(levels() == std::vector<uint32_t>{0, 0, 0, 0, 0});
}

TEST_CASE("levels without hosts are closed up", "[2.3.2]") {
  Cluster cluster(Kind::kRoundRobin);
  cluster.self.locality = Cluster::parse("us/a/1");
  cluster.policy.locality.effective = true;
  cluster.add(1, "eu/a/1");
  cluster.add(1, "us/b/1");
  cluster.build();
  CHECK(cluster.picker->levels()[0] == 1);
  CHECK(cluster.picker->levels()[1] == 0);
  CHECK(cluster.spread(20) == std::map<size_t, int>{{1, 20}});
}

TEST_CASE("failover by labels: as many as agree from the start on", "[2.3.2]") {
  Cluster cluster(Kind::kRandom);
  cluster.policy.locality.effective = true;
  cluster.policy.locality.failover_priority = {"topology.kubernetes.io/region", "version=v2",
                                               "kubernetes.io/hostname"};
  cluster.self.locality = Cluster::parse("us");
  cluster.self.node = "n1";
  std::vector<model::LabelMap> labels = {
      {{"version", "v2"}}, {{"version", "v2"}}, {{"version", "v1"}}, {{"version", "v2"}}};
  for (const char* locality : {"us", "us", "us", "eu"}) cluster.add(1, locality);
  for (size_t i = 0; i < 4; ++i) {
    cluster.hosts[i].labels = &labels[i];
    cluster.workloads[i].node = i == 1 ? "n2" : "n1";
  }
  cluster.build();
  CHECK(std::vector<uint32_t>(cluster.picker->levels().begin(), cluster.picker->levels().end()) ==
        std::vector<uint32_t>{0, 1, 2, 3});
}

TEST_CASE("spill: a level serves all until its healthy share x 1.4 is below the whole", "[2.3.2]") {
  Kind kind = GENERATE(Kind::kRoundRobin, Kind::kLeastRequest, Kind::kRandom);
  Cluster cluster(kind);
  cluster.self.locality = Cluster::parse("us");
  cluster.policy.locality.effective = true;
  for (int i = 0; i < 10; ++i) cluster.add(1, "us");
  for (int i = 0; i < 10; ++i) cluster.add(1, "eu");
  auto local = [&] {
    int count = 0;
    for (auto [host, times] : cluster.spread(10000)) count += host < 10 ? times : 0;
    return count / 10000.0;
  };
  CHECK(local() == 1.0);
  cluster.eject(0);
  cluster.eject(1);
  CHECK(local() == 1.0);  // 0.8 x 1.4 > 1
  for (size_t i = 2; i < 5; ++i) cluster.eject(i);
  CHECK(local() == Approx(0.7).margin(0.03));  // 0.5 x 1.4
  for (size_t i = 5; i < 10; ++i) cluster.eject(i);
  CHECK(local() == 0.0);
  // Both together have too little: 0.1 x 1.4 and 0.3 x 1.4 share the whole.
  cluster.eject(0, false);
  for (size_t i = 13; i < 20; ++i) cluster.eject(i);
  CHECK(local() == Approx(0.25).margin(0.03));
}

TEST_CASE("retries may leave the levels they failed in", "[2.1.5]") {
  Cluster cluster(Kind::kRandom);
  cluster.self.locality = Cluster::parse("us");
  cluster.policy.locality.effective = true;
  cluster.add(1, "us");
  cluster.add(1, "us");
  cluster.add(1, "eu");
  std::vector<size_t> tried = {0};
  PickInput input;
  input.tried = tried;
  CHECK(cluster.spread(200, input).count(2) == 0);
  input.other_levels = true;
  CHECK(cluster.spread(100, input) == std::map<size_t, int>{{2, 100}});
  cluster.eject(2);
  CHECK(cluster.pick(input).has_value());
}

TEST_CASE("distribution: by the client's locality, in percent", "[2.3.2]") {
  Kind kind = GENERATE(Kind::kRandom, Kind::kRoundRobin, Kind::kRingHash);
  CAPTURE(int(kind));
  Cluster cluster(kind);
  cluster.self.locality = Cluster::parse("us/a/1");
  cluster.policy.locality.distribute = {{"eu/*", {{"eu", 100}}},
                                        {"us/a/*", {{"us/a/*", 70}, {"us/b", 30}, {"asia", 0}}}};
  for (const char* locality : {"us/a/1", "us/a/2", "us/b/1", "eu/a/1", "asia/a"}) cluster.add(1, locality);
  auto share = [&](std::set<size_t> wanted) {
    int count = 0;
    base::Rng hashes(3);
    for (int i = 0; i < 10000; ++i) {
      PickInput input;
      input.hash = hashes.next();
      count += static_cast<int>(wanted.count(*cluster.pick(input)));
    }
    return count / 10000.0;
  };
  CHECK(share({0, 1}) == Approx(0.7).margin(0.05));
  CHECK(share({2}) == Approx(0.3).margin(0.05));
  CHECK(share({3, 4}) == 0);
  cluster.eject(2);
  CHECK(share({0, 1}) == 1);
  // Nobody of its locality is mentioned: everywhere.
  cluster.self.locality = Cluster::parse("sa");
  cluster.build();
  CHECK(share({3, 4}) > 0.2);
}

TEST_CASE("panic: below the least healthy share all hosts serve", "[2.3.4]") {
  Kind kind = GENERATE(from_range(std::begin(kKinds), std::end(kKinds)));
  CAPTURE(int(kind));
  Cluster cluster(kind, 4);
  cluster.health_percent_min = 50;
  cluster.eject(0);
  cluster.eject(1);
  CHECK(cluster.spread(400).size() == 2);
  cluster.eject(2);
  CHECK(cluster.spread(400).size() == 4);
  cluster.eject(3);
  CHECK(cluster.spread(400).size() == 4);
  cluster.eject(3, false);
  cluster.eject(2, false);
  CHECK(cluster.spread(400).size() == 2);
}

TEST_CASE("locality patterns", "[2.3.2]") {
  model::Locality locality = Cluster::parse("us/a/1");
  for (const char* yes : {"us", "us/*", "us/a", "us/a/*", "us/a/1", "*", "us/*/1"}) {
    CAPTURE(yes);
    CHECK(locality_matches(yes, locality));
  }
  for (const char* no : {"eu", "us/b", "us/b/*", "us/a/2", "u", "us/a/1/x"}) {
    CAPTURE(no);
    CHECK_FALSE(locality_matches(no, locality));
  }
  CHECK(locality_text(locality) == "us/a/1");
  CHECK(locality_text(Cluster::parse("us")) == "us");
  CHECK(locality_text({}) == "");
}

TEST_CASE("what is hashed", "[2.3.2]") {
  using HashKind = model::HashPolicy::Kind;
  Request one, other;
  one.with("x-user", "alice").with("cookie", "sid=abc");
  one.query = "u=7";
  other.source = "10.0.0.2";
  auto hash = [](HashKind kind, std::string name, const Request& request) {
    return hash_of({kind, std::move(name), {}, {}, {}}, request.facts());
  };
  CHECK(hash(HashKind::kSourceIp, "", one).has_value());
  CHECK(hash(HashKind::kSourceIp, "", one) != hash(HashKind::kSourceIp, "", other));
  CHECK(hash(HashKind::kHeader, "x-user", one).has_value());
  CHECK_FALSE(hash(HashKind::kHeader, "x-user", other));
  CHECK(hash(HashKind::kQuery, "u", one).has_value());
  CHECK_FALSE(hash(HashKind::kQuery, "u", other));
  CHECK(hash(HashKind::kCookie, "sid", one).has_value());
  CHECK_FALSE(hash(HashKind::kCookie, "sid", other));
}

TEST_CASE("cookies are made only with a lifetime", "[2.3.2]") {
  model::HashPolicy policy;
  policy.kind = model::HashPolicy::Kind::kCookie;
  policy.name = "sid";
  Request request;
  bool missing = false;
  CHECK_FALSE(hash_of(policy, request.facts(), &missing));
  CHECK_FALSE(missing);
  policy.ttl = base::Duration{0};
  CHECK_FALSE(hash_of(policy, request.facts(), &missing));
  CHECK(missing);
  base::Rng rng(4);
  HashCookie session = make_hash_cookie(policy, rng);
  std::string value = session.set_cookie.substr(4, 32);
  CHECK(session.set_cookie == "sid=" + value + "; HttpOnly");
  // What comes back leads to the same host.
  request.with("cookie", "sid=" + value);
  CHECK(hash_of(policy, request.facts()) == session.hash);
  policy.ttl = std::chrono::milliseconds(1500);
  policy.path = "/shop";
  policy.attributes = {{"SameSite", "Strict"}, {"Secure", ""}};
  CHECK_THAT(make_hash_cookie(policy, rng).set_cookie,
             Catch::Matchers::EndsWith("; Max-Age=2; Path=/shop; HttpOnly; SameSite=Strict; Secure"));
  CHECK(make_hash_cookie(policy, rng).set_cookie != make_hash_cookie(policy, rng).set_cookie);
}
