// SPDX-License-Identifier: Apache-2.0
// Records, metrics and access log lines (spec ztunnel section 10).
#include <catch2/catch.hpp>

#include "mesh/observe/conn_record.h"

using namespace culvert;
using namespace culvert::observe;

namespace {

class FixedLoop final : public async::Loop {
 public:
  base::TimePoint now() const override { return now_; }
  base::WallTime wall_now() const override { return {}; }
  void post(std::function<void()>) override {}
  base::TimePoint now_{};
};

struct World {
  FixedLoop loop;
  std::vector<std::string> lines;
  base::LineLog log{*base::LogFilter::parse("info"), base::LogFormat::kPlain, [] { return base::WallTime{}; },
                    [this](std::string line) { lines.push_back(std::move(line)); }};
  Metrics metrics;
  MetricsShard& shard = metrics.add_shard();
  ConnTable table;
  Observer observer{loop, log, shard, table};
};

ConnFacts outbound_facts() {
  ConnFacts facts;
  facts.owner = "uid-1";
  facts.source = *base::SocketAddr::parse("10.0.0.1:4242");
  facts.destination = *base::SocketAddr::parse("10.0.0.2:15008");
  facts.hbone_target = "10.0.0.2:80";
  facts.protocol = ConnProtocol::kHbone;
  facts.labels.mutual_tls = true;
  facts.labels.source.known = true;
  facts.labels.source.pod_name = "web-1";
  facts.labels.source.workload = "web";
  facts.labels.source.workload_namespace = "prod";
  facts.labels.source.principal = *model::Identity::parse("spiffe://td/ns/prod/sa/web");
  facts.labels.service = ServiceLabels{"api.prod.svc.cluster.local", "prod", "api"};
  return facts;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("labels stand in upstream's order, unknown where missing") {
  std::string labels = render_labels(outbound_facts().labels, Flag::kNone);
  CHECK(labels ==
        "reporter=\"source\",source_workload=\"web\",source_canonical_service=\"unknown\","
        "source_canonical_revision=\"unknown\",source_workload_namespace=\"prod\","
        "source_principal=\"spiffe://td/ns/prod/sa/web\",source_app=\"unknown\",source_version=\"unknown\","
        "source_cluster=\"unknown\",destination_service=\"api.prod.svc.cluster.local\","
        "destination_service_namespace=\"prod\",destination_service_name=\"api\",destination_workload="
        "\"unknown\","
        "destination_canonical_service=\"unknown\",destination_canonical_revision=\"unknown\","
        "destination_workload_namespace=\"unknown\",destination_principal=\"unknown\",destination_app="
        "\"unknown\","
        "destination_version=\"unknown\",destination_cluster=\"unknown\",request_protocol=\"tcp\","
        "response_flags=\"-\",connection_security_policy=\"mutual_tls\",source_region=\"unknown\","
        "source_zone=\"unknown\",destination_region=\"unknown\",destination_zone=\"unknown\"");
  CHECK_FALSE(has(render_labels(TrafficLabels{}, Flag::kDeny), "source_region"));
}

TEST_CASE("who asked for a hostname") {
  CHECK(render_dns_labels(outbound_facts().labels.source, "db.example") ==
        "source_workload=\"web\",source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\","
        "source_workload_namespace=\"prod\",source_principal=\"spiffe://td/ns/prod/sa/web\","
        "source_app=\"unknown\",source_version=\"unknown\",source_cluster=\"unknown\","
        "hostname=\"db.example\"");
}

TEST_CASE("a record is opened and closed once") {
  World world;
  {
    ConnRecord record(world.observer, outbound_facts());
    CHECK(world.table.size() == 1);
    CHECK(world.table.rows()[0].actual_destination == "10.0.0.2:15008");
    ConnRecord::Bytes moved{0, 0};
    Follow follow(record, [&] { return moved; });
    moved = {11, 22};
    world.table.sync();
    CHECK(has(world.metrics.render(), "istio_tcp_received_bytes_total{reporter=\"source\""));
    moved = {12, 22};
    world.loop.now_ += std::chrono::milliseconds(13);
    record.close();
    record.close();
  }
  CHECK(world.table.size() == 0);
  REQUIRE(world.lines.size() == 1);
  CHECK(world.lines[0] ==
        "1970-01-01T00:00:00.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:4242 "
        "src.workload=\"web-1\" src.namespace=\"prod\" src.identity=\"spiffe://td/ns/prod/sa/web\" "
        "dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:80 dst.service=\"api.prod.svc.cluster.local\" "
        "direction=\"outbound\" bytes_sent=12 bytes_recv=22 duration=\"13ms\"\n");
  std::string text = world.metrics.render();
  CHECK(has(text, "# TYPE istio_tcp_connections_closed counter"));
  CHECK_FALSE(has(text, "istio_tcp_connections_failed"));
  CHECK(text.ends_with("# EOF\n"));
}

TEST_CASE("a failure carries its flag in closed and failed, not in opened") {
  World world;
  {
    ConnRecord record(world.observer, outbound_facts());
    record.close(base::Error(base::Code::kDenied, "explicitly denied by: a/b"), Flag::kDeny);
  }
  std::string text = world.metrics.render();
  CHECK(has(text, "# HELP istio_tcp_connections_failed"));
  CHECK(has(text, "(unstable)."));
  size_t opened = text.find("istio_tcp_connections_opened_total{");
  size_t closed = text.find("istio_tcp_connections_closed_total{");
  CHECK(text.find("response_flags=\"-\"", opened) < text.find('\n', opened));
  CHECK(text.find("response_flags=\"DENY\"", closed) < text.find('\n', closed));
  REQUIRE(world.lines.size() == 1);
  CHECK(has(world.lines[0], "\terror\taccess\tconnection complete\t"));
  CHECK(has(world.lines[0], "error=\"explicitly denied by: a/b\""));
}

TEST_CASE("a dropped record says drain and keeps the flag") {
  World world;
  {
    ConnRecord record(world.observer, outbound_facts());
  }
  REQUIRE(world.lines.size() == 1);
  CHECK(has(world.lines[0], "connection closed due to connection drain"));
  CHECK_FALSE(has(world.metrics.render(), "istio_tcp_connections_failed"));
}

TEST_CASE("shards are summed and labels escaped") {
  Metrics metrics;
  MetricsShard& one = metrics.add_shard();
  MetricsShard& two = metrics.add_shard();
  std::string labels;
  append_label(labels, "reason", "a\"b\\c\nd");
  one.cell(families::xds_connection_terminations(), labels).add(2);
  two.cell(families::xds_connection_terminations(), labels).add(3);
  std::string text = metrics.render();
  CHECK(has(text, "istio_xds_connection_terminations_total{reason=\"a\\\"b\\\\c\\nd\"} 5\n"));
  two.cell(families::tcp_sockets_open(), "reporter=\"source\"").add();
  two.cell(families::tcp_sockets_open(), "reporter=\"source\"").sub();
  CHECK(has(metrics.render(), "istio_tcp_sockets_open{reporter=\"source\"} 0\n"));
}
