// SPDX-License-Identifier: Apache-2.0
#include "control/serve/jwks_fetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "net/wire/jwt.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Field;
using base::Result;
using nlohmann::json;

namespace {

constexpr std::string_view kDiscovery = "/.well-known/openid-configuration";

// The value of Cache-Control: max-age; none if it is not said.
std::optional<base::Duration> max_age(const wire::Headers& headers) {
  const std::string* value = wire::find_header(headers, "cache-control");
  constexpr std::string_view kName = "max-age=";
  size_t at = value ? value->find(kName) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  uint32_t seconds = 0;
  const char* from = value->data() + at + kName.size();
  auto [end, error] = std::from_chars(from, value->data() + value->size(), seconds);
  if (error != std::errc()) return std::nullopt;
  return std::chrono::seconds(seconds);
}

Result<Url> keys_of_issuer(const std::string& document, bool tls) {
  json read = json::parse(document, nullptr, false);
  if (!read.is_object()) return fail(Code::kInvalid, "its discovery document is no JSON object");
  auto uri = read.find("jwks_uri");
  if (uri == read.end() || !uri->is_string())
    return fail(Code::kInvalid, "its discovery document has no jwks_uri");
  Result<Url> url = parse_url(uri->get<std::string>());
  if (!url) return fail(std::move(url).error().wrap("jwks_uri"));
  if (tls && !url->tls) return fail(Code::kDenied, "its discovery document leads from https to http");
  return url;
}

}  // namespace

JwksFetcher::JwksFetcher(async::Loop& loop, io::Network& network, base::Log& log, JwksOptions options,
                         std::function<void()> on_change)
    : loop_(loop),
      network_(network),
      log_(log),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      tasks_(loop) {}

Result<> JwksFetcher::load(std::string_view text) {
  json read = json::parse(text, nullptr, false);
  if (!read.is_object()) return fail(Code::kInvalid, "the kept key sets are no JSON object");
  for (const auto& [uri, keys] : read.items()) {
    if (!keys.is_string() || entries_.size() >= options_.uris_max) continue;
    std::string set = keys.get<std::string>();
    if (!wire::Jwks::parse(set) || total_bytes_ + set.size() > options_.total_bytes_max) continue;
    auto [entry, fresh] = entries_.try_emplace(uri);
    if (!fresh) continue;
    total_bytes_ += set.size();
    entry->second.keys = std::move(set);
    entry->second.unused_since = loop_.now();
    entry->second.next = loop_.now();
  }
  return {};
}

std::string JwksFetcher::save() const {
  json out = json::object();
  for (const auto& [uri, entry] : entries_) {
    if (!entry.keys.empty()) out[uri] = entry.keys;
  }
  return out.dump(-1, ' ', true, json::error_handler_t::replace);
}

// The one that was out of use for longest gives way; false: all are in use.
bool JwksFetcher::make_room() {
  if (entries_.size() < options_.uris_max) return true;
  auto oldest = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!it->second.unused_since || it->second.running) continue;
    if (oldest == entries_.end() || *it->second.unused_since < *oldest->second.unused_since) oldest = it;
  }
  if (oldest == entries_.end()) return false;
  total_bytes_ -= oldest->second.keys.size();
  entries_.erase(oldest);
  return true;
}

std::string JwksFetcher::keys(const std::string& uri) {
  auto found = entries_.find(uri);
  if (found == entries_.end()) {
    if (!make_room()) {
      if (counters_.refused++ == 0) {
        log_.error("jwks", "too many key sets; tokens of further issuers are refused",
                   {Field::text("uri", uri), Field::number("limit", options_.uris_max)});
      }
      return {};
    }
    found = entries_.try_emplace(uri).first;
    found->second.next = loop_.now();
  }
  Entry& entry = found->second;
  entry.asked = true;
  entry.unused_since.reset();
  if (!entry.running) {
    entry.running = true;
    tasks_.spawn(keep(uri));
  }
  return entry.keys;
}

void JwksFetcher::begin_round() {
  for (auto& [uri, entry] : entries_) entry.asked = false;
}

void JwksFetcher::end_round() {
  base::TimePoint now = loop_.now();
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    if (!entry.asked && !entry.unused_since) entry.unused_since = now;
    bool drop = entry.unused_since && !entry.running &&
                (entry.keys.empty() || now - *entry.unused_since > kUnusedMax);
    if (drop) total_bytes_ -= entry.keys.size();
    it = drop ? entries_.erase(it) : std::next(it);
  }
}

base::Duration JwksFetcher::retry_after(unsigned failures) const {
  if (failures <= kQuickRetries) return kQuickRetry;
  base::Duration wait = kRetryFirst;
  for (unsigned i = kQuickRetries + 1; i < failures && wait < kRetryMax; ++i) wait *= 2;
  return std::min(wait, kRetryMax);
}

// While the URI is in use. A running entry is not erased.
async::Task<void> JwksFetcher::keep(std::string uri) {
  Entry& entry = entries_.at(uri);
  for (;;) {
    // Never from within a compilation.
    co_await async::sleep_until(loop_, async::Deadline::at(std::max(entry.next, loop_.now())));
    if (entry.unused_since) break;
    Result<Fetched> got = co_await fetch(uri);
    entry.next = loop_.now() + take(uri, entry, std::move(got));
  }
  entry.running = false;
}

async::Task<Result<JwksFetcher::Fetched>> JwksFetcher::fetch(std::string uri) {
  Result<Url> url = parse_url(uri);
  if (!url) co_return fail(std::move(url).error());
  if (uri.ends_with(kDiscovery)) {
    Result<wire::H1Message> document = co_await http_get(loop_, network_, *url, options_.http);
    if (!document) co_return fail(std::move(document).error().wrap("OIDC discovery"));
    url = keys_of_issuer(document->body, url->tls);
    if (!url) co_return fail(std::move(url).error());
  }
  Result<wire::H1Message> answer = co_await http_get(loop_, network_, *url, options_.http);
  if (!answer) co_return fail(std::move(answer).error());
  std::optional<base::Duration> age = max_age(answer->headers);
  co_return Fetched{std::move(answer->body), age.value_or(base::Duration::max())};
}

Result<> JwksFetcher::accept(Entry& entry, Fetched& got, const std::string& uri) {
  Result<wire::Jwks> set = wire::Jwks::parse(got.keys);
  if (!set) return fail(std::move(set).error());
  size_t others = total_bytes_ - entry.keys.size();
  if (others + got.keys.size() > options_.total_bytes_max)
    return fail(Code::kExhausted, "all key sets together are too large");
  if (got.keys == entry.keys) return {};
  total_bytes_ = others + got.keys.size();
  bool first = entry.keys.empty();
  entry.keys = std::move(got.keys);
  log_.info("jwks", first ? "keys fetched" : "keys have changed",
            {Field::text("uri", uri), Field::number("keys", set->size())});
  for (const std::string& why : set->skipped()) {
    log_.warn("jwks", "a key is not used", {Field::text("uri", uri), Field::text("key", why)});
  }
  on_change_();
  return {};
}

// Until the next fetch.
base::Duration JwksFetcher::take(const std::string& uri, Entry& entry, Result<Fetched> got) {
  base::Duration age = got ? got->max_age : base::Duration::max();
  Result<> taken = got ? accept(entry, *got, uri) : Result<>(fail(std::move(got).error()));
  if (taken) {
    counters_.fetched++;
    if (entry.failures > 0) log_.info("jwks", "keys can be fetched again", {Field::text("uri", uri)});
    entry.failures = 0;
    entry.error.clear();
    entry.fetched_at = loop_.wall_now();
    return std::clamp(age, std::min(kRefreshMin, options_.refresh_every), options_.refresh_every);
  }
  counters_.failed++;
  entry.error = taken.error().message();
  entry.failures++;
  base::Duration wait = retry_after(entry.failures);
  // The quick ones are one failure to whoever reads the log.
  if (entry.failures == 1 || entry.failures > kQuickRetries) {
    log_.warn("jwks",
              entry.keys.empty() ? "no keys: tokens of the issuer are refused"
                                 : "keys cannot be refreshed: the last good ones stay in force",
              {Field::text("uri", uri), Field::text("error", entry.error),
               Field::text("again_in", base::format_duration(wait))});
  }
  return wait;
}

size_t JwksFetcher::uris() const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(),
                                           [](const auto& one) { return !one.second.unused_since; }));
}

size_t JwksFetcher::without_keys() const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), [](const auto& one) {
    return !one.second.unused_since && one.second.keys.empty();
  }));
}

std::string JwksFetcher::describe() const {
  json out = json::array();
  for (const auto& [uri, entry] : entries_) {
    json one = {{"uri", uri},
                {"inUse", !entry.unused_since},
                {"bytes", entry.keys.size()},
                {"failures", entry.failures},
                {"error", entry.error}};
    if (entry.fetched_at) one["fetchedAt"] = base::format_rfc3339(*entry.fetched_at, 0);
    out.push_back(std::move(one));
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace culvert::control
