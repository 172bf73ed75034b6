// SPDX-License-Identifier: Apache-2.0
#include "mesh/model/identity.h"

#include <catch2/catch.hpp>

using culvert::model::Identity;
using culvert::model::Name;
using culvert::model::NamePool;

TEST_CASE("identities parse exactly five parts", "[C4][apis25]") {
  auto good = Identity::parse("spiffe://cluster.local/ns/default/sa/web");
  REQUIRE(good);
  CHECK(good->trust_domain == "cluster.local");
  CHECK(good->ns == "default");
  CHECK(good->service_account == "web");
  CHECK(good->to_string() == "spiffe://cluster.local/ns/default/sa/web");
  CHECK(good->principal() == "cluster.local/ns/default/sa/web");

  for (const char* text :
       {"spiffe://td.example.com/ns/a.b/sa/c.d", "spiffe://td/ns//sa/", "spiffe:///ns/x/sa/y"}) {
    INFO(text);
    auto parsed = Identity::parse(text);
    REQUIRE(parsed);
    CHECK(parsed->to_string() == text);
  }
  for (const char* text :
       {"", "spiffe://", "cluster.local/ns/a/sa/b", "http://td/ns/a/sa/b", "spiffe://td/ns/a/sa",
        "spiffe://td/ns/a", "spiffe://td/ns/a/sa/b/c", "spiffe://td/ns/a/sa/b/", "spiffe://td/ns/a/sx/b",
        "spiffe://td/nx/a/sa/b", "SPIFFE://td/ns/a/sa/b", "spiffe:/td/ns/a/sa/b"}) {
    INFO(text);
    CHECK_FALSE(Identity::parse(text));
  }
}

TEST_CASE("identities compare and hash by value") {
  Identity a{"td", "ns", "sa"}, b{"td", "ns", "sa"}, c{"td", "ns", "sb"};
  CHECK(a == b);
  CHECK(std::hash<Identity>()(a) == std::hash<Identity>()(b));
  CHECK(a < c);
}

TEST_CASE("names share text through their pool") {
  NamePool pool;
  Name first = pool.intern("default");
  CHECK(pool.intern("default").view().data() == first.view().data());
  CHECK(pool.size() == 1);
  pool.intern("gone");
  pool.sweep();
  CHECK(pool.size() == 1);
  CHECK(pool.intern("").empty());
  CHECK(first == "default");
  CHECK("default" == first);
  CHECK(Name("a") < Name("b"));
  Name copy = first;
  first = Name();
  CHECK(copy == "default");
}
