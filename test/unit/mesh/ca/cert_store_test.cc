// SPDX-License-Identifier: Apache-2.0
// CertStore: who waits, who goes first, when a certificate is renewed and how long an old one serves.
#include "mesh/ca/cert_store.h"

#include <catch2/catch.hpp>
#include <deque>

#include "mesh/ca/ca_client.h"
#include "net/wire/x509.h"
#include "test/support/sim_loop.h"

namespace culvert::ca {
namespace {

using base::Result;
using namespace std::chrono_literals;

model::Identity who(const std::string& account) { return {"cluster.local", "shop", account}; }

// Answers when told to, in the order it was asked.
class Ca final : public CertFetcher {
 public:
  explicit Ca(test::SimLoop& loop) : loop_(loop) {}
  async::Task<Result<wire::TlsIdentityRef>> fetch(model::Identity identity) override {
    asked.push_back(identity.service_account.str());
    ++under_way;
    most = std::max(most, under_way);
    while (held) co_await gate.wait();
    co_await async::sleep_for(loop_, 1ms);
    --under_way;
    if (failure) co_return base::fail(*failure);
    co_return issue(identity);
  }
  void release() {
    held = false;
    gate.pulse();
  }
  Result<wire::TlsIdentityRef> issue(const model::Identity& identity) {
    auto key = *wire::PrivateKey::generate_p256();
    wire::LeafSpec leaf;
    leaf.public_key_der = *wire::public_key_der(key);
    leaf.uri_sans = {identity.to_string()};
    leaf.not_before = loop_.wall_now();
    leaf.not_after = loop_.wall_now() + lifetime;
    return wire::TlsIdentity::from_pem(*signer_.sign(leaf), key.to_pem(), signer_.certificate().pem);
  }

  std::vector<std::string> asked;
  size_t under_way = 0, most = 0;
  bool held = false;
  std::optional<base::Error> failure;
  base::Duration lifetime = 1h;

 private:
  test::SimLoop& loop_;
  async::Event gate{loop_};
  wire::CertSigner signer_ = *wire::CertSigner::self_signed(*wire::PrivateKey::generate_p256(), "td",
                                                            loop_.wall_now(), loop_.wall_now() + 10000h);
};

struct World {
  test::SimLoop loop;
  base::NullLog log;
  Ca ca{loop};
  CertStore store{loop, log, base::Rng(1), ca};
  Result<wire::TlsIdentityRef> get(const std::string& account) { return loop.run(store.get(who(account))); }
  const CertStore::Row& row(const std::string& account) {
    rows = store.rows();
    for (const CertStore::Row& row : rows) {
      if (row.identity == who(account)) return row;
    }
    FAIL("no row for " << account);
    return rows.front();
  }
  std::vector<CertStore::Row> rows;
};

}  // namespace

TEST_CASE("many wait for one certificate, and it is fetched once", "[C1][apis24]") {
  World world;
  world.ca.held = true;
  std::vector<async::Task<Result<wire::TlsIdentityRef>>> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(world.store.get(who("web")));
    waiting.back().start(std::noop_coroutine());
  }
  world.loop.run_ready();
  world.ca.release();
  world.loop.run_for(1s);
  for (auto& task : waiting) {
    REQUIRE(task.done());
    CHECK(task.take_result().has_value());
  }
  CHECK(world.ca.asked == std::vector<std::string>{"web"});
  CHECK(world.get("web").has_value());
  CHECK(world.ca.asked.size() == 1);
}

TEST_CASE("a waiting connection goes before a warm-up, and a bounded number is under way", "[C1][apis24]") {
  World world;
  world.ca.held = true;
  for (size_t i = 0; i < CertStore::kFetchesMax; ++i) world.store.warm(who("busy" + std::to_string(i)));
  world.store.warm(who("warm1"));
  world.store.warm(who("warm2"));
  auto urgent = world.store.get(who("urgent"));
  urgent.start(std::noop_coroutine());
  // Somebody needs now what was only warmed before.
  auto raised = world.store.get(who("warm2"));
  raised.start(std::noop_coroutine());
  world.loop.run_ready();
  CHECK(world.ca.asked.size() == CertStore::kFetchesMax);
  world.ca.release();
  world.loop.run_for(1s);
  CHECK(world.ca.most == CertStore::kFetchesMax);
  std::vector<std::string> after(world.ca.asked.begin() + CertStore::kFetchesMax, world.ca.asked.end());
  CHECK(after == std::vector<std::string>{"warm2", "urgent", "warm1"});
}

TEST_CASE("a certificate is renewed at half its life, and the old one serves until then", "[C1][apis24]") {
  World world;
  wire::TlsIdentityRef first = *world.get("web");
  world.loop.run_for(29min);
  CHECK(*world.get("web") == first);
  world.loop.run_for(2min);
  wire::TlsIdentityRef second = *world.get("web");
  CHECK(second != first);
  CHECK(world.ca.asked.size() == 2);
}

TEST_CASE("a valid certificate is kept while renewals fail; an expired one is not", "[C1][apis24]") {
  World world;
  wire::TlsIdentityRef first = *world.get("web");
  world.ca.failure = base::Error(base::Code::kUnavailable, "the CA is away");
  world.loop.run_for(50min);
  CHECK(*world.get("web") == first);
  size_t tries = world.ca.asked.size();
  CHECK(tries > 3);  // it went on asking
  world.loop.run_for(15min);
  auto refused = world.get("web");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message().find("the CA is away") != std::string::npos);
  CHECK(world.row("web").error.has_value());
  world.ca.failure.reset();
  world.loop.run_for(5min);
  CHECK(world.get("web").has_value());
  CHECK_FALSE(world.row("web").error.has_value());
}

TEST_CASE("after a first failure everybody learns at once, until a retry succeeds", "[C1][apis24]") {
  World world;
  world.ca.failure = base::Error(base::Code::kDenied, "no");
  CHECK_FALSE(world.get("web").has_value());
  base::TimePoint before = world.loop.now();
  CHECK_FALSE(world.get("web").has_value());
  CHECK(world.loop.now() == before);
  CHECK(world.ca.asked.size() == 1);
  world.ca.failure.reset();
  world.loop.run_for(2s);  // the first retry, 1 s with jitter
  CHECK(world.get("web").has_value());
}

TEST_CASE("forgetting ends the waiting and the renewals", "[C1][apis24]") {
  World world;
  world.ca.held = true;
  auto waiting = world.store.get(who("web"));
  waiting.start(std::noop_coroutine());
  world.loop.run_ready();
  world.store.forget(who("web"));
  world.loop.run_ready();
  REQUIRE(waiting.done());
  CHECK(waiting.take_result().error().code() == base::Code::kCancelled);
  world.ca.release();
  world.loop.run_for(1s);
  CHECK(world.store.rows().empty());
  CHECK(world.get("api").has_value());
  world.store.forget(who("api"));
  size_t asked = world.ca.asked.size();
  world.loop.run_for(3h);
  CHECK(world.ca.asked.size() == asked);
}

TEST_CASE("when the next try is due", "[C1][apis24]") {
  wire::CertInfo leaf;
  base::WallTime now{1000h};
  auto wait = [&](base::Duration from, base::Duration to) {
    leaf.not_before = now + from;
    leaf.not_after = now + to;
    return CertSchedule::renew_at(leaf, now) - now;
  };
  CHECK(wait(0h, 24h) == 12h);
  CHECK(wait(-12h, 12h) == 3h);     // half is now: a quarter of what is left
  CHECK(wait(-2min, 1min) == 15s);  // dated back further than it lasts
  CHECK(wait(1h, 0h) == 0h);        // nonsense
  CertSchedule schedule;
  base::Rng rng(3);
  base::Duration bound = 1s;
  for (int i = 0; i < 12; ++i) {
    base::Duration pause = schedule.after_failure(rng);
    CHECK(pause >= bound * 8 / 10);
    CHECK(pause <= std::min<base::Duration>(bound * 12 / 10, CertSchedule::kBackoffMax));
    bound = std::min<base::Duration>(bound * 2, CertSchedule::kBackoffMax);
  }
  schedule.succeeded();
  CHECK(schedule.after_failure(rng) <= 1200ms);
}

TEST_CASE("a CA's answer: leaf, intermediates, roots", "[C2][P14][apis23]") {
  test::SimLoop loop;
  base::WallTime from = loop.wall_now() - 1h, to = loop.wall_now() + 100h;
  auto root = *wire::CertSigner::self_signed(*wire::PrivateKey::generate_p256(), "one", from, to);
  auto other = *wire::CertSigner::self_signed(*wire::PrivateKey::generate_p256(), "two", from, to);
  auto key = *wire::PrivateKey::generate_p256();
  wire::LeafSpec spec;
  spec.public_key_der = *wire::public_key_der(key);
  spec.uri_sans = {who("web").to_string()};
  spec.not_before = from;
  spec.not_after = to;
  std::string leaf = *root.sign(spec);
  std::string roots = root.certificate().pem + other.certificate().pem;
  auto identity = identity_from_chain({leaf, roots}, key.to_pem());
  REQUIRE(identity.has_value());
  CHECK((*identity)->chain().size() == 1);
  CHECK((*identity)->roots().size() == 2);
  auto with_intermediate =
      identity_from_chain({leaf, other.certificate().pem, root.certificate().pem}, key.to_pem());
  REQUIRE(with_intermediate.has_value());
  CHECK((*with_intermediate)->chain().size() == 2);
  CHECK((*with_intermediate)->roots().size() == 1);
  CHECK(identity_from_chain({}, key.to_pem()).error().code() == base::Code::kProtocol);
  CHECK(identity_from_chain({leaf}, key.to_pem()).error().code() == base::Code::kProtocol);
  CHECK_FALSE(identity_from_chain({leaf, "nonsense"}, key.to_pem()).has_value());
  auto stranger = *wire::PrivateKey::generate_p256();
  CHECK_FALSE(identity_from_chain({leaf, roots}, stranger.to_pem()).has_value());
}

TEST_CASE("a request names its identity once and nobody by CN", "[C3][apis23]") {
  auto key = *wire::PrivateKey::generate_p256();
  auto csr = wire::make_csr(key, "spiffe://td/ns/a/sa/b");
  REQUIRE(csr.has_value());
  auto parsed = wire::parse_csr(*csr);
  REQUIRE(parsed.has_value());
  CHECK(parsed->common_name.empty());
  CHECK(parsed->uri_sans == std::vector<std::string>{"spiffe://td/ns/a/sa/b"});
  CHECK(parsed->public_key_der == *wire::public_key_der(key));
}

}  // namespace culvert::ca
