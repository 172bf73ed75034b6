// SPDX-License-Identifier: Apache-2.0
// A finished request as the tests of telemetry need it: web (10.0.0.5) asked the service api of namespace
// shop, and its pod api-v1 answered.
#pragma once

#include "mesh/model/workload.h"
#include "waypoint/record.h"

namespace culvert::test {

inline waypoint::RequestRecord make_record() {
  auto from = std::make_shared<model::Workload>();
  from->uid = "cluster1//Pod/shop/web-1";
  from->name = "web-1";
  from->ns = "shop";
  from->service_account = "web";
  from->trust_domain = "cluster.local";
  from->workload_name = "web";
  from->canonical_name = "web";
  from->canonical_revision = "v7";
  from->cluster_id = "cluster1";
  auto to = std::make_shared<model::Workload>(*from);
  to->uid = "cluster1//Pod/shop/api-1";
  to->name = "api-1";
  to->service_account = "api";
  to->workload_name = "api-v1";
  to->canonical_name = "api";
  to->canonical_revision = "v1";
  auto service = std::make_shared<model::Service>();
  service->name = "api";
  service->ns = "shop";
  service->hostname = "api.shop.svc.cluster.local";
  auto client = std::make_shared<waypoint::Client>();
  client->identity = {"cluster.local", "shop", "web"};
  client->address = *base::SocketAddr::parse("10.0.0.5:40001");
  client->workload = from;
  client->addressed.service = service;
  client->addressed.port = 80;
  client->addressed.dialled = *base::SocketAddr::parse("10.96.0.1:80");
  client->connection_id = 7;

  waypoint::RequestRecord record;
  record.client = client;
  record.times.start = base::TimePoint(std::chrono::seconds(100));
  record.times.start_wall = base::WallTime(std::chrono::seconds(1'700'000'000));
  record.times.end = record.times.start + std::chrono::milliseconds(12);
  record.request = {{":method", "GET"},  {":path", "/v2/items?a=1"},   {":authority", "api.shop"},
                    {":scheme", "http"}, {"user-agent", "curl \"8\""}, {"x-request-id", "rid-1"}};
  record.route_name = "items";
  record.status = 200;
  record.response = {{":status", "200"}, {"x-envoy-upstream-service-time", "9"}};
  record.counts.header_bytes_in = 100;
  record.counts.body_bytes_in = 20;
  record.counts.header_bytes_out = 50;
  record.counts.body_bytes_out = 1000;
  record.attempts = 1;
  record.cluster = "inbound-vip|80|http|api.shop.svc.cluster.local";
  record.upstream = to;
  record.upstream_address = base::SocketAddr::parse("10.0.0.9:8080").value();
  record.upstream_tls = true;
  return record;
}

}  // namespace culvert::test
