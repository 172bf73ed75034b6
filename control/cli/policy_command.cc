// SPDX-License-Identifier: Apache-2.0
#include "control/cli/policy_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "control/cli/manifests.h"
#include "control/compile/guards.h"
#include "control/compile/selector.h"
#include "control/serve/vip_pool.h"

namespace culvert::control {

using base::Code;
using base::fail;
using base::Result;
using kube::AuthorizationPolicy;

namespace {

using Row = std::array<std::string, 3>;
constexpr size_t kNamesShown = 4;

std::string table(const std::vector<Row>& rows) {
  size_t widths[2] = {0, 0};
  for (const Row& row : rows) {
    for (size_t i = 0; i < 2; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const Row& row : rows) {
    out += fmt::format("  {:<{}}   {:<{}}   {}\n", row[0], widths[0], row[1], widths[1], row[2]);
  }
  return out;
}

std::string names(const std::vector<std::string>& all) {
  std::string out;
  for (size_t i = 0; i < std::min(all.size(), kNamesShown); ++i) out += (i == 0 ? "" : ", ") + all[i];
  if (all.size() > kNamesShown) out += fmt::format(" and {} more", all.size() - kNamesShown);
  return out;
}

std::string_view action_of(const AuthorizationPolicy& policy) {
  switch (policy.action) {
    case AuthorizationPolicy::Action::kAllow: return "ALLOW";
    case AuthorizationPolicy::Action::kDeny: return "DENY";
    case AuthorizationPolicy::Action::kAudit: return "AUDIT";
    case AuthorizationPolicy::Action::kCustom: return "CUSTOM";
  }
  return "";
}

std::string rules(size_t count) { return fmt::format("{} rule{}", count, count == 1 ? "" : "s"); }

class Explainer {
 public:
  Explainer(const Compiled& compiled, const CompileOptions& options)
      : compiled_(compiled), options_(options) {}

  std::string of(const AuthorizationPolicy& policy) const {
    size_t http =
        static_cast<size_t>(std::count_if(policy.rules.begin(), policy.rules.end(), needs_waypoint));
    std::string out = fmt::format("AuthorizationPolicy {}: {}, {}{}{}\n", policy.meta.key(),
                                  action_of(policy), rules(policy.rules.size()),
                                  http > 0 ? fmt::format(" ({} with HTTP attributes)", http) : "",
                                  policy.dry_run ? ", dry run" : "");
    out += binding(policy.meta, policy.selector, policy.target_refs);
    std::vector<Row> rows = {{"ENFORCED BY", "FOR", "HOW"}};
    at_waypoints(rows, [&](const model::Guard& guard) {
      std::string how;
      for (const model::HttpPolicy& one : guard.policies) {
        if (one.ns != policy.meta.ns || one.name != policy.meta.name) continue;
        how = rules(one.rules.size()) + ", the client's identity" +
              (one.action == model::HttpPolicy::Action::kDeny &&
                       policy.action != AuthorizationPolicy::Action::kDeny
                   ? ", as DENY"
                   : "");
      }
      return how;
    });
    at_node_proxies(policy, rows);
    return out + finish(rows, "AuthorizationPolicy " + policy.meta.key());
  }

  std::string of(const kube::RequestAuthentication& one) const {
    std::string out = fmt::format("RequestAuthentication {}: {}\n", one.meta.key(), rules(one.rules.size()));
    out += binding(one.meta, one.selector, one.target_refs);
    std::vector<Row> rows = {{"ENFORCED BY", "FOR", "HOW"}};
    at_waypoints(rows, [&](const model::Guard& guard) {
      bool told =
          std::any_of(guard.authentications.begin(), guard.authentications.end(),
                      [&](const auto& made) { return made.ns == one.meta.ns && made.name == one.meta.name; });
      return std::string(told ? "tokens are looked at" : "");
    });
    if (one.target_refs.empty()) {
      std::map<std::string, std::vector<std::string>> by_how;
      each_covered(one.meta, one.selector, [&](const model::Workload& workload) {
        std::string how = admitted(workload);
        if (!how.empty()) by_how[how].push_back(workload.ns.str() + "/" + workload.name);
      });
      for (const auto& [how, workloads] : by_how) rows.push_back({"node proxy", names(workloads), how});
    }
    return out + finish(rows, "RequestAuthentication " + one.meta.key());
  }

 private:
  std::string binding(const kube::Meta& meta, const std::optional<kube::Labels>& selector,
                      const std::vector<kube::TargetRef>& refs) const {
    std::string out = "  written in " + meta.origin.to_string() + "; ";
    if (!refs.empty()) {
      std::vector<std::string> targets;
      for (const kube::TargetRef& ref : refs) targets.push_back(ref.kind + " " + ref.name);
      return out + "bound to " + names(targets) + "\n";
    }
    std::vector<std::string> labels;
    for (const auto& [key, value] : selector.value_or(kube::Labels())) labels.push_back(key + "=" + value);
    out += labels.empty() ? "covers all pods of " : "covers pods with " + names(labels) + " in ";
    return out + (meta.ns == options_.root_namespace ? "every namespace" : "namespace " + meta.ns) + "\n";
  }

  // `how` of a guard: "" it does not have the policy.
  template <class How>
  void at_waypoints(std::vector<Row>& rows, How how) const {
    for (const auto& [key, service] : compiled_.waypoint_services) {
      std::string text = how(service->guard);
      if (text.empty()) continue;
      std::vector<std::string> waypoints = compiled_.waypoints_of.at(key);
      bool pods = service->service.hostname.view().starts_with("pods@");
      rows.push_back({"waypoint " + names(waypoints), pods ? "pods that use it themselves" : key, text});
    }
  }

  template <class Call>
  void each_covered(const kube::Meta& meta, const std::optional<kube::Labels>& selector, Call call) const {
    for (const auto& [uid, workload] : compiled_.workloads) {
      if (meta.ns != options_.root_namespace && workload->ns != meta.ns) continue;
      auto labels = compiled_.workload_labels.find(uid);
      bool known = labels != compiled_.workload_labels.end();
      if (selects(selector.value_or(kube::Labels()), known ? labels->second->labels : kube::Labels())) {
        call(*workload);
      }
    }
  }

  // Which waypoints a workload's own ALLOW lets in.
  std::string admitted(const model::Workload& workload) const {
    constexpr std::string_view kAdmit = "culvert_admit_";
    for (const model::Name& name : workload.authorization_policies) {
      size_t at = name.view().find(kAdmit);
      if (at == std::string_view::npos) continue;
      const model::Policy& policy = *compiled_.policies.at(name.str());
      if (policy.rules.empty()) return "nobody is admitted but whom L4 alone allows";
      std::vector<std::string> principals;
      for (const auto& match : policy.rules[0].clauses.at(0).matches.at(0).principals) {
        principals.push_back(match.text.str());
      }
      return "admits " + names(principals) + ", and whom L4 alone allows";
    }
    return "";
  }

  std::string at_node(const AuthorizationPolicy& policy, const model::Workload& workload) const {
    std::string key = policy.meta.key(), how;
    auto add = [&](const model::Policy& made, bool except) {
      if (!how.empty()) how += "; ";
      how += fmt::format("{} {}{}{}", made.action == model::PolicyAction::kAllow ? "ALLOW" : "DENY",
                         rules(made.rules.size()), except ? " for all but its waypoints" : "",
                         made.dry_run ? ", dry run" : "");
    };
    auto wide = compiled_.policies.find(key);
    bool by_scope =
        wide != compiled_.policies.end() && wide->second->scope != model::PolicyScope::kWorkloadSelector;
    // A DENY without rules does nothing; an ALLOW without rules allows nobody.
    if (by_scope && (wide->second->action == model::PolicyAction::kAllow || !wide->second->rules.empty())) {
      add(*wide->second, false);
    }
    for (const model::Name& name : workload.authorization_policies) {
      std::string_view text = name.view();
      bool own =
          text == key || (text.starts_with(key) && text.size() > key.size() && text[key.size()] == '_');
      if (own) add(*compiled_.policies.at(name.str()), text.find("_except_") != text.npos);
    }
    std::string admits = policy.action == AuthorizationPolicy::Action::kAllow ? admitted(workload) : "";
    if (how.empty()) return how;
    return admits.empty() ? how : how + "; " + admits;
  }

  void at_node_proxies(const AuthorizationPolicy& policy, std::vector<Row>& rows) const {
    if (!policy.target_refs.empty()) return;
    std::map<std::string, std::vector<std::string>> by_how;
    each_covered(policy.meta, policy.selector, [&](const model::Workload& workload) {
      std::string how = at_node(policy, workload);
      if (!how.empty()) by_how[how].push_back(workload.ns.str() + "/" + workload.name);
    });
    for (const auto& [how, workloads] : by_how) rows.push_back({"node proxy", names(workloads), how});
  }

  std::string finish(const std::vector<Row>& rows, const std::string& object) const {
    std::string out = rows.size() > 1 ? table(rows) : "  enforced nowhere: nothing here is covered by it\n";
    for (const Finding& finding : compiled_.findings) {
      if (finding.object == object) {
        out += fmt::format("  {} [{}] {}\n", to_string(finding.severity), finding.code, finding.message);
      }
    }
    return out;
  }

  const Compiled& compiled_;
  const CompileOptions& options_;
};

}  // namespace

Result<std::string> explain_policies(const PolicyCommand& command) {
  Result<Manifests> manifests = read_manifests(command.paths);
  if (!manifests) return fail(std::move(manifests).error());
  CompileOptions options = command.compile;
  VipPool vips = VipPool::make(base::Cidr::parse("240.0.0.0/8").value()).value();
  options.allocate_vip = [&](const std::string& key) { return vips.allocate(key); };
  Compiled compiled = compile(*manifests->objects, options);
  Explainer explainer(compiled, options);
  std::string out;
  auto add = [&](const auto& objects) {
    for (const auto& [key, object] : objects) {
      if (!command.name.empty() && command.name != key) continue;
      out += (out.empty() ? "" : "\n") + explainer.of(*object);
    }
  };
  add(manifests->objects->authorization_policies);
  add(manifests->objects->request_authentications);
  if (out.empty()) {
    return fail(Code::kNotFound, command.name.empty()
                                     ? "there is no AuthorizationPolicy or RequestAuthentication"
                                     : "there is no policy " + command.name);
  }
  return out;
}

}  // namespace culvert::control
