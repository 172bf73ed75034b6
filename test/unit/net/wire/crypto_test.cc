// SPDX-License-Identifier: Apache-2.0
#include "net/wire/crypto.h"

#include <catch2/catch.hpp>

namespace culvert::wire {

TEST_CASE("what is sealed is opened with the same key for the same use, and whole", "[crypto]") {
  const std::string key(kSealKeyBytes, 'k'), text("a\0b", 3);
  std::string sealed = seal(key, "use", text).value();
  CHECK(unseal(key, "use", sealed).value() == text);
  CHECK(seal(key, "use", text).value() != sealed);
  CHECK(unseal(key, "use", seal(key, "use", "").value()).value().empty());
  CHECK_FALSE(unseal(std::string(kSealKeyBytes, 'l'), "use", sealed));
  CHECK_FALSE(unseal(key, "other", sealed));
  for (size_t at = 0; at < sealed.size(); ++at) {
    std::string changed = sealed;
    changed[at] ^= 1;
    CHECK_FALSE(unseal(key, "use", changed));
    CHECK_FALSE(unseal(key, "use", sealed.substr(0, at)));
  }
  CHECK_FALSE(unseal(key, "use", sealed + "x"));
  CHECK_FALSE(seal("short", "use", text));
  CHECK_FALSE(unseal("", "use", sealed));
}

}  // namespace culvert::wire
