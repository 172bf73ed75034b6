// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/workload.h"

#include <algorithm>

#include "mesh/model/index.h"
#include "mesh/model/policy.h"

namespace culvert::model {

std::string_view to_string(WorkloadType type) {
  switch (type) {
    case WorkloadType::kDeployment: return "deployment";
    case WorkloadType::kCronjob: return "cronjob";
    case WorkloadType::kPod: return "pod";
    case WorkloadType::kJob: return "job";
  }
  return "deployment";
}

std::string_view to_string(TunnelProtocol protocol) {
  return protocol == TunnelProtocol::kHbone ? "HBONE" : "NONE";
}

std::string NetworkAddress::to_string() const { return network.str() + "/" + ip.to_string(); }

base::Result<NamespacedHostname> NamespacedHostname::parse(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.find('/', slash + 1) != std::string_view::npos) {
    return base::fail(base::Code::kInvalid,
                      "\"" + std::string(text) + "\" is not of the form namespace/hostname");
  }
  return NamespacedHostname{text.substr(0, slash), text.substr(slash + 1)};
}

std::string NamespacedHostname::to_string() const { return ns.str() + "/" + hostname.str(); }

std::string GatewayAddress::to_string() const {
  std::string where = std::visit([](const auto& to) { return to.to_string(); }, destination);
  return where + ":" + std::to_string(hbone_mtls_port);
}

const Membership* Workload::membership(const NamespacedHostname& service) const {
  auto at =
      std::lower_bound(services.begin(), services.end(), service,
                       [](const Membership& m, const NamespacedHostname& key) { return m.service < key; });
  return at != services.end() && at->service == service ? &*at : nullptr;
}

const PortMapping* Service::port(uint16_t service_port) const {
  auto at = std::find_if(ports.begin(), ports.end(),
                         [&](const PortMapping& mapping) { return mapping.service_port == service_port; });
  return at == ports.end() ? nullptr : &*at;
}

std::string_view to_string(PolicyScope scope) {
  switch (scope) {
    case PolicyScope::kGlobal: return "Global";
    case PolicyScope::kNamespace: return "Namespace";
    case PolicyScope::kWorkloadSelector: return "WorkloadSelector";
  }
  return "Global";
}

std::string_view to_string(PolicyAction action) { return action == PolicyAction::kDeny ? "Deny" : "Allow"; }

bool StringMatch::matches(std::string_view value) const {
  switch (kind) {
    case Kind::kExact: return value == text.view();
    case Kind::kPrefix: return value.starts_with(text.view());
    case Kind::kSuffix: return value.ends_with(text.view());
    case Kind::kPresence: return !value.empty();
  }
  return false;
}

bool PolicyMatch::empty() const {
  return namespaces.empty() && not_namespaces.empty() && principals.empty() && not_principals.empty() &&
         source_ips.empty() && not_source_ips.empty() && destination_ips.empty() &&
         not_destination_ips.empty() && destination_ports.empty() && not_destination_ports.empty() &&
         service_accounts.empty() && not_service_accounts.empty();
}

std::string Policy::key() const { return ns.str() + "/" + name.str(); }

}  // namespace culvert::model

size_t std::hash<culvert::model::NetworkAddress>::operator()(
    const culvert::model::NetworkAddress& address) const noexcept {
  return culvert::model::detail::AddressTraits::hash(address);
}

size_t std::hash<culvert::model::NamespacedHostname>::operator()(
    const culvert::model::NamespacedHostname& name) const noexcept {
  return culvert::model::detail::HostTraits::hash(name);
}
