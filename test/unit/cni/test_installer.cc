// SPDX-License-Identifier: Apache-2.0
// Installer and conflist (I1-I7, I9, I10).
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "cni/conflist.h"
#include "cni/files.h"
#include "cni/installer.h"

using namespace culvert;
using namespace culvert::cni;
using Json = nlohmann::json;

namespace {

const char* kList =
    R"({"cniVersion":"1.0.0","name":"lab","zz":1,"plugins":[{"type":"bridge","mtu":1500},{"type":"portmap"}],"aa":2})";

struct Node {
  Node() {
    char pattern[] = "/tmp/cvt-cni-XXXXXX";
    dir = ::mkdtemp(pattern);
    for (const char* name : {"src", "bin", "net"}) std::filesystem::create_directory(dir + "/" + name);
    write("src/istio-cni", "binary one", 0755);
    options.source_dir = dir + "/src";
    options.bin_dir = dir + "/bin";
    options.net_dir = dir + "/net";
    options.entry.directory = "/m";
  }
  ~Node() { std::filesystem::remove_all(dir); }
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    REQUIRE(write_file_atomically(dir + "/" + name, text, mode));
  }
  std::string read(const std::string& name) { return read_small_file(dir + "/" + name).value_or("(none)"); }
  Json json(const std::string& name) { return Json::parse(read(name), nullptr, false); }
  mode_t mode(const std::string& name) {
    struct stat info{};
    ::stat((dir + "/" + name).c_str(), &info);
    return info.st_mode & 0777;
  }
  std::string dir;
  InstallerOptions options;
  base::NullLog log;
};

}  // namespace

TEST_CASE("candidates", "[I1]") {
  Node node;
  Installer installer(node.options, node.log);
  CHECK(installer.install().error().code() == base::Code::kNotFound);
  node.write("net/00-a.txt", kList);
  node.write("net/01-b.conflist", "");
  node.write("net/02-c.conflist", "x");
  node.write("net/03-d.conflist", R"({"plugins":[{"type":"a"}]})");
  node.write("net/04-e.conflist", R"({"name":"a","plugins":[]})");
  node.write("net/05-f.conf", R"({"name":"a"})");
  CHECK(installer.install().error().code() == base::Code::kNotFound);
  node.write("net/10-z.conflist", kList);
  node.write("net/20-y.conflist", kList);
  REQUIRE(installer.install());
  CHECK(installer.config_path() == node.dir + "/net/10-z.conflist");
  CHECK(installer.check());
  CHECK(node.read("bin/istio-cni") == "binary one");
  CHECK(node.mode("bin/istio-cni") == 0755);
  CHECK(node.read("net/20-y.conflist") == kList);
}

TEST_CASE("a named configuration, with either extension", "[I2]") {
  Node node;
  node.options.conf_name = "10-a.conflist";
  Installer installer(node.options, node.log);
  CHECK(installer.install().error().code() == base::Code::kNotFound);
  node.write("net/10-a.conf", R"({"cniVersion":"0.3.1","type":"ptp"})");
  REQUIRE(installer.install());
  CHECK(node.read("net/10-a.conf") == "(none)");
  auto list = node.json("net/10-a.conflist");
  CHECK(list["name"] == "k8s-pod-network");
  CHECK(list["plugins"][0] == Json{{"type", "ptp"}});
  CHECK(list["plugins"][1]["type"] == "istio-cni");
  CHECK(installer.check());
}

TEST_CASE("merging keeps everything else", "[I3]") {
  const auto entry = plugin_entry_json({});
  auto merged = merge_conflist(kList, entry);
  REQUIRE(merged);
  CHECK(merged->starts_with("{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"lab\",\n  \"zz\": 1,"));
  CHECK(merged->ends_with("}\n"));
  CHECK(conflist_holds(*merged, entry));
  CHECK(*merge_conflist(*merged, entry) == *merged);
  CHECK_FALSE(Json::parse(*merged)["plugins"][2].contains("cniVersion"));
  auto without = remove_from_conflist(*merged);
  REQUIRE(without);
  CHECK(Json::parse(*without) == Json::parse(kList));
  PluginEntry other;
  other.ambient_enabled = true;
  CHECK_FALSE(conflist_holds(*merged, plugin_entry_json(other)));
  for (const char* bad : {"", "[]", "{}", R"({"plugins":{}})", R"({"plugins":[1]})"})
    CHECK_FALSE(merge_conflist(bad, entry));
  CHECK_FALSE(remove_from_conflist(kList));
}

TEST_CASE("an owned configuration leaves the primary alone", "[I4]") {
  Node node;
  node.options.owned = true;
  node.write("net/10-a.conflist", kList);
  Installer installer(node.options, node.log);
  REQUIRE(installer.install());
  CHECK(node.read("net/10-a.conflist") == kList);
  CHECK(node.json("net/02-istio-cni.conflist")["plugins"].size() == 3);
  CHECK(installer.check());
  node.write("net/10-a.conflist", R"({"name":"lab","plugins":[{"type":"bridge"},{"type":"bandwidth"}]})");
  CHECK_FALSE(installer.check());
  REQUIRE(installer.install());
  CHECK(installer.check());
  REQUIRE(installer.uninstall());
  CHECK(node.read("net/02-istio-cni.conflist") == "(none)");
  CHECK(node.read("net/10-a.conflist") != "(none)");
}

TEST_CASE("drift is seen", "[I5][I10]") {
  Node node;
  node.write("net/10-a.conflist", kList, 0640);
  Installer installer(node.options, node.log);
  REQUIRE(installer.install());
  CHECK(node.mode("net/10-a.conflist") == 0640);
  REQUIRE(installer.check());
  node.write("net/05-new.conflist", kList);
  CHECK_FALSE(installer.check());
  REQUIRE(installer.install());
  CHECK(installer.config_path() == node.dir + "/net/05-new.conflist");
  auto edited = node.json("net/05-new.conflist");
  edited["plugins"][2]["ambient_enabled"] = true;
  node.write("net/05-new.conflist", edited.dump());
  CHECK_FALSE(installer.check());
  REQUIRE(installer.install());
  CHECK(installer.check());
  REQUIRE(remove_file(node.dir + "/bin/istio-cni"));
  CHECK_FALSE(installer.check());
}

TEST_CASE("uninstall takes out what was put in, everywhere", "[I7]") {
  Node node;
  node.write("net/10-a.conflist", kList, 0640);
  Installer installer(node.options, node.log);
  REQUIRE(installer.install());
  node.write("net/05-new.conflist", kList);
  REQUIRE(installer.install());
  node.write("bin/istio-cni.tmp.abc", "left");
  REQUIRE(installer.uninstall());
  CHECK(node.json("net/10-a.conflist") == Json::parse(kList));
  CHECK(node.json("net/05-new.conflist") == Json::parse(kList));
  CHECK(node.mode("net/10-a.conflist") == 0640);
  CHECK(node.read("bin/istio-cni") == "(none)");
  CHECK(node.read("bin/istio-cni.tmp.abc") == "(none)");
  REQUIRE(installer.uninstall());
}

TEST_CASE("standalone", "[I7]") {
  Node node;
  node.options.chained = false;
  Installer installer(node.options, node.log);
  REQUIRE(installer.install());
  CHECK(node.json("net/YYY-istio-cni.conf")["cniVersion"] == "0.3.1");
  CHECK(installer.check());
  REQUIRE(installer.uninstall());
  CHECK(node.read("net/YYY-istio-cni.conf") == "(none)");
}

TEST_CASE("the watch repairs", "[I6]") {
  Node node;
  Installer installer(node.options, node.log);
  InstallerWatch watch(installer, node.log);
  REQUIRE(watch.start());
  auto eventually = [](auto condition) {
    for (int i = 0; i < 400 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return condition();
  };
  CHECK_FALSE(watch.status().ready.load());
  node.write("net/10-a.conflist", kList);
  CHECK(eventually([&] { return watch.status().ready.load(); }));
  node.write("net/10-a.conflist", kList);
  CHECK(eventually([&] { return node.json("net/10-a.conflist")["plugins"].size() == 3; }));
  CHECK(eventually([&] { return watch.status().ready.load(); }));
  CHECK(watch.status().installs.load() >= 2);
  watch.stop();
}

TEST_CASE("whoever keeps changing the configuration does not make us spin", "[I9]") {
  using namespace std::chrono_literals;
  PassGuard guard;
  base::Duration now = 1000s;
  CHECK(guard.before_pass(now) == 0s);
  for (int pass = 0; pass < PassGuard::kBusyPassesMax; ++pass)
    CHECK(guard.before_pass(now += 10ms) == 0s);  // a missing entry is put back at once
  CHECK(guard.before_pass(now += 10ms) == 1s);
  CHECK(guard.before_pass(now += 4500ms) == 500ms);
  CHECK(guard.before_pass(now += 5s) == 0s);  // quiet for long enough: counted from the start again
  CHECK(guard.before_pass(now += 10ms) == 0s);
}

TEST_CASE("a plugin binary that is not ours is replaced", "[I5]") {
  Node node;
  node.write("net/10-a.conflist", kList);
  Installer installer(node.options, node.log);
  REQUIRE(installer.install());
  node.write("bin/istio-cni", "binary two", 0755);
  CHECK_FALSE(installer.check());
  REQUIRE(installer.install());
  CHECK(node.read("bin/istio-cni") == "binary one");
  node.write("src/istio-cni", "binary one and more", 0755);
  CHECK_FALSE(installer.check());
}

TEST_CASE("without its binary the plugin is never chained; with an older one it stays chained", "[I5]") {
  Node node;
  node.write("net/10-a.conflist", kList);
  Installer installer(node.options, node.log);
  CHECK(installer.write_config().error().code() == base::Code::kNotFound);
  CHECK(node.read("net/10-a.conflist") == kList);
  REQUIRE(installer.install());
  REQUIRE(remove_file(node.dir + "/src/istio-cni"));
  node.write("net/10-a.conflist", kList);
  CHECK_FALSE(installer.copy_binaries());
  CHECK(installer.write_config());
  CHECK(node.json("net/10-a.conflist")["plugins"].size() == 3);
}

TEST_CASE("a disk that takes no more leaves old files whole and nothing beside them", "[I5]") {
  Node node;
  node.write("net/10-a.conflist", kList);
  Installer installer(node.options, node.log);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  auto* old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{16, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  auto installed = installer.install();
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old_handler);
  CHECK_FALSE(installed);
  CHECK(node.read("net/10-a.conflist") == kList);
  CHECK(list_files(node.dir + "/net") == std::vector<std::string>{"10-a.conflist"});
  REQUIRE(installer.install());
  CHECK(installer.check());
}

TEST_CASE("failures are counted by the step that failed", "[I6]") {
  Node node;
  REQUIRE(remove_file(node.dir + "/src/istio-cni"));
  node.write("net/10-a.conflist", kList);
  Installer installer(node.options, node.log);
  InstallerWatch watch(installer, node.log);
  REQUIRE(watch.start());
  auto eventually = [](auto condition) {
    for (int i = 0; i < 400 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return condition();
  };
  CHECK(eventually([&] { return watch.status().binary_failures.load() >= 1; }));
  CHECK_FALSE(watch.status().ready.load());
  CHECK(node.read("net/10-a.conflist") == kList);
  node.write("src/istio-cni", "binary one", 0755);
  CHECK(eventually([&] { return watch.status().ready.load(); }));
  CHECK(watch.status().config_failures.load() == 0);
  watch.stop();
}
