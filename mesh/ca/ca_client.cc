// SPDX-License-Identifier: Apache-2.0
#include "mesh/ca/ca_client.h"

#include "net/async/wait.h"
#include "net/conn/tls_dial.h"
#include "net/wire/x509.h"
#include "proto/ca.pb.h"

namespace culvert::ca {

using base::Code;
using base::fail;
using base::Result;

namespace {
constexpr std::string_view kMethod = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
}

Result<wire::TlsIdentityRef> identity_from_chain(const std::vector<std::string>& chain,
                                                 std::string_view key_pem) {
  if (chain.empty()) return fail(Code::kProtocol, "the CA answered without a certificate");
  if (chain.size() == 1) return fail(Code::kProtocol, "the CA answered without a root certificate");
  std::string presented;
  for (size_t i = 0; i + 1 < chain.size(); ++i) {
    presented += chain[i];
    if (!presented.ends_with('\n')) presented += '\n';
  }
  return wire::TlsIdentity::from_pem(presented, key_pem, chain.back());
}

CaClient::CaClient(async::Loop& loop, io::Network& network, CaClientOptions options)
    : loop_(loop), network_(network), options_(std::move(options)) {}
CaClient::~CaClient() = default;

async::Task<Result<wire::TlsIdentityRef>> CaClient::fetch(model::Identity identity) {
  co_return co_await async::with_deadline(loop_, async::Deadline::in(loop_, options_.request_timeout),
                                          "ask the CA for a certificate", request(std::move(identity)));
}

Result<conn::Metadata> CaClient::metadata() const {
  conn::Metadata metadata;
  if (options_.read_token) {
    Result<std::string> token = options_.read_token();
    if (!token) return fail(std::move(token).error().wrap("token for the CA"));
    if (!token->empty()) {
      metadata.emplace_back("authorization", "Bearer " + *token);
      metadata.emplace_back("clusterid", options_.cluster_id);
    }
  }
  metadata.insert(metadata.end(), options_.headers.begin(), options_.headers.end());
  return metadata;
}

async::Task<Result<std::shared_ptr<conn::Http2Conn>>> CaClient::connection(async::Deadline deadline) {
  Result<std::string> roots = options_.read_roots();
  if (!roots) {
    // An unreadable file must not break a connection that works.
    if (connection_ && connection_->usable()) co_return connection_;
    co_return fail(std::move(roots).error().wrap("roots of the CA"));
  }
  if (connection_ && connection_->usable() && *roots == connected_roots_) co_return connection_;
  Result<wire::TlsIdentityRef> trust = wire::TlsIdentity::roots_only(*roots);
  if (!trust) co_return fail(std::move(trust).error().wrap("roots of the CA"));
  conn::TlsServer server{options_.host, options_.port, options_.alternative_host, options_.tls12, *trust};
  Result<std::unique_ptr<io::ByteStream>> lower =
      co_await conn::tls_dial(loop_, network_, std::move(server), attempts_++, deadline);
  if (!lower) co_return fail(std::move(lower).error());
  conn::Http2Options http2;
  http2.ping_every = std::chrono::seconds(30);
  http2.ping_timeout = std::chrono::seconds(10);
  connection_ =
      std::make_shared<conn::Http2Conn>(loop_, std::move(*lower), wire::H2Engine::Role::kClient, http2);
  connected_roots_ = std::move(*roots);
  co_return connection_;
}

async::Task<Result<wire::TlsIdentityRef>> CaClient::request(model::Identity identity) {
  async::Deadline deadline = async::Deadline::in(loop_, options_.request_timeout);
  Result<conn::Metadata> headers = metadata();
  if (!headers) co_return fail(std::move(headers).error());
  Result<wire::PrivateKey> key = wire::PrivateKey::generate_p256();
  if (!key) co_return fail(std::move(key).error());
  std::string uri = identity.to_string();
  Result<std::string> csr = wire::make_csr(*key, uri);
  if (!csr) co_return fail(std::move(csr).error());
  Result<std::shared_ptr<conn::Http2Conn>> connected = co_await connection(deadline);
  if (!connected) co_return fail(std::move(connected).error().wrap("connect to the CA"));
  istio::v1::auth::IstioCertificateRequest message;
  message.set_csr(*csr);
  message.set_validity_duration(std::chrono::duration_cast<std::chrono::seconds>(options_.lifetime).count());
  if (options_.impersonate) {
    (*message.mutable_metadata()->mutable_fields())["ImpersonatedIdentity"].set_string_value(uri);
  }
  conn::GrpcClient client(loop_, **connected, conn::authority(options_.host, options_.port));
  std::expected<std::string, conn::GrpcStatus> answer =
      co_await client.unary(std::string(kMethod), message.SerializeAsString(), std::move(*headers), deadline);
  if (!answer) co_return fail(conn::to_error(answer.error()).wrap("the CA refused"));
  istio::v1::auth::IstioCertificateResponse response;
  if (!response.ParseFromString(*answer)) co_return fail(Code::kProtocol, "the CA's answer cannot be read");
  Result<wire::TlsIdentityRef> issued =
      identity_from_chain({response.cert_chain().begin(), response.cert_chain().end()}, key->to_pem());
  if (!issued) co_return fail(std::move(issued).error().wrap("the CA's answer"));
  const std::vector<std::string>& names = (*issued)->leaf().uri_sans;
  if (options_.impersonate && (names.empty() || names.front() != uri)) {
    co_return fail(Code::kProtocol, "the CA issued a certificate for " +
                                        (names.empty() ? "nobody" : names.front()) + " where " + uri +
                                        " was asked for");
  }
  co_return std::move(*issued);
}

}  // namespace culvert::ca
