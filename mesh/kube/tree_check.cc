// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/tree_check.h"

#include <fmt/format.h>

namespace culvert::kube {

namespace {

// RFC 3629: no surrogates, nothing overlong, nothing above U+10FFFF. Others could not go on the wire: a proxy
// refuses a whole response for one such text in it.
bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    auto byte = [&](size_t i) {
      return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
    };
    unsigned lead = byte(0);
    if (lead < 0x80) {
      at++;
      continue;
    }
    size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4) return false;
    unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < low || byte(1) > high) return false;
    for (size_t i = 2; i <= more; ++i) {
      if (byte(i) < 0x80 || byte(i) > 0xbf) return false;
    }
    at += more + 1;
  }
  return true;
}

}  // namespace

bool TreeCheck::walk(const YamlValue& value, int depth_left) {
  if (depth_left == 0 || left_ == 0) return false;
  left_--;
  if (value.kind == YamlValue::Kind::kScalar && !is_utf8(value.text)) find("text that is not UTF-8", value);
  for (const YamlValue* item : value.items) {
    if (!walk(*item, depth_left - 1)) return false;
  }
  std::set<std::string_view> keys;
  for (const auto& [key, field] : value.fields) {
    if (key->kind == YamlValue::Kind::kScalar) check_key(*key, keys);
    if (!walk(*field, depth_left - 1)) return false;
  }
  return true;
}

void TreeCheck::check_key(const YamlValue& key, std::set<std::string_view>& keys) {
  // Of two equal keys only one would be read, and what is merged in would not be read at all.
  if (!is_utf8(key.text)) {
    find("a key that is not UTF-8", key);
  } else if (!keys.insert(key.text).second) {
    find(fmt::format("key \"{}\" is given twice", key.text), key);
  } else if (key.text == "<<") {
    find("merge keys (<<) are not read; write the fields out", key);
  }
}

void TreeCheck::find(std::string message, const YamlValue& at) {
  if (!fault_) fault_ = {std::move(message), at.line};
}

}  // namespace culvert::kube
