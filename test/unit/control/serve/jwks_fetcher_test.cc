// SPDX-License-Identifier: Apache-2.0
// Key sets fetched over a simulated network: when, from whom, how often again, and what is kept.
#include "control/serve/jwks_fetcher.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>

#include "control/serve/cert_authority.h"
#include "net/conn/tls_stream.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

using namespace std::chrono_literals;

std::string key_set(char letter) {
  return R"({"keys":[{"kty":"OKP","crv":"Ed25519","kid":")" + std::string(1, letter) + R"(","x":")" +
         std::string(43, letter == 'b' ? 'E' : 'A') + "\"}]}";
}

std::string reply(const std::string& body, const std::string& headers = "",
                  const std::string& status = "200 OK") {
  return "HTTP/1.1 " + status + "\r\ncontent-length: " + std::to_string(body.size()) + "\r\n" + headers +
         "\r\n" + body;
}

struct LogLines final : base::Log {
  using base::Log::write;
  bool enabled(base::Level, std::string_view) const override { return true; }
  void write(base::Level, std::string_view, std::string_view message, std::span<const base::Field>) override {
    lines.emplace_back(message);
  }
  size_t count(std::string_view text) const {
    return static_cast<size_t>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    }));
  }
  std::vector<std::string> lines;
};

struct World {
  World() {
    auto made = control::CertAuthority::self_signed(*control::StateDir::open(dir.path() + "/ca"),
                                                    "cluster.local", loop.wall_now());
    ca = std::make_unique<control::CertAuthority>(std::move(*made));
    identity = *ca->issue_server({"keys.example"}, 24h * 30, loop.wall_now());
    network.names["keys.example"] = {*base::IpAddr::parse("10.0.0.9")};
    network.names["other.example"] = {*base::IpAddr::parse("10.0.0.9")};
    network.names["local.example"] = {base::IpAddr::loopback_v4()};
    options.http.read_roots = [this]() -> base::Result<std::string> { return ca->roots_pem(); };
    listen(443, true);
    listen(80, false);
  }
  void listen(uint16_t port, bool tls) {
    io::ListenOptions plain;
    listeners.push_back(std::move(*there->listen({base::IpAddr::any_v4(), port}, plain)));
    serving.spawn(serve(*listeners.back(), tls));
  }
  void make() {
    fetcher = std::make_unique<control::JwksFetcher>(loop, *here, log, options, [this] {
      changes++;
      compile();
    });
  }
  // As the control plane does.
  std::string compile() {
    fetcher->begin_round();
    std::string out;
    for (const std::string& uri : wanted) out += fetcher->keys(uri);
    fetcher->end_round();
    return out;
  }
  async::Task<void> serve(io::Listener& listener, bool tls) {
    for (;;) {
      auto accepted = co_await io::accept(listener);
      if (!accepted) co_return;
      connections++;
      serving.spawn(answer(std::move(accepted->stream), tls));
    }
  }
  async::Task<void> answer(std::unique_ptr<io::ByteStream> stream, bool tls) {
    if (tls) {
      conn::TlsServerOptions server{identity, {}};
      server.tls.alpn = {"http/1.1"};
      server.tls.client_certificate_required = false;
      server.tls.tls12 = true;
      auto secured = co_await conn::tls_accept(loop, std::move(stream), std::move(server),
                                               async::Deadline::in(loop, 10s));
      if (!secured) co_return;
      stream = std::move(*secured);
    }
    std::string request;
    std::array<uint8_t, 4096> buffer;
    while (request.find("\r\n\r\n") == std::string::npos) {
      auto got = co_await io::read_some(*stream, buffer);
      if (!got || *got == 0) co_return;
      request.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
    requests.push_back(request.substr(0, request.find("\r\n")));
    heads = request;
    std::string path = request.substr(4, request.find(' ', 4) - 4);
    auto known = pages.find(path);
    std::string answer = known == pages.end() ? reply("", "", "404 Not Found") : known->second;
    for (const std::string& piece : {answer.substr(0, answer.size() / 2), answer.substr(answer.size() / 2)}) {
      (void)co_await io::write_all(*stream, base::as_bytes(piece));
      if (slow > base::Duration::zero()) co_await async::sleep_for(loop, slow);
    }
    stream->shutdown_write();
    co_await async::sleep_for(loop, 1s);
  }

  TempDir dir;
  SimLoop loop;
  SimNetwork network{loop};
  SimHost& ours = network.add_host("culvertd", "a", {*base::IpAddr::parse("10.0.0.1")});
  SimHost& theirs = network.add_host("keys", "b", {*base::IpAddr::parse("10.0.0.9")});
  std::unique_ptr<io::Network> here = network.process(ours), there = network.process(theirs);
  std::unique_ptr<control::CertAuthority> ca;
  wire::TlsIdentityRef identity;
  std::map<std::string, std::string> pages;
  std::vector<std::string> requests, wanted{"https://keys.example/jwks"};
  std::string heads;
  base::Duration slow{0};
  size_t connections = 0, changes = 0;
  LogLines log;
  control::JwksOptions options;
  std::vector<std::unique_ptr<io::Listener>> listeners;
  async::Scope serving{loop};
  std::unique_ptr<control::JwksFetcher> fetcher;
};

}  // namespace

TEST_CASE("keys are fetched over verified TLS and tell when they came", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.make();
  CHECK(w.compile().empty());  // nothing is fetched from within a compilation
  CHECK(w.fetcher->without_keys() == 1);
  w.loop.run_for(1s);
  CHECK(w.compile() == key_set('a'));
  CHECK(w.changes == 1);
  CHECK(w.requests == std::vector<std::string>{"GET /jwks HTTP/1.1"});
  CHECK_THAT(w.heads, Catch::Contains("host: keys.example\r\n"));
  CHECK(w.fetcher->without_keys() == 0);
  CHECK(w.fetcher->uris() == 1);
  CHECK(w.log.count("keys fetched") == 1);
}

TEST_CASE("a rotation is seen at the next refresh, and only a change compiles anew", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.make();
  w.compile();
  w.loop.run_for(25min);
  CHECK(w.requests.size() == 2);
  CHECK(w.changes == 1);
  w.pages["/jwks"] = reply(key_set('b'));
  w.loop.run_for(20min);
  CHECK(w.requests.size() == 3);
  CHECK(w.changes == 2);
  CHECK(w.compile() == key_set('b'));
}

TEST_CASE("a shorter max-age is kept, within a minute", "[waypoint-2.7]") {
  struct Row {
    std::string header;
    size_t requests;  // within 20 min and a half
  };
  for (const Row& row :
       {Row{"cache-control: public, max-age=300\r\n", 5}, Row{"cache-control: max-age=1\r\n", 21},
        Row{"cache-control: max-age=99999\r\n", 2}, Row{"cache-control: no-store\r\n", 2}}) {
    INFO(row.header);
    World w;
    w.pages["/jwks"] = reply(key_set('a'), row.header);
    w.make();
    w.compile();
    w.loop.run_for(20min + 30s);
    CHECK(w.requests.size() == row.requests);
  }
}

TEST_CASE("the last good keys stay while the server is down", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.make();
  w.compile();
  w.loop.run_for(1s);
  w.pages["/jwks"] = reply("down", "", "503 Service Unavailable");
  w.loop.run_for(21min);
  CHECK(w.compile() == key_set('a'));
  CHECK(w.requests.size() == 1 + 1 + 7);  // the refresh, and seven quick ones
  CHECK(w.log.count("last good ones stay in force") == 2);
  w.loop.run_for(1h);  // after 1, 2, 4, 8, 16 min
  CHECK(w.requests.size() == 9 + 5);
  w.pages["/jwks"] = reply(key_set('b'));
  w.loop.run_for(1h);
  CHECK(w.compile() == key_set('b'));
  CHECK(w.log.count("can be fetched again") == 1);
}

TEST_CASE("what is no key set is refused", "[waypoint-2.7]") {
  World w;
  auto refused = [&](const std::string& page) {
    w.pages["/jwks"] = page;
    w.make();
    w.compile();
    w.loop.run_for(500ms);
    CHECK(w.compile().empty());
    CHECK(w.changes == 0);
    CHECK(w.fetcher->counters().failed == 1);
    CHECK(w.log.count("no keys: tokens of the issuer are refused") == 1);
    w.log.lines.clear();
  };
  SECTION("not JSON") { refused(reply("<html>hello</html>")); }
  SECTION("no keys") { refused(reply("{\"keys\":[]}")); }
  SECTION("not HTTP") { refused("SSH-2.0-OpenSSH\r\n\r\n"); }
  SECTION("cut") { refused("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"keys\""); }
  SECTION("huge") { refused(reply(std::string((1 << 20) + 1, ' '))); }
  SECTION("endless head") { refused("HTTP/1.1 200 OK\r\nx: " + std::string(64 * 1024, 'x')); }
  SECTION("no content") { refused(reply("", "", "204 No Content")); }
}

TEST_CASE("a slow server costs its deadline, no more", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.slow = 10s;
  w.make();
  w.compile();
  w.loop.run_for(4900ms);
  CHECK(w.fetcher->counters().failed == 0);
  w.loop.run_for(200ms);
  CHECK(w.fetcher->counters().failed == 1);
  CHECK_THAT(w.fetcher->describe(), Catch::Contains("deadline"));
}

TEST_CASE("who cannot prove the name is not believed", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  SECTION("another name") { w.wanted = {"https://other.example/jwks"}; }
  SECTION("another root") {
    TempDir other;
    auto strange = control::CertAuthority::self_signed(*control::StateDir::open(other.path() + "/ca"),
                                                       "cluster.local", w.loop.wall_now());
    std::string pem = strange->roots_pem();
    w.options.http.read_roots = [pem]() -> base::Result<std::string> { return pem; };
  }
  SECTION("no roots") {
    w.options.http.read_roots = []() -> base::Result<std::string> {
      return base::fail(base::Code::kNotFound, "no such file");
    };
  }
  w.make();
  w.compile();
  w.loop.run_for(500ms);
  CHECK(w.compile().empty());
  CHECK(w.requests.empty());
  CHECK(w.fetcher->counters().failed == 1);
}

TEST_CASE("plain http is spoken where it is written", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks?x=1"] = reply(key_set('a'));
  w.wanted = {"http://keys.example/jwks?x=1"};
  w.make();
  w.compile();
  w.loop.run_for(1s);
  CHECK(w.compile() == key_set('a'));
}

TEST_CASE("an issuer's discovery document leads to its keys", "[waypoint-2.7]") {
  World w;
  std::string tail = "/.well-known/openid-configuration";
  w.wanted = {"https://keys.example/realm" + tail};
  auto document = [](const std::string& text) { return reply(text); };
  SECTION("as it should be") {
    w.pages["/realm" + tail] = document(R"({"issuer":"x","jwks_uri":"https://keys.example/jwks"})");
    w.pages["/jwks"] = reply(key_set('a'));
    w.make();
    w.compile();
    w.loop.run_for(1s);
    CHECK(w.compile() == key_set('a'));
  }
  SECTION("out of TLS, without keys, or no document") {
    w.pages["/jwks"] = reply(key_set('a'));
    for (const char* text :
         {R"({"jwks_uri":"http://keys.example/jwks"})", R"({"jwks_uri":7})", "{}", "[]", ""}) {
      INFO(text);
      w.pages["/realm" + tail] = document(text);
      w.make();
      w.compile();
      w.loop.run_for(500ms);
      CHECK(w.compile().empty());
      CHECK(w.fetcher->counters().failed == 1);
    }
  }
}

TEST_CASE("redirects are followed within the host, a few times, never out of TLS", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  auto to = [](const std::string& where) { return reply("", "location: " + where + "\r\n", "302 Found"); };
  auto keys_at = [&](const std::string& uri) {
    w.wanted = {uri};
    w.make();
    w.compile();
    w.loop.run_for(500ms);
    return w.compile() == key_set('a');
  };
  w.pages["/path"] = to("/jwks");
  w.pages["/full"] = to("https://keys.example/jwks");
  w.pages["/two"] = to("/path");
  w.pages["/three"] = to("/two");
  w.pages["/four"] = to("/three");
  w.pages["/round"] = to("/round");
  w.pages["/away"] = to("https://other.example/jwks");
  w.pages["/double"] = to("//other.example/jwks");
  w.pages["/plain"] = to("http://keys.example/jwks");
  w.pages["/nowhere"] = reply("", "", "302 Found");
  for (const char* good : {"path", "full", "two", "three"})
    CHECK(keys_at(std::string("https://keys.example/") + good));
  for (const char* bad : {"four", "round", "away", "double", "plain", "nowhere"}) {
    INFO(bad);
    CHECK_FALSE(keys_at(std::string("https://keys.example/") + bad));
  }
  CHECK(keys_at("http://keys.example/full"));  // into TLS
}

TEST_CASE("what only this machine reaches is not asked for", "[waypoint-2.7]") {
  for (const char* uri : {"http://127.0.0.1:8080/debug", "http://[::1]/", "http://169.254.169.254/latest",
                          "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/", "http://local.example/",
                          "http://[fe80::1]/"}) {
    INFO(uri);
    World w;
    w.wanted = {uri};
    w.make();
    w.compile();
    w.loop.run_for(500ms);
    CHECK(w.fetcher->counters().failed == 1);
    CHECK_THAT(w.fetcher->describe(), Catch::Contains("blocked address"));
    CHECK(w.connections == 0);
  }
}

TEST_CASE("what is out of use is kept for a week, and not fetched", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.make();
  w.compile();
  w.loop.run_for(1s);
  std::string uri = w.wanted.front();
  w.wanted.clear();
  w.compile();
  w.loop.run_for(24h);
  CHECK(w.requests.size() == 1);
  w.wanted = {uri};
  CHECK(w.compile() == key_set('a'));
  w.loop.run_for(1s);
  CHECK(w.requests.size() == 2);  // they were old
  w.wanted.clear();
  w.compile();
  w.loop.run_for(24h * 8);
  w.compile();
  CHECK(w.fetcher->describe() == "[]\n");
}

TEST_CASE("keys outlive a restart", "[waypoint-2.7]") {
  World w;
  w.pages["/jwks"] = reply(key_set('a'));
  w.make();
  w.compile();
  w.loop.run_for(1s);
  std::string kept = w.fetcher->save();
  w.pages.clear();
  w.make();
  REQUIRE(w.fetcher->load(kept));
  CHECK(w.compile() == key_set('a'));
  w.loop.run_for(1s);
  CHECK(w.fetcher->counters().failed > 0);
  CHECK(w.compile() == key_set('a'));
  CHECK_FALSE(w.fetcher->load("no json"));
  REQUIRE(w.fetcher->load(R"({"https://x/":"garbage","https://y/":7})"));
  CHECK_THAT(w.fetcher->describe(), !Catch::Contains("https://x/"));
}

TEST_CASE("the number of key sets and their size are bounded", "[waypoint-2.7]") {
  World w;
  w.options.uris_max = 2;
  w.options.total_bytes_max = key_set('a').size() + 10;
  w.pages["/1"] = w.pages["/2"] = w.pages["/3"] = reply(key_set('a'));
  w.wanted = {"https://keys.example/1", "https://keys.example/2", "https://keys.example/3"};
  w.make();
  w.compile();
  w.loop.run_for(500ms);
  CHECK(w.fetcher->counters().refused > 0);
  CHECK(w.log.count("too many key sets") == 1);
  CHECK(w.compile() == key_set('a'));  // of one; the other had no room
  CHECK_THAT(w.fetcher->describe(), Catch::Contains("together are too large"));
}

TEST_CASE("a URL", "[waypoint-2.7]") {
  auto url = control::parse_url("https://a.b:8443/x?y#z");
  REQUIRE(url);
  CHECK(*url == control::Url{true, "a.b", 8443, "/x?y"});
  CHECK(url->to_string() == "https://a.b:8443/x?y");
  CHECK(*control::parse_url("http://[fd00::1]") == control::Url{false, "fd00::1", 80, "/"});
  CHECK(control::parse_url("https://a?q")->target == "/?q");
  for (const char* bad : {"", "a", "ftp://a/", "https://", "https:///x", "https://u@a/", "https://a:0/",
                          "https://a:x/", "https://[a]/", "https://[::1/", "https://[::1]x/",
                          "https://a/\r\nx", "https://a b/", "https://a%2fb/"}) {
    INFO(bad);
    CHECK_FALSE(control::parse_url(bad));
  }
}

}  // namespace culvert::test
