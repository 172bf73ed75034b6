// SPDX-License-Identifier: Apache-2.0
// TLS without I/O: TlsIdentity (what we show and whom we trust), PeerInfo, TlsEngine
// (spec ztunnel section 3.1). BoringSSL stays in the .cc files.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/bytes.h"
#include "net/base/duration.h"
#include "net/base/ip.h"
#include "net/base/result.h"

struct ssl_st;
struct ssl_ctx_st;
struct x509_store_ctx_st;

namespace culvert::wire {

// One certificate as far as programs care.
struct CertInfo {
  std::string serial;  // decimal
  base::WallTime not_before{};
  base::WallTime not_after{};
  std::vector<std::string> uri_sans;
  std::vector<std::string> dns_sans;
  std::vector<base::IpAddr> ip_sans;
  bool is_ca = false;
  std::string pem;
};

// The verified peer: its leaf. Empty if the peer showed none and none was demanded.
struct PeerInfo {
  std::optional<CertInfo> leaf;
  const std::vector<std::string>& uri_sans() const;
};

// A key with its chain and the roots we trust, or roots alone. Immutable, shared by all loops.
class TlsIdentity {
 public:
  // `chain_pem`: leaf first, then intermediates. `roots_pem`: one or many certificates; blocks
  // that do not parse are an error. Key and leaf must match.
  static base::Result<std::shared_ptr<const TlsIdentity>> from_pem(std::string_view chain_pem,
                                                                   std::string_view key_pem,
                                                                   std::string_view roots_pem);
  // A client that shows no certificate. Unparsable blocks are skipped; none left is an error.
  static base::Result<std::shared_ptr<const TlsIdentity>> roots_only(std::string_view roots_pem);
  ~TlsIdentity();
  TlsIdentity(const TlsIdentity&) = delete;

  bool has_certificate() const { return !chain_.empty(); }
  const CertInfo& leaf() const { return chain_.front(); }
  const std::vector<CertInfo>& chain() const { return chain_; }  // leaf, intermediates
  const std::vector<CertInfo>& roots() const { return roots_; }

 private:
  friend class TlsEngine;
  TlsIdentity() = default;
  std::vector<CertInfo> chain_;
  std::vector<CertInfo> roots_;
  ssl_ctx_st* context_ = nullptr;
};
using TlsIdentityRef = std::shared_ptr<const TlsIdentity>;

// Runs inside the handshake once chain, dates and purposes are good; an error ends the handshake.
using VerifyPeer = std::function<base::Result<>(const PeerInfo&)>;

struct TlsOptions {
  std::vector<std::string> alpn{"h2"};  // ours, in order; empty: no ALPN
  bool tls12 = false;                   // also allow TLS 1.2
  // Server: demand a client certificate (else it is verified if shown).
  bool client_certificate_required = true;
  // Client: the name, address or URI ("scheme://...") the server's certificate must carry (any of them);
  // empty: not checked, identities are then the business of `verify`. The first, if it is a name, is sent as
  // SNI where `sni` says nothing.
  std::vector<std::string> server_names;
  std::string sni;
  // Client: takes any certificate of anybody. Only for what an operator has said so about.
  bool unverified = false;
  VerifyPeer verify;
};

class TlsEngine {
 public:
  enum class Role : unsigned char { kClient, kServer };
  TlsEngine(Role role, TlsIdentityRef identity, TlsOptions options);
  ~TlsEngine();
  TlsEngine(const TlsEngine&) = delete;

  // Records from and to the peer.
  base::ByteQueue& incoming() { return incoming_; }
  base::ByteQueue& outgoing() { return outgoing_; }

  // True once complete; false: feed more. `now` is the time certificates are judged at. After an error
  // `outgoing` may hold an alert worth sending.
  base::Result<bool> handshake(base::WallTime now);

  enum class ReadState : unsigned char { kBytes, kNeedInput, kClosed, kFailed };
  struct ReadResult {
    ReadState state;
    size_t count = 0;
  };
  // kClosed: close_notify. kFailed: see error().
  ReadResult read(base::ByteSpan into);
  // Encrypts all of it into `outgoing`; false on failure.
  bool write(base::ByteView bytes);
  void close_notify();
  const base::Error& error() const { return *error_; }
  // Decrypted bytes wait inside.
  bool has_pending() const;

  const PeerInfo& peer() const { return peer_; }
  std::string alpn() const;

 private:
  static int verify_chain(x509_store_ctx_st* store, void* unused);
  base::Result<> check_peer(x509_store_ctx_st* store);
  base::Error failure(int result, std::string_view doing);
  friend struct TlsCallbacks;

  Role role_;
  TlsIdentityRef identity_;
  TlsOptions options_;
  ssl_st* ssl_ = nullptr;
  base::ByteQueue incoming_;
  base::ByteQueue outgoing_;
  PeerInfo peer_;
  base::WallTime now_{};
  std::optional<base::Error> verify_error_;
  std::optional<base::Error> error_;
};

}  // namespace culvert::wire
