// SPDX-License-Identifier: Apache-2.0
// What `culvert` prints.
#include <catch2/catch.hpp>
#include <fstream>

#include "control/cli/lint_command.h"
#include "control/cli/render.h"
#include "control/cli/status_command.h"
#include "test/unit/control/serve/temp_dir.h"

namespace culvert::test {
namespace {

using control::GetKind;
using control::OutputFormat;
using control::render;
using control::RenderOptions;

constexpr char kDump[] = R"({
 "workloads": [
  {"uid": "c//Pod/production/web", "name": "web", "namespace": "production", "workloadIps": ["10.1.0.5"], "node": "n1",
   "protocol": "HBONE", "status": "Healthy", "services": {"production/web.svc": {"80": 8080}},
   "waypoint": {"destination": "production/wp.production.svc", "hboneMtlsPort": 15008}},
  {"uid": "u2", "name": "old", "namespace": "production", "workloadIps": [], "hostname": "old.example", "node": "n2",
   "protocol": "TCP", "status": "Unhealthy", "services": {"production/web.svc": {"80": 8080}}}],
 "services": [{"name": "web", "namespace": "production", "hostname": "web.svc", "vips": ["/240.0.0.1", "net/240.0.0.2"]}],
 "policies": [{"name": "p", "namespace": "production", "action": "Deny", "scope": "Namespace"}],
 "certificates": [
  {"identity": "spiffe://td/ns/production/sa/web", "state": "Available",
   "certChain": [{"serialNumber": "7", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2099-01-01T00:00:00Z"},
                 {"serialNumber": "8", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2021-01-01T00:00:00Z"}],
   "rootCerts": [{"serialNumber": "9", "validFrom": "2020-01-01T00:00:00Z", "expirationTime": "2099-01-01T00:00:00Z"}]},
  {"identity": "spiffe://td/ns/b/sa/c", "state": "Unavailable: no", "certChain": [], "rootCerts": []}],
 "workloadState": {"x": {"info": {"name": "web", "namespace": "production"}, "connections": {
   "inbound": [{"src": "10.9.9.9:4000", "originalDst": null, "actualDst": "10.1.0.5:8080", "protocol": "HBONE"}],
   "outbound": [{"src": "10.1.0.5:4001", "originalDst": "240.0.0.1:80", "actualDst": "[fd00::1]:8080",
                 "protocol": "TCP"}]}}}
})";

RenderOptions at_2026(OutputFormat format = OutputFormat::kTable) {
  RenderOptions options;
  options.format = format;
  options.now = base::WallTime(std::chrono::seconds(1767225600));
  return options;
}

TEST_CASE("get: the columns of upstream's tools", "[CP7]") {
  CHECK(render(GetKind::kWorkloads, kDump, at_2026()).value() ==
        "NAMESPACE    POD NAME   ADDRESS       NODE   WAYPOINT   PROTOCOL\n"
        "production   old        old.example   n2     None       TCP\n"
        "production   web        10.1.0.5      n1     wp         HBONE\n");
  CHECK(render(GetKind::kServices, kDump, at_2026()).value() ==
        "NAMESPACE    SERVICE NAME   SERVICE VIP           WAYPOINT   ENDPOINTS\n"
        "production   web            240.0.0.1,240.0.0.2   None       1/2\n");
  CHECK(render(GetKind::kPolicies, kDump, at_2026()).value() ==
        "NAMESPACE    POLICY NAME   ACTION   SCOPE\n"
        "production   p             Deny     Namespace\n");
}

TEST_CASE("get certs: every certificate of a chain, judged now", "[CP7]") {
  std::string out = render(GetKind::kCertificates, kDump, at_2026()).value();
  CHECK(out.find("Leaf           Available         true         7 ") != out.npos);
  CHECK(out.find("Intermediate   Available         false        8 ") != out.npos);
  CHECK(out.find("Root           Available         true         9 ") != out.npos);
  CHECK(out.find("Leaf           Unavailable: no   false        - ") != out.npos);
  CHECK(out.find("7 ") < out.find("8 "));
}

TEST_CASE("get connections: names where known, local side first", "[CP7]") {
  CHECK(render(GetKind::kConnections, kDump, at_2026()).value() ==
        "WORKLOAD         DIRECTION   LOCAL                 REMOTE           REMOTE TARGET       PROTOCOL\n"
        "web.production   Inbound     web.production:8080   10.9.9.9:4000    -                   HBONE\n"
        "web.production   Outbound    web.production:4001   [fd00::1]:8080   web.production:80   TCP\n");
  RenderOptions raw = at_2026();
  raw.raw = true;
  raw.direction = "outbound";
  CHECK(render(GetKind::kConnections, kDump, raw).value() ==
        "WORKLOAD         DIRECTION   LOCAL           REMOTE           REMOTE TARGET   PROTOCOL\n"
        "web.production   Outbound    10.1.0.5:4001   [fd00::1]:8080   240.0.0.1:80    TCP\n");
}

TEST_CASE("get proxies: who is in sync", "[CP7]") {
  constexpr char kSync[] = R"({"proxies": [
    {"node": "ztunnel~10.0.0.1~zt-a.istio-system~istio-system.svc.cluster.local", "address": "10.0.0.1:5000",
     "caller": "istio-system/ztunnel on node n1", "connectedAt": "2026-01-01T00:00:00Z", "types": [
      {"type": "type.googleapis.com/istio.workload.Address", "status": "SYNCED", "rejects": 0},
      {"type": "type.googleapis.com/istio.security.Authorization", "status": "STALE", "rejects": 2}]},
    {"node": "odd", "types": []}]})";
  CHECK(render(GetKind::kProxies, kSync, at_2026()).value() ==
        "NAME                NODE   ADDRESS         CONNECTED              ADDRESSES   POLICIES   REJECTS\n"
        "odd                 -      -               -                      NOT SENT    NOT SENT   0\n"
        "zt-a.istio-system   n1     10.0.0.1:5000   2026-01-01T00:00:00Z   SYNCED      STALE      2\n");
}

TEST_CASE("get status: conditions of objects, their parents and listeners", "[CP7]") {
  constexpr char kStatus[] = R"({"objects": [
    {"object": "HTTPRoute shop/r", "conditions": [], "parents": [{"name": "Service shop/api", "conditions": [
      {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}]}]},
    {"object": "Service far/api", "conditions": [
      {"type": "istio.io/WaypointBound", "status": "False", "reason": "WaypointIsNotReady", "message": "no"}]}]})";
  CHECK(
      render(GetKind::kStatus, kStatus, at_2026()).value() ==
      "OBJECT             OF                 CONDITION                STATUS   REASON               MESSAGE\n"
      "HTTPRoute shop/r   Service shop/api   Accepted                 True     Accepted             -\n"
      "Service far/api    -                  istio.io/WaypointBound   False    WaypointIsNotReady   no\n");
  RenderOptions options = at_2026();
  options.ns = "far";
  CHECK(render(GetKind::kStatus, kStatus, options).value().find("shop/r") == std::string::npos);
}

TEST_CASE("get: filters and the twins of a table", "[CP7]") {
  RenderOptions options = at_2026(OutputFormat::kJson);
  options.node = "n1";
  std::string json = render(GetKind::kWorkloads, kDump, options).value();
  CHECK(json.find("\"web\"") != json.npos);
  CHECK(json.find("\"old\"") == json.npos);
  CHECK(render(GetKind::kPolicies, kDump, at_2026(OutputFormat::kYaml)).value() ==
        "-\n  \"action\": \"Deny\"\n  \"name\": \"p\"\n  \"namespace\": \"production\"\n  \"scope\": "
        "\"Namespace\"\n");
  options.ns = "elsewhere";
  CHECK(render(GetKind::kWorkloads, kDump, options).value() == "[]\n");
  options.format = OutputFormat::kYaml;
  CHECK(render(GetKind::kWorkloads, kDump, options).value() == "[]\n");
}

TEST_CASE("get survives any answer", "[CP7]") {
  for (const char* bad : {"", "x", "[]", "3", "{}", "{\"workloads\": 1", "null"}) {
    CHECK_FALSE(render(GetKind::kWorkloads, bad, at_2026()));
    CHECK_FALSE(render(GetKind::kProxies, bad, at_2026()));
  }
  constexpr char kOdd[] =
      R"({"workloads": [1, null, "x", [], {"name": 3, "workloadIps": [7], "waypoint": 1, "services": []},
    {"name": "a\u001b[31m\nb", "workloadIps": {}}], "services": {"a": 1}, "policies": 7, "objects": [3, {"conditions": 1, "parents": [{"conditions": [4, {}]}, 2]}], "certificates": [[], {"certChain":
    [1], "rootCerts": 2}], "workloadState": {"u": {"connections": {"inbound": [1, {}], "outbound": 3}}}, "proxies": [1]})";
  for (GetKind kind : {GetKind::kWorkloads, GetKind::kServices, GetKind::kPolicies, GetKind::kCertificates,
                       GetKind::kConnections, GetKind::kProxies, GetKind::kStatus}) {
    for (OutputFormat format : {OutputFormat::kTable, OutputFormat::kJson, OutputFormat::kYaml}) {
      auto out = render(kind, kOdd, at_2026(format));
      REQUIRE(out);
      CHECK(out->find('\x1b') == out->npos);
    }
  }
  CHECK(render(GetKind::kWorkloads, kOdd, at_2026())->find("a\\x1b[31m\\x0ab") != std::string::npos);
}

TEST_CASE("status: healthy, and what is not", "[CP7]") {
  control::StatusPages pages{"1.2\n",
                             R"({"workloads": [{"protocol": "HBONE", "status": "Healthy"}], "services": [],
                             "policies": []})",
                             R"({"proxies": []})", R"({"errors": [], "findings": []})"};
  auto good = control::status_report(pages);
  REQUIRE(good);
  CHECK(good->healthy);
  CHECK(good->text.find("1: 1 captured, 0 unhealthy") != std::string::npos);
  pages.sync =
      R"({"proxies": [{"node": "zt", "types": [{"type": "x", "status": "STALE", "lastError": "bad\u0007"}]}]})";
  pages.errors = R"({"errors": [{"at": "a.yaml:3", "object": "Service x/y", "message": "no port"}],
                     "findings": [{"severity": "Info", "code": "I", "message": "fine"}]})";
  auto bad = control::status_report(pages);
  REQUIRE(bad);
  CHECK_FALSE(bad->healthy);
  CHECK(bad->text.find("proxy zt has not taken what was sent: bad\\x07") != std::string::npos);
  CHECK(bad->text.find("a.yaml:3: Service x/y no port") != std::string::npos);
  CHECK(bad->text.find("fine") == std::string::npos);
  pages.ambient = "<html>";
  CHECK_FALSE(control::status_report(pages));
}

TEST_CASE("lint: files and directories, levels, positions", "[CP7]") {
  TempDir dir;
  control::LintCommand command;
  command.paths = {dir.path()};
  CHECK_FALSE(control::lint(command));  // nothing to check
  std::ofstream(dir.path() + "/good.yaml") << "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
  auto good = control::lint(command);
  REQUIRE(good);
  CHECK_FALSE(good->over_threshold);
  CHECK(good->text == "No problems found.\n");
  std::ofstream(dir.path() + "/bad.yaml")
      << "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: a}\n"
         "spec: {ports: [{port: 99999}]}\n";
  auto bad = control::lint(command);
  REQUIRE(bad);
  CHECK(bad->over_threshold);
  CHECK(bad->text.find("bad.yaml:4: Error [MSH000] (Service a/x)") != std::string::npos);
  command.json = true;
  CHECK(control::lint(command)->text.find("\"line\": 4") != std::string::npos);
  command.paths = {dir.path() + "/missing.yaml"};
  CHECK_FALSE(control::lint(command));
}

}  // namespace
}  // namespace culvert::test
