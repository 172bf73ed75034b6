// SPDX-License-Identifier: Apache-2.0
// The small parts of the node proxy: PROXY header, addresses of the control plane, the stop signal.
#include <catch2/catch.hpp>

#include "mesh/config/server_access.h"
#include "net/async/stop_signal.h"
#include "net/async/wait.h"
#include "net/wire/proxy_header.h"
#include "test/support/sim_loop.h"

using namespace culvert;

namespace {
base::SocketAddr addr(std::string_view text) { return *base::SocketAddr::parse(text); }

async::Task<base::Result<int>> slow(async::Loop& loop, bool& destroyed) {
  struct Mark {
    bool& flag;
    ~Mark() { flag = true; }
  } mark{destroyed};
  co_await async::sleep_for(loop, std::chrono::seconds(5));
  co_return 7;
}
async::Task<base::Result<int>> guarded(async::StopSignal& signal, async::Loop& loop, bool& destroyed) {
  base::Result<int> result = co_await async::until_stopped(signal, slow(loop, destroyed));
  co_return result;
}
}  // namespace

TEST_CASE("the PROXY v2 header", "[I8]") {
  std::string header = wire::proxy_v2_header(addr("10.0.0.1:4096"), addr("10.0.0.2:80"), "spiffe://a");
  CHECK(header.substr(0, 12) == std::string("\r\n\r\n\0\r\nQUIT\n", 12));
  CHECK(header.substr(12, 4) == std::string("\x21\x11\x00\x19", 4));
  CHECK(header.substr(16, 12) == std::string("\x0a\x00\x00\x01\x0a\x00\x00\x02\x10\x00\x00\x50", 12));
  CHECK(header.substr(28) == std::string("\xd0\x00\x0aspiffe://a", 13));
  CHECK(wire::proxy_v2_header(addr("[::1]:1"), addr("[::2]:2"), "").size() == 16 + 36);
  CHECK(wire::proxy_v2_header(addr("[::1]:1"), addr("1.1.1.1:2"), "").substr(12) ==
        std::string("\x21\x01\x00\x00", 4));
}

TEST_CASE("control plane addresses") {
  auto plain = config::parse_https_url("https://istiod.istio-system.svc:15012", "XDS_ADDRESS");
  REQUIRE(plain);
  CHECK(plain->host == "istiod.istio-system.svc");
  CHECK(plain->port == 15012);
  CHECK(config::parse_https_url("https://[::1]:1", "X")->host == "::1");
  CHECK(config::parse_https_url("https://a", "X")->port == 443);
  for (const char* bad : {"http://a:1", "https://", "https://a:0", "https://a:b", "https://[::1", "a:1"}) {
    INFO(bad);
    auto refused = config::parse_https_url(bad, "XDS_ADDRESS");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message().find("XDS_ADDRESS") == 0);
  }
}

TEST_CASE("tokens are read anew and trimmed; a missing file is no token") {
  std::string content = " abc\n";
  config::FileReader files = [&](const std::string& path) -> base::Result<std::string> {
    if (path == "/token") return content;
    return base::fail(base::Code::kNotFound, path);
  };
  auto token = config::token_reader("/token", files);
  CHECK(*token() == "abc");
  content = "def";
  CHECK(*token() == "def");
  content = " \n";
  CHECK_FALSE(token());
  CHECK_FALSE(config::token_reader("/gone", files)());
  CHECK(*config::token_reader("literal-token", files)() == "literal-token");
  CHECK(config::token_reader("", files)()->empty());
  CHECK(*config::roots_reader("-----BEGIN CERTIFICATE-----", files)() == "-----BEGIN CERTIFICATE-----");
  CHECK_FALSE(config::roots_reader("/gone", files)());
}

TEST_CASE("a stop signal ends what is waited for, once") {
  test::SimLoop loop;
  async::StopSignal signal(loop);
  bool destroyed = false;
  SECTION("not stopped") { CHECK(*loop.run(guarded(signal, loop, destroyed)) == 7); }
  SECTION("stopped before") {
    signal.stop(base::Error(base::Code::kDenied, "first"));
    signal.stop(base::Error(base::Code::kClosed, "second"));
    auto result = loop.run(guarded(signal, loop, destroyed));
    CHECK(result.error().message() == "first");
  }
  SECTION("stopped while waiting") {
    async::CallTimer timer([&] { signal.stop(base::Error(base::Code::kDenied, "policy")); });
    loop.arm(timer, loop.now() + std::chrono::seconds(1));
    auto before = loop.now();
    auto result = loop.run(guarded(signal, loop, destroyed));
    CHECK(result.error().message() == "policy");
    CHECK(destroyed);
    CHECK(loop.now() - before < std::chrono::seconds(2));
  }
  SECTION("the waiting task is cancelled") {
    auto task = guarded(signal, loop, destroyed);
    task.start(std::noop_coroutine());
    task.reset();
    CHECK(destroyed);
    signal.stop(base::Error(base::Code::kDenied, "nobody listens"));
    loop.run_ready();
  }
}
