// SPDX-License-Identifier: Apache-2.0
#include "control/compile/guards.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace culvert::control {

namespace {

using kube::AuthorizationPolicy;
using model::Condition;
using model::Either;
using model::TextMatch;
using Texts = std::vector<std::string>;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// "a[b][c]" without the "a": the names between the brackets; empty if it is not of that form.
std::vector<std::string> bracketed(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    size_t end = text.find(']');
    if (!text.starts_with('[') || end == text.npos || end == 1) return {};
    out.emplace_back(text.substr(1, end - 1));
    text.remove_prefix(end + 1);
  }
  return out;
}

class RuleReader {
 public:
  // `ns`: the policy's, which service accounts without one belong to.
  RuleReader(const Complain& complain, const std::string& ns) : complain_(complain), ns_(ns) {}

  model::HttpRule rule(const AuthorizationPolicy::Rule& in);
  model::HttpSource source(const AuthorizationPolicy::Source& in);
  // Some value of the rule could not be read, or stands for nothing.
  bool unreadable() const { return unreadable_; }

 private:
  void lose(const std::string& why) {
    complain_(why);
    unreadable_ = true;
  }
  std::vector<TextMatch> list(const Texts& in, bool paths, bool fold);
  Either<TextMatch> texts(const Texts& any, const Texts& none, bool paths = false, bool fold = false) {
    return {list(any, paths, fold), list(none, paths, fold)};
  }
  template <class T, class Parse>
  std::vector<T> parsed(const Texts& in, Parse parse) {
    std::vector<T> out;
    for (const std::string& text : in) {
      auto value = parse(text);
      if (value) {
        out.push_back(*value);
      } else {
        lose(value.error().message());
      }
    }
    return out;
  }
  Either<base::Cidr> ranges(const Texts& any, const Texts& none) {
    auto parse = [](const std::string& text) { return base::Cidr::parse(text); };
    return {parsed<base::Cidr>(any, parse), parsed<base::Cidr>(none, parse)};
  }
  model::HttpOperation operation(const AuthorizationPolicy::Operation& in);
  Condition condition(const AuthorizationPolicy::Condition& in);

  const Complain& complain_;
  const std::string& ns_;
  bool unreadable_ = false;
};

std::vector<TextMatch> RuleReader::list(const Texts& in, bool paths, bool fold) {
  using Kind = TextMatch::Kind;
  std::vector<TextMatch> out;
  for (const std::string& text : in) {
    auto add = [&](Kind kind, std::string value, bool ignore_case) {
      auto made = TextMatch::make(kind, std::move(value), ignore_case);
      if (made) {
        out.push_back(std::move(*made));
      } else {
        lose(made.error().message());
      }
    };
    if (text.empty()) {
      lose("an empty value");
    } else if (text == "*") {
      out.push_back(TextMatch::present());
    } else if (paths && text.find('{') != text.npos) {
      add(Kind::kPathTemplate, text, false);
    } else if (text.starts_with('*')) {
      // The waypoint folds the host it compares.
      add(Kind::kSuffix, fold ? lower(text.substr(1)) : text.substr(1), false);
    } else if (text.ends_with('*')) {
      add(Kind::kPrefix, text.substr(0, text.size() - 1), fold);
    } else {
      add(Kind::kExact, text, fold);
    }
  }
  return out;
}

model::HttpSource RuleReader::source(const AuthorizationPolicy::Source& in) {
  model::HttpSource out;
  out.principals = texts(in.principals, in.not_principals);
  out.request_principals = texts(in.request_principals, in.not_request_principals);
  out.namespaces = texts(in.namespaces, in.not_namespaces);
  out.trust_domains = texts(in.trust_domains, in.not_trust_domains);
  auto accounts = [&](const Texts& from) {
    std::vector<model::ServiceAccountMatch> made;
    for (const std::string& text : from) {
      size_t slash = text.find('/');
      bool own = slash == text.npos;
      made.push_back({own ? ns_ : text.substr(0, slash), own ? text : text.substr(slash + 1)});
    }
    return made;
  };
  out.service_accounts = {accounts(in.service_accounts), accounts(in.not_service_accounts)};
  out.ip_blocks = ranges(in.ip_blocks, in.not_ip_blocks);
  out.remote_ip_blocks = ranges(in.remote_ip_blocks, in.not_remote_ip_blocks);
  if (out == model::HttpSource{} && !unreadable_) lose("a source without any attribute");
  return out;
}

model::HttpOperation RuleReader::operation(const AuthorizationPolicy::Operation& in) {
  model::HttpOperation out;
  out.hosts = texts(in.hosts, in.not_hosts, false, true);
  out.methods = texts(in.methods, in.not_methods);
  out.paths = texts(in.paths, in.not_paths, true);
  auto parse = [](const std::string& text) { return base::parse_port(text); };
  out.ports = {parsed<uint16_t>(in.ports, parse), parsed<uint16_t>(in.not_ports, parse)};
  if (out == model::HttpOperation{} && !unreadable_) lose("an operation without any attribute");
  return out;
}

Condition RuleReader::condition(const AuthorizationPolicy::Condition& in) {
  using Key = Condition::Key;
  static const std::pair<std::string_view, Key> kKeys[] = {
      {"source.ip", Key::kSourceIp},
      {"remote.ip", Key::kRemoteIp},
      {"source.namespace", Key::kSourceNamespace},
      {"source.principal", Key::kSourcePrincipal},
      {"source.serviceAccount", Key::kSourceServiceAccount},
      {"source.trustDomain", Key::kSourceTrustDomain},
      {"request.auth.principal", Key::kRequestPrincipal},
      {"request.auth.audiences", Key::kRequestAudiences},
      {"request.auth.presenter", Key::kRequestPresenter},
      {"destination.ip", Key::kDestinationIp},
      {"destination.port", Key::kDestinationPort},
      {"connection.sni", Key::kConnectionSni},
  };
  constexpr std::string_view kHeaders = "request.headers";
  constexpr std::string_view kClaims = "request.auth.claims";
  Condition out;
  std::string_view key = in.key;
  const auto* known =
      std::find_if(std::begin(kKeys), std::end(kKeys), [&](const auto& one) { return one.first == key; });
  if (known != std::end(kKeys)) {
    out.key = known->second;
  } else if (key.starts_with(kHeaders) && bracketed(key.substr(kHeaders.size())).size() == 1) {
    out.key = Key::kHeader;
    out.name = lower(bracketed(key.substr(kHeaders.size())).front());
  } else if (key.starts_with(kClaims) && !bracketed(key.substr(kClaims.size())).empty()) {
    out.key = Key::kRequestClaim;
    out.path = bracketed(key.substr(kClaims.size()));
  } else {
    lose(fmt::format("condition \"{}\" is not one that can be evaluated", in.key));
    return out;
  }
  bool addresses = out.key == Key::kSourceIp || out.key == Key::kRemoteIp || out.key == Key::kDestinationIp;
  if (addresses) {
    out.ranges = ranges(in.values, in.not_values);
  } else {
    out.values = texts(in.values, in.not_values);
  }
  if (out.values.empty() && out.ranges.empty() && !unreadable_) lose("a condition without values");
  return out;
}

model::HttpRule RuleReader::rule(const AuthorizationPolicy::Rule& in) {
  model::HttpRule out;
  for (const auto& one : in.from) out.from.push_back(source(one));
  for (const auto& one : in.to) out.to.push_back(operation(one));
  for (const auto& one : in.when) out.when.push_back(condition(one));
  return out;
}

model::HttpPolicy::Action action_of(AuthorizationPolicy::Action action) {
  switch (action) {
    case AuthorizationPolicy::Action::kAllow: return model::HttpPolicy::Action::kAllow;
    case AuthorizationPolicy::Action::kDeny: return model::HttpPolicy::Action::kDeny;
    case AuthorizationPolicy::Action::kAudit: return model::HttpPolicy::Action::kAudit;
    case AuthorizationPolicy::Action::kCustom: return model::HttpPolicy::Action::kCustom;
  }
  return model::HttpPolicy::Action::kDeny;
}

}  // namespace

std::optional<model::HttpSource> compile_source(const AuthorizationPolicy::Source& source,
                                                const std::string& ns, const Complain& complain) {
  RuleReader reader(complain, ns);
  model::HttpSource out = reader.source(source);
  return reader.unreadable() ? std::nullopt : std::optional(std::move(out));
}

model::HttpPolicy compile_http_policy(const AuthorizationPolicy& policy, const Complain& complain) {
  model::HttpPolicy out;
  out.ns = policy.meta.ns;
  out.name = policy.meta.name;
  out.action = action_of(policy.action);
  out.dry_run = policy.dry_run;
  out.provider = policy.provider;
  bool refuses =
      out.action == model::HttpPolicy::Action::kDeny || out.action == model::HttpPolicy::Action::kCustom;
  for (size_t i = 0; i < policy.rules.size(); ++i) {
    Complain here = [&](const std::string& what) {
      complain(fmt::format("rule {}: {}: {}", i + 1, what,
                           refuses ? "the rule matches everything" : "the rule matches nothing"));
    };
    RuleReader reader(here, out.ns);
    model::HttpRule rule = reader.rule(policy.rules[i]);
    if (!reader.unreadable()) {
      out.rules.push_back(std::move(rule));
    } else if (refuses) {
      out.rules.emplace_back();
    }
  }
  return out;
}

model::RequestAuthentication compile_authentication(
    const kube::RequestAuthentication& source,
    const std::function<std::string(const std::string& uri)>& jwks) {
  using Place = model::TokenPlace::Kind;
  model::RequestAuthentication out;
  out.ns = source.meta.ns;
  out.name = source.meta.name;
  for (const auto& in : source.rules) {
    model::JwtRule& rule = out.rules.emplace_back();
    rule.issuer = in.issuer;
    rule.audiences = in.audiences;
    rule.inline_keys = !in.jwks.empty();
    if (rule.inline_keys) {
      rule.jwks = in.jwks;
    } else if (jwks) {
      // With neither, the issuer's own document says where its keys are (OIDC discovery).
      std::string issuer = in.issuer.ends_with('/') ? in.issuer.substr(0, in.issuer.size() - 1) : in.issuer;
      rule.jwks = jwks(in.jwks_uri.empty() ? issuer + "/.well-known/openid-configuration" : in.jwks_uri);
    }
    for (const auto& header : in.from_headers) {
      rule.places.push_back({Place::kHeader, lower(header.name), header.prefix});
    }
    for (const std::string& name : in.from_params) rule.places.push_back({Place::kParameter, name, ""});
    for (const std::string& name : in.from_cookies) rule.places.push_back({Place::kCookie, name, ""});
    if (rule.places.empty()) {
      rule.places = {{Place::kHeader, "authorization", "Bearer "}, {Place::kParameter, "access_token", ""}};
    }
    rule.payload_header = lower(in.output_payload_to_header);
    for (const auto& claim : in.output_claims)
      rule.claim_headers.emplace_back(lower(claim.header), claim.claim);
    rule.forward_token = in.forward_original_token;
    rule.space_delimited_claims = in.space_delimited_claims;
  }
  return out;
}

}  // namespace culvert::control
