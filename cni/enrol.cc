// SPDX-License-Identifier: Apache-2.0
#include "cni/enrol.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

namespace culvert::cni {
namespace {

constexpr std::string_view kModeLabel = "istio.io/dataplane-mode";
constexpr std::string_view kSidecarStatus = "sidecar.istio.io/status";

base::Result<Selector> parse_selector(const YAML::Node& node) {
  Selector selector;
  if (!node || node.IsNull()) return selector;
  auto fail = [](std::string why) {
    return base::fail(base::Code::kInvalid, "label selector: " + std::move(why));
  };
  if (!node.IsMap()) return fail("not a mapping");
  for (const auto& item : node) {
    const auto key = item.first.as<std::string>();
    if (key != "matchLabels" && key != "matchExpressions") return fail("unknown key " + key);
  }
  const YAML::Node match_labels = node["matchLabels"];
  for (const auto& item : match_labels) {
    selector.require({item.first.as<std::string>(), Selector::Op::kIn, {item.second.as<std::string>()}});
  }
  const YAML::Node expressions = node["matchExpressions"];
  for (const auto& item : expressions) {
    Selector::Requirement requirement;
    requirement.key = item["key"].as<std::string>();
    const auto op = item["operator"].as<std::string>();
    for (const auto& value : item["values"]) requirement.values.push_back(value.as<std::string>());
    const bool listed = op == "In" || op == "NotIn";
    if (op == "In") {
      requirement.op = Selector::Op::kIn;
    } else if (op == "NotIn") {
      requirement.op = Selector::Op::kNotIn;
    } else if (op == "Exists") {
      requirement.op = Selector::Op::kExists;
    } else if (op == "DoesNotExist") {
      requirement.op = Selector::Op::kDoesNotExist;
    } else {
      return fail("unknown operator " + op);
    }
    if (listed == requirement.values.empty())
      return fail(fmt::format("operator {} with {} values", op, requirement.values.size()));
    selector.require(std::move(requirement));
  }
  return selector;
}

base::Result<std::vector<SelectorPair>> parse_list(const YAML::Node& list) {
  std::vector<SelectorPair> pairs;
  if (!list || list.IsNull()) return pairs;
  if (!list.IsSequence()) return base::fail(base::Code::kInvalid, "enablement selectors are not a list");
  for (const auto& item : list) {
    if (!item.IsMap()) return base::fail(base::Code::kInvalid, "an enablement selector is not a mapping");
    for (const auto& field : item) {
      const auto key = field.first.as<std::string>();
      if (key != "podSelector" && key != "namespaceSelector") {
        return base::fail(base::Code::kInvalid, "enablement selector: unknown key " + key);
      }
    }
    auto pod = parse_selector(item["podSelector"]);
    if (!pod) return base::fail(pod.error());
    auto name_space = parse_selector(item["namespaceSelector"]);
    if (!name_space) return base::fail(name_space.error());
    pairs.push_back({std::move(*pod), std::move(*name_space)});
  }
  return pairs;
}

}  // namespace

bool Selector::matches(const Labels& labels) const {
  return std::all_of(requirements_.begin(), requirements_.end(), [&](const Requirement& requirement) {
    auto at = labels.find(requirement.key);
    const bool present = at != labels.end();
    const auto& values = requirement.values;
    const bool listed = present && std::find(values.begin(), values.end(), at->second) != values.end();
    switch (requirement.op) {
      case Op::kIn: return listed;
      case Op::kNotIn: return !listed;
      case Op::kExists: return present;
      case Op::kDoesNotExist: return !present;
    }
    return false;
  });
}

std::vector<SelectorPair> Enrolment::default_pairs() {
  const std::string mode(kModeLabel);
  std::vector<SelectorPair> pairs(2);
  pairs[0].pod.require({mode, Selector::Op::kIn, {"ambient"}});
  pairs[1].pod.require({mode, Selector::Op::kNotIn, {"none"}});
  pairs[1].name_space.require({mode, Selector::Op::kIn, {"ambient"}});
  return pairs;
}

base::Result<std::vector<SelectorPair>> Enrolment::parse_pairs(std::string_view text) {
  try {
    return parse_list(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return base::fail(base::Code::kInvalid, std::string("enablement selectors: ") + error.what());
  }
}

std::vector<std::string> Enrolment::parse_excluded(std::string_view text) {
  std::vector<std::string> names;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t end = std::min(text.find(',', at), text.size());
    std::string_view part = text.substr(at, end - at);
    while (!part.empty() && (part.front() == ' ' || part.front() == '\t')) part.remove_prefix(1);
    while (!part.empty() && (part.back() == ' ' || part.back() == '\t')) part.remove_suffix(1);
    if (!part.empty()) names.emplace_back(part);
    at = end + 1;
  }
  return names;
}

bool Enrolment::excluded(std::string_view name_space) const {
  return std::find(excluded_.begin(), excluded_.end(), name_space) != excluded_.end();
}

bool Enrolment::should_be_enabled(const PodInfo& pod, const Labels& namespace_labels) const {
  if (pod.host_network || pod.annotations.contains(std::string(kSidecarStatus)) || excluded(pod.name_space))
    return false;
  return std::any_of(pairs_.begin(), pairs_.end(), [&](const SelectorPair& pair) {
    return pair.pod.matches(pod.labels) && pair.name_space.matches(namespace_labels);
  });
}

std::optional<bool> parse_go_bool(std::string_view text) {
  for (std::string_view yes : {"1", "t", "T", "TRUE", "true", "True"}) {
    if (text == yes) return true;
  }
  for (std::string_view no : {"0", "f", "F", "FALSE", "false", "False"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

}  // namespace culvert::cni
