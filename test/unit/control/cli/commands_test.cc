// SPDX-License-Identifier: Apache-2.0
// `culvert` as it is called: what goes to which stream, and the exit status.
#include "control/cli/commands.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

struct Ran {
  int status;
  std::string out, err;
};

// Runs `culvert args...`; `pages` is what there is to fetch, by "host:port/path".
Ran culvert(std::vector<std::string> args, std::map<std::string, std::string> pages = {}) {
  args.insert(args.begin(), "culvert");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  std::ostringstream out, err;
  control::CommandTools tools{
      out, err, [] { return base::WallTime(std::chrono::seconds(1'767'225'600)); },
      [&](const std::string& host_port, const std::string& path) -> base::Result<std::string> {
        auto found = pages.find(host_port + path);
        if (found != pages.end()) return found->second;
        return base::fail(base::Code::kUnavailable, "connect to " + host_port + ": Connection refused");
      }};
  int status = control::run_command(static_cast<int>(argv.size()), argv.data(), tools);
  return {status, out.str(), err.str()};
}

TEST_CASE("without a command there is help, and a status that says so", "[CP7]") {
  Ran ran = culvert({});
  CHECK(ran.status == 2);
  CHECK(ran.out.empty());
  for (const char* name : {"get", "status", "lint", "token", "waypoint", "version", "completion"})
    CHECK(ran.err.find(name) != std::string::npos);
  Ran help = culvert({"--help"});
  CHECK(help.status == 0);
  CHECK(help.out == ran.err);
}

TEST_CASE("wrong usage is status 2 and names what was wrong", "[CP7]") {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"get"},
                                             {"get", "pods"},
                                             {"get", "workloads", "-o", "xml"},
                                             {"lint"},
                                             {"token"},
                                             {"frobnicate"}}) {
    Ran ran = culvert(args);
    INFO(args.back() << ": " << ran.err);
    CHECK(ran.status == 2);
    CHECK(ran.out.empty());
    CHECK_FALSE(ran.err.empty());
  }
}

TEST_CASE("get asks the proxy, or the control plane, and says where it asked in vain", "[CP7]") {
  Ran workloads = culvert({"get", "workload"}, {{"127.0.0.1:15000/config_dump", R"({"workloads": []})"}});
  CHECK(workloads.status == 0);
  CHECK(workloads.out.starts_with("NAMESPACE"));
  CHECK(workloads.err.empty());
  Ran proxies = culvert({"get", "proxies", "--control", "10.0.0.1:8080"},
                        {{"10.0.0.1:8080/debug/syncz", R"({"proxies": []})"}});
  CHECK(proxies.status == 0);
  Ran derived = culvert({"get", "services", "--control", "10.0.0.1:8080"},
                        {{"10.0.0.1:8080/debug/ambientz", R"({"services": [], "workloads": []})"}});
  CHECK(derived.status == 0);
  CHECK(culvert({"get", "certs", "--control", "10.0.0.1:8080"}).status == 2);

  Ran nobody = culvert({"get", "services", "--admin", "10.0.0.9:15000"});
  CHECK(nobody.status == 1);
  CHECK(nobody.out.empty());
  CHECK(nobody.err.find("10.0.0.9:15000: Connection refused") != std::string::npos);
  CHECK(nobody.err.find("--admin") != std::string::npos);
  Ran status = culvert({"status"});
  CHECK(status.status == 1);
  CHECK(status.err.find("--control") != std::string::npos);
}

TEST_CASE("status is 0 for a mesh in order and 1 for one that is not", "[CP7]") {
  std::map<std::string, std::string> pages = {{"127.0.0.1:8080/ready", "ready\n"},
                                              {"127.0.0.1:8080/version", "1.2\n"},
                                              {"127.0.0.1:8080/debug/ambientz", "{}"},
                                              {"127.0.0.1:8080/debug/syncz", "{}"},
                                              {"127.0.0.1:8080/debug/config_errors", "{}"}};
  Ran good = culvert({"status"}, pages);
  CHECK(good.status == 0);
  CHECK(good.out.find("ready, version 1.2") != std::string::npos);
  pages["127.0.0.1:8080/debug/config_errors"] =
      R"({"errors": [{"at": "a.yaml:1", "object": "", "message": "not YAML"}]})";
  Ran bad = culvert({"status"}, pages);
  CHECK(bad.status == 1);
  CHECK(bad.out.find("a.yaml:1") != std::string::npos);
}

TEST_CASE("lint ends with 3 for findings at or over the threshold", "[CP7]") {
  TempDir dir;
  std::string file = dir.path() + "/a.yaml";
  std::ofstream(file) << "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                         "metadata: {name: p, namespace: a}\nspec: {selector: {}, rules: [{}]}\n";
  CHECK(culvert({"lint", file}).status == 3);
  CHECK(culvert({"lint", file, "--failure-threshold", "error"}).status == 0);
  CHECK(culvert({"lint", dir.path() + "/none.yaml"}).status == 1);
}

constexpr char kWaypoints[] = R"({"waypoints": [
 {"namespace": "a", "name": "w", "revision": "default", "trafficType": "service", "programmed": false},
 {"namespace": "production", "name": "waypoint", "revision": "default", "trafficType": "all", "programmed": true,
  "address": "10.97.0.5", "process": {"phase": "waiting", "problem": "ended with status 1\u001b", "restarts": 3}}]})";

TEST_CASE("waypoint list and status: the columns of upstream's tools", "[CP7]") {
  std::map<std::string, std::string> pages = {{"127.0.0.1:8080/debug/waypoints", kWaypoints}};
  CHECK(culvert({"waypoint", "list"}, pages).out ==
        "NAMESPACE    NAME       REVISION   TRAFFIC TYPE   PROGRAMMED\n"
        "a            w          default    service        False\n"
        "production   waypoint   default    all            True\n");
  CHECK(culvert({"waypoint", "status", "-n", "production"}, pages).out ==
        "NAMESPACE    NAME       STATUS   TYPE         REASON       MESSAGE\n"
        "production   waypoint   True     Programmed   Programmed   waiting at 10.97.0.5: ended with status "
        "1\\x1b\n");
  CHECK_THAT(culvert({"waypoint", "status", "-n", "a"}, pages).out,
             Catch::Contains("False    Programmed   AddressNotAssigned   nobody runs it"));
  CHECK_THAT(culvert({"waypoint", "list", "-o", "json", "-n", "a"}, pages).out,
             Catch::Contains("\"name\": \"w\"") && !Catch::Contains("production"));
  CHECK(
      culvert({"waypoint", "list", "-A"}, {{"127.0.0.1:8080/debug/waypoints", R"({"waypoints": []})"}}).out ==
      "No waypoints found.\n");
  Ran odd = culvert({"waypoint", "list"}, {{"127.0.0.1:8080/debug/waypoints", "[1]"}});
  CHECK(odd.status == 1);
  CHECK_THAT(odd.err, Catch::Contains("no list of waypoints"));
  Ran nobody = culvert({"waypoint", "list"});
  CHECK(nobody.status == 1);
  CHECK_THAT(nobody.err, Catch::Contains("Is culvertd at that address?"));
  CHECK(culvert({"waypoint"}).status == 2);
}

TEST_CASE("waypoint deployment: objects of the Gateways in the manifests; what is refused is told", "[CP7]") {
  TempDir directory;
  std::string path = directory.path() + "/gateway.yaml";
  Ran made = culvert({"waypoint", "generate", "-n", "production", "--for", "service"});
  CHECK(made.status == 0);
  std::ofstream(path) << made.out;
  Ran ran = culvert({"waypoint", "deployment", path, "--image", "waypoint:1"});
  CHECK(ran.status == 0);
  CHECK(ran.err.empty());
  for (const char* kind : {"kind: ServiceAccount\n", "kind: Deployment\n", "kind: Service\n"})
    CHECK_THAT(ran.out, Catch::Contains(kind));
  std::ofstream(path, std::ios::app) << "---\n"
                                     << culvert({"waypoint", "generate", "--name", "two"}).out
                                     << "  - {name: more, port: 80, protocol: HTTP}\n";
  ran = culvert({"waypoint", "deployment", path, "--image", "waypoint:1"});
  CHECK(ran.status == 1);
  CHECK_THAT(ran.out, Catch::Contains("kind: Deployment"));
  CHECK_THAT(ran.err, Catch::Contains("Gateway default/two") && Catch::Contains("ListenersNotValid"));
  std::ofstream(path) << "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
  ran = culvert({"waypoint", "deployment", path, "--image", "waypoint:1"});
  CHECK(ran.status == 1);
  CHECK_THAT(ran.err, Catch::Contains("no Gateway"));
  CHECK(culvert({"waypoint", "generate", "--for", "everything"}).status == 1);
}

}  // namespace
}  // namespace culvert::test
