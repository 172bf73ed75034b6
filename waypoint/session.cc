// SPDX-License-Identifier: Apache-2.0
#include "waypoint/session.h"

#include <fmt/format.h>

#include <charconv>
#include <vector>

#include "net/wire/crypto.h"

namespace culvert::waypoint {

namespace {

using std::chrono::seconds;

// What is older than this many shares of `idle` is told again.
constexpr int kRenewals = 4;
constexpr size_t kTokenBytesMax = 2048;

int64_t since_epoch(base::WallTime at) {
  return std::chrono::duration_cast<seconds>(at.time_since_epoch()).count();
}

template <class Number>
bool read_number(std::string_view text, Number& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// began, used, namespace, hostname, port, subset, host; none of them holds a NUL.
std::string to_text(const Session& session) {
  const ClusterKey& to = session.cluster;
  std::string out;
  for (const std::string& part :
       {std::to_string(since_epoch(session.began)), std::to_string(since_epoch(session.used)),
        to.service.ns.str(), to.service.hostname.str(), std::to_string(to.port), to.subset}) {
    out += part + '\0';
  }
  return out + session.host;
}

std::optional<Session> from_text(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t end = 0; (end = text.find('\0')) != text.npos; text.remove_prefix(end + 1)) {
    parts.push_back(text.substr(0, end));
  }
  int64_t began = 0, used = 0;
  Session out;
  if (parts.size() != 6 || !read_number(parts[0], began) || !read_number(parts[1], used) ||
      !read_number(parts[4], out.cluster.port)) {
    return std::nullopt;
  }
  out.began = base::WallTime(seconds(began));
  out.used = base::WallTime(seconds(used));
  out.cluster.service = {parts[2], parts[3]};
  out.cluster.subset = parts[5];
  out.host = text;
  return out;
}

}  // namespace

std::optional<Session> read_session(const model::SessionPersistence& rules,
                                    const decide::HttpRequestFacts& facts, std::string_view key,
                                    std::string_view use, base::WallTime now) {
  std::optional<std::string> header;
  if (rules.header) header = decide::joined_header(facts.headers, rules.name);
  std::optional<std::string_view> token = header;
  if (!rules.header) token = decide::cookie(facts.headers, rules.name);
  if (!token || token->size() > kTokenBytesMax) return std::nullopt;
  auto sealed = wire::base64url_decode(*token);
  if (!sealed) return std::nullopt;
  auto text = wire::unseal(key, use, *sealed);
  if (!text) return std::nullopt;
  std::optional<Session> out = from_text(*text);
  if (!out) return std::nullopt;
  if (rules.absolute.count() > 0 && now - out->began >= rules.absolute) return std::nullopt;
  if (rules.idle.count() > 0 && now - out->used >= rules.idle) return std::nullopt;
  return out;
}

std::optional<std::pair<std::string, std::string>> write_session(const model::SessionPersistence& rules,
                                                                 const Session& session, std::string_view key,
                                                                 std::string_view use, bool https) {
  auto sealed = wire::seal(key, use, to_text(session));
  if (!sealed) return std::nullopt;
  std::string token = wire::base64url_encode(*sealed);
  if (rules.header) return std::pair(rules.name, std::move(token));
  std::string cookie = fmt::format("{}={}; Path=/; HttpOnly", rules.name, token);
  if (https) cookie += "; Secure";
  if (rules.permanent) {
    auto left = std::chrono::duration_cast<seconds>(session.began + rules.absolute - session.used).count();
    cookie += fmt::format("; Max-Age={}", left);
  }
  return std::pair(std::string("set-cookie"), std::move(cookie));
}

bool is_stale(const model::SessionPersistence& rules, const Session& session, base::WallTime now) {
  return rules.idle.count() > 0 && now - session.used >= rules.idle / kRenewals;
}

}  // namespace culvert::waypoint
