// SPDX-License-Identifier: Apache-2.0
#include "control/serve/cert_authority.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;

namespace {

constexpr const char* kCert = "ca/ca-cert.pem";
constexpr const char* kKey = "ca/ca-key.pem";
constexpr const char* kRoots = "ca/root-cert.pem";

std::string with_newline(std::string pem) {
  if (!pem.empty() && pem.back() != '\n') pem += '\n';
  return pem;
}

Result<> make_root(const StateDir& state, const std::string& trust_domain, base::WallTime now) {
  Result<wire::PrivateKey> key = wire::PrivateKey::generate_p256();
  if (!key) return fail(std::move(key).error());
  Result<wire::CertSigner> root = wire::CertSigner::self_signed(
      *key, trust_domain, now - CertAuthority::kBackdate, now + CertAuthority::kRootLifetime);
  if (!root) return fail(std::move(root).error());
  // The key first: a certificate without its key would look like a finished root.
  Result<bool> created = state.create(kKey, key->to_pem(), 0600);
  if (!created) return fail(std::move(created).error());
  if (!*created)
    return fail(Code::kExists,
                state.path(kKey) + " exists without its certificate; remove it to make a new root");
  CULVERT_TRY(state.write(kCert, root->certificate().pem, 0600));
  return state.write(kRoots, root->certificate().pem, 0644);
}

std::string read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return in ? text.str() : std::string();
}

}  // namespace

Result<CertAuthority> CertAuthority::self_signed(const StateDir& state, const std::string& trust_domain,
                                                 base::WallTime now) {
  Result<std::optional<std::string>> cert = state.read(kCert);
  if (!cert) return fail(std::move(cert).error());
  if (!cert->has_value()) {
    if (Result<> made = make_root(state, trust_domain, now); !made) return fail(std::move(made).error());
    cert = state.read(kCert);
    if (!cert) return fail(std::move(cert).error());
  }
  Result<std::optional<std::string>> key = state.read(kKey);
  if (!key) return fail(std::move(key).error());
  Result<std::optional<std::string>> roots = state.read(kRoots);
  if (!roots) return fail(std::move(roots).error());
  Result<wire::CertSigner> signer = wire::CertSigner::from_pem(cert->value_or(""), key->value_or(""));
  if (!signer) return fail(std::move(signer).error().wrap("the CA in " + state.path("ca")));
  std::string bundle = with_newline(signer->certificate().pem);
  // Roots a user has added beside ours stay trusted.
  if (roots->has_value()) {
    Result<std::vector<wire::CertInfo>> known = wire::parse_certificates(**roots);
    if (!known) return fail(std::move(known).error().wrap(state.path(kRoots)));
    for (const wire::CertInfo& root : *known) {
      if (root.pem != signer->certificate().pem) bundle += with_newline(root.pem);
    }
  }
  if (roots->value_or("") != bundle) {
    if (Result<> written = state.write(kRoots, bundle, 0644); !written)
      return fail(std::move(written).error());
  }
  return CertAuthority(std::move(*signer), {}, std::move(bundle));
}

Result<CertAuthority> CertAuthority::plugged_in(const std::string& directory) {
  auto first_of = [&](const char* a, const char* b) {
    std::string text = read_whole(directory + "/" + a);
    return text.empty() ? read_whole(directory + "/" + b) : text;
  };
  std::string cert = first_of("ca-cert.pem", "tls.crt");
  std::string key = first_of("ca-key.pem", "tls.key");
  std::string roots = first_of("root-cert.pem", "ca.crt");
  std::string chain = read_whole(directory + "/cert-chain.pem");
  if (chain.empty()) chain = cert;
  if (cert.empty() || key.empty() || roots.empty()) {
    return fail(Code::kInvalid,
                fmt::format("{}: ca-cert.pem, ca-key.pem and root-cert.pem (or tls.crt, tls.key and "
                            "ca.crt) must all be there",
                            directory));
  }
  Result<wire::CertSigner> signer = wire::CertSigner::from_pem(cert, key);
  if (!signer) return fail(std::move(signer).error().wrap("the CA in " + directory));
  Result<std::vector<wire::CertInfo>> links = wire::parse_certificates(chain);
  if (!links) return fail(std::move(links).error().wrap(directory + "/cert-chain.pem"));
  Result<std::vector<wire::CertInfo>> anchors = wire::parse_certificates(roots);
  if (!anchors) return fail(std::move(anchors).error().wrap(directory + "/root-cert.pem"));
  std::vector<std::string> intermediates;
  std::string bundle;
  for (const wire::CertInfo& anchor : *anchors) bundle += with_newline(anchor.pem);
  for (const wire::CertInfo& link : *links) {
    bool is_root = std::any_of(anchors->begin(), anchors->end(),
                               [&](const wire::CertInfo& anchor) { return anchor.pem == link.pem; });
    if (!is_root) intermediates.push_back(with_newline(link.pem));
  }
  return CertAuthority(std::move(*signer), std::move(intermediates), std::move(bundle));
}

Result<base::WallTime> CertAuthority::end_of(base::Duration lifetime, base::WallTime now) const {
  base::WallTime signer_end = signer_.certificate().not_after;
  if (signer_end <= now) return fail(Code::kInternal, "the signing certificate has expired");
  if (lifetime <= base::Duration::zero()) lifetime = kDefaultLifetime;
  if (lifetime > kLifetimeMax) {
    return fail(Code::kInvalid,
                fmt::format("a lifetime of {} was asked for; at most {} is given",
                            base::format_duration(lifetime), base::format_duration(kLifetimeMax)));
  }
  return std::min(now + lifetime, signer_end);
}

Result<std::vector<std::string>> CertAuthority::issue(const LeafRequest& request, base::WallTime now) const {
  Result<base::WallTime> end = end_of(request.lifetime, now);
  if (!end) return fail(std::move(end).error());
  Result<wire::ParsedCsr> csr = wire::parse_csr(request.csr_pem);
  if (!csr) return fail(std::move(csr).error());
  wire::LeafSpec leaf;
  leaf.public_key_der = csr->public_key_der;
  leaf.uri_sans = request.uri_sans;
  // A CN is set only where one was asked for, and then to ours (spec control-plane section 4.2).
  if (!csr->common_name.empty() && !request.uri_sans.empty())
    leaf.common_name = request.uri_sans.front().substr(0, 64);
  leaf.not_before = now - kBackdate;
  leaf.not_after = *end;
  Result<std::string> pem = signer_.sign(leaf);
  if (!pem) return fail(std::move(pem).error());
  std::vector<std::string> chain = {with_newline(std::move(*pem))};
  chain.insert(chain.end(), intermediates_.begin(), intermediates_.end());
  chain.push_back(roots_pem_);
  return chain;
}

Result<wire::TlsIdentityRef> CertAuthority::issue_server(const std::vector<std::string>& names,
                                                         base::Duration lifetime, base::WallTime now) const {
  Result<base::WallTime> end = end_of(lifetime, now);
  if (!end) return fail(std::move(end).error());
  Result<wire::PrivateKey> key = wire::PrivateKey::generate_p256();
  if (!key) return fail(std::move(key).error());
  Result<std::string> der = wire::public_key_der(*key);
  if (!der) return fail(std::move(der).error());
  wire::LeafSpec leaf;
  leaf.public_key_der = *der;
  for (const std::string& name : names) {
    if (auto ip = base::IpAddr::parse(name)) {
      leaf.ip_sans.push_back(*ip);
    } else {
      leaf.dns_sans.push_back(name);
    }
  }
  leaf.not_before = now - kBackdate;
  leaf.not_after = *end;
  Result<std::string> pem = signer_.sign(leaf);
  if (!pem) return fail(std::move(pem).error());
  std::string chain = with_newline(std::move(*pem));
  for (const std::string& link : intermediates_) chain += link;
  return wire::TlsIdentity::from_pem(chain, key->to_pem(), roots_pem_);
}

}  // namespace culvert::control
