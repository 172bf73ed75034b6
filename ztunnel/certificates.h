// SPDX-License-Identifier: Apache-2.0
// Certificates: where the control loop gets workload certificates from: the mesh's CA (`ca::CertStore` behind
// ca_certificates.h), or with FAKE_CA a root made at start that only this process trusts.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "mesh/model/identity.h"
#include "net/async/loop.h"
#include "net/async/task.h"
#include "net/base/result.h"
#include "net/wire/tls.h"
#include "net/wire/x509.h"
#include "ztunnel/config_dump.h"

namespace culvert::ztunnel {

class Certificates {
 public:
  virtual ~Certificates() = default;
  // A connection waits: the present certificate, or the next answer of the CA.
  virtual async::Task<base::Result<wire::TlsIdentityRef>> get(model::Identity identity) = 0;
  // A pod of our node will need it soon.
  virtual void warm(const model::Identity& identity) = 0;
  // Its last pod on our node has gone.
  virtual void forget(const model::Identity& identity) = 0;
  virtual std::vector<CertificateRow> rows() const = 0;
};

// FAKE_CA=true.
class OwnCertificates final : public Certificates {
 public:
  static base::Result<std::unique_ptr<OwnCertificates>> make(const async::Loop& loop,
                                                             base::Duration lifetime);
  async::Task<base::Result<wire::TlsIdentityRef>> get(model::Identity identity) override;
  void warm(const model::Identity&) override {}
  void forget(const model::Identity& identity) override { made_.erase(identity); }
  std::vector<CertificateRow> rows() const override;

 private:
  OwnCertificates(const async::Loop& loop, base::Duration lifetime, wire::CertSigner signer)
      : loop_(loop), lifetime_(lifetime), signer_(std::move(signer)) {}
  base::Result<wire::TlsIdentityRef> issue(const model::Identity& identity);

  const async::Loop& loop_;
  base::Duration lifetime_;
  wire::CertSigner signer_;
  std::unordered_map<model::Identity, wire::TlsIdentityRef> made_;
};

// One row of /config_dump for a certificate at hand.
CertificateRow certificate_row(const model::Identity& identity, const wire::TlsIdentity& certificate);

}  // namespace culvert::ztunnel
