// SPDX-License-Identifier: Apache-2.0
#include "net/wire/gzip.h"

#include <zlib.h>

#include <catch2/catch.hpp>

namespace culvert::wire {
namespace {

std::string unpack(const std::string& packed, size_t bytes_max) {
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
  std::string out(bytes_max, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

}  // namespace

TEST_CASE("what is packed can be unpacked, and is smaller") {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "istio_requests_total{a=\"b\"} " + std::to_string(i) + "\n";
  std::string packed = gzip(text);
  CHECK(packed.size() < text.size() / 4);
  CHECK(unpack(packed, text.size() + 1) == text);
  CHECK(unpack(gzip(""), 10).empty());
}

TEST_CASE("who takes gzip") {
  for (const char* yes : {"gzip", "deflate, gzip;q=0.5", "x-gzip", "*", "br , gzip ; q=1"})
    CHECK(accepts_gzip(yes));
  for (const char* no : {"", "identity", "gzip;q=0", "gzip; q=0.000", "br, zstd", "gzipped", "*;q=0"}) {
    CHECK_FALSE(accepts_gzip(no));
  }
}

}  // namespace culvert::wire
