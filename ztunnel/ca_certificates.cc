// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/ca_certificates.h"

#include <utility>

#include "mesh/ca/ca_client.h"
#include "mesh/ca/cert_store.h"
#include "mesh/config/server_access.h"

namespace culvert::ztunnel {

namespace {

// CA_ADDRESS="": no connection that needs a certificate can be made, and each says so.
class NoCa final : public ca::CertFetcher {
 public:
  async::Task<base::Result<wire::TlsIdentityRef>> fetch(model::Identity identity) override {
    co_return base::fail(base::Code::kUnavailable,
                         "no certificate for " + identity.to_string() + ": CA_ADDRESS is empty");
  }
};

class StoredCertificates final : public Certificates {
 public:
  StoredCertificates(async::Loop& loop, base::Log& log, base::Rng rng,
                     std::unique_ptr<ca::CertFetcher> fetcher)
      : fetcher_(std::move(fetcher)), store_(loop, log, rng, *fetcher_) {}

  async::Task<base::Result<wire::TlsIdentityRef>> get(model::Identity identity) override {
    return store_.get(std::move(identity), ca::Priority::kRealTime);
  }
  void warm(const model::Identity& identity) override { store_.warm(identity); }
  void forget(const model::Identity& identity) override { store_.forget(identity); }
  std::vector<CertificateRow> rows() const override {
    std::vector<CertificateRow> rows;
    for (const ca::CertStore::Row& row : store_.rows()) {
      if (row.certificate) {
        rows.push_back(certificate_row(row.identity, *row.certificate));
      } else {
        rows.push_back(
            {row.identity.to_string(), row.error ? "Unavailable: " + *row.error : "Initializing", {}, {}});
      }
    }
    return rows;
  }

 private:
  std::unique_ptr<ca::CertFetcher> fetcher_;
  ca::CertStore store_;
};

}  // namespace

base::Result<std::unique_ptr<Certificates>> CaCertificates::make(async::Loop& loop, io::Network& network,
                                                                 base::Log& log, base::Rng rng,
                                                                 const config::ZtunnelConfig& config,
                                                                 const config::FileReader& files) {
  std::unique_ptr<ca::CertFetcher> fetcher = std::make_unique<NoCa>();
  if (!config.ca_address.empty()) {
    auto address = config::parse_https_url(config.ca_address, "CA_ADDRESS");
    if (!address) return base::fail(std::move(address).error());
    ca::CaClientOptions options;
    options.host = std::move(address->host);
    options.port = address->port;
    options.alternative_host = config.alt_ca_hostname;
    options.tls12 = config.tls12_enabled;
    options.read_roots = config::roots_reader(config.ca_root_ca, files);
    options.read_token = config::token_reader(config.auth_token, files);
    options.cluster_id = config.cluster_id;
    for (const auto& [key, value] : config.ca_headers) options.headers.emplace_back(key, value);
    options.lifetime = config.secret_ttl;
    options.impersonate = config.mode == config::ProxyMode::kShared;
    fetcher = std::make_unique<ca::CaClient>(loop, network, std::move(options));
  }
  return std::unique_ptr<Certificates>(
      std::make_unique<StoredCertificates>(loop, log, rng, std::move(fetcher)));
}

}  // namespace culvert::ztunnel
