// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/identity.h"

#include <array>

#include "mesh/model/index.h"

namespace culvert::model {
namespace {
constexpr std::string_view kScheme = "spiffe://";
}

base::Result<Identity> Identity::parse(std::string_view uri) {
  auto refuse = [&] {
    return base::fail(base::Code::kInvalid,
                      "\"" + std::string(uri) +
                          "\" is not an identity of the form "
                          "spiffe://<trust domain>/ns/<namespace>/sa/<service account>");
  };
  if (!uri.starts_with(kScheme)) return refuse();
  std::string_view rest = uri.substr(kScheme.size());
  std::array<std::string_view, 5> parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    size_t slash = rest.find('/');
    bool last = i + 1 == parts.size();
    if ((slash == std::string_view::npos) != last) return refuse();
    parts[i] = rest.substr(0, slash);
    if (!last) rest.remove_prefix(slash + 1);
  }
  if (parts[1] != "ns" || parts[3] != "sa") return refuse();
  return Identity{parts[0], parts[2], parts[4]};
}

std::string Identity::to_string() const { return std::string(kScheme) + principal(); }

std::string Identity::principal() const {
  std::string text;
  text.reserve(trust_domain.view().size() + ns.view().size() + service_account.view().size() + 8);
  text.append(trust_domain.view()).append("/ns/").append(ns.view());
  text.append("/sa/").append(service_account.view());
  return text;
}

}  // namespace culvert::model

size_t std::hash<culvert::model::Identity>::operator()(
    const culvert::model::Identity& identity) const noexcept {
  using culvert::model::detail::mix;
  std::hash<culvert::model::Name> text;
  return mix(text(identity.trust_domain), mix(text(identity.ns), text(identity.service_account)));
}
