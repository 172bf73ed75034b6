// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/http_path.h"

#include <vector>

namespace culvert::decide {

namespace {

using base::Code;
using base::fail;
using base::Result;
using Normalization = model::WaypointSettings::PathNormalization;

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

// Triplets in upper case, those of unreserved characters decoded (RFC 3986 section 6.2.2), "\" to "/".
Result<std::string> unify(std::string_view path, bool decode_slashes) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(path.size());
  for (size_t at = 0; at < path.size(); ++at) {
    if (path[at] == '\\') {
      out += '/';
      continue;
    }
    if (path[at] != '%') {
      out += path[at];
      continue;
    }
    int high = at + 2 < path.size() ? hex_value(path[at + 1]) : -1;
    int low = at + 2 < path.size() ? hex_value(path[at + 2]) : -1;
    if (high < 0 || low < 0) return fail(Code::kInvalid, "the path has a broken percent triplet");
    char byte = static_cast<char>(high * 16 + low);
    if (byte == '\0') return fail(Code::kInvalid, "the path hides a NUL byte");
    if (unreserved(byte)) {
      out += byte;
    } else if (decode_slashes && (byte == '/' || byte == '\\')) {
      out += '/';
    } else {
      out += '%';
      out += kHex[high];
      out += kHex[low];
    }
    at += 2;
  }
  return out;
}

// RFC 3986 section 5.2.4, but a path that leads above the root is an error.
Result<std::string> remove_dots(std::string_view path) {
  std::vector<std::string_view> kept;
  bool directory = false;  // ends with '/'
  for (size_t at = 1; at <= path.size();) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string_view segment = path.substr(at, end - at);
    bool last = end == path.size();
    directory = last && (segment == "." || segment == "..");
    if (segment == "..") {
      if (kept.empty()) return fail(Code::kInvalid, "the path leads above the root");
      kept.pop_back();
    } else if (segment != ".") {
      kept.push_back(segment);
    }
    at = end + 1;
  }
  std::string out;
  out.reserve(path.size());
  for (std::string_view segment : kept) out.append("/").append(segment);
  if (directory || out.empty()) out += '/';
  return out;
}

std::string merge_slashes(std::string_view path) {
  std::string out;
  out.reserve(path.size());
  for (char c : path) {
    if (c == '/' && out.ends_with('/')) continue;
    out += c;
  }
  return out;
}

}  // namespace

Result<RequestPath> normalize_path(std::string_view target, Normalization how) {
  target = target.substr(0, target.find('#'));
  for (char c : target) {
    unsigned char byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f) return fail(Code::kInvalid, "the path has a control byte or a space");
    if (byte > 0x7f && how != Normalization::kNone) {
      return fail(Code::kInvalid, "the path has a byte that must be percent-encoded");
    }
  }
  if (target == "*") return RequestPath{"*", ""};
  RequestPath out;
  size_t question = target.find('?');
  if (question != target.npos) out.query = target.substr(question);
  std::string_view path = target.substr(0, question);
  bool rooted = path.starts_with('/') || (path.starts_with('\\') && how != Normalization::kNone);
  if (!rooted) return fail(Code::kInvalid, "the path does not start with \"/\"");
  if (how == Normalization::kNone) {
    out.path = path;
    return out;
  }
  Result<std::string> unified = unify(path, how == Normalization::kDecodeAndMergeSlashes);
  if (!unified) return fail(std::move(unified).error());
  // Merged before the dots go, so that "/a//.." means the same either way.
  if (how != Normalization::kBase) *unified = merge_slashes(*unified);
  Result<std::string> plain = remove_dots(*unified);
  if (!plain) return fail(std::move(plain).error());
  out.path = std::move(*plain);
  return out;
}

}  // namespace culvert::decide
