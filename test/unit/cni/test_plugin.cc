// SPDX-License-Identifier: Apache-2.0
// The CNI plugin's commands, versions, arguments and its one question to the agent (U1-U9).
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "cni/local_http.h"
#include "cni/plugin.h"
#include "cni/unix_http.h"

using namespace culvert;
using namespace culvert::cni;
using Json = nlohmann::json;

namespace {

struct Run {
  PluginEnvironment env{"ADD",
                        "cid1",
                        "/run/netns/pod",
                        "eth0",
                        "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web;K8S_POD_UID=u1",
                        "/bin",
                        ""};
  Json config{{"cniVersion", "1.0.0"},
              {"name", "net"},
              {"type", "istio-cni"},
              {"ambient_enabled", true},
              {"culvert_directory", "/m"},
              {"cni_agent_run_dir", "/run/agent"},
              {"pod_namespace", "istio-system"},
              {"exclude_namespaces", {"kube-system"}},
              {"prevResult",
               {{"cniVersion", "1.0.0"},
                {"interfaces", {{{"name", "eth0"}}}},
                {"ips",
                 {{{"address", "10.0.0.5/24"}, {"interface", 0}, {"gateway", "10.0.0.1"}},
                  {{"address", "fd00::5/64"}}}}}}};
  int status = 200;
  bool reachable = true;
  bool own = false;
  int asked = 0;
  std::string socket, body;

  PluginOutcome go() { return go_text(config.dump()); }
  PluginOutcome go_text(const std::string& text) {
    base::NullLog log;
    PluginHooks hooks;
    hooks.read_stdin = [&] { return text; };
    hooks.is_own_netns = [&](const std::string&) { return own; };
    hooks.post_add = [&](const std::string& path, const std::string& sent) -> base::Result<HttpAnswer> {
      ++asked;
      socket = path;
      body = sent;
      if (!reachable) return base::fail(base::Code::kRefused, "connection refused");
      return HttpAnswer{status, "because"};
    };
    return run_plugin(env, hooks, log);
  }
  int code(const PluginOutcome& outcome) {
    return outcome.exit_code == 0 ? 0 : Json::parse(outcome.output)["code"].get<int>();
  }
};

}  // namespace

TEST_CASE("the agent is asked and its refusal fails the sandbox", "[U1][U3]") {
  Run run;
  auto done = run.go();
  CHECK(done.exit_code == 0);
  CHECK(run.asked == 1);
  CHECK(run.socket == "/run/agent/pluginevent.sock");
  run.status = 500;
  done = run.go();
  CHECK(run.code(done) == 999);
  CHECK(Json::parse(done.output)["msg"] == "failed to contact node Istio CNI agent");
  run.reachable = false;
  CHECK(run.code(run.go()) == 999);
}

TEST_CASE("excluded, foreign and switched-off pods do not ask", "[U2]") {
  Run run;
  run.env.args = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=x";
  CHECK(run.go().exit_code == 0);
  run.env.args = "";
  CHECK(run.go().exit_code == 0);
  run.config["ambient_enabled"] = false;
  run.env.args = "K8S_POD_NAMESPACE=prod;K8S_POD_NAME=x";
  CHECK(run.go().exit_code == 0);
  CHECK(run.asked == 0);
  run.config["ambient_enabled"] = true;
  run.config.erase("culvert_directory");
  CHECK(run.code(run.go()) == 999);
}

TEST_CASE("the agent's own pod is exempt", "[U4]") {
  Run run;
  run.reachable = false;
  run.env.args = "K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x";
  CHECK(run.go().exit_code == 0);
  run.env.args = "K8S_POD_NAMESPACE=prod;K8S_POD_NAME=istio-cni-node-x";
  CHECK(run.go().exit_code == 1);
  run.env.args = "K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=other";
  CHECK(run.go().exit_code == 1);
}

TEST_CASE("results pass through at every version", "[U6]") {
  Run run;
  for (const char* version : {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    run.config["cniVersion"] = version;
    auto expected = run.config["prevResult"];
    expected["cniVersion"] = version;
    auto done = run.go();
    REQUIRE(done.exit_code == 0);
    CHECK(Json::parse(done.output) == expected);
  }
  run.config["cniVersion"] = "0.2.0";
  run.config["prevResult"] = {{"ip4", {{"ip", "10.0.0.5/24"}, {"gateway", "10.0.0.1"}}}};
  REQUIRE(run.go().exit_code == 0);
  CHECK(Json::parse(run.body)["IPs"][0]["Address"]["IP"] == "10.0.0.5");
  run.config["cniVersion"] = "1.0.0";
  run.config.erase("prevResult");
  CHECK(Json::parse(run.go().output) == Json{{"cniVersion", "1.0.0"}});
  CHECK(Json::parse(run.body)["IPs"].is_null());
  for (Json bad : {Json("x"), Json{{"ips", 3}}, Json{{"ips", {{{"address", "10.0.0.5"}}}}},
                   Json{{"ips", {{{"address", "10.0.0.5/24"}, {"interface", "a"}}}}},
                   Json{{"routes", {{{"dst", "nope"}}}}}, Json{{"interfaces", {1}}}}) {
    run.config["prevResult"] = bad;
    CHECK(run.code(run.go()) == 6);
  }
}

TEST_CASE("CNI_ARGS", "[U7]") {
  CHECK_FALSE(CniArgs::parse("A=B"));
  CHECK(CniArgs::parse("A=B;IgnoreUnknown=true"));
  CHECK(CniArgs::parse("IgnoreUnknown=1;A=B"));
  CHECK_FALSE(CniArgs::parse("K8S_POD_NAME"));
  CHECK_FALSE(CniArgs::parse("K8S_POD_NAME=a=b"));
  CHECK_FALSE(CniArgs::parse("K8S_POD_NAME=a;"));
  CHECK_FALSE(CniArgs::parse("IgnoreUnknown=maybe"));
  CHECK(CniArgs::parse("")->pod_name.empty());
  auto args = CniArgs::parse("K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=d");
  REQUIRE(args);
  CHECK(args->pod_name + args->pod_namespace + args->container_id + args->pod_uid == "abcd");
}

TEST_CASE("commands, versions and error codes", "[U8]") {
  Run run;
  run.env.command = "";
  CHECK(run.go().notice.find("supported: 0.1.0, 0.2.0") != std::string::npos);
  run.env.command = "VERSION";
  CHECK(Json::parse(run.go().output)["supportedVersions"].size() == 7);
  run.env.command = "UPDATE";
  CHECK(run.code(run.go()) == 4);
  struct Row {
    const char* command;
    const char* version;
    int code;
  };
  for (Row row : {Row{"CHECK", "0.3.1", 1},
                  {"CHECK", "0.4.0", 0},
                  {"GC", "1.0.0", 1},
                  {"GC", "1.1.0", 0},
                  {"STATUS", "1.0.0", 1},
                  {"STATUS", "1.1.0", 0},
                  {"DEL", "0.1.0", 0},
                  {"ADD", "9.9.9", 1}}) {
    Run each;
    each.reachable = false;  // none of the good ones may need the agent
    each.env.command = row.command;
    each.config["cniVersion"] = row.version;
    each.config.erase("prevResult");
    INFO(row.command << " " << row.version);
    CHECK(each.code(each.go()) == row.code);
  }
  Run bad;
  bad.env.container_id = "../x";
  CHECK(bad.code(bad.go()) == 4);
  bad = Run();
  bad.env.ifname = "a/b";
  CHECK(bad.code(bad.go()) == 4);
  bad = Run();
  bad.env.netns = "";
  CHECK(bad.code(bad.go()) == 4);
  bad.env.command = "DEL";
  CHECK(bad.code(bad.go()) == 0);
  bad = Run();
  bad.own = true;
  CHECK(bad.code(bad.go()) == 8);
  bad.env.netns_override = "true";
  CHECK(bad.code(bad.go()) == 0);
  bad = Run();
  CHECK(bad.code(bad.go_text("{")) == 6);
  CHECK(bad.code(bad.go_text("[]")) == 6);
  CHECK(bad.code(bad.go_text(R"({"cniVersion":"1.0.0"})")) == 7);
  CHECK(bad.code(bad.go_text(R"({"cniVersion":"1.0.0","name":"a b"})")) == 7);
  CHECK(bad.code(bad.go_text(R"({"cniVersion":"1.0.0","name":"a","ambient_enabled":"yes"})")) == 6);
  CHECK(bad.code(bad.go_text(std::string(2 << 20, ' '))) == 6);
}

TEST_CASE("what the agent is sent", "[U9]") {
  Run run;
  run.go();
  auto body = Json::parse(run.body);
  CHECK(body["Netns"] == "/run/netns/pod");
  CHECK(body["PodName"] == "web");
  CHECK(body["PodNamespace"] == "prod");
  CHECK(body["K8S_POD_UID"] == "u1");
  CHECK(body["IPs"][0] == Json{{"Interface", 0},
                               {"Address", {{"IP", "10.0.0.5"}, {"Mask", "////AA=="}}},
                               {"Gateway", "10.0.0.1"}});
  CHECK(body["IPs"][1] == Json{{"Interface", nullptr},
                               {"Address", {{"IP", "fd00::5"}, {"Mask", "//////////8AAAAAAAAAAA=="}}},
                               {"Gateway", ""}});
  auto event = parse_add_event(run.body);
  REQUIRE(event);
  CHECK(event->ips.size() == 2);
  CHECK(event->pod_uid == "u1");
}

TEST_CASE("hostile event bodies are refused", "[S1]") {
  for (const char* bad :
       {"", "x", "[]", "{}", R"({"Netns":"/n","PodName":"a"})",
        R"({"Netns":1,"PodName":"a","PodNamespace":"b"})",
        R"({"Netns":"/n","PodName":"a","PodNamespace":"b","IPs":{}})",
        R"({"Netns":"/n","PodName":"a","PodNamespace":"b","IPs":[1]})",
        R"({"Netns":"/n","PodName":"a","PodNamespace":"b","IPs":[{"Address":{"IP":"x"}}]})"}) {
    INFO(bad);
    CHECK_FALSE(parse_add_event(bad));
  }
  auto mapped = parse_add_event(
      R"({"Netns":"/n","PodName":"a","PodNamespace":"b","IPs":[{"Address":{"IP":"::ffff:10.0.0.1"}}]})");
  REQUIRE(mapped);
  CHECK(mapped->ips[0] == base::IpAddr::v4(10, 0, 0, 1));
}

TEST_CASE("HTTP on the local sockets, byte by byte") {
  CHECK(parse_http_answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")->body == "hi");
  CHECK(parse_http_answer("HTTP/1.1 500 X\r\n\r\n")->status == 500);
  for (const char* bad : {"", "HTTP/2", "HTTP/1.1 abc\r\n\r\n", "hello\r\n\r\n"})
    CHECK_FALSE(parse_http_answer(bad));
  const std::string whole = "POST /cmdadd?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    auto part = parse_local_request(std::string_view(whole).substr(0, cut));
    REQUIRE(part);
    CHECK_FALSE(*part);
  }
  auto request = parse_local_request(whole);
  REQUIRE((request && *request));
  CHECK((*request)->path == "/cmdadd");
  CHECK((*request)->body == "abc");
  for (std::string bad :
       {std::string("x\r\n\r\n"), std::string("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nnocolon\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), std::string(20000, 'a')}) {
    CHECK_FALSE(parse_local_request(bad));
  }
}
