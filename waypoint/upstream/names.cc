// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream/names.h"

#include <algorithm>
#include <utility>

namespace culvert::waypoint {

NameCache::EntryRef NameCache::entry(const std::string& host) {
  if (auto found = entries_.find(host); found != entries_.end()) {
    if (EntryRef known = found->second.lock()) return known;
  }
  if (entries_.size() >= kNamesMax)
    std::erase_if(entries_, [](const auto& one) { return one.second.expired(); });
  if (entries_.size() >= kNamesMax) return nullptr;
  auto made = std::make_shared<Entry>(loop_, host);
  entries_[host] = made;
  return made;
}

bool NameCache::touch(const EntryRef& entry, base::Duration refresh) {
  base::TimePoint now = loop_.now();
  if (!entry->looking && now >= entry->due && tasks_.running() < kLookupsMax) {
    entry->looking = true;
    entry->settled.reset();
    tasks_.spawn(look_up(*this, entry, refresh));
  }
  if (!entry->looking) return false;
  return !entry->answered || now - *entry->answered > 2 * refresh;
}

async::Task<void> NameCache::look_up(NameCache& cache, EntryRef entry, base::Duration refresh) {
  async::Deadline deadline = async::Deadline::in(cache.loop_, kLookupTimeout);
  base::Result<std::vector<base::IpAddr>> found = co_await cache.network_.resolve(entry->host, deadline);
  base::TimePoint now = cache.loop_.now();
  std::vector<base::IpAddr> addresses;
  for (const base::IpAddr& ip : found ? *found : std::vector<base::IpAddr>()) {
    bool seen = std::find(addresses.begin(), addresses.end(), ip) != addresses.end();
    if (!seen && may_dial(ip, cache.own_) && addresses.size() < kAddressesMax) addresses.push_back(ip);
  }
  if (!found) {
    entry->problem = found.error().message();
  } else if (addresses.empty()) {
    entry->problem = "resolve " + entry->host + ": no address that may be dialled";
  } else {
    entry->problem.clear();
    entry->answered = now;
    // Name servers turn their answers round; that is no news.
    if (!std::is_permutation(addresses.begin(), addresses.end(), entry->addresses.begin(),
                             entry->addresses.end())) {
      entry->addresses = std::move(addresses);
      ++entry->version;
    }
  }
  base::Duration wait = entry->problem.empty() ? refresh : std::min(refresh, kRetryAfter);
  entry->due = now + std::chrono::duration_cast<base::Duration>(wait * (0.9 + 0.1 * cache.rng_.unit()));
  entry->looking = false;
  entry->settled.set();
}

bool may_dial(const base::IpAddr& ip, const base::IpAddr& own) {
  static const base::Cidr kRefused[] = {
      *base::Cidr::parse("0.0.0.0/8"),      *base::Cidr::parse("127.0.0.0/8"),
      *base::Cidr::parse("169.254.0.0/16"), *base::Cidr::parse("224.0.0.0/3"),
      *base::Cidr::parse("::/127"),         *base::Cidr::parse("fe80::/10"),
      *base::Cidr::parse("ff00::/8")};
  return ip != own && std::none_of(std::begin(kRefused), std::end(kRefused),
                                   [&](const base::Cidr& range) { return range.contains(ip); });
}

bool is_wildcard(std::string_view hostname) { return hostname.starts_with("*."); }

std::optional<std::string> name_within(std::string_view wildcard, std::string_view authority) {
  constexpr size_t kNameBytesMax = 253;
  std::string name(authority.substr(0, authority.rfind(':')));
  if (name.ends_with('.')) name.pop_back();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  std::string suffix(wildcard.substr(1));
  bool inside = is_wildcard(wildcard) && name.size() > suffix.size() && name.size() <= kNameBytesMax &&
                name.ends_with(suffix) && name.front() != '.' && name.find("..") == std::string::npos;
  bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
  return inside && plain ? std::optional(std::move(name)) : std::nullopt;
}

}  // namespace culvert::waypoint
