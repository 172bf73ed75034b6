// SPDX-License-Identifier: Apache-2.0
// Telemetry, strictly (spec waypoint section 2.9).
#include <fmt/format.h>

#include <algorithm>

#include "mesh/kube/decode_fields.h"
#include "mesh/kube/decode_kinds.h"

namespace culvert::kube {

namespace {

Telemetry::Mode decode_mode(const Cursor& at) {
  using Mode = Telemetry::Mode;
  return decode_choice<Mode>(
      at, Mode::kClientAndServer,
      {{"CLIENT_AND_SERVER", Mode::kClientAndServer}, {"CLIENT", Mode::kClient}, {"SERVER", Mode::kServer}});
}

std::vector<std::string> decode_providers(const Cursor& at) {
  std::vector<std::string> out;
  for (const Cursor& item : at.items()) {
    item.only({"name"});
    out.push_back(decode_needed(item, "name"));
  }
  return out;
}

// A label of Prometheus.
void check_tag(const Cursor& at, const std::string& tag) {
  bool good =
      !tag.empty() && !(tag.front() >= '0' && tag.front() <= '9') &&
      std::all_of(tag.begin(), tag.end(), [](unsigned char c) { return std::isalnum(c) || c == '_'; });
  if (!good) at.fail(fmt::format("\"{}\" is not a label's name (letters, digits and _)", tag));
}

Telemetry::Override decode_override(const Cursor& at) {
  at.only({"match", "disabled", "tagOverrides"});
  Telemetry::Override out;
  Cursor match = at.at("match");
  match.only({"metric", "customMetric", "mode"});
  static constexpr std::string_view kMetrics[] = {
      "ALL_METRICS",        "REQUEST_COUNT",          "REQUEST_DURATION",       "REQUEST_SIZE",
      "RESPONSE_SIZE",      "TCP_OPENED_CONNECTIONS", "TCP_CLOSED_CONNECTIONS", "TCP_SENT_BYTES",
      "TCP_RECEIVED_BYTES", "GRPC_REQUEST_MESSAGES",  "GRPC_RESPONSE_MESSAGES"};
  out.custom_metric = match.at("customMetric").text();
  if (!out.custom_metric.empty()) {
    if (!match.at("metric").absent()) match.at("metric").fail("excludes customMetric");
    out.metric.clear();
  } else {
    out.metric = match.at("metric").text(out.metric);
    if (std::find(std::begin(kMetrics), std::end(kMetrics), out.metric) == std::end(kMetrics)) {
      match.at("metric").fail(
          fmt::format("\"{}\" must be one of: {}", out.metric, fmt::join(kMetrics, ", ")));
    }
  }
  out.mode = decode_mode(match.at("mode"));
  out.disabled = decode_flag(at.at("disabled"));
  for (const auto& [tag, item] : at.at("tagOverrides").fields()) {
    item.only({"operation", "value"});
    check_tag(item, tag);
    Telemetry::TagOverride edit;
    edit.remove = decode_choice<bool>(item.at("operation"), false, {{"UPSERT", false}, {"REMOVE", true}});
    edit.value = item.at("value").text();
    if (!edit.remove && edit.value.empty()) item.at("value").fail("is missing: UPSERT needs an expression");
    if (edit.remove && !item.at("value").absent()) item.at("value").fail("does not go with REMOVE");
    out.tags[tag] = std::move(edit);
  }
  return out;
}

// Our extension: a list of attributes, or a map from label to expression.
std::vector<Telemetry::Dimension> decode_dimensions(const Cursor& at) {
  std::vector<Telemetry::Dimension> out;
  if (at.absent()) return out;
  at.note(
      "is an extension of ours, as Istio's old telemetry had it; Istio's own form is "
      "overrides[].tagOverrides");
  if (at.is_map()) {
    for (const auto& [tag, value] : at.fields()) {
      check_tag(value, tag);
      out.push_back({tag, value.text()});
      if (out.back().value.empty()) value.fail("is missing: an expression");
    }
    return out;
  }
  for (const Cursor& item : at.items()) {
    std::string attribute = item.text(), tag = attribute;
    std::replace(tag.begin(), tag.end(), '.', '_');
    check_tag(item, tag);
    bool twice = std::any_of(out.begin(), out.end(), [&](const auto& old) { return old.tag == tag; });
    if (twice) item.fail(fmt::format("\"{}\" is given twice", attribute));
    out.push_back({std::move(tag), std::move(attribute)});
  }
  return out;
}

Telemetry::Metrics decode_metrics(const Cursor& at) {
  at.only({"providers", "overrides", "reportingInterval", "dimensions"});
  Telemetry::Metrics out;
  out.line = at.line();
  out.providers = decode_providers(at.at("providers"));
  for (const Cursor& item : at.at("overrides").items()) out.overrides.push_back(decode_override(item));
  out.reporting_interval = decode_duration(at.at("reportingInterval"));
  if (out.reporting_interval && *out.reporting_interval < std::chrono::milliseconds(1)) {
    at.at("reportingInterval").fail("must be at least 1ms");
  }
  out.dimensions = decode_dimensions(at.at("dimensions"));
  return out;
}

Telemetry::AccessLogging decode_access_logging(const Cursor& at) {
  at.only({"match", "providers", "disabled", "filter"});
  Telemetry::AccessLogging out;
  out.line = at.line();
  at.at("match").only({"mode"});
  out.mode = decode_mode(at.at("match").at("mode"));
  out.providers = decode_providers(at.at("providers"));
  out.disabled = decode_flag(at.at("disabled"));
  at.at("filter").only({"expression"});
  if (!at.at("filter").absent()) out.filter = decode_needed(at.at("filter"), "expression");
  return out;
}

Telemetry::Tracing decode_tracing(const Cursor& at) {
  at.only({"match", "providers", "randomSamplingPercentage", "disableSpanReporting", "customTags",
           "useRequestIdForTraceSampling", "enableIstioTags", "disableContextPropagation"});
  Telemetry::Tracing out;
  out.line = at.line();
  at.at("match").only({"mode"});
  out.mode = decode_mode(at.at("match").at("mode"));
  out.providers = decode_providers(at.at("providers"));
  if (out.providers.size() > 1) at.at("providers").fail("must name one provider: spans go to one place");
  if (Cursor share = at.at("randomSamplingPercentage"); !share.absent()) {
    out.random_sampling_percent = decode_number(share, 0, 100, 0);
  }
  out.disable_span_reporting = decode_flag(at.at("disableSpanReporting"));
  out.custom_tags = decode_custom_tags(at.at("customTags"));
  out.use_request_id_for_sampling = decode_flag(at.at("useRequestIdForTraceSampling"));
  out.enable_istio_tags = decode_flag(at.at("enableIstioTags"));
  out.disable_context_propagation = decode_flag(at.at("disableContextPropagation"));
  return out;
}

}  // namespace

std::map<std::string, CustomTag> decode_custom_tags(const Cursor& at) {
  std::map<std::string, CustomTag> out;
  for (const auto& [name, item] : at.fields()) {
    item.only({"literal", "environment", "header", "formatter"});
    using Kind = CustomTag::Kind;
    struct Form {
      const char* key;
      const char* field;
      Kind kind;
      bool fallback;
    };
    size_t given = 0;
    for (const Form& form :
         {Form{"literal", "value", Kind::kLiteral, false},
          Form{"environment", "name", Kind::kEnvironment, true}, Form{"header", "name", Kind::kHeader, true},
          Form{"formatter", "value", Kind::kFormatter, false}}) {
      Cursor part = item.at(form.key);
      if (part.absent()) continue;
      given++;
      CustomTag tag{form.kind, decode_needed(part, form.field), ""};
      if (form.fallback) {
        part.only({"name", "defaultValue"});
        tag.fallback = part.at("defaultValue").text();
      } else {
        part.only({"value"});
      }
      if (form.kind == Kind::kHeader) check_header_name(part.at("name"), tag.value);
      out[name] = std::move(tag);
    }
    if (given != 1) item.fail("must have one of literal, environment, header and formatter");
  }
  return out;
}

Telemetry decode_telemetry(const Cursor& root, Meta meta) {
  Telemetry telemetry;
  telemetry.meta = std::move(meta);
  Cursor spec = root.at("spec");
  spec.only({"selector", "targetRef", "targetRefs", "metrics", "accessLogging", "tracing"});
  telemetry.selector = decode_match_labels(spec.at("selector"));
  telemetry.target_refs = decode_target_refs(spec);
  for (const Cursor& item : spec.at("metrics").items()) telemetry.metrics.push_back(decode_metrics(item));
  for (const Cursor& item : spec.at("accessLogging").items()) {
    telemetry.access_logging.push_back(decode_access_logging(item));
  }
  for (const Cursor& item : spec.at("tracing").items()) telemetry.tracing.push_back(decode_tracing(item));
  return telemetry;
}

}  // namespace culvert::kube
