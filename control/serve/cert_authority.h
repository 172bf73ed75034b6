// SPDX-License-Identifier: Apache-2.0
// CertAuthority: the mesh's CA (spec control-plane section 4, apis section 4.2). A self-signed root made once
// and kept in the state directory, or certificates plugged in by the user.
#pragma once

#include <string>
#include <vector>

#include "control/serve/state_dir.h"
#include "net/wire/x509.h"

namespace culvert::control {

struct LeafRequest {
  std::string csr_pem;                // only its key counts, and whether it names a CN
  std::vector<std::string> uri_sans;  // from the authenticated caller, never from the request
  base::Duration lifetime{0};         // 0 or less: the default
};

class CertAuthority {
 public:
  static constexpr base::Duration kDefaultLifetime = std::chrono::hours(24);
  static constexpr base::Duration kLifetimeMax = std::chrono::hours(24 * 90);
  static constexpr base::Duration kRootLifetime = std::chrono::hours(24 * 3650);
  // Clocks of other machines may be behind ours.
  static constexpr base::Duration kBackdate = std::chrono::minutes(2);

  // ca/ca-cert.pem, ca/ca-key.pem, ca/root-cert.pem; made if absent. Extra roots in root-cert.pem are kept.
  static base::Result<CertAuthority> self_signed(const StateDir& state, const std::string& trust_domain,
                                                 base::WallTime now);
  // ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem (or tls.crt, tls.key, ca.crt) in `directory`; a
  // partial set is an error.
  static base::Result<CertAuthority> plugged_in(const std::string& directory);

  // Leaf, each intermediate, and the root bundle as the last element; every PEM ends with a newline.
  base::Result<std::vector<std::string>> issue(const LeafRequest& request, base::WallTime now) const;
  // The control plane's own server certificate.
  base::Result<wire::TlsIdentityRef> issue_server(const std::vector<std::string>& names,
                                                  base::Duration lifetime, base::WallTime now) const;
  const std::string& roots_pem() const { return roots_pem_; }
  const wire::CertInfo& signing_certificate() const { return signer_.certificate(); }

 private:
  CertAuthority(wire::CertSigner signer, std::vector<std::string> intermediates, std::string roots_pem)
      : signer_(std::move(signer)),
        intermediates_(std::move(intermediates)),
        roots_pem_(std::move(roots_pem)) {}
  base::Result<base::WallTime> end_of(base::Duration lifetime, base::WallTime now) const;

  wire::CertSigner signer_;
  std::vector<std::string> intermediates_;  // PEM, one each
  std::string roots_pem_;
};

}  // namespace culvert::control
