// SPDX-License-Identifier: Apache-2.0
// Live connections under changing policies (spec ztunnel section 6, A6), and the certificate copies of a
// data loop.
#include <catch2/catch.hpp>

#include "mesh/ca/cert_cache.h"
#include "mesh/model/store.h"
#include "net/wire/x509.h"
#include "test/support/sim_loop.h"
#include "ztunnel/live_connections.h"

using namespace culvert;
using namespace culvert::ztunnel;

namespace {

model::Policy deny_account(const char* name, model::PolicyScope scope) {
  model::PolicyMatch match;
  match.service_accounts.push_back({"d", "web"});
  model::Policy policy;
  policy.ns = "d";
  policy.name = name;
  policy.scope = scope;
  policy.action = model::PolicyAction::kDeny;
  policy.rules.push_back({{model::PolicyClause{{match}}}});
  return policy;
}

model::Workload server() {
  model::Workload workload;
  workload.uid = "c//Pod/d/api";
  workload.name = "api";
  workload.ns = "d";
  workload.service_account = "api";
  workload.trust_domain = "td";
  workload.addresses = {base::IpAddr::v4(10, 0, 0, 2)};
  return workload;
}

decide::ConnectionFacts facts(const char* account) {
  return {base::IpAddr::v4(10, 0, 0, 1),
          model::Identity{"td", "d", account},
          {base::IpAddr::v4(10, 0, 0, 2), 80}};
}

struct World {
  test::SimLoop loop;
  model::MeshStore store{""};
  LiveConnections live;
  model::WorkloadRef present() { return store.view()->local_workload("d", "api", "api"); }
  size_t apply(model::MeshUpdate update) {
    store.apply(std::move(update));
    return live.recheck(*store.view(), present());
  }
};

}  // namespace

TEST_CASE("a new policy stops what it forbids and nothing else", "[A6]") {
  World world;
  world.apply({.workloads = {server()}});
  async::StopSignal web(world.loop), other(world.loop);
  LiveConnections::Entry first(world.live, web, facts("web"), world.present());
  LiveConnections::Entry second(world.live, other, facts("other"), world.present());
  CHECK(world.apply({.policies = {deny_account("p", model::PolicyScope::kNamespace)}}) == 1);
  REQUIRE(web.stopped());
  CHECK(web.why().code() == base::Code::kDenied);
  CHECK(web.why().message().find("policy change") != std::string::npos);
  CHECK_FALSE(other.stopped());
}

TEST_CASE("a changed policy list of the workload counts, unlike upstream", "[A6]") {
  World world;
  world.apply(
      {.workloads = {server()}, .policies = {deny_account("p", model::PolicyScope::kWorkloadSelector)}});
  async::StopSignal web(world.loop);
  LiveConnections::Entry entry(world.live, web, facts("web"), world.present());
  CHECK(world.apply({}) == 0);
  model::Workload changed = server();
  changed.authorization_policies = {"d/p"};
  CHECK(world.apply({.workloads = {changed}}) == 1);
  CHECK(web.stopped());
}

TEST_CASE("a policy that is named before it comes is waited for; then it decides", "[A6]") {
  World world;
  world.apply({.workloads = {server()}});
  async::StopSignal web(world.loop);
  LiveConnections::Entry entry(world.live, web, facts("web"), world.present());
  model::Workload changed = server();
  changed.authorization_policies = {"d/p"};
  CHECK(world.apply({.workloads = {changed}}) == 0);
  CHECK_FALSE(web.stopped());
  CHECK(world.apply({.policies = {deny_account("p", model::PolicyScope::kWorkloadSelector)}}) == 1);
}

TEST_CASE("a vanished workload is judged as it was", "[A6]") {
  World world;
  world.apply({.workloads = {server()}});
  async::StopSignal web(world.loop);
  {
    LiveConnections::Entry entry(world.live, web, facts("web"), world.present());
    CHECK(world.apply({.removed_addresses = {"c//Pod/d/api"}}) == 0);
    CHECK(world.apply({.policies = {deny_account("p", model::PolicyScope::kNamespace)}}) == 1);
  }
  CHECK(world.live.size() == 0);
}

namespace {

struct Ca {
  test::SimLoop& loop;
  wire::CertSigner signer = *wire::CertSigner::self_signed(
      *wire::PrivateKey::generate_p256(), "td", loop.wall_now(), loop.wall_now() + std::chrono::hours(1000));
  int asked = 0;
  std::optional<base::Error> failure;
  bool silent = false;
  base::Duration lifetime = std::chrono::seconds(60);

  base::Result<wire::TlsIdentityRef> issue(const model::Identity& identity) {
    auto key = *wire::PrivateKey::generate_p256();
    wire::LeafSpec leaf;
    leaf.public_key_der = *wire::public_key_der(key);
    leaf.uri_sans = {identity.to_string()};
    leaf.not_before = loop.wall_now();
    leaf.not_after = loop.wall_now() + lifetime;
    return wire::TlsIdentity::from_pem(*signer.sign(leaf), key.to_pem(), signer.certificate().pem);
  }
  ca::CertRequest request() {
    return [this](const model::Identity& identity, ca::CertAnswer answer) {
      ++asked;
      if (silent) return;
      base::Result<wire::TlsIdentityRef> issued = failure ? base::fail(*failure) : issue(identity);
      loop.post([answer = std::move(answer), issued] { answer(issued); });
    };
  }
};

async::Task<base::Result<wire::TlsIdentityRef>> get(ca::CertCache& cache, test::SimLoop& loop) {
  async::Deadline deadline = async::Deadline::in(loop, std::chrono::seconds(10));
  return cache.get(model::Identity{"td", "d", "web"}, deadline);
}

}  // namespace

TEST_CASE("a certificate is asked for once, again after half its life, and used while it is valid") {
  test::SimLoop loop;
  Ca ca{loop};
  ca::CertCache cache(loop, ca.request());
  auto first = loop.run(get(cache, loop));
  REQUIRE(first);
  CHECK(*loop.run(get(cache, loop)) == *first);
  CHECK(ca.asked == 1);
  loop.run_for(std::chrono::seconds(31));
  ca.failure = base::Error(base::Code::kUnavailable, "CA is away");
  CHECK(*loop.run(get(cache, loop)) == *first);
  CHECK(*loop.run(get(cache, loop)) == *first);
  CHECK(ca.asked == 2);
  loop.run_for(std::chrono::seconds(2));
  ca.failure.reset();
  CHECK(*loop.run(get(cache, loop)) == *first);
  loop.run_for(std::chrono::seconds(1));
  CHECK(*loop.run(get(cache, loop)) != *first);
  CHECK(ca.asked == 3);
}

TEST_CASE("an expired certificate is never used; the reason of the CA is told") {
  test::SimLoop loop;
  Ca ca{loop};
  ca::CertCache cache(loop, ca.request());
  REQUIRE(loop.run(get(cache, loop)));
  loop.run_for(std::chrono::seconds(61));
  ca.failure = base::Error(base::Code::kUnavailable, "CA is away");
  auto refused = loop.run(get(cache, loop));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message().find("CA is away") != std::string::npos);
}

TEST_CASE("a CA that never answers costs a deadline") {
  test::SimLoop loop;
  Ca ca{loop};
  ca.silent = true;
  ca::CertCache cache(loop, ca.request());
  auto refused = loop.run(get(cache, loop));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == base::Code::kTimeout);
  loop.run(get(cache, loop));
  CHECK(ca.asked == 1);
}
