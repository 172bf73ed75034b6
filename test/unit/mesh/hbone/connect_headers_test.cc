// SPDX-License-Identifier: Apache-2.0
// CONNECT headers (spec ztunnel section 3.3, checklist P9 to P11).
#include "mesh/hbone/connect_headers.h"

#include <catch2/catch.hpp>

using namespace culvert;
using namespace culvert::hbone;

namespace {
Baggage parse(std::vector<std::string_view> lines) { return parse_baggage(lines); }
base::SocketAddr addr(std::string_view text) { return *base::SocketAddr::parse(text); }
}  // namespace

TEST_CASE("forwarded names the source and the service", "[P9]") {
  CHECK(format_forwarded(addr("1.2.3.4:80"), "") == "for=\"1.2.3.4:80\"");
  CHECK(format_forwarded(addr("[2001:db8::1]:80"), "") == "for=\"[2001:db8::1]:80\"");
  CHECK(format_forwarded(addr("1.2.3.4:80"), "api.prod.svc.cluster.local") ==
        "for=\"1.2.3.4:80\";host=api.prod.svc.cluster.local");
}

TEST_CASE("the host of a forwarded header", "[P9]") {
  CHECK(parse_forwarded_host("for=\"1.2.3.4:80\";host=a.b") == "a.b");
  CHECK(parse_forwarded_host("host=\"a.b\";for=x") == "a.b");
  CHECK(parse_forwarded_host("for=x; host=a.b") == "a.b");
  CHECK_FALSE(parse_forwarded_host("for=x"));
  CHECK_FALSE(parse_forwarded_host("host="));
  CHECK_FALSE(parse_forwarded_host("host=\"\""));
  CHECK_FALSE(parse_forwarded_host(""));
  CHECK_FALSE(parse_forwarded_host("host=\xc3\xa4.b"));
  CHECK_FALSE(parse_forwarded_host(std::string(10000, 'a') + ";host=x"));
}

TEST_CASE("baggage round trip", "[P10]") {
  Baggage full{"c", "ns", "pod", "web", "svc", "v1", "r", "z"};
  CHECK(format_baggage(full) ==
        "k8s.cluster.name=c,k8s.namespace.name=ns,k8s.pod.name=web,service.name=svc,service.version=v1,"
        "cloud.region=r,cloud.availability_zone=z");
  std::string text = format_baggage(full);
  CHECK(parse({text}) == full);
  CHECK(format_baggage({}).empty());
  Baggage odd{"a,b", "x=y;z", "job", "100%", "", "", "", ""};
  std::string odd_text = format_baggage(odd);
  CHECK(parse({odd_text}) == odd);
}

TEST_CASE("baggage of peers", "[P10]") {
  CHECK(parse({}).empty());
  CHECK(parse({""}).empty());
  CHECK(parse({"k8s.cluster.name="}).cluster.empty());
  CHECK(parse({"k8s.cluster.name=a", "k8s.cluster.name=b"}).cluster == "b");
  CHECK(parse({"k8s.deployment.name=d , k8s.namespace.name= n "}).ns == "n");
  CHECK(parse({"k8s.cronjob.name=d"}).workload_type == "cronjob");
  CHECK(parse({"k8s.job.name=d;prop=1"}).workload_name == "d");
  CHECK(parse({"k8s.statefulset.name=d,=,,,k8s..name=x,k8s.name=y"}).empty());
  CHECK(parse({"k8s.cluster.name=%"}).cluster == "%");
  CHECK(parse({"k8s.cluster.name=%4"}).cluster == "%4");
  CHECK(parse({"k8s.cluster.name=%zz%41"}).cluster == "%zzA");
}

TEST_CASE("traceparent is made valid and checked, also when it has no dashes") {
  base::Rng rng(1);
  std::string made = make_traceparent(rng);
  CHECK(made.size() == 55);
  CHECK(valid_traceparent(made));
  CHECK(valid_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
  CHECK_FALSE(valid_traceparent(std::string(55, 'a')));
  CHECK_FALSE(valid_traceparent(std::string(55, '-')));
  CHECK_FALSE(valid_traceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01"));
  CHECK_FALSE(valid_traceparent("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
  CHECK_FALSE(valid_traceparent(""));
}

TEST_CASE("authorities") {
  CHECK(std::get<base::SocketAddr>(*parse_authority("1.2.3.4:80")) == addr("1.2.3.4:80"));
  CHECK(std::get<base::SocketAddr>(*parse_authority("[::1]:80")) == addr("[::1]:80"));
  CHECK(std::get<HostPort>(*parse_authority("api.prod:8080")) == HostPort{"api.prod", 8080});
  for (const char* bad : {"", ":", ":80", "a", "a:", "a:0", "1.2.3.4:0", "a:65536", "a:-1", "::1:80",
                          "a b:80", "a/b:80", "[::1:80", "user@a:80"}) {
    INFO(bad);
    CHECK_FALSE(parse_authority(bad));
  }
  CHECK_FALSE(parse_authority(std::string(300, 'a') + ":80"));
}

TEST_CASE("a request that was built is understood", "[P11]") {
  ConnectRequest request;
  request.authority = "10.0.0.2:80";
  request.baggage.workload_type = "deployment";
  request.baggage.workload_name = "web";
  request.source = addr("10.0.0.1:999");
  request.service_hostname = "api.prod";
  request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  HeaderList headers = request.to_headers();
  CHECK(headers[0] == std::pair<std::string, std::string>(":method", "CONNECT"));
  auto parsed = parse_connect(headers);
  REQUIRE(parsed);
  CHECK(parsed->authority_text == "10.0.0.2:80");
  CHECK(parsed->baggage == request.baggage);
  CHECK(parsed->forwarded_host == "api.prod");
  CHECK(parsed->traceparent == request.traceparent);
  headers[0].second = "GET";
  CHECK_FALSE(parse_connect(headers));
  CHECK_FALSE(parse_connect({}));
}
