// SPDX-License-Identifier: Apache-2.0
// CaService: IstioCertificateService.CreateCertificate (spec apis section 4.2, control-plane sections 4.2
// and 4.3). Authenticates the caller, decides whose certificate it may have, has the CA sign. Control loop.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "control/serve/cert_authority.h"
#include "control/serve/token.h"
#include "net/async/loop.h"
#include "net/base/log.h"
#include "net/conn/grpc.h"

namespace culvert::control {

// Who calls, by bearer token, else by a verified client certificate; one opaque refusal for the caller, the
// reason in the log.
class Authenticator {
 public:
  Authenticator(async::Loop& loop, base::Log& log, TokenKey key, std::string trust_domain,
                std::string audience)
      : loop_(loop),
        log_(log),
        key_(std::move(key)),
        trust_domain_(std::move(trust_domain)),
        audience_(std::move(audience)) {}
  // nullopt: not authenticated.
  std::optional<CallerIdentity> authenticate(const conn::GrpcCall& call) const;

 private:
  async::Loop& loop_;
  base::Log& log_;
  TokenKey key_;
  std::string trust_domain_;
  std::string audience_;
};

struct CaServiceOptions {
  std::string trust_domain = "cluster.local";
  // "ns/sa" of node proxies, which may ask for identities of their node's pods.
  std::set<std::string> trusted_node_accounts = {"istio-system/ztunnel"};
  // How long a request waits for a pod that we have not heard of yet.
  base::Duration pod_patience = std::chrono::seconds(2);
};

class CaService {
 public:
  // True if a pod of (ns, sa) that has not failed is on `node`.
  using PodOnNode =
      std::function<bool(const std::string& ns, const std::string& service_account, const std::string& node)>;
  struct Counters {
    uint64_t requests = 0;
    uint64_t issued = 0;
    uint64_t unauthenticated = 0;
    uint64_t impersonation_refused = 0;
    uint64_t csr_invalid = 0;
    uint64_t sign_errors = 0;
  };

  CaService(async::Loop& loop, base::Log& log, const CertAuthority& authority,
            const Authenticator& authenticator, PodOnNode pod_on_node, CaServiceOptions options);
  // The service stays where it is as long as `server` may call it.
  void register_on(conn::GrpcServer& server);
  const Counters& counters() const { return counters_; }

 private:
  async::Task<conn::GrpcStatus> create_certificate(conn::GrpcCall& call);
  async::Task<base::Result<std::string>> allowed_uri(CallerIdentity caller, std::string impersonated);

  async::Loop& loop_;
  base::Log& log_;
  const CertAuthority& authority_;
  const Authenticator& authenticator_;
  PodOnNode pod_on_node_;
  CaServiceOptions options_;
  Counters counters_;
};

}  // namespace culvert::control
