// SPDX-License-Identifier: Apache-2.0
// Rule text against its goldens (spec cni 8.2), interface names (N10), set listings (D2).
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "cni/rules.h"

using namespace culvert;
using namespace culvert::cni;

namespace {

// CULVERT_UPDATE_GOLDEN=1 writes them anew.
void check_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(CULVERT_GOLDEN_DIR) + "/" + name + ".nft";
  if (std::getenv("CULVERT_UPDATE_GOLDEN")) std::ofstream(path) << text;
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  INFO(path);
  REQUIRE(file.good());
  CHECK(golden.str() == text);
}

PodRuleInput case_input(const std::string& name) {
  PodRuleInput input;
  input.dns_capture = true;
  if (name == "ingress" || name == "ingress_virtual_interfaces") input.ingress_mode = true;
  if (name == "virtual_interfaces" || name == "ingress_virtual_interfaces")
    input.virtual_interfaces = {"fake1s0f0", "fake1s0f1"};
  if (name == "dns_off") input.dns_capture = false;
  return input;
}

}  // namespace

TEST_CASE("pod rules are what the goldens say, v4 alone and both", "[golden]") {
  for (std::string name :
       {"default", "ingress", "virtual_interfaces", "ingress_virtual_interfaces", "dns_off"}) {
    auto input = case_input(name);
    check_golden(name, pod_rules(input));
    CHECK(pod_rules(input) == pod_rules(input));
    input.ipv6 = false;
    check_golden(name + "_v4", pod_rules(input));
  }
}

TEST_CASE("host rules are what the goldens say", "[golden]") {
  check_golden("hostprobe", host_rules({}));
  check_golden("hostprobe_v4", host_rules({.ipv6 = false}));
}

TEST_CASE("interface names that could change a rule are dropped", "[N10]") {
  std::vector<std::string> dropped;
  CHECK(parse_interfaces(" veth0, ,eth1.5 ,a b,x\"y,way-too-long-name,bad/name,ok\nadd rule,net*",
                         &dropped) == std::vector<std::string>{"veth0", "eth1.5"});
  CHECK(dropped ==
        std::vector<std::string>{"a b", "x\"y", "way-too-long-name", "bad/name", "ok\nadd rule", "net*"});
  CHECK_FALSE(valid_interface(""));
  CHECK_FALSE(valid_interface(".."));
  CHECK_FALSE(valid_interface("caf\xc3\xa9"));
  CHECK(valid_interface("123456789012345"));
  PodRuleInput input;
  input.virtual_interfaces = {"evil\" accept"};
  CHECK(pod_rules(input).find("evil") == std::string::npos);
}

TEST_CASE("DNS off deletes the raw table, IPv6 off leaves v6 DNS alone", "[L12]") {
  PodRuleInput off;
  CHECK(pod_rules(off).find("delete table inet istio-ambient-raw") != std::string::npos);
  PodRuleInput v4{.dns_capture = true, .ipv6 = false};
  CHECK(pod_rules(v4).find("meta nfproto ipv4 oifname != \"lo\" udp dport 53") != std::string::npos);
}

TEST_CASE("set listings", "[D2]") {
  auto listed = parse_set_listing(R"({"nftables":[{"metainfo":{}},{"set":{"name":"s","elem":[
    "10.0.0.1",{"elem":{"val":"10.0.0.2","comment":"uid-2"}}]}}]})");
  REQUIRE(listed);
  REQUIRE(listed->size() == 2);
  CHECK((*listed)[0].uid.empty());
  CHECK((*listed)[1].uid == "uid-2");
  CHECK(parse_set_listing(R"({"nftables":[{"set":{"name":"s"}}]})")->empty());
  for (const char* bad : {"", "[]", "{}", R"({"nftables":3})", R"({"nftables":[{"set":{"elem":["x"]}}]})"})
    CHECK_FALSE(parse_set_listing(bad));
}

TEST_CASE("UIDs that may stand in a comment") {
  CHECK(valid_uid("c7a1d9f2-0000-4000-8000-000000000001"));
  for (const char* bad : {"", "..", "a b", "a\"b", "a/b", "a\nb"}) CHECK_FALSE(valid_uid(bad));
  CHECK_FALSE(valid_uid(std::string(101, 'a')));
}
