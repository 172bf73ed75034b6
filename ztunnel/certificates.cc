// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/certificates.h"

#include <utility>

namespace culvert::ztunnel {

namespace {

std::string base64(std::string_view bytes) {
  static constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    size_t left = bytes.size() - at;
    uint32_t group = static_cast<uint32_t>(static_cast<unsigned char>(bytes[at])) << 16;
    if (left > 1) group |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + 1])) << 8;
    if (left > 2) group |= static_cast<unsigned char>(bytes[at + 2]);
    out += kAlphabet[group >> 18];
    out += kAlphabet[(group >> 12) & 63];
    out += left > 1 ? kAlphabet[(group >> 6) & 63] : '=';
    out += left > 2 ? kAlphabet[group & 63] : '=';
  }
  return out;
}

CertificateRow::Item item(const wire::CertInfo& info) {
  return {base64(info.pem), info.serial, base::format_rfc3339(info.not_before, 0),
          base::format_rfc3339(info.not_after, 0)};
}

}  // namespace

CertificateRow certificate_row(const model::Identity& identity, const wire::TlsIdentity& certificate) {
  CertificateRow row;
  row.identity = identity.to_string();
  row.state = "Available";
  for (const auto& info : certificate.chain()) row.chain.push_back(item(info));
  for (const auto& info : certificate.roots()) row.roots.push_back(item(info));
  return row;
}

base::Result<std::unique_ptr<OwnCertificates>> OwnCertificates::make(const async::Loop& loop,
                                                                     base::Duration lifetime) {
  auto key = wire::PrivateKey::generate_p256();
  if (!key) return base::fail(std::move(key).error());
  base::WallTime now = loop.wall_now();
  auto signer = wire::CertSigner::self_signed(*key, "culvert FAKE_CA", now - std::chrono::minutes(2),
                                              now + std::chrono::hours(24 * 3650));
  if (!signer) return base::fail(std::move(signer).error());
  return std::unique_ptr<OwnCertificates>(new OwnCertificates(loop, lifetime, std::move(*signer)));
}

async::Task<base::Result<wire::TlsIdentityRef>> OwnCertificates::get(model::Identity identity) {
  wire::TlsIdentityRef& slot = made_[identity];
  if (slot) {
    const wire::CertInfo& leaf = slot->leaf();
    if (loop_.wall_now() < leaf.not_before + (leaf.not_after - leaf.not_before) / 2) co_return slot;
  }
  base::Result<wire::TlsIdentityRef> issued = issue(identity);
  if (issued) slot = *issued;
  co_return issued;
}

base::Result<wire::TlsIdentityRef> OwnCertificates::issue(const model::Identity& identity) {
  auto key = wire::PrivateKey::generate_p256();
  if (!key) return base::fail(std::move(key).error());
  auto public_key = wire::public_key_der(*key);
  if (!public_key) return base::fail(std::move(public_key).error());
  wire::LeafSpec leaf;
  leaf.public_key_der = std::move(*public_key);
  leaf.uri_sans = {identity.to_string()};
  leaf.not_before = loop_.wall_now() - std::chrono::minutes(2);
  leaf.not_after = loop_.wall_now() + lifetime_;
  auto pem = signer_.sign(leaf);
  if (!pem) return base::fail(std::move(pem).error());
  return wire::TlsIdentity::from_pem(*pem, key->to_pem(), signer_.certificate().pem);
}

std::vector<CertificateRow> OwnCertificates::rows() const {
  std::vector<CertificateRow> rows;
  for (const auto& [identity, certificate] : made_) {
    if (certificate) rows.push_back(certificate_row(identity, *certificate));
  }
  return rows;
}

}  // namespace culvert::ztunnel
