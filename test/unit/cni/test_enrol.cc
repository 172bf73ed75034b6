// SPDX-License-Identifier: Apache-2.0
// Enrolment predicate (E1-E3), cgroup and stat parsing (P1), bindings.
#include <catch2/catch.hpp>

#include "cni/binding.h"
#include "cni/enrol.h"
#include "cni/proc_scan.h"

using namespace culvert;
using namespace culvert::cni;

TEST_CASE("nine combinations of labels, sidecar and host network", "[E1]") {
  struct Row {
    const char* name_space;
    const char* pod;
    bool sidecar, host;
    bool expected;
  };
  const Row rows[] = {
      {"", "", false, false, false},
      {"ambient", "", false, false, true},
      {"", "ambient", false, false, true},
      {"ambient", "none", false, false, false},
      {"none", "ambient", false, false, true},
      {"none", "", false, false, false},
      {"ambient", "", true, false, false},
      {"ambient", "", false, true, false},
      {"ambient", "ambient", true, false, false},
  };
  Enrolment enrolment(Enrolment::default_pairs(), {"kube-system"});
  for (const auto& row : rows) {
    PodInfo pod;
    pod.name_space = "app";
    Labels labels;
    if (*row.name_space) labels["istio.io/dataplane-mode"] = row.name_space;
    if (*row.pod) pod.labels["istio.io/dataplane-mode"] = row.pod;
    if (row.sidecar) pod.annotations["sidecar.istio.io/status"] = "";
    pod.host_network = row.host;
    INFO(row.name_space << "/" << row.pod);
    CHECK(enrolment.should_be_enabled(pod, labels) == row.expected);
    pod.name_space = "kube-system";
    CHECK_FALSE(enrolment.should_be_enabled(pod, labels));
  }
}

TEST_CASE("selector text", "[E2]") {
  CHECK(Enrolment::parse_pairs("")->empty());
  auto pairs = Enrolment::parse_pairs(
      "[{podSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}},"
      " {podSelector: {matchExpressions: [{key: istio.io/dataplane-mode, operator: NotIn, values: [none]}]},"
      "  namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}}]");
  REQUIRE(pairs);
  REQUIRE(pairs->size() == 2);
  CHECK((*pairs)[0].name_space.empty());
  PodInfo pod;
  CHECK(Enrolment(*pairs, {}).should_be_enabled(pod, {{"istio.io/dataplane-mode", "ambient"}}));
  CHECK_FALSE(Enrolment(*pairs, {}).should_be_enabled(pod, {}));
  CHECK(Enrolment::parse_pairs("[{namespaceSelector: {matchLabels: {a: b}}}]")->size() == 1);
  for (const char* bad : {"x", "{}", "[1]", "[{pod: {}}]", "[{podSelector: [1]}]",
                          "[{podSelector: {matchExpressions: [{key: a, operator: Is}]}}]",
                          "[{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",
                          "[{podSelector: {matchExpressions: [{operator: In}]}}]", "["}) {
    INFO(bad);
    CHECK_FALSE(Enrolment::parse_pairs(bad));
  }
}

TEST_CASE("exclusion lists", "[E3]") {
  CHECK(Enrolment::parse_excluded(" , kube-system,,a , b,") ==
        std::vector<std::string>{"kube-system", "a", "b"});
  CHECK(Enrolment::parse_excluded("").empty());
}

TEST_CASE("Go booleans") {
  CHECK(parse_go_bool("T") == true);
  CHECK(parse_go_bool("False") == false);
  for (const char* bad : {"", "yes", "tRUE", "2"}) CHECK_FALSE(parse_go_bool(bad));
}

TEST_CASE("pod UID and container from cgroup files", "[P1][P6]") {
  const std::string uid = "c7a1d9f2-0a0b-4c0d-8e0f-000000000001";
  const std::string id(64, 'a');
  auto uid_of = [](const std::string& text) -> std::string {
    auto parsed = parse_cgroup(text);
    if (!parsed) return "error";
    return *parsed ? (*parsed)->pod_uid : "none";
  };
  CHECK(uid_of("0::/kubepods/besteffort/pod" + uid + "/" + id + "\n") == uid);
  CHECK(uid_of("0::/kubepods.slice/kubepods-burstable.slice/"
               "kubepods-burstable-podc7a1d9f2_0a0b_4c0d_8e0f_000000000001.slice/cri-containerd-" +
               id + ".scope\n") == uid);
  CHECK(uid_of("0::/culvert-demo/kubepods-podc7a1d9f2_0a0b_4c0d_8e0f_000000000001.slice/"
               "cri-containerd-0123456789ab.scope") == uid);
  CHECK(uid_of("11:memory:/docker/" + id + "/kubepods/pod" + uid + "/" + id + "\n0::/\n") == uid);
  CHECK(uid_of("0::/system.slice/containerd.service/"
               "kubepods-burstable-podc7a1d9f2_0a0b_4c0d_8e0f_000000000001.slice:cri-containerd:" +
               id + "\n") == uid);
  CHECK(uid_of("0::/user.slice/session-1.scope\n") == "none");
  CHECK(uid_of("") == "none");
  CHECK(uid_of("0::/kubepods/podshort/abc\n") == "none");
  CHECK(uid_of("garbage\n") == "error");
  CHECK(uid_of("1:a:/kubepods/pod" + uid + "/x1\n2:b:/kubepods/pod" + uid + "/x2\n") == "error");
}

TEST_CASE("start time is the 22nd field, whatever the name holds", "[P1]") {
  const std::string tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
  CHECK(parse_start_time("7 (a) b) c)" + tail) == 4242u);
  CHECK_FALSE(parse_start_time("7 (x) S 1 2"));
  CHECK_FALSE(parse_start_time(""));
}

TEST_CASE("bindings survive writing and reading") {
  PodBinding binding{"web-0",
                     "prod",
                     "uid-1",
                     "node1",
                     Redirection::kPending,
                     {base::IpAddr::v4(10, 0, 0, 1), *base::IpAddr::parse("fd00::1")}};
  CHECK(parse_binding(encode_binding(binding)) == binding);
  for (const char* bad :
       {"", "[]", "kind: Pod", "kind: PodBinding",
        "kind: PodBinding\nmetadata: {name: a, namespace: b}\nspec: {redirection: maybe}", "{"}) {
    CHECK_FALSE(parse_binding(bad));
  }
}
