// SPDX-License-Identifier: Apache-2.0
// Manifests in, resources out, as proxies receive them: each cases/*.yaml and ../seed/*.yaml against the JSON
// of the same name in expected/. CULVERT_GOLDEN_UPDATE=1 writes the JSON anew; read the difference before you
// commit it.
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "control/compile/compile.h"
#include "control/serve/vip_pool.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"
#include "mesh/xds/to_proto.h"
#include "mesh/xds/waypoint_proto.h"
#include "proto/authorization.pb.h"
#include "proto/waypoint.pb.h"
#include "proto/workload.pb.h"

using namespace culvert;
using namespace culvert::control;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Addresses are bytes on the wire, base64 in protobuf's JSON; here they read as addresses.
std::string decode_base64(const std::string& text) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xff);
  }
  return out;
}

void readable_addresses(Json& value) {
  if (value.is_array()) {
    for (Json& item : value) readable_addresses(item);
    return;
  }
  if (!value.is_object()) return;
  auto readable = [](Json& text) {
    std::string bytes = decode_base64(text.get<std::string>());
    auto ip =
        base::IpAddr::from_bytes(std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
    if (ip) text = ip->to_string();
  };
  for (auto& [key, item] : value.items()) {
    if (key == "address" && item.is_string()) {
      readable(item);
    } else if (key == "addresses" && item.is_array() && !item.empty() && item.front().is_string()) {
      for (Json& one : item) readable(one);
    } else {
      readable_addresses(item);
    }
  }
}

template <class Message>
Json as_json(const std::string& bytes) {
  Message message;
  REQUIRE(message.ParseFromString(bytes));
  std::string text;
  REQUIRE(google::protobuf::util::MessageToJsonString(message, &text).ok());
  // Maps come in any order out of protobuf; sorted keys make one text of one resource.
  Json out = Json::parse(nlohmann::json::parse(text).dump());
  readable_addresses(out);
  return out;
}

Json problem_json(const kube::Problem& problem) {
  return {{"at", problem.origin.to_string()}, {"object", problem.object}, {"message", problem.message}};
}

using Items = std::vector<std::shared_ptr<const kube::AnyObject>>;

Items decode(const fs::path& path, Json& problems) {
  kube::DecodedFile decoded = kube::decode_manifests(read(path), path.filename().string());
  if (decoded.syntax) problems.push_back(problem_json(*decoded.syntax));
  Items items;
  for (auto& document : decoded.documents) {
    for (const auto& problem : document.problems) problems.push_back(problem_json(problem));
    if (document.object) {
      items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
    }
  }
  return items;
}

Json derive(const Items& items, Json problems) {
  std::vector<kube::Problem> found;
  kube::ObjectsRef objects = kube::assemble(items, found);
  for (const auto& problem : found) problems.push_back(problem_json(problem));
  auto pool = VipPool::make(*base::Cidr::parse("240.241.0.0/16"));
  CompileOptions options;
  options.allocate_vip = [&pool](const std::string& key) { return pool->allocate(key); };
  Compiled compiled = compile(*objects, options);
  Json out = {{"addresses", Json::object()},
              {"authorizations", Json::object()},
              {"findings", Json::array()},
              {"problems", std::move(problems)}};
  std::map<std::string, std::string> addresses;
  for (const auto& [name, workload] : compiled.workloads) addresses[name] = xds::encode_address(*workload);
  for (const auto& [name, service] : compiled.services) addresses[name] = xds::encode_address(*service);
  for (const auto& [name, bytes] : addresses) {
    out["addresses"][name] = as_json<istio::workload::Address>(bytes);
  }
  for (const auto& [name, policy] : compiled.policies) {
    out["authorizations"][name] = as_json<istio::security::Authorization>(xds::encode_authorization(*policy));
  }
  for (const auto& [name, service] : compiled.waypoint_services) {
    out["waypoint_services"][name] = as_json<culvert::waypoint::v1::WaypointService>(xds::encode(*service));
    // Pods that use a waypoint themselves have no traffic policy.
    auto backend = compiled.backends.find(name);
    if (backend == compiled.backends.end()) continue;
    out["backends"][name] = as_json<culvert::waypoint::v1::Backend>(xds::encode(*backend->second));
  }
  for (const Finding& finding : compiled.findings) {
    out["findings"].push_back({{"code", finding.code},
                               {"severity", to_string(finding.severity)},
                               {"at", finding.origin.to_string()},
                               {"object", finding.object},
                               {"message", finding.message}});
  }
  for (const auto& [name, workload] : compiled.workloads) {
    for (const model::Name& policy : workload->authorization_policies) {
      INFO(name << " names " << policy.str());
      CHECK(compiled.policies.contains(policy.str()));
    }
  }
  return out;
}

std::vector<fs::path> inputs() {
  std::vector<fs::path> out;
  for (const char* folder : {"compile/cases", "seed"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(CULVERT_GOLDEN_DIR) / folder)) {
      if (entry.path().extension() == ".yaml") out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("manifests become resources", "[golden]") {
  for (const fs::path& path : inputs()) {
    DYNAMIC_SECTION(path.filename().string()) {
      Json problems = Json::array();
      Items items = decode(path, problems);
      Json derived = derive(items, problems);
      fs::path expected = fs::path(CULVERT_GOLDEN_DIR) / "compile/expected" / path.filename();
      expected.replace_extension(".json");
      if (std::getenv("CULVERT_GOLDEN_UPDATE")) std::ofstream(expected) << derived.dump(2) << "\n";
      CHECK(derived.dump(2) + "\n" == read(expected));
    }
  }
}

// Nothing may depend on the order in which objects arrive (except which of two equal identities wins).
TEST_CASE("the order of objects does not matter", "[golden]") {
  for (const fs::path& path : inputs()) {
    DYNAMIC_SECTION(path.filename().string()) {
      Json problems = Json::array();
      Items items = decode(path, problems);
      Json derived = derive(items, Json::array());
      std::mt19937 chance(7);
      for (int round = 0; round < 5; ++round) {
        std::shuffle(items.begin(), items.end(), chance);
        Json again = derive(items, Json::array());
        CHECK(again["addresses"] == derived["addresses"]);
        CHECK(again["authorizations"] == derived["authorizations"]);
        CHECK(again["findings"] == derived["findings"]);
      }
    }
  }
}
