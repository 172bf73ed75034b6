// SPDX-License-Identifier: Apache-2.0
#include "net/wire/x509.h"

#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/nid.h>
#include <openssl/rand.h>

#include "net/wire/tls_internal.h"

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;

std::string openssl_reason() {
  uint32_t packed = ERR_get_error();
  ERR_clear_error();
  if (packed == 0) return {};
  const char* reason = ERR_reason_error_string(packed);
  std::string text = reason ? reason : "unknown";
  for (char& c : text) c = c == '_' ? ' ' : static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return text;
}

bssl::UniquePtr<BIO> memory_bio(std::string_view text) {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

namespace {

std::string bio_text(BIO* bio) {
  const uint8_t* data = nullptr;
  size_t size = 0;
  BIO_mem_contents(bio, &data, &size);
  return std::string(base::as_text({data, size}));
}

std::string x509_pem(X509* cert) {
  bssl::UniquePtr<BIO> out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(out.get(), cert);
  return bio_text(out.get());
}

Result<base::WallTime> wall_time(const ASN1_TIME* time) {
  bssl::UniquePtr<ASN1_TIME> epoch(ASN1_TIME_set(nullptr, 0));
  int days = 0;
  int seconds = 0;
  if (!epoch || !ASN1_TIME_diff(&days, &seconds, epoch.get(), time)) {
    return fail(Code::kInvalid, "a certificate date cannot be read");
  }
  // Beyond this a nanosecond clock overflows; a root may well outlive it on paper.
  constexpr int64_t kLatest = 9'000'000'000;
  int64_t total = std::min(int64_t{days} * 86400 + seconds, kLatest);
  return base::WallTime(std::chrono::seconds(std::max(total, -kLatest)));
}

std::string asn1_text(const ASN1_STRING* text) {
  return std::string(
      base::as_text({ASN1_STRING_get0_data(text), static_cast<size_t>(ASN1_STRING_length(text))}));
}

void collect_sans(GENERAL_NAMES* names, CertInfo& info) {
  if (!names) return;
  for (size_t i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_URI) info.uri_sans.push_back(asn1_text(name->d.uniformResourceIdentifier));
    if (name->type == GEN_DNS) info.dns_sans.push_back(asn1_text(name->d.dNSName));
    if (name->type == GEN_IPADD) {
      auto ip = base::IpAddr::from_bytes(base::as_bytes(asn1_text(name->d.iPAddress)));
      if (ip) info.ip_sans.push_back(*ip);
    }
  }
}

}  // namespace

Result<CertInfo> cert_info(X509* cert) {
  CertInfo info;
  auto not_before = wall_time(X509_get0_notBefore(cert));
  auto not_after = wall_time(X509_get0_notAfter(cert));
  if (!not_before) return fail(std::move(not_before).error());
  if (!not_after) return fail(std::move(not_after).error());
  info.not_before = *not_before;
  info.not_after = *not_after;
  bssl::UniquePtr<BIGNUM> serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), nullptr));
  bssl::UniquePtr<char> decimal(serial ? BN_bn2dec(serial.get()) : nullptr);
  if (!decimal) return fail(Code::kInvalid, "a certificate serial number cannot be read");
  info.serial = decimal.get();
  bssl::UniquePtr<GENERAL_NAMES> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert, NID_subject_alt_name, nullptr, nullptr)));
  collect_sans(names.get(), info);
  info.is_ca = X509_check_ca(cert) == 1;
  info.pem = x509_pem(cert);
  ERR_clear_error();
  return info;
}

Result<bssl::UniquePtr<X509>> parse_x509(std::string_view pem) {
  bssl::UniquePtr<BIO> bio = memory_bio(pem);
  bssl::UniquePtr<X509> cert(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (!cert) return fail(Code::kInvalid, "not a PEM certificate: " + openssl_reason());
  return cert;
}

Result<std::vector<CertInfo>> parse_certificates(std::string_view pem) {
  constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----";
  std::vector<CertInfo> certs;
  for (size_t at; (at = pem.find(kBegin)) != std::string_view::npos;) {
    auto cert = parse_x509(pem.substr(at));
    if (!cert) return fail(std::move(cert).error().wrap(fmt::format("certificate {}", certs.size() + 1)));
    auto info = cert_info(cert->get());
    if (!info) return fail(std::move(info).error());
    certs.push_back(std::move(*info));
    pem.remove_prefix(at + kBegin.size());
  }
  return certs;
}

PrivateKey::PrivateKey(EVP_PKEY* key) : key_(key, EVP_PKEY_free) {}

Result<PrivateKey> PrivateKey::generate_p256() {
  bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (!ec || !key || !EC_KEY_generate_key(ec.get()) || !EVP_PKEY_set1_EC_KEY(key.get(), ec.get())) {
    return fail(Code::kInternal, "make a P-256 key: " + openssl_reason());
  }
  return PrivateKey(key.release());
}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem) {
  bssl::UniquePtr<BIO> bio = memory_bio(pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr);
  if (!key) return fail(Code::kInvalid, "not a PEM private key: " + openssl_reason());
  return PrivateKey(key);
}

std::string PrivateKey::to_pem() const {
  bssl::UniquePtr<BIO> out(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(out.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return bio_text(out.get());
}

Result<std::string> public_key_der(const PrivateKey& key) {
  uint8_t* der = nullptr;
  int length = i2d_PUBKEY(key.raw(), &der);
  if (length < 0) return fail(Code::kInternal, "encode public key: " + openssl_reason());
  std::string out(base::as_text({der, static_cast<size_t>(length)}));
  OPENSSL_free(der);
  return out;
}

namespace {

bssl::UniquePtr<GENERAL_NAME> text_name(int type, std::string_view text) {
  bssl::UniquePtr<GENERAL_NAME> name(GENERAL_NAME_new());
  ASN1_IA5STRING* value = ASN1_IA5STRING_new();
  ASN1_STRING_set(value, text.data(), static_cast<int>(text.size()));
  GENERAL_NAME_set0_value(name.get(), type, value);
  return name;
}

bssl::UniquePtr<GENERAL_NAME> ip_name(const base::IpAddr& ip) {
  bssl::UniquePtr<GENERAL_NAME> name(GENERAL_NAME_new());
  ASN1_OCTET_STRING* value = ASN1_OCTET_STRING_new();
  ASN1_STRING_set(value, ip.bytes().data(), static_cast<int>(ip.bytes().size()));
  GENERAL_NAME_set0_value(name.get(), GEN_IPADD, value);
  return name;
}

bool add_text_extension(X509* cert, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, cert, cert, nullptr, nullptr, 0);
  bssl::UniquePtr<X509_EXTENSION> extension(
      X509V3_EXT_nconf_nid(nullptr, &context, nid, const_cast<char*>(value)));
  return extension && X509_add_ext(cert, extension.get(), -1) == 1;
}

bool set_serial(X509* cert) {
  uint8_t random[16];
  RAND_bytes(random, sizeof random);
  random[0] &= 0x7f;  // positive, at most 16 bytes (RFC 5280 section 4.1.2.2 allows 20)
  bssl::UniquePtr<BIGNUM> number(BN_bin2bn(random, sizeof random, nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(cert)) != nullptr;
}

bool set_dates(X509* cert, base::WallTime not_before, base::WallTime not_after) {
  auto seconds = [](base::WallTime t) {
    return std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count();
  };
  return ASN1_TIME_set(X509_getm_notBefore(cert), seconds(not_before)) &&
         ASN1_TIME_set(X509_getm_notAfter(cert), seconds(not_after));
}

const EVP_MD* digest_for(EVP_PKEY* key) {
  return EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

}  // namespace

Result<std::string> make_csr(const PrivateKey& key, std::string_view uri_san) {
  bssl::UniquePtr<X509_REQ> request(X509_REQ_new());
  bssl::UniquePtr<GENERAL_NAMES> names(GENERAL_NAMES_new());
  sk_GENERAL_NAME_push(names.get(), text_name(GEN_URI, uri_san).release());
  bssl::UniquePtr<X509_EXTENSION> extension(X509V3_EXT_i2d(NID_subject_alt_name, 1, names.get()));
  STACK_OF(X509_EXTENSION)* extensions = sk_X509_EXTENSION_new_null();
  bool made = extension != nullptr;
  if (made) sk_X509_EXTENSION_push(extensions, extension.get());
  made = made && X509_REQ_set_version(request.get(), 0) && X509_REQ_set_pubkey(request.get(), key.raw()) &&
         X509_REQ_add_extensions(request.get(), extensions) &&
         X509_REQ_sign(request.get(), key.raw(), digest_for(key.raw())) > 0;
  sk_X509_EXTENSION_free(extensions);
  if (!made) return fail(Code::kInternal, "make certificate request: " + openssl_reason());
  bssl::UniquePtr<BIO> out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(out.get(), request.get());
  return bio_text(out.get());
}

namespace {

Result<> check_key_kind(EVP_PKEY* key) {
  switch (EVP_PKEY_id(key)) {
    case EVP_PKEY_RSA:
      if (EVP_PKEY_bits(key) >= 2048) return {};
      return fail(Code::kInvalid,
                  fmt::format("RSA key of {} bits; at least 2048 are needed", EVP_PKEY_bits(key)));
    case EVP_PKEY_EC: {
      int curve = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)));
      if (curve == NID_X9_62_prime256v1 || curve == NID_secp384r1) return {};
      return fail(Code::kInvalid, "elliptic curve key that is neither P-256 nor P-384");
    }
    case EVP_PKEY_ED25519: return {};
    default: return fail(Code::kInvalid, "key of a kind we do not sign (RSA, P-256, P-384 and Ed25519 are)");
  }
}

}  // namespace

Result<ParsedCsr> parse_csr(std::string_view pem) {
  constexpr size_t kCsrBytesMax = 64 * 1024;
  if (pem.size() > kCsrBytesMax) return fail(Code::kInvalid, "certificate request above 64 KiB");
  bssl::UniquePtr<BIO> bio = memory_bio(pem);
  bssl::UniquePtr<X509_REQ> request(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  if (!request) return fail(Code::kInvalid, "not a PEM certificate request: " + openssl_reason());
  bssl::UniquePtr<EVP_PKEY> key(X509_REQ_get_pubkey(request.get()));
  if (!key) return fail(Code::kInvalid, "certificate request without a usable key: " + openssl_reason());
  CULVERT_TRY(check_key_kind(key.get()));
  if (X509_REQ_verify(request.get(), key.get()) != 1) {
    return fail(Code::kInvalid,
                "the certificate request is not signed with its own key: " + openssl_reason());
  }
  ParsedCsr parsed;
  uint8_t* der = nullptr;
  int length = i2d_PUBKEY(key.get(), &der);
  if (length < 0) return fail(Code::kInvalid, "encode public key: " + openssl_reason());
  parsed.public_key_der.assign(base::as_text({der, static_cast<size_t>(length)}));
  OPENSSL_free(der);
  X509_NAME* subject = X509_REQ_get_subject_name(request.get());
  int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) parsed.common_name = asn1_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(request.get())) {
    bssl::UniquePtr<GENERAL_NAMES> names(
        static_cast<GENERAL_NAMES*>(X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)));
    CertInfo info;
    collect_sans(names.get(), info);
    parsed.uri_sans = std::move(info.uri_sans);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  }
  ERR_clear_error();
  return parsed;
}

Result<CertSigner> CertSigner::from_pem(std::string_view cert_pem, std::string_view key_pem) {
  auto certs = parse_certificates(cert_pem);
  if (!certs) return fail(std::move(certs).error());
  if (certs->empty()) return fail(Code::kInvalid, "no certificate found");
  auto key = PrivateKey::from_pem(key_pem);
  if (!key) return fail(std::move(key).error());
  CertInfo& info = certs->front();
  if (!info.is_ca) return fail(Code::kInvalid, "the signing certificate is not a CA certificate");
  auto cert = parse_x509(info.pem);
  if (!cert) return fail(std::move(cert).error());
  if (X509_check_private_key(cert->get(), key->raw()) != 1) {
    return fail(Code::kInvalid, "the signing key does not belong to the signing certificate");
  }
  return CertSigner(std::move(info), std::move(*key));
}

Result<CertSigner> CertSigner::self_signed(const PrivateKey& key, std::string_view organization,
                                           base::WallTime not_before, base::WallTime not_after) {
  bssl::UniquePtr<X509> cert(X509_new());
  X509_NAME* subject = X509_get_subject_name(cert.get());
  std::string name(organization);
  bool made =
      X509_set_version(cert.get(), X509_VERSION_3) && set_serial(cert.get()) &&
      set_dates(cert.get(), not_before, not_after) &&
      X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, reinterpret_cast<const uint8_t*>(name.data()),
                                 static_cast<int>(name.size()), -1, 0) &&
      X509_set_issuer_name(cert.get(), subject) && X509_set_pubkey(cert.get(), key.raw()) &&
      add_text_extension(cert.get(), NID_basic_constraints, "critical,CA:TRUE") &&
      add_text_extension(cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign") &&
      add_text_extension(cert.get(), NID_subject_key_identifier, "hash") &&
      X509_sign(cert.get(), key.raw(), digest_for(key.raw())) > 0;
  if (!made) return fail(Code::kInternal, "make root certificate: " + openssl_reason());
  return from_pem(x509_pem(cert.get()), key.to_pem());
}

Result<std::string> CertSigner::sign(const LeafSpec& leaf) const {
  auto issuer = parse_x509(info_.pem);
  if (!issuer) return fail(std::move(issuer).error());
  auto* der = reinterpret_cast<const uint8_t*>(leaf.public_key_der.data());
  bssl::UniquePtr<EVP_PKEY> key(d2i_PUBKEY(nullptr, &der, static_cast<long>(leaf.public_key_der.size())));
  if (!key) return fail(Code::kInvalid, "unusable public key: " + openssl_reason());
  bssl::UniquePtr<GENERAL_NAMES> names(GENERAL_NAMES_new());
  for (const std::string& uri : leaf.uri_sans)
    sk_GENERAL_NAME_push(names.get(), text_name(GEN_URI, uri).release());
  for (const std::string& dns : leaf.dns_sans)
    sk_GENERAL_NAME_push(names.get(), text_name(GEN_DNS, dns).release());
  for (const base::IpAddr& ip : leaf.ip_sans) sk_GENERAL_NAME_push(names.get(), ip_name(ip).release());
  bssl::UniquePtr<X509> cert(X509_new());
  bool made = X509_set_version(cert.get(), X509_VERSION_3) && set_serial(cert.get()) &&
              set_dates(cert.get(), leaf.not_before, leaf.not_after) &&
              X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer->get())) &&
              X509_set_pubkey(cert.get(), key.get());
  if (made && !leaf.common_name.empty()) {
    made = X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const uint8_t*>(leaf.common_name.data()),
                                      static_cast<int>(leaf.common_name.size()), -1, 0) == 1;
  }
  made = made && add_text_extension(cert.get(), NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
         add_text_extension(cert.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
         add_text_extension(cert.get(), NID_basic_constraints, "critical,CA:FALSE") &&
         X509_add1_ext_i2d(cert.get(), NID_subject_alt_name, names.get(), 1, X509V3_ADD_DEFAULT) == 1 &&
         X509_sign(cert.get(), key_.raw(), digest_for(key_.raw())) > 0;
  if (!made) return fail(Code::kInternal, "sign certificate: " + openssl_reason());
  return x509_pem(cert.get());
}

}  // namespace culvert::wire
