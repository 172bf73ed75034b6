// SPDX-License-Identifier: Apache-2.0
#include "mesh/observe/conn_record.h"

#include <fmt/format.h>

#include <utility>

namespace culvert::observe {

namespace {

constexpr std::string_view kTarget = "access";
constexpr char kDrained[] = "connection closed due to connection drain";

using base::Field;

std::string_view direction(Reporter reporter) {
  return reporter == Reporter::kSource ? "outbound" : "inbound";
}

struct PartyKeys {
  std::string_view workload, ns, identity, cluster;
};
constexpr PartyKeys kSourceKeys{"src.workload", "src.namespace", "src.identity", "src.cluster"};
constexpr PartyKeys kDestinationKeys{"dst.workload", "dst.namespace", "dst.identity", "dst.cluster"};

void put_party(std::vector<Field>& fields, const PartyKeys& keys, const PartyLabels& party,
               bool with_identity) {
  const model::Name& shown = party.pod_name.empty() ? party.canonical_service : party.pod_name;
  if (!shown.empty()) fields.push_back(Field::text(keys.workload, shown.str()));
  if (!party.workload_namespace.empty())
    fields.push_back(Field::text(keys.ns, party.workload_namespace.str()));
  if (with_identity && party.principal)
    fields.push_back(Field::text(keys.identity, party.principal->to_string()));
  if (!party.cluster.empty()) fields.push_back(Field::text(keys.cluster, party.cluster.str()));
}

}  // namespace

std::vector<ConnTable::Row> ConnTable::rows() const {
  std::vector<Row> rows;
  rows.reserve(count_);
  for (const ConnRecord* record = first_; record; record = record->next_) {
    const ConnFacts& facts = record->facts_;
    rows.push_back({facts.owner, facts.labels.reporter == Reporter::kDestination, facts.source.to_string(),
                    facts.original_destination, facts.destination.to_string(), facts.protocol,
                    record->bytes_.received, record->bytes_.sent});
  }
  return rows;
}

ConnRecord::ConnRecord(Observer observer, ConnFacts facts)
    : observer_(observer),
      facts_(std::move(facts)),
      cells_(&observer_.metrics.traffic(render_labels(facts_.labels, Flag::kNone))),
      opened_at_(observer_.loop.now()) {
  cells_->opened.add();
  cells_->received_bytes.add(0);
  cells_->sent_bytes.add(0);
  next_ = observer_.table.first_;
  if (next_) next_->previous_ = this;
  observer_.table.first_ = this;
  ++observer_.table.count_;
  if (observer_.log.enabled(base::Level::kDebug, kTarget)) {
    observer_.log.write(base::Level::kDebug, kTarget, "connection opened", fields());
  }
}

ConnRecord::~ConnRecord() {
  if (!closed_) {
    const std::string drained = kDrained;
    finish(&drained, Flag::kNone);
  }
  (previous_ ? previous_->next_ : observer_.table.first_) = next_;
  if (next_) next_->previous_ = previous_;
  --observer_.table.count_;
}

void ConnTable::sync() {
  for (ConnRecord* record = first_; record; record = record->next_) record->sync();
}

void ConnRecord::sync() {
  if (!source_ || closed_) return;
  Bytes now = source_();
  cells_->received_bytes.add(now.received - bytes_.received);
  cells_->sent_bytes.add(now.sent - bytes_.sent);
  bytes_ = now;
}

void ConnRecord::close() {
  if (!closed_) finish(nullptr, Flag::kNone);
}

void ConnRecord::close(const base::Error& error, Flag flag) {
  if (!closed_) finish(&error.message(), flag);
}

void ConnRecord::finish(const std::string* error, Flag flag) {
  sync();
  closed_ = true;
  if (flag == Flag::kNone) {
    cells_->closed.add();
  } else {
    TrafficCells& flagged = observer_.metrics.traffic(render_labels(facts_.labels, flag));
    flagged.closed.add();
    flagged.failed.add();
  }
  base::Level level = error ? base::Level::kError : base::Level::kInfo;
  if (!observer_.log.enabled(level, kTarget)) return;
  bool outbound = facts_.labels.reporter == Reporter::kSource;
  std::vector<Field> line = fields();
  line.push_back(Field::number("bytes_sent", outbound ? bytes_.received : bytes_.sent));
  line.push_back(Field::number("bytes_recv", outbound ? bytes_.sent : bytes_.received));
  auto lasted = std::chrono::duration_cast<std::chrono::milliseconds>(observer_.loop.now() - opened_at_);
  line.push_back(Field::text("duration", fmt::format("{}ms", lasted.count())));
  if (error) line.push_back(Field::text("error", *error));
  observer_.log.write(level, kTarget, "connection complete", line);
}

std::vector<Field> ConnRecord::fields() const {
  const TrafficLabels& labels = facts_.labels;
  std::vector<Field> fields;
  fields.reserve(18);
  fields.push_back(Field::bare("src.addr", facts_.source.to_string()));
  put_party(fields, kSourceKeys, labels.source, labels.mutual_tls);
  fields.push_back(Field::bare("dst.addr", facts_.destination.to_string()));
  if (facts_.hbone_target) fields.push_back(Field::bare("dst.hbone_addr", *facts_.hbone_target));
  if (labels.service) fields.push_back(Field::text("dst.service", labels.service->hostname.str()));
  put_party(fields, kDestinationKeys, labels.destination, labels.mutual_tls);
  fields.push_back(Field::text("direction", std::string(direction(labels.reporter))));
  if (facts_.local) fields.push_back(Field::bare("local", "true"));
  return fields;
}

void log_early_deny(base::Log& log, const base::SocketAddr& source, const base::SocketAddr& destination,
                    Reporter reporter, const base::Error& error) {
  log.warn(
      kTarget, "connection failed",
      {Field::bare("src.addr", source.to_string()), Field::bare("dst.addr", destination.to_string()),
       Field::text("direction", std::string(direction(reporter))), Field::text("error", error.message())});
}

}  // namespace culvert::observe
