// SPDX-License-Identifier: Apache-2.0
// TlsEngine against TlsEngine: who is believed, what is refused and in which words, at every fragment size.
#include "net/wire/tls.h"

#include <catch2/catch.hpp>

#include "net/wire/x509.h"

namespace culvert::wire {
namespace {

using namespace std::chrono_literals;
using base::Result;

const base::WallTime kNow{std::chrono::hours(24 * 365 * 50)};

CertSigner make_root(const char* name) {
  return *CertSigner::self_signed(*PrivateKey::generate_p256(), name, kNow - 1000h, kNow + 10000h);
}

struct Leaf {
  std::vector<std::string> uris{"spiffe://td/ns/a/sa/b"};
  std::vector<std::string> dns;
  base::Duration from = -1h, to = 1h;
};

TlsIdentityRef identity(const CertSigner& signer, const std::string& roots, const Leaf& leaf = {}) {
  PrivateKey key = *PrivateKey::generate_p256();
  LeafSpec spec;
  spec.public_key_der = *public_key_der(key);
  spec.uri_sans = leaf.uris;
  spec.dns_sans = leaf.dns;
  spec.not_before = kNow + leaf.from;
  spec.not_after = kNow + leaf.to;
  auto made = TlsIdentity::from_pem(*signer.sign(spec), key.to_pem(), roots);
  REQUIRE(made.has_value());
  return *made;
}

struct Ended {
  Result<bool> client, server;
  bool both() const { return client && *client && server && *server; }
};

// Moves at most `piece` bytes at a time until both have ended or nothing moves.
Ended shake(TlsEngine& client, TlsEngine& server, size_t piece = SIZE_MAX) {
  Ended ended{false, false};
  for (int turn = 0; turn < 200'000; ++turn) {
    if (ended.client && !*ended.client) ended.client = client.handshake(kNow);
    if (ended.server && !*ended.server) ended.server = server.handshake(kNow);
    bool moved = false;
    for (auto [from, to] : {std::pair(&client, &server), std::pair(&server, &client)}) {
      std::string bytes(std::min(piece, from->outgoing().size()), '\0');
      if (bytes.empty()) continue;
      from->outgoing().read({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
      to->incoming().append(bytes);
      moved = true;
    }
    if (!moved && (!ended.client || *ended.client) && (!ended.server || *ended.server)) break;
    if (!moved && (!ended.client || !ended.server)) break;
  }
  return ended;
}

std::string read_all(TlsEngine& engine) {
  std::string out;
  uint8_t block[5000];
  for (;;) {
    TlsEngine::ReadResult got = engine.read(block);
    if (got.state != TlsEngine::ReadState::kBytes) return out;
    out.append(reinterpret_cast<char*>(block), got.count);
  }
}

}  // namespace

TEST_CASE("both prove who they are, at every fragment size", "[P1]") {
  CertSigner root = make_root("td");
  const std::string& roots = root.certificate().pem;
  size_t piece = GENERATE(1, 2, 3, 7, 16, 31, 1 << 20);
  TlsEngine client(TlsEngine::Role::kClient, identity(root, roots, {.uris = {"spiffe://td/ns/a/sa/client"}}),
                   {});
  TlsEngine server(TlsEngine::Role::kServer, identity(root, roots, {.uris = {"spiffe://td/ns/a/sa/server"}}),
                   {});
  REQUIRE(shake(client, server, piece).both());
  CHECK(server.peer().uri_sans() == std::vector<std::string>{"spiffe://td/ns/a/sa/client"});
  CHECK(client.peer().uri_sans() == std::vector<std::string>{"spiffe://td/ns/a/sa/server"});
  CHECK(client.alpn() == "h2");
  CHECK(server.alpn() == "h2");
  std::string text(40'000, 'x');
  REQUIRE(client.write(base::as_bytes(text)));
  std::string cipher = client.outgoing().take_all();
  CHECK(cipher.find("xxxxxxxx") == std::string::npos);
  server.incoming().append(cipher);
  CHECK(read_all(server) == text);
  server.close_notify();
  client.incoming().append(server.outgoing().take_all());
  uint8_t byte[1];
  CHECK(client.read(byte).state == TlsEngine::ReadState::kClosed);
}

TEST_CASE("certificates of either root of a bundle are believed", "[P13]") {
  CertSigner old_root = make_root("old"), new_root = make_root("new");
  std::string both = old_root.certificate().pem + new_root.certificate().pem;
  for (const CertSigner* client_root : {&old_root, &new_root}) {
    for (const CertSigner* server_root : {&old_root, &new_root}) {
      TlsEngine client(TlsEngine::Role::kClient, identity(*client_root, both), {});
      TlsEngine server(TlsEngine::Role::kServer, identity(*server_root, both), {});
      CHECK(shake(client, server).both());
    }
  }
  // Who trusts only the old one does not believe the new one.
  TlsEngine client(TlsEngine::Role::kClient, identity(old_root, old_root.certificate().pem), {});
  TlsEngine server(TlsEngine::Role::kServer, identity(new_root, both), {});
  Ended ended = shake(client, server);
  CHECK_FALSE(ended.client.has_value());
  CHECK(ended.client.error().code() == base::Code::kTls);
}

TEST_CASE("what is not to be believed is refused", "[P2]") {
  CertSigner root = make_root("td"), stranger = make_root("other");
  const std::string& roots = root.certificate().pem;
  auto server_side = [&] { return identity(root, roots); };
  SECTION("a client of another root") {
    TlsEngine client(TlsEngine::Role::kClient, identity(stranger, roots), {});
    TlsEngine server(TlsEngine::Role::kServer, server_side(), {});
    CHECK_FALSE(shake(client, server).server.has_value());
  }
  SECTION("a client without a certificate") {
    TlsEngine client(TlsEngine::Role::kClient, *TlsIdentity::roots_only(roots), {});
    TlsEngine server(TlsEngine::Role::kServer, server_side(), {});
    CHECK_FALSE(shake(client, server).server.has_value());
  }
  SECTION("one that has expired, and one that is not yet valid") {
    for (Leaf leaf : {Leaf{.from = -2h, .to = -1h}, Leaf{.from = 1h, .to = 2h}}) {
      TlsEngine client(TlsEngine::Role::kClient, identity(root, roots, leaf), {});
      TlsEngine server(TlsEngine::Role::kServer, server_side(), {});
      CHECK_FALSE(shake(client, server).server.has_value());
    }
  }
  SECTION("a peer that the program does not accept, in its words") {
    TlsOptions options;
    options.verify = [](const PeerInfo&) -> Result<> { return base::fail(base::Code::kDenied, "not you"); };
    TlsEngine client(TlsEngine::Role::kClient, identity(root, roots), {});
    TlsEngine server(TlsEngine::Role::kServer, server_side(), options);
    Ended ended = shake(client, server);
    REQUIRE_FALSE(ended.server.has_value());
    CHECK(ended.server.error().message().find("not you") != std::string::npos);
  }
  SECTION("a server whose certificate carries another name") {
    TlsOptions options;
    options.server_names = {"istiod.istio-system.svc"};
    TlsEngine client(TlsEngine::Role::kClient, identity(root, roots), options);
    TlsEngine server(TlsEngine::Role::kServer, identity(root, roots, {.dns = {"other.svc"}}), {});
    CHECK_FALSE(shake(client, server).client.has_value());
    TlsEngine again(TlsEngine::Role::kClient, identity(root, roots), options);
    TlsEngine right(TlsEngine::Role::kServer, identity(root, roots, {.dns = {"istiod.istio-system.svc"}}),
                    {});
    CHECK(shake(again, right).both());
  }
  SECTION("a server whose certificate carries another URI") {
    TlsOptions options;
    options.sni = "api.example";
    options.server_names = {"spiffe://td/ns/a/sa/b"};
    TlsEngine client(TlsEngine::Role::kClient, identity(root, roots), options);
    TlsEngine server(TlsEngine::Role::kServer, identity(root, roots, {.uris = {"spiffe://td/ns/a/sa/bb"}}),
                     {});
    CHECK_FALSE(shake(client, server).client.has_value());
    TlsEngine again(TlsEngine::Role::kClient, identity(root, roots), options);
    TlsEngine right(TlsEngine::Role::kServer, identity(root, roots), {});
    CHECK(shake(again, right).both());
  }
  SECTION("anybody at all, where the operator has said so") {
    CertSigner stranger = make_root("stranger");
    for (bool said : {false, true}) {
      TlsOptions options;
      options.server_names = {"api.example"};
      options.unverified = said;
      TlsEngine client(TlsEngine::Role::kClient, identity(root, roots), options);
      TlsOptions open;
      open.client_certificate_required = false;
      TlsEngine server(TlsEngine::Role::kServer,
                       identity(stranger, roots, {.uris = {}, .dns = {"x"}, .from = -9h, .to = -5h}), open);
      CHECK(shake(client, server).client.has_value() == said);
    }
  }
  SECTION("no protocol in common") {
    TlsOptions options;
    options.alpn = {"http/1.1"};
    TlsEngine client(TlsEngine::Role::kClient, identity(root, roots), options);
    TlsEngine server(TlsEngine::Role::kServer, server_side(), {});
    Ended ended = shake(client, server);
    // Either a refusal or no agreement: never h2 by accident.
    CHECK((!ended.both() || server.alpn() != "h2"));
  }
}

TEST_CASE("garbage instead of a handshake ends in an error", "[P2]") {
  CertSigner root = make_root("td");
  std::string hello("\x16\x03\x01\xff\xff", 5);
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(4096, '\0'), hello,
                                   std::string("\x15\x03\x03\x00\x02\x02\x28", 7)}) {
    TlsEngine server(TlsEngine::Role::kServer, identity(root, root.certificate().pem), {});
    server.incoming().append(bytes);
    Result<bool> ended = server.handshake(kNow);
    if (bytes == hello) continue;  // may still become a record
    CHECK_FALSE(ended.has_value());
  }
}

TEST_CASE("a changed record is noticed") {
  CertSigner root = make_root("td");
  TlsEngine client(TlsEngine::Role::kClient, identity(root, root.certificate().pem), {});
  TlsEngine server(TlsEngine::Role::kServer, identity(root, root.certificate().pem), {});
  REQUIRE(shake(client, server).both());
  REQUIRE(client.write(base::as_bytes("payload")));
  std::string cipher = client.outgoing().take_all();
  cipher.back() = static_cast<char>(cipher.back() ^ 1);
  server.incoming().append(cipher);
  uint8_t block[100];
  CHECK(server.read(block).state == TlsEngine::ReadState::kFailed);
}

TEST_CASE("keys, chains and roots that do not fit are refused when they come") {
  CertSigner root = make_root("td");
  PrivateKey key = *PrivateKey::generate_p256(), other = *PrivateKey::generate_p256();
  LeafSpec spec;
  spec.public_key_der = *public_key_der(key);
  spec.uri_sans = {"spiffe://td/ns/a/sa/b"};
  spec.not_before = kNow - 1h;
  spec.not_after = kNow + 1h;
  std::string leaf = *root.sign(spec), roots = root.certificate().pem;
  CHECK(TlsIdentity::from_pem(leaf, key.to_pem(), roots).has_value());
  CHECK_FALSE(TlsIdentity::from_pem(leaf, other.to_pem(), roots).has_value());
  CHECK_FALSE(TlsIdentity::from_pem("", key.to_pem(), roots).has_value());
  CHECK_FALSE(TlsIdentity::from_pem(leaf, "", roots).has_value());
  CHECK_FALSE(TlsIdentity::from_pem(leaf, key.to_pem(), "").has_value());
  CHECK_FALSE(TlsIdentity::roots_only("nothing here").has_value());
  CHECK_FALSE(
      parse_certificates("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").has_value());
  auto parsed = parse_certificates(leaf + roots);
  REQUIRE(parsed.has_value());
  REQUIRE(parsed->size() == 2);
  CHECK(parsed->front().uri_sans == std::vector<std::string>{"spiffe://td/ns/a/sa/b"});
  CHECK_FALSE(parsed->front().is_ca);
  CHECK(parsed->back().is_ca);
}

}  // namespace culvert::wire
