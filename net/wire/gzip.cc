// SPDX-License-Identifier: Apache-2.0
#include "net/wire/gzip.h"

#include <zlib.h>

#include <algorithm>

namespace culvert::wire {

namespace {

// Little processor for most of the gain.
constexpr int kLevel = 3;
constexpr int kGzipWindow = 15 + 16;  // the largest window, with gzip's own header

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string gzip(std::string_view text) {
  z_stream stream{};
  if (deflateInit2(&stream, kLevel, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) return {};
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  bool done = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  out.resize(done ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

bool accepts_gzip(std::string_view accept_encoding) {
  while (!accept_encoding.empty()) {
    std::string_view entry = accept_encoding.substr(0, accept_encoding.find(','));
    accept_encoding.remove_prefix(std::min(accept_encoding.size(), entry.size() + 1));
    size_t semicolon = std::min(entry.find(';'), entry.size());
    std::string_view name = trimmed(entry.substr(0, semicolon));
    if (name != "gzip" && name != "x-gzip" && name != "*") continue;
    std::string_view weight = trimmed(entry.substr(std::min(entry.size(), semicolon + 1)));
    bool none = weight == "q=0" ||
                (weight.starts_with("q=0.") && weight.substr(4).find_first_not_of('0') == weight.npos);
    if (!none) return true;
  }
  return false;
}

}  // namespace culvert::wire
