// SPDX-License-Identifier: Apache-2.0
#include "proto/otlp.pb.h"
#include "waypoint/telemetry/span_encoding.h"
#include "waypoint/version.h"

namespace culvert::waypoint {

namespace {

namespace pb = opentelemetry::proto::collector::trace::v1;

// Ids are made or checked by trace_context.cc: an even number of hexadecimal digits.
std::string bytes_of(std::string_view hex) {
  auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::string out;
  for (size_t at = 0; at + 1 < hex.size(); at += 2) {
    out += static_cast<char>(digit(hex[at]) << 4 | digit(hex[at + 1]));
  }
  return out;
}

void add(google::protobuf::RepeatedPtrField<pb::KeyValue>& list, const std::string& key,
         const std::string& value) {
  pb::KeyValue& pair = *list.Add();
  pair.set_key(key);
  pair.mutable_value()->set_string_value(value);
}

uint64_t nanos(base::WallTime time) { return static_cast<uint64_t>(time.time_since_epoch().count()); }

void encode(const Span& from, pb::Span& into) {
  into.set_trace_id(bytes_of(from.context.trace_id));
  into.set_span_id(bytes_of(from.context.span_id));
  into.set_parent_span_id(bytes_of(from.context.parent_span_id));
  into.set_trace_state(clean_text(from.context.state, kTraceStateMax));
  into.set_name(from.name);
  into.set_kind(pb::Span::SPAN_KIND_SERVER);
  into.set_start_time_unix_nano(nanos(from.start));
  into.set_end_time_unix_nano(nanos(from.start + from.duration));
  for (const auto& [name, value] : from.tags) add(*into.mutable_attributes(), name, value);
  if (from.error) into.mutable_status()->set_code(pb::Status::STATUS_CODE_ERROR);
  into.set_flags(from.context.sampled ? 1 : 0);
}

}  // namespace

std::string otlp_request(std::span<const Span> spans, const SpanSource& source) {
  pb::ExportTraceServiceRequest request;
  pb::ResourceSpans& resource = *request.add_resource_spans();
  auto& attributes = *resource.mutable_resource()->mutable_attributes();
  add(attributes, "service.name", source.service_name);
  add(attributes, "service.instance.id", source.instance_name);
  add(attributes, "k8s.namespace.name", source.ns);
  add(attributes, "k8s.cluster.name", source.cluster_id);
  add(attributes, "telemetry.sdk.language", "cpp");
  add(attributes, "telemetry.sdk.name", "culvert");
  add(attributes, "telemetry.sdk.version", kVersion);
  pb::ScopeSpans& scope = *resource.add_scope_spans();
  scope.mutable_scope()->set_name("culvert.waypoint");
  scope.mutable_scope()->set_version(kVersion);
  for (const Span& span : spans) encode(span, *scope.add_spans());
  return request.SerializeAsString();
}

std::optional<OtlpAnswer> read_otlp_answer(std::string_view bytes) {
  pb::ExportTraceServiceResponse response;
  if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return std::nullopt;
  OtlpAnswer out;
  out.rejected = static_cast<uint64_t>(std::max<int64_t>(0, response.partial_success().rejected_spans()));
  out.reason = response.partial_success().error_message();
  return out;
}

}  // namespace culvert::waypoint
