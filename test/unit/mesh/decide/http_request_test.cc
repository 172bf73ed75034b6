// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/http_request.h"

#include <catch2/catch.hpp>

#include "test/unit/mesh/decide/http_facts.h"

using namespace culvert;
using namespace culvert::decide;

TEST_CASE("header lines of one name are joined by commas", "[2.1.1]") {
  Request request;
  request.with("x", "1").with("y", "2").with("x", "3");
  CHECK(joined_header(request.headers, "x") == "1,3");
  CHECK(joined_header(request.headers, "y") == "2");
  CHECK_FALSE(joined_header(request.headers, "z"));
}

TEST_CASE("the first parameter of a name counts, as written", "[2.1.2]") {
  CHECK(query_parameter("a=1&b=2&a=3", "a") == "1");
  CHECK(query_parameter("a=1&b=%20&c", "b") == "%20");
  CHECK(query_parameter("a=1&b=2&c", "c") == "");
  CHECK(query_parameter("a==x", "a") == "=x");
  CHECK_FALSE(query_parameter("ab=1", "a"));
  CHECK_FALSE(query_parameter("", "a"));
  CHECK(query_parameter("&&a=1&", "a") == "1");
}

TEST_CASE("the first cookie of a name", "[2.3.2]") {
  Request request;
  request.with("cookie", "a=1; b=\"two\" ;c").with("cookie", "d=4;a=5;e==");
  CHECK(cookie(request.headers, "a") == "1");
  CHECK(cookie(request.headers, "b") == "two");
  CHECK_FALSE(cookie(request.headers, "c"));
  CHECK(cookie(request.headers, "d") == "4");
  CHECK(cookie(request.headers, "e") == "=");
  CHECK_FALSE(cookie({}, "a"));
}

TEST_CASE("gRPC is told by its content type", "[2.4.2]") {
  auto grpc = [](std::string type) { return is_grpc(Request().with("content-type", type).headers); };
  CHECK(grpc("application/grpc"));
  CHECK(grpc("application/grpc+proto"));
  CHECK(grpc("application/grpc;charset=x"));
  CHECK_FALSE(grpc("application/grpc-web"));
  CHECK_FALSE(grpc("application/json"));
  CHECK_FALSE(is_grpc({}));
}

TEST_CASE("the client as trusted proxies tell it", "[2.6.2]") {
  base::IpAddr source = *base::IpAddr::parse("10.0.0.9");
  auto remote = [&](std::string list, uint32_t trusted) {
    return remote_address(Request().with("x-forwarded-for", list).headers, trusted, source).to_string();
  };
  CHECK(remote("1.1.1.1, 2.2.2.2", 0) == "10.0.0.9");
  CHECK(remote("1.1.1.1, 2.2.2.2", 1) == "2.2.2.2");
  CHECK(remote("1.1.1.1,2.2.2.2", 2) == "1.1.1.1");
  CHECK(remote("1.1.1.1, 2.2.2.2", 3) == "10.0.0.9");
  CHECK(remote("1.1.1.1, nonsense", 1) == "10.0.0.9");
  CHECK(remote("::1", 1) == "::1");
  CHECK(remote_address({}, 1, source) == source);
  Request lines;
  lines.with("x-forwarded-for", "1.1.1.1").with("x-forwarded-for", "2.2.2.2");
  CHECK(remote_address(lines.headers, 2, source).to_string() == "1.1.1.1");
}
