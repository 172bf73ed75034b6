// SPDX-License-Identifier: Apache-2.0
// DirectorySource on a real directory and a virtual clock (spec control-plane section 1.14).
#include "mesh/kube/directory_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "test/support/sim_loop.h"

using namespace culvert;
using namespace culvert::kube;
namespace fs = std::filesystem;

namespace {

fs::path make_root() {
  std::string pattern = fs::temp_directory_path() / "culvert-kube-XXXXXX";
  REQUIRE(::mkdtemp(pattern.data()));
  return pattern;
}

struct World {
  World() {
    source.on_change([this] { changes++; });
  }
  ~World() {
    std::error_code ignored;
    fs::remove_all(root, ignored);
  }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  void settle() {
    source.changed();
    loop.run_for(DirectorySource::kSettle);
  }
  bool has(const std::string& key) const { return source.objects()->services.contains(key); }
  std::string type(const std::string& key) const { return source.objects()->services.at(key)->type; }

  test::SimLoop loop;
  base::NullLog log;
  fs::path root = make_root();
  DirectorySource source{loop, log, root.string()};
  int changes = 0;
};

std::string service(const std::string& name, const std::string& type = "ClusterIP") {
  return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {type: " + type + "}\n";
}
std::string pod(const std::string& uid, const std::string& status = "") {
  return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: '" + uid + "'}\n" + status;
}
std::string binding(const std::string& uid) {
  return "---\napiVersion: culvert.dev/v1alpha1\nkind: PodBinding\nmetadata: {name: p, namespace: default}\n"
         "spec: {uid: '" +
         uid + "', node: n, redirection: enabled, ips: [10.0.0.7]}\n";
}

}  // namespace

TEST_CASE("files are added, edited, renamed and deleted") {
  World world;
  world.write("a.yaml", service("a"));
  world.write("sub/deep/b.yml", service("b"));
  world.write("c.json", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}})");
  world.write("notes.txt", service("no"));
  world.write(".hidden.yaml", service("no"));
  world.write(".git/x.yaml", service("no"));
  CHECK_FALSE(world.source.synced());
  REQUIRE(world.source.start());
  CHECK(world.source.synced());
  CHECK(world.changes == 1);
  CHECK(world.source.objects()->services.size() == 3);
  CHECK(world.source.objects()->namespaces.at("default")->meta.labels.at("kubernetes.io/metadata.name") ==
        "default");

  ObjectsRef before = world.source.objects();
  world.write("d.yaml", service("d"));
  world.write("a.yaml", service("a", "LoadBalancer"));
  world.settle();
  CHECK(world.has("default/d"));
  CHECK(world.type("default/a") == "LoadBalancer");
  CHECK(before->services.size() == 3);  // sets are immutable
  CHECK(world.changes == 2);            // one batch

  fs::rename(world.root / "a.yaml", world.root / "z.yaml");
  world.settle();
  CHECK(world.source.objects()->services.at("default/a")->meta.origin.file.ends_with("/z.yaml"));
  CHECK(world.source.problems().empty());

  fs::remove(world.root / "z.yaml");
  fs::remove_all(world.root / "sub");
  world.settle();
  CHECK(world.source.objects()->services.size() == 2);
  int changes = world.changes;
  world.settle();
  world.loop.run_for(std::chrono::minutes(1));
  CHECK(world.changes == changes);  // nothing changed, nobody is told
}

TEST_CASE("the sweep finds what the trigger missed") {
  World world;
  REQUIRE(world.source.start());
  world.write("a.yaml", service("a"));
  world.loop.run_for(DirectorySource::kSweepEvery);
  CHECK(world.has("default/a"));
  world.write("b.yaml", service("b"));
  world.loop.run_for(DirectorySource::kSweepEvery);
  CHECK(world.has("default/b"));
}

TEST_CASE("a second write within one tick of the file's clock is seen") {
  World world;
  world.loop.set_epoch(std::chrono::system_clock::now());
  world.write("a.yaml", service("a", "AAAA"));
  struct stat first;
  REQUIRE(::stat((world.root / "a.yaml").c_str(), &first) == 0);
  REQUIRE(world.source.start());
  world.write("a.yaml", service("a", "BBBB"));
  timespec times[] = {first.st_atim, first.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, (world.root / "a.yaml").c_str(), times, 0) == 0);
  world.settle();
  CHECK(world.type("default/a") == "BBBB");
}

TEST_CASE("a file that is not YAML keeps its last good objects") {
  World world;
  world.write("a.yaml", service("a") + service("b"));
  REQUIRE(world.source.start());
  world.write("a.yaml", service("a", "NodePort") + "---\nspec: {{{\n");
  world.settle();
  CHECK(world.type("default/a") == "ClusterIP");
  CHECK(world.has("default/b"));
  REQUIRE(world.source.problems().size() == 1);
  CHECK(world.source.problems()[0].kept_last_good);
  CHECK(world.source.problems()[0].origin.file == (world.root / "a.yaml").string());

  world.write("new.yaml", "{");
  world.settle();
  REQUIRE(world.source.problems().size() == 2);
  CHECK_FALSE(world.source.problems()[1].kept_last_good);

  world.write("a.yaml", service("b"));
  fs::remove(world.root / "new.yaml");
  world.settle();
  CHECK(world.source.problems().empty());
  CHECK_FALSE(world.has("default/a"));
}

TEST_CASE("a bad object keeps its last good form, its neighbours go on") {
  World world;
  world.write("a.yaml", service("a") + service("b"));
  REQUIRE(world.source.start());
  world.write("a.yaml", service("a", "[x]") + service("b", "NodePort") + service("c", "[x]"));
  world.settle();
  CHECK(world.type("default/a") == "ClusterIP");
  CHECK(world.type("default/b") == "NodePort");
  CHECK_FALSE(world.has("default/c"));
  REQUIRE(world.source.problems().size() == 2);
  CHECK(world.source.problems()[0].object == "Service default/a");
  CHECK(world.source.problems()[0].kept_last_good);
  CHECK_FALSE(world.source.problems()[1].kept_last_good);
  // Still so after another edit of the file.
  world.write("a.yaml", service("a", "[y]"));
  world.settle();
  CHECK(world.type("default/a") == "ClusterIP");
  CHECK_FALSE(world.has("default/b"));
}

TEST_CASE("the first of two objects of one identity wins, by path") {
  World world;
  world.write("b.yaml", service("a", "Second"));
  world.write("a.yaml", service("a", "First") + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n");
  REQUIRE(world.source.start());
  CHECK(world.type("default/a") == "First");
  REQUIRE(world.source.problems().size() == 1);
  CHECK(world.source.problems()[0].object == "Service default/a");
  CHECK(world.source.problems()[0].origin.file.ends_with("/b.yaml"));
  CHECK(world.source.problems()[0].message.find("/a.yaml:2 already") != std::string::npos);
  fs::remove(world.root / "a.yaml");
  world.settle();
  CHECK(world.type("default/a") == "Second");
  CHECK(world.source.problems().empty());
}

TEST_CASE("a mounted ConfigMap: the ..data link is swapped") {
  World world;
  world.write("..1/a.yaml", service("a", "One"));
  fs::create_symlink("..1", world.root / "..data");
  fs::create_symlink("..data/a.yaml", world.root / "a.yaml");
  REQUIRE(world.source.start());
  CHECK(world.type("default/a") == "One");
  CHECK(world.source.problems().empty());
  world.write("..2/a.yaml", service("a", "Two"));
  fs::create_symlink("..2", world.root / "..data_tmp");
  fs::rename(world.root / "..data_tmp", world.root / "..data");
  fs::remove_all(world.root / "..1");
  world.settle();
  CHECK(world.type("default/a") == "Two");
}

TEST_CASE("links that form a ring end, and hide nothing") {
  World world;
  world.write("a.yaml", service("a"));
  world.write("m/b.yaml", service("b"));
  world.write("z/c.yaml", service("c"));
  fs::create_directory_symlink("..", world.root / "m" / "up");
  fs::create_directory_symlink("self", world.root / "self");
  fs::create_symlink("nowhere.yaml", world.root / "dangling.yaml");
  REQUIRE(world.source.start());
  CHECK(world.source.objects()->services.size() == 3);
  CHECK(world.source.problems().empty());
}

TEST_CASE("what lies in a directory that cannot be read stays in force") {
  // Root may read every directory: be nobody meanwhile.
  struct Nobody {
    bool root = ::geteuid() == 0 && ::seteuid(65534) == 0;
    ~Nobody() {
      if (root && ::seteuid(0) != 0) std::abort();
    }
  } nobody;
  World world;
  world.write("m/b.yaml", service("b"));
  world.write("z/c.yaml", service("c"));
  REQUIRE(world.source.start());
  fs::permissions(world.root / "m", fs::perms::none);
  world.write("z/c.yaml", service("c", "NodePort"));
  world.settle();
  CHECK(world.has("default/b"));
  CHECK(world.type("default/c") == "NodePort");
  CHECK(world.source.problems().size() == 1);
  fs::permissions(world.root / "m", fs::perms::owner_all);
  world.settle();
  CHECK(world.source.problems().empty());
}

TEST_CASE("a binding lies over its pod, not over an earlier one of the same name") {
  World world;
  world.write("p.yaml", pod("u1"));
  world.write("bindings/default_p.yaml", binding("u1"));
  REQUIRE(world.source.start());
  auto bound = [&] { return world.source.objects()->pods.at("default/p"); };
  CHECK(bound()->meta.annotations.at("ambient.istio.io/redirection") == "enabled");
  CHECK(bound()->ips == std::vector<std::string>{"10.0.0.7"});

  world.write("p.yaml", pod("u2"));
  world.settle();
  CHECK_FALSE(bound()->meta.annotations.contains("ambient.istio.io/redirection"));
  CHECK(bound()->ips.empty());

  world.write("p.yaml", pod("", "status: {podIP: 10.0.0.8}\n"));
  world.settle();
  CHECK(bound()->meta.annotations.at("ambient.istio.io/redirection") == "enabled");
  CHECK(bound()->ips == std::vector<std::string>{"10.0.0.8"});

  fs::remove(world.root / "bindings/default_p.yaml");
  world.settle();
  CHECK_FALSE(bound()->meta.annotations.contains("ambient.istio.io/redirection"));
}

TEST_CASE("the directory vanishes and comes back") {
  World world;
  world.write("a.yaml", service("a"));
  REQUIRE(world.source.start());
  fs::path away = world.root.string() + ".away";
  fs::rename(world.root, away);
  world.settle();
  CHECK(world.has("default/a"));
  REQUIRE(world.source.problems().size() == 1);
  CHECK(world.source.problems()[0].kept_last_good);
  int changes = world.changes;
  world.loop.run_for(std::chrono::minutes(1));
  CHECK(world.changes == changes);  // told once
  fs::rename(away, world.root);
  world.loop.run_for(DirectorySource::kSweepEvery);
  CHECK(world.source.problems().empty());
  CHECK(world.has("default/a"));
}

TEST_CASE("a directory that is not there is an error at the start") {
  test::SimLoop loop;
  base::NullLog log;
  DirectorySource source(loop, log, "/nonexistent/culvert");
  auto started = source.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().message().find("/nonexistent/culvert") != std::string::npos);
  CHECK_FALSE(source.synced());
}
