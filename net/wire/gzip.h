// SPDX-License-Identifier: Apache-2.0
// gzip (RFC 1952) for the answers of our own pages: a scrape of a large node shrinks twentyfold.
#pragma once

#include <string>
#include <string_view>

namespace culvert::wire {

// Empty if zlib fails, which it does for want of memory only: send the text as it is then.
std::string gzip(std::string_view text);
// Whether an Accept-Encoding header takes gzip: named or "*", and not with q=0.
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace culvert::wire
