// SPDX-License-Identifier: Apache-2.0
#include "net/wire/tls.h"

#include <algorithm>

#include "net/base/check.h"
#include "net/wire/tls_internal.h"
#include "net/wire/x509.h"

namespace culvert::wire {

using base::Code;
using base::Error;
using base::fail;
using base::Result;

const std::vector<std::string>& PeerInfo::uri_sans() const {
  static const std::vector<std::string> none;
  return leaf ? leaf->uri_sans : none;
}

// BoringSSL's callbacks, which want plain functions.
struct TlsCallbacks {
  static TlsEngine* engine(const SSL* ssl) { return static_cast<TlsEngine*>(SSL_get_app_data(ssl)); }

  // Client ALPN without a protocol of ours is fatal; no ALPN at all never comes here (RFC 7301).
  static int select_alpn(SSL* ssl, const uint8_t** out, uint8_t* out_length, const uint8_t* in,
                         unsigned in_length, void*) {
    for (const std::string& ours : engine(ssl)->options_.alpn) {
      for (unsigned at = 0; at < in_length; at += 1u + in[at]) {
        if (at + 1u + in[at] > in_length) break;
        if (base::as_text({in + at + 1, in[at]}) == ours) {
          *out = in + at + 1;
          *out_length = in[at];
          return SSL_TLSEXT_ERR_OK;
        }
      }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }

  static int verify(X509_STORE_CTX* store, void*) {
    auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    Result<> good = engine(ssl)->check_peer(store);
    if (good) return 1;
    if (X509_STORE_CTX_get_error(store) == X509_V_OK) {
      X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    }
    engine(ssl)->verify_error_ = std::move(good).error();
    return 0;
  }

  static int queue_read(BIO* bio, char* out, int length) {
    auto& queue = *static_cast<base::ByteQueue*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (queue.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    return static_cast<int>(queue.read({reinterpret_cast<uint8_t*>(out), static_cast<size_t>(length)}));
  }
  static int queue_write(BIO* bio, const char* in, int length) {
    auto& queue = *static_cast<base::ByteQueue*>(BIO_get_data(bio));
    queue.append(base::ByteView(reinterpret_cast<const uint8_t*>(in), static_cast<size_t>(length)));
    return length;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static int create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
  }
  static const BIO_METHOD* queue_method() {
    // Immutable after the first use; BoringSSL has no destructor order to care about.
    static const BIO_METHOD* method = [] {
      BIO_METHOD* made = BIO_meth_new(0, "byte queue");
      BIO_meth_set_read(made, queue_read);
      BIO_meth_set_write(made, queue_write);
      BIO_meth_set_ctrl(made, control);
      BIO_meth_set_create(made, create);
      return made;
    }();
    return method;
  }
};

namespace {

Result<SSL_CTX*> new_context() {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  if (!context) return fail(Code::kInternal, "create TLS context: " + openssl_reason());
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // TLS 1.3 suites are not configurable here; these are for TLS 1.2 where it is allowed.
  SSL_CTX_set_strict_cipher_list(context,
                                 "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
                                 "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256");
  SSL_CTX_set1_curves_list(context, "X25519:P-256:P-384");
  SSL_CTX_set_cert_verify_callback(context, TlsCallbacks::verify, nullptr);
  SSL_CTX_set_alpn_select_cb(context, TlsCallbacks::select_alpn, nullptr);
  return context;
}

bool is_uri(std::string_view name) { return name.find("://") != std::string_view::npos; }

// Trusts every root; the subjects also go out as hints to clients.
Result<> trust(SSL_CTX* context, const std::vector<CertInfo>& roots) {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const CertInfo& root : roots) {
    auto cert = parse_x509(root.pem);
    if (!cert) return fail(std::move(cert).error());
    X509_STORE_add_cert(store, cert->get());
    SSL_CTX_add_client_CA(context, cert->get());
  }
  ERR_clear_error();  // adding the same root twice is not an error of ours
  return {};
}

}  // namespace

TlsIdentity::~TlsIdentity() { SSL_CTX_free(context_); }

Result<TlsIdentityRef> TlsIdentity::from_pem(std::string_view chain_pem, std::string_view key_pem,
                                             std::string_view roots_pem) {
  auto chain = parse_certificates(chain_pem);
  if (!chain) return fail(std::move(chain).error().wrap("certificate chain"));
  if (chain->empty()) return fail(Code::kInvalid, "the certificate chain holds no certificate");
  auto roots = parse_certificates(roots_pem);
  if (!roots) return fail(std::move(roots).error().wrap("root certificates"));
  if (roots->empty()) return fail(Code::kInvalid, "no root certificate: nobody could be trusted");
  auto key = PrivateKey::from_pem(key_pem);
  if (!key) return fail(std::move(key).error());
  auto context = new_context();
  if (!context) return fail(std::move(context).error());
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity());
  identity->context_ = *context;
  for (size_t i = 0; i < chain->size(); ++i) {
    auto cert = parse_x509((*chain)[i].pem);
    if (!cert) return fail(std::move(cert).error());
    bool added = i == 0 ? SSL_CTX_use_certificate(*context, cert->get()) == 1
                        : SSL_CTX_add1_chain_cert(*context, cert->get()) == 1;
    if (!added) return fail(Code::kInvalid, "use certificate: " + openssl_reason());
  }
  if (SSL_CTX_use_PrivateKey(*context, key->raw()) != 1) {
    return fail(Code::kInvalid, "the private key does not belong to the certificate: " + openssl_reason());
  }
  CULVERT_TRY(trust(*context, *roots));
  identity->chain_ = std::move(*chain);
  identity->roots_ = std::move(*roots);
  return TlsIdentityRef(std::move(identity));
}

Result<TlsIdentityRef> TlsIdentity::roots_only(std::string_view roots_pem) {
  auto context = new_context();
  if (!context) return fail(std::move(context).error());
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity());
  identity->context_ = *context;
  // One damaged certificate in a bundle must not cut us off from the others.
  constexpr std::string_view kEnd = "-----END CERTIFICATE-----";
  for (size_t end; (end = roots_pem.find(kEnd)) != std::string_view::npos;) {
    auto one = parse_certificates(roots_pem.substr(0, end + kEnd.size()));
    if (one) identity->roots_.insert(identity->roots_.end(), one->begin(), one->end());
    roots_pem.remove_prefix(end + kEnd.size());
  }
  if (identity->roots_.empty()) {
    return fail(Code::kInvalid, "the root certificates hold no readable certificate");
  }
  CULVERT_TRY(trust(*context, identity->roots_));
  return TlsIdentityRef(std::move(identity));
}

TlsEngine::TlsEngine(Role role, TlsIdentityRef identity, TlsOptions options)
    : role_(role), identity_(std::move(identity)), options_(std::move(options)) {
  ssl_ = SSL_new(identity_->context_);
  CULVERT_CHECK(ssl_ != nullptr);
  SSL_set_app_data(ssl_, this);
  SSL_set_min_proto_version(ssl_, options_.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  BIO* in = BIO_new(TlsCallbacks::queue_method());
  BIO* out = BIO_new(TlsCallbacks::queue_method());
  CULVERT_CHECK(in && out);
  BIO_set_data(in, &incoming_);
  BIO_set_data(out, &outgoing_);
  SSL_set_bio(ssl_, in, out);
  if (role_ == Role::kServer) {
    int mode = SSL_VERIFY_PEER | (options_.client_certificate_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    SSL_set_verify(ssl_, mode, nullptr);
    SSL_set_accept_state(ssl_);
    return;
  }
  SSL_set_verify(ssl_, SSL_VERIFY_PEER, nullptr);
  std::string protocols;
  for (const std::string& name : options_.alpn) {
    protocols += static_cast<char>(name.size());
    protocols += name;
  }
  if (!protocols.empty()) {
    SSL_set_alpn_protos(ssl_, reinterpret_cast<const uint8_t*>(protocols.data()),
                        static_cast<unsigned>(protocols.size()));
  }
  std::string sni = options_.sni;
  if (sni.empty() && !options_.server_names.empty()) sni = options_.server_names.front();
  bool is_name = !sni.empty() && !is_uri(sni) && !base::IpAddr::parse(sni);
  if (is_name) SSL_set_tlsext_host_name(ssl_, sni.c_str());
  SSL_set_connect_state(ssl_);
}

TlsEngine::~TlsEngine() { SSL_free(ssl_); }

namespace {

bool carries_name(X509* leaf, const CertInfo& info, const std::string& name) {
  if (is_uri(name)) return std::find(info.uri_sans.begin(), info.uri_sans.end(), name) != info.uri_sans.end();
  if (base::IpAddr::parse(name)) return X509_check_ip_asc(leaf, name.c_str(), 0) == 1;
  return X509_check_host(leaf, name.data(), name.size(), 0, nullptr) == 1;
}

}  // namespace

Result<> TlsEngine::check_peer(X509_STORE_CTX* store) {
  if (options_.unverified) {
    Result<CertInfo> shown = cert_info(X509_STORE_CTX_get0_cert(store));
    if (!shown) return fail(std::move(shown).error());
    peer_.leaf = std::move(*shown);
    return {};
  }
  X509_STORE_CTX_set_time(store, 0,
                          std::chrono::duration_cast<std::chrono::seconds>(now_.time_since_epoch()).count());
  if (X509_verify_cert(store) != 1) {
    int number = X509_STORE_CTX_get_error(store);
    return fail(Code::kTls, std::string("the peer's certificate is not acceptable: ") +
                                X509_verify_cert_error_string(number));
  }
  X509* leaf = X509_STORE_CTX_get0_cert(store);
  Result<CertInfo> info = cert_info(leaf);
  if (!info) return fail(std::move(info).error());
  if (info->is_ca) return fail(Code::kTls, "the peer shows a CA certificate as its own");
  peer_.leaf = std::move(*info);
  const auto& names = options_.server_names;
  if (role_ == Role::kClient && !names.empty() &&
      std::none_of(names.begin(), names.end(),
                   [&](const std::string& name) { return carries_name(leaf, *peer_.leaf, name); })) {
    return fail(Code::kTls, "the server's certificate is not for " + names.front());
  }
  return options_.verify ? options_.verify(peer_) : Result<>{};
}

Error TlsEngine::failure(int result, std::string_view doing) {
  int kind = SSL_get_error(ssl_, result);
  if (verify_error_) return verify_error_->wrap(doing);
  std::string reason = openssl_reason();
  if (reason.empty()) reason = kind == SSL_ERROR_SYSCALL ? "connection ended" : "unknown reason";
  return Error(Code::kTls, std::string(doing) + ": " + reason);
}

Result<bool> TlsEngine::handshake(base::WallTime now) {
  now_ = now;
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_);
  if (result == 1) return true;
  int kind = SSL_get_error(ssl_, result);
  if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) return false;
  error_ = failure(result, "tls handshake error");
  return fail(*error_);
}

TlsEngine::ReadResult TlsEngine::read(base::ByteSpan into) {
  ERR_clear_error();
  int got = SSL_read(ssl_, into.data(), static_cast<int>(std::min<size_t>(into.size(), 1 << 30)));
  if (got > 0) return {ReadState::kBytes, static_cast<size_t>(got)};
  switch (SSL_get_error(ssl_, got)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return {ReadState::kNeedInput};
    case SSL_ERROR_ZERO_RETURN: return {ReadState::kClosed};
    default: error_ = failure(got, "tls read error"); return {ReadState::kFailed};
  }
}

bool TlsEngine::write(base::ByteView bytes) {
  ERR_clear_error();
  while (!bytes.empty()) {
    int put = SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 30)));
    if (put <= 0) {
      error_ = failure(put, "tls write error");
      return false;
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return true;
}

void TlsEngine::close_notify() {
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsEngine::has_pending() const { return SSL_pending(ssl_) > 0; }

std::string TlsEngine::alpn() const {
  const uint8_t* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_, &name, &length);
  return std::string(base::as_text({name, length}));
}

}  // namespace culvert::wire
