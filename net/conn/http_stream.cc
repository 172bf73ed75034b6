// SPDX-License-Identifier: Apache-2.0
#include "net/conn/http_stream.h"

namespace culvert::conn {

std::string_view shown_method(const wire::Headers& request) {
  if (upgrade_of(request)) return "GET";
  const std::string* method = wire::find_header(request, ":method");
  return method ? std::string_view(*method) : std::string_view{};
}

const std::string* upgrade_of(const wire::Headers& request) {
  return wire::find_header(request, ":protocol");
}

}  // namespace culvert::conn
