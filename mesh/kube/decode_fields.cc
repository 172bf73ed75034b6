// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/decode_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "mesh/kube/decode.h"
#include "mesh/model/text_match.h"

namespace culvert::kube {

namespace {
constexpr size_t kTargetRefsMax = 16;
}

std::optional<base::Duration> decode_duration(const Cursor& at) {
  if (at.absent()) return std::nullopt;
  std::string text = at.text();
  if (text == "0") return base::Duration{};
  bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isdigit(c) || c == '.' || c == 'h' || c == 'm' || c == 's' || c == 'u' || c == 'n';
  });
  if (!plain || text.empty() || std::isdigit(static_cast<unsigned char>(text.back()))) {
    at.fail(fmt::format("\"{}\" is not a duration; write for example 30s, 1.5s, 100ms or 1h30m", text));
    return std::nullopt;
  }
  base::Result<base::Duration> duration = base::parse_duration(text);
  if (!duration) {
    at.fail(fmt::format("\"{}\" is not a duration; write for example 30s, 1.5s, 100ms or 1h30m", text));
    return std::nullopt;
  }
  return *duration;
}

base::Duration decode_duration(const Cursor& at, base::Duration fallback) {
  return decode_duration(at).value_or(fallback);
}

double decode_number(const Cursor& at, double low, double high, double fallback) {
  if (at.absent()) return fallback;
  std::string text = at.text();
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number) || number < low ||
      number > high) {
    at.fail(fmt::format("\"{}\" must be a number from {} to {}", text, low, high));
    return fallback;
  }
  return number;
}

std::optional<bool> decode_flag(const Cursor& at) {
  if (at.absent()) return std::nullopt;
  return at.flag();
}

uint32_t decode_count(const Cursor& at, uint32_t fallback, uint32_t high) {
  return static_cast<uint32_t>(at.integer(0, high, fallback));
}

uint16_t decode_port(const Cursor& at) {
  return at.absent() ? uint16_t{0} : static_cast<uint16_t>(at.integer(1, 65535, 1));
}

std::string decode_needed(const Cursor& map, const std::string& key) {
  Cursor at = map.at(key);
  std::string text = at.text();
  if (text.empty() && (at.absent() || at.is_scalar())) at.fail("is missing");
  return text;
}

std::string decode_host(const Cursor& at, bool wildcard) {
  std::string text = at.text();
  std::string_view name = text;
  if (wildcard && name == "*") return text;
  if (wildcard && name.starts_with("*.")) name.remove_prefix(2);
  bool good = !name.empty() && name.size() <= 253 && name.front() != '.' && name.back() != '.' &&
              name.find("..") == std::string_view::npos &&
              std::all_of(name.begin(), name.end(), [](unsigned char c) {
                return std::isalnum(c) || c == '-' || c == '_' || c == '.';
              });
  if (!good) at.fail(fmt::format("\"{}\" is not a host name", text));
  return text;
}

void check_header_name(const Cursor& at, const std::string& name) {
  // RFC 9110 section 5.6.2: token. A pseudo-header's name begins with a colon.
  std::string_view rest = name;
  if (rest.starts_with(":")) rest.remove_prefix(1);
  bool good = !rest.empty() && rest.size() <= 256 && std::all_of(rest.begin(), rest.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
  if (!good) at.fail(fmt::format("\"{}\" is not a header's name", name));
}

void check_header_value(const Cursor& at, const std::string& value) {
  bool good = std::none_of(value.begin(), value.end(), [](char c) {
    auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  });
  if (!good) at.fail("a header's value must not hold line ends or control characters");
}

std::string decode_header_name(const Cursor& at) {
  std::string name = at.text();
  check_header_name(at, name);
  return name;
}

bool check_regex(const Cursor& at, const std::string& pattern) {
  auto compiled = model::Regex::compile(pattern);
  if (!compiled) at.fail(compiled.error().message());
  return compiled.has_value();
}

base::Result<std::string> decode_base64(std::string_view text) {
  auto value = [](char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  std::string out;
  uint32_t bits = 0;
  size_t digits = 0, padding = 0;
  for (char c : text) {
    if (std::isspace(static_cast<unsigned char>(c))) continue;
    int digit = value(c);
    bool pad = c == '=';
    if ((digit < 0 && !pad) || (padding > 0 && !pad)) return base::fail(base::Code::kInvalid, "not base64");
    padding += pad;
    bits = bits << 6 | static_cast<uint32_t>(pad ? 0 : digit);
    if (++digits % 4 != 0) continue;
    out += {static_cast<char>(bits >> 16), static_cast<char>(bits >> 8), static_cast<char>(bits)};
    bits = 0;
  }
  if (digits % 4 != 0 || padding > 2) return base::fail(base::Code::kInvalid, "not base64");
  out.resize(out.size() - padding);
  return out;
}

StringMatch decode_string_match(const Cursor& at, bool may_be_present) {
  at.only({"exact", "prefix", "regex"});
  StringMatch match;
  size_t given = 0;
  using Kind = StringMatch::Kind;
  for (auto [key, kind] : {std::pair("exact", Kind::kExact), std::pair("prefix", Kind::kPrefix),
                           std::pair("regex", Kind::kRegex)}) {
    Cursor value = at.at(key);
    if (value.absent()) continue;
    given++;
    match = {kind, value.text()};
  }
  if (given > 1) at.fail("must have one of exact, prefix and regex");
  if (given == 0 && !may_be_present) at.fail("must have one of exact, prefix and regex");
  if (may_be_present && (given == 0 || (match.kind == Kind::kRegex && match.value == "*"))) {
    return {Kind::kPresent, ""};
  }
  if (match.kind == Kind::kRegex) check_regex(at.at("regex"), match.value);
  return match;
}

HeaderEdits decode_header_edits(const Cursor& at) {
  at.only({"set", "add", "remove"});
  HeaderEdits edits;
  for (auto [key, list] : {std::pair("set", &edits.set), std::pair("add", &edits.add)}) {
    for (const auto& [name, value] : at.at(key).fields()) {
      check_header_name(value, name);
      list->push_back({name, value.text()});
      check_header_value(value, list->back().value);
    }
  }
  for (const Cursor& name : at.at("remove").items()) {
    edits.remove.push_back(decode_header_name(name));
  }
  return edits;
}

std::optional<Labels> decode_match_labels(const Cursor& selector) {
  if (selector.absent()) return std::nullopt;
  selector.only({"matchLabels"});
  return selector.at("matchLabels").labels();
}

TargetRef decode_target_ref(const Cursor& ref) {
  ref.only({"group", "kind", "name", "namespace", "sectionName"});
  TargetRef out{ref.at("group").text(), decode_needed(ref, "kind"), decode_needed(ref, "name"),
                ref.at("namespace").text(), ref.at("sectionName").text()};
  return out;
}

std::vector<TargetRef> decode_target_refs(const Cursor& spec) {
  std::vector<TargetRef> out;
  Cursor one = spec.at("targetRef"), many = spec.at("targetRefs");
  if (!one.absent()) out.push_back(decode_target_ref(one));
  for (const Cursor& ref : many.items()) out.push_back(decode_target_ref(ref));
  if (!one.absent() && !many.absent()) one.fail("excludes targetRefs; write both there");
  if (many.is_list() && many.items().empty()) many.fail("must not be empty; leave it out to cover all");
  if (out.size() > kTargetRefsMax) many.fail(fmt::format("must have at most {} items", kTargetRefsMax));
  if (!out.empty() && !spec.at("selector").absent()) {
    spec.at("selector").fail("excludes targetRefs; keep one of the two");
  }
  return out;
}

std::vector<std::string> decode_export_to(const Cursor& at) {
  std::vector<std::string> out;
  for (const Cursor& item : at.items()) {
    out.push_back(item.text());
    if (out.back() != "." && out.back() != "*" && out.back() != "~" && !is_kube_name(out.back())) {
      item.fail(fmt::format("\"{}\" must be \".\", \"*\", \"~\" or a namespace", out.back()));
    }
  }
  return out;
}

}  // namespace culvert::kube
