// SPDX-License-Identifier: Apache-2.0
#include "control/compile/credentials.h"

#include <fmt/format.h>

#include <initializer_list>

namespace culvert::control {

namespace {

// Data of a Secret or ConfigMap; null: there is no such object.
using Data = std::map<std::string, std::string>;

template <class T>
const Data* data_of(const kube::Table<T>& table, const std::string& key) {
  auto found = table.find(key);
  return found == table.end() ? nullptr : &found->second->data;
}

// The first of `keys` that is there and not empty; "" none.
std::string first_of(const Data* data, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (!data) break;
    if (auto found = data->find(key); found != data->end() && !found->second.empty()) return found->second;
  }
  return {};
}

void take_credential(const kube::ClientTls& tls, const Credentials& from, model::BackendTls& out) {
  constexpr std::string_view kSecrets = "kubernetes://", kConfigMaps = "configmap://";
  std::string name = tls.credential_name;
  bool map = name.starts_with(kConfigMaps);
  if (map) name.erase(0, kConfigMaps.size());
  if (name.starts_with(kSecrets)) name.erase(0, kSecrets.size());
  bool mutual = tls.mode == kube::ClientTls::Mode::kMutual;
  if (name.find('/') != std::string::npos) {
    out.broken = fmt::format("credentialName \"{}\" names another namespace than the waypoint's, {}",
                             tls.credential_name, from.ns);
    return;
  }
  std::string key = from.ns + "/" + name;
  const Data* data = nullptr;
  if (from.objects)
    data = map ? data_of(from.objects->config_maps, key) : data_of(from.objects->secrets, key);
  const char* kind = map ? "ConfigMap" : "Secret";
  out.roots = first_of(data, {"ca.crt", "cacert"});
  if (out.roots.empty() && from.objects && !map)
    out.roots = first_of(data_of(from.objects->secrets, key + "-cacert"), {"ca.crt", "cacert"});
  if (!data && out.roots.empty()) {
    out.broken = fmt::format("credentialName: there is no {} {}", kind, key);
  } else if (out.roots.empty() && out.verify) {
    out.broken =
        fmt::format("credentialName: {} {} has no ca.crt, and there is no {}-cacert", kind, key, key);
  } else if (mutual) {
    out.certificate = first_of(data, {"tls.crt", "cert"});
    out.key = first_of(data, {"tls.key", "key"});
    out.key_owner = from.ns;
    if (out.certificate.empty() || out.key.empty() || map)
      out.broken = fmt::format("credentialName: {} {} has no tls.crt with its tls.key", kind, key);
  }
}

}  // namespace

std::optional<model::BackendTls> compile_backend_tls(const kube::ClientTls& tls,
                                                     const Credentials& credentials) {
  using Mode = kube::ClientTls::Mode;
  // ISTIO_MUTUAL is what HBONE does already.
  if (tls.mode == Mode::kDisable || tls.mode == Mode::kIstioMutual) return std::nullopt;
  model::BackendTls out;
  out.server_name = tls.sni;
  out.subject_alt_names = tls.subject_alt_names;
  out.verify = !tls.insecure_skip_verify;
  bool system = tls.ca_certificates.empty() || tls.ca_certificates == "system";
  if (!tls.ca_crl.empty()) {
    out.broken = "caCrl is not carried out";
  } else if (!tls.credential_name.empty()) {
    take_credential(tls, credentials, out);
  } else if (!system || tls.mode == Mode::kMutual) {
    out.broken =
        "clientCertificate, privateKey and caCertificates are files of another machine: put them into a "
        "Secret in the waypoint's namespace and name it in credentialName";
  }
  if (!out.broken.empty()) out.roots = out.certificate = out.key = out.key_owner = "";
  return out;
}

}  // namespace culvert::control
