// SPDX-License-Identifier: Apache-2.0
// The CA: its files, what it signs, and for whom.
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "control/serve/cert_authority.h"
#include "proto/ca.pb.h"
#include "test/unit/control/serve/grpc_world.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;
using control::CertAuthority;
using control::StateDir;

constexpr char kMethod[] = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
constexpr base::WallTime kNow{std::chrono::seconds(1767225600)};
constexpr char kWeb[] = "spiffe://cluster.local/ns/production/sa/web";

std::string csr(std::string_view san = "spiffe://cluster.local/ns/any/sa/thing") {
  return wire::make_csr(wire::PrivateKey::generate_p256().value(), san).value();
}
wire::CertInfo first(const std::string& pem) { return wire::parse_certificates(pem).value().front(); }
mode_t mode_of(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 0777 : 0;
}
void put(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

TEST_CASE("the root is made once, kept, and private", "[CP4.1]") {
  TempDir dir;
  StateDir state = StateDir::open(dir.path() + "/state").value();
  auto made = CertAuthority::self_signed(state, "cluster.local", kNow);
  REQUIRE(made);
  auto again = CertAuthority::self_signed(state, "cluster.local", kNow + 24h);
  REQUIRE(again);
  CHECK(again->roots_pem() == made->roots_pem());
  CHECK(again->signing_certificate().is_ca);
  CHECK(mode_of(state.path("ca")) == 0700);
  CHECK(mode_of(state.path("ca/ca-key.pem")) == 0600);
  for (const auto& entry : std::filesystem::directory_iterator(state.path("ca"))) {
    CHECK(entry.path().string().find(".tmp") == std::string::npos);
  }
}

TEST_CASE("a root a user adds beside ours stays trusted", "[CP4.1]") {
  TempDir dir;
  StateDir state = StateDir::open(dir.path() + "/state").value();
  std::string ours = CertAuthority::self_signed(state, "cluster.local", kNow)->roots_pem();
  auto key = wire::PrivateKey::generate_p256().value();
  auto other = wire::CertSigner::self_signed(key, "other", kNow, kNow + 24h).value();
  REQUIRE(state.write("ca/root-cert.pem", ours + other.certificate().pem, 0644));
  auto again = CertAuthority::self_signed(state, "cluster.local", kNow);
  REQUIRE(again);
  CHECK(wire::parse_certificates(again->roots_pem())->size() == 2);
}

TEST_CASE("half a CA is an error, never a new root", "[CP4.1]") {
  TempDir dir;
  StateDir state = StateDir::open(dir.path() + "/state").value();
  REQUIRE(CertAuthority::self_signed(state, "cluster.local", kNow));
  SECTION("no key") { std::filesystem::remove(state.path("ca/ca-key.pem")); }
  SECTION("no certificate") { std::filesystem::remove(state.path("ca/ca-cert.pem")); }
  SECTION("another key") { put(state.path("ca/ca-key.pem"), wire::PrivateKey::generate_p256()->to_pem()); }
  CHECK_FALSE(CertAuthority::self_signed(state, "cluster.local", kNow));
}

TEST_CASE("a leaf carries the caller's name, the request's key and our dates", "[apis26]") {
  TempDir dir;
  auto ca = CertAuthority::self_signed(StateDir::open(dir.path()).value(), "cluster.local", kNow).value();
  auto chain = ca.issue({csr("spiffe://cluster.local/ns/evil/sa/root"), {kWeb}, 1h}, kNow);
  REQUIRE(chain);
  REQUIRE(chain->size() == 2);
  wire::CertInfo leaf = first(chain->front());
  CHECK(leaf.uri_sans == std::vector<std::string>{kWeb});
  CHECK_FALSE(leaf.is_ca);
  CHECK(leaf.not_before == kNow - 2min);
  CHECK(leaf.not_after == kNow + 1h);
  CHECK(chain->back() == ca.roots_pem());
  for (const std::string& pem : *chain) CHECK(pem.back() == '\n');
}

TEST_CASE("lifetimes: a default, a ceiling, never beyond the signer", "[apis26]") {
  TempDir dir;
  auto ca = CertAuthority::self_signed(StateDir::open(dir.path()).value(), "cluster.local", kNow).value();
  auto end_of = [&](base::Duration lifetime, base::WallTime now) {
    return first(ca.issue({csr(), {kWeb}, lifetime}, now).value().front()).not_after;
  };
  CHECK(end_of(0s, kNow) == kNow + 24h);
  CHECK(end_of(-5s, kNow) == kNow + 24h);
  CHECK(end_of(90 * 24h, kNow) == kNow + 90 * 24h);
  auto beyond = ca.issue({csr(), {kWeb}, 90 * 24h + 1s}, kNow);
  REQUIRE_FALSE(beyond);
  CHECK(beyond.error().code() == base::Code::kInvalid);
  base::WallTime last = ca.signing_certificate().not_after;
  CHECK(end_of(24h, last - 1h) == last);
  auto expired = ca.issue({csr(), {kWeb}, 1h}, last + 1s);
  REQUIRE_FALSE(expired);
  CHECK(expired.error().code() == base::Code::kInternal);
}

TEST_CASE("a broken request is the caller's fault", "[apis26]") {
  TempDir dir;
  auto ca = CertAuthority::self_signed(StateDir::open(dir.path()).value(), "cluster.local", kNow).value();
  std::string good = csr();
  std::string broken = good;
  broken[good.size() / 2] = broken[good.size() / 2] == 'A' ? 'B' : 'A';
  for (const std::string& bad :
       {std::string(), std::string("x"), broken, ca.roots_pem(), good.substr(0, good.size() / 2)}) {
    auto chain = ca.issue({bad, {kWeb}, 1h}, kNow);
    REQUIRE_FALSE(chain);
    CHECK(chain.error().code() == base::Code::kInvalid);
  }
}

TEST_CASE("plugged-in certificates: both sets of names, a partial set is an error", "[CP4.1]") {
  TempDir dir;
  auto key = wire::PrivateKey::generate_p256().value();
  auto root = wire::CertSigner::self_signed(key, "acme", kNow, kNow + 24h * 365).value();
  const std::string& pem = root.certificate().pem;
  bool tls_names = GENERATE(false, true);
  std::vector<std::pair<std::string, std::string>> files = {
      {tls_names ? "tls.crt" : "ca-cert.pem", pem},
      {tls_names ? "tls.key" : "ca-key.pem", key.to_pem()},
      {tls_names ? "ca.crt" : "root-cert.pem", pem}};
  for (const auto& [name, text] : files) put(dir.path() + "/" + name, text);
  auto ca = CertAuthority::plugged_in(dir.path());
  REQUIRE(ca);
  CHECK(ca->issue({csr(), {kWeb}, 1h}, kNow)->size() == 2);  // the root is no intermediate
  for (const auto& [name, text] : files) {
    std::filesystem::remove(dir.path() + "/" + name);
    CHECK_FALSE(CertAuthority::plugged_in(dir.path()));
    put(dir.path() + "/" + name, text);
  }
  put(dir.path() + "/" + files[1].first, wire::PrivateKey::generate_p256()->to_pem());
  CHECK_FALSE(CertAuthority::plugged_in(dir.path()));
}

TEST_CASE("the control plane's own certificate carries names and addresses", "[CP4.1]") {
  TempDir dir;
  auto ca = CertAuthority::self_signed(StateDir::open(dir.path()).value(), "cluster.local", kNow).value();
  auto identity = ca.issue_server({"istiod.istio-system.svc", "10.0.0.1", "fd00::1"}, 24h, kNow);
  REQUIRE(identity);
  CHECK((*identity)->leaf().dns_sans == std::vector<std::string>{"istiod.istio-system.svc"});
  CHECK((*identity)->leaf().ip_sans.size() == 2);
}

// The service over gRPC.
struct World : GrpcWorld {
  TempDir dir;
  CertAuthority ca =
      CertAuthority::self_signed(StateDir::open(dir.path()).value(), "cluster.local", loop.wall_now())
          .value();
  std::set<std::string> pods = {"production/web@node1", "production/api@node2"};  // "ns/sa@node"
  control::CaService service{
      loop,
      log,
      ca,
      authenticator,
      [this](const std::string& ns, const std::string& account, const std::string& node) {
        return pods.contains(ns + "/" + account + "@" + node);
      },
      {"cluster.local", {"istio-system/ztunnel"}}};
  control::CallerIdentity ztunnel{"istio-system", "ztunnel", "node1", "ztunnel-a"};

  World() { service.register_on(server); }
  ~World() { serving.reset(); }

  using Answer = std::expected<std::string, conn::GrpcStatus>;
  Answer call(conn::Metadata metadata, std::string impersonate, std::string csr_pem = csr(),
              int64_t seconds = 3600, wire::PeerInfo peer = {}) {
    istio::v1::auth::IstioCertificateRequest request;
    request.set_csr(csr_pem);
    request.set_validity_duration(seconds);
    if (!impersonate.empty()) {
      (*request.mutable_metadata()->mutable_fields())["ImpersonatedIdentity"].set_string_value(impersonate);
    }
    auto connection = connect(std::move(peer));
    return loop.run(connection->client->unary(kMethod, request.SerializeAsString(), std::move(metadata),
                                              async::Deadline::in(loop, 10s)));
  }
  // What the certificate of an answer names.
  static std::string name_in(const Answer& answer) {
    istio::v1::auth::IstioCertificateResponse response;
    if (!answer || !response.ParseFromString(*answer) || response.cert_chain().empty()) return "";
    auto sans = first(response.cert_chain(0)).uri_sans;
    return sans.size() == 1 ? sans.front() : "";
  }
};

TEST_CASE("a caller gets its own name, whatever the request says", "[apis26]") {
  World world;
  CHECK(world.name_in(world.call(world.bearer({"production", "api", "", ""}), "")) ==
        "spiffe://cluster.local/ns/production/sa/api");
  CHECK(world.service.counters().issued == 1);
}

TEST_CASE("who proves nothing gets nothing", "[apis26]") {
  World world;
  for (conn::Metadata metadata : {conn::Metadata{}, conn::Metadata{{"authorization", "Bearer x.y.z"}},
                                  conn::Metadata{{"authorization", "Basic abc"}}}) {
    auto answer = world.call(metadata, kWeb);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == conn::GrpcCode::kUnauthenticated);
  }
  CHECK(world.service.counters().unauthenticated == 3);
}

TEST_CASE("a bad token is not made good by a certificate", "[apis26]") {
  World world;
  wire::PeerInfo peer;
  peer.leaf.emplace().uri_sans = {kWeb};
  CHECK_FALSE(world.call({{"authorization", "Bearer x.y.z"}}, "", csr(), 3600, peer));
  CHECK(world.name_in(world.call({}, "", csr(), 3600, peer)) == kWeb);
}

TEST_CASE("a client certificate renews itself and speaks for nobody else", "[apis27]") {
  World world;
  wire::PeerInfo peer;
  peer.leaf.emplace().uri_sans = {"spiffe://cluster.local/ns/istio-system/sa/ztunnel"};
  CHECK(world.name_in(world.call({}, "", csr(), 3600, peer)) ==
        "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
  CHECK_FALSE(world.call({}, kWeb, csr(), 3600, peer));
  peer.leaf->uri_sans = {"spiffe://other/ns/istio-system/sa/ztunnel"};
  CHECK_FALSE(world.call({}, "", csr(), 3600, peer));
}

TEST_CASE("errors of the request and of the CA have their own codes", "[apis26]") {
  World world;
  auto bad = world.call(world.bearer(world.ztunnel), kWeb, "no CSR");
  REQUIRE_FALSE(bad);
  CHECK(bad.error().code == conn::GrpcCode::kInvalidArgument);
  auto longer = world.call(world.bearer(world.ztunnel), kWeb, csr(), 91 * 86400);
  REQUIRE_FALSE(longer);
  CHECK(longer.error().code == conn::GrpcCode::kInvalidArgument);
  CHECK(world.call(world.bearer(world.ztunnel), kWeb, csr(), INT64_MIN));
  CHECK_FALSE(world.call(world.bearer(world.ztunnel), kWeb, csr(), INT64_MAX));
  CHECK(world.service.counters().csr_invalid == 3);
}

TEST_CASE("a node proxy speaks for the pods of its node alone", "[apis27]") {
  World world;
  auto refused = [&](control::CallerIdentity caller, const std::string& identity) {
    auto answer = world.call(world.bearer(std::move(caller)), identity);
    CHECK_FALSE(answer);
    CHECK(world.service.counters().issued == 0);
    if (answer) return std::string();
    CHECK(answer.error().code == conn::GrpcCode::kUnauthenticated);
    return answer.error().message;
  };
  SECTION("on its node") { CHECK(world.name_in(world.call(world.bearer(world.ztunnel), kWeb)) == kWeb); }
  SECTION("itself, though no pod of it is known") {
    CHECK_FALSE(world
                    .name_in(world.call(world.bearer(world.ztunnel),
                                        "spiffe://cluster.local/ns/istio-system/sa/ztunnel"))
                    .empty());
  }
  SECTION("only elsewhere") {
    CHECK(refused(world.ztunnel, "spiffe://cluster.local/ns/production/sa/api")
              .find("no-such-workload-on-node") != std::string::npos);
  }
  SECTION("on both") {
    world.pods.insert("production/api@node1");
    CHECK(world.call(world.bearer(world.ztunnel), "spiffe://cluster.local/ns/production/sa/api"));
  }
  SECTION("an account that is not trusted learns nothing") {
    CHECK(refused({"production", "api", "node1", ""}, kWeb) ==
          "request impersonation authentication failure");
    CHECK(refused({"production", "ztunnel", "node1", ""}, kWeb) ==
          "request impersonation authentication failure");
  }
  SECTION("a token without a node") {
    CHECK(refused({"istio-system", "ztunnel", "", ""}, kWeb).starts_with("no-node"));
  }
  SECTION("a foreign trust domain") {
    CHECK(refused(world.ztunnel, "spiffe://other.domain/ns/production/sa/web").starts_with("trust-domain"));
  }
  SECTION("what is no identity, or hides a second one") {
    for (const char* bad :
         {"x", "spiffe://cluster.local/ns/production/sa/web,spiffe://cluster.local/ns/a/sa/b",
          "spiffe://cluster.local/ns/production/sa/web ", "spiffe://cluster.local/ns/production/sa/we b",
          "spiffe://cluster.local/ns//sa/web", "spiffe://cluster.local/ns/production/sa/",
          "spiffe://cluster.local/ns/production/sa/web/", "spiffe://cluster.local/ns/production/sa/web\n",
          "SPIFFE://cluster.local/ns/production/sa/web", "spiffe://cluster.local/ns/production/sa/w%65b"}) {
      world.pods.insert(std::string("production/") + bad + "@node1");
      refused(world.ztunnel, bad);
    }
  }
}

TEST_CASE("a request waits for a pod that is about to be known", "[apis27]") {
  World world;
  world.pods.clear();
  async::CallTimer arrival([&] { world.pods.insert("production/web@node1"); });
  world.loop.arm(arrival, world.loop.now() + 1s);
  CHECK(world.name_in(world.call(world.bearer(world.ztunnel), kWeb)) == kWeb);
  world.pods.clear();
  base::TimePoint began = world.loop.now();
  CHECK_FALSE(world.call(world.bearer(world.ztunnel), kWeb));
  CHECK(world.loop.now() - began < 3s);
}

}  // namespace
}  // namespace culvert::test
