// SPDX-License-Identifier: Apache-2.0
// CaClient: asks the mesh's CA for one certificate: new key, CSR, CreateCertificate over gRPC
// (spec apis section 4.1). One connection serves all requests; it is dialled anew when it ended or the
// roots changed. Lives on the control loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mesh/ca/cert_store.h"
#include "net/conn/grpc.h"
#include "net/conn/http2_conn.h"
#include "net/io/network.h"

namespace culvert::ca {

struct CaClientOptions {
  std::string host;
  uint16_t port = 15012;
  std::string alternative_host;  // ALT_CA_HOSTNAME
  bool tls12 = false;
  std::function<base::Result<std::string>()> read_roots;  // PEM; read at every request
  std::function<base::Result<std::string>()> read_token;  // bearer token, trimmed; null or empty: none
  std::string cluster_id = "Kubernetes";
  conn::Metadata headers;                                     // CA_HEADER_*
  base::Duration lifetime = std::chrono::hours(24);           // SECRET_TTL
  bool impersonate = true;                                    // shared mode: name the identity we ask for
  base::Duration request_timeout = std::chrono::seconds(10);  // dial, handshake and answer together
};

class CaClient final : public CertFetcher {
 public:
  CaClient(async::Loop& loop, io::Network& network, CaClientOptions options);
  ~CaClient() override;
  async::Task<base::Result<wire::TlsIdentityRef>> fetch(model::Identity identity) override;

 private:
  async::Task<base::Result<wire::TlsIdentityRef>> request(model::Identity identity);
  async::Task<base::Result<std::shared_ptr<conn::Http2Conn>>> connection(async::Deadline deadline);
  base::Result<conn::Metadata> metadata() const;

  async::Loop& loop_;
  io::Network& network_;
  CaClientOptions options_;
  std::shared_ptr<conn::Http2Conn> connection_;
  std::string connected_roots_;  // the PEM that connection_ trusts
  uint64_t attempts_ = 0;
};

// The leaf, intermediates and roots of a CreateCertificate answer (spec apis section 4.1): element 0 is the
// leaf, the last holds the roots, what is between is intermediates.
base::Result<wire::TlsIdentityRef> identity_from_chain(const std::vector<std::string>& chain,
                                                       std::string_view key_pem);

}  // namespace culvert::ca
