// SPDX-License-Identifier: Apache-2.0
// SpanCollector: how one collector is found and reached, and one batch given to it (spec waypoint sections
// 1.5, 5.5). Control loop.
//
// | the rule's host                          | reached                                               |
// |------------------------------------------|-------------------------------------------------------|
// | a service of the mesh, by name or VIP    | at one of its endpoints, by HBONE where they speak it |
// | a pod's address                          | the same                                              |
// | a name that the mesh does not know       | what it resolves to, taken as an address              |
// | another address                          | as it is, in plaintext                                |
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/base/log.h"
#include "net/conn/http_stream.h"
#include "waypoint/upstream/cluster.h"

namespace culvert::waypoint {

// What became of a batch.
struct SpanDelivery {
  enum class Kind : unsigned char {
    kTaken,
    kLater,    // nobody there, or too busy: to be tried again
    kRefused,  // never to be tried again
  };
  Kind kind = Kind::kTaken;
  uint64_t rejected = 0;  // of those it took
  std::string reason;
  base::Duration wait{0};  // kLater: at least this long, as the collector wishes
};

class SpanCollector {
 public:
  static constexpr size_t kAnswerBytesMax = 64 * 1024;
  // Where the rule sets none.
  static constexpr base::Duration kTimeoutDefault = std::chrono::seconds(5);

  // What all collectors of a process share; outlives them.
  struct Parts {
    async::Loop& loop;
    io::Network& network;
    const Self& self;
    std::string cluster_domain;
    Dialer& dialer;
    Upstreams& upstreams;
    base::Rng rng;
  };

  SpanCollector(Parts& parts, std::shared_ptr<const model::TraceRule> rule);
  ~SpanCollector();

  // `body` is a batch in the rule's form. One at a time; ends within the timeout.
  async::Task<SpanDelivery> send(MeshStateRef state, std::string body);
  const model::TraceRule& rule() const { return *rule_; }
  // Of another rule: the same collector, in the same way.
  bool serves(const model::TraceRule& rule) const;

 private:
  // A pool of the mesh's cluster, or of our own for a place outside.
  struct Way {
    HttpPool* pool = nullptr;
    model::TrafficPolicy policy;
    Cluster* cluster = nullptr;  // null: outside
    HostRef host;
  };
  async::Task<base::Result<SpanDelivery>> deliver(MeshStateRef state, std::string body,
                                                  async::Deadline deadline);
  async::Task<base::Result<Way>> find(MeshStateRef state, async::Deadline deadline);
  base::Result<Way> through(Cluster* cluster, std::string_view what);
  base::Result<Way> by_address(const MeshState& state, const base::IpAddr& ip);
  model::ServiceRef service_named(const MeshState& state) const;
  bool grpc() const { return rule_->protocol == model::TraceRule::Protocol::kOtlpGrpc; }
  wire::Headers request_headers(size_t body_bytes) const;

  Parts& parts_;
  std::shared_ptr<const model::TraceRule> rule_;
  std::string ns_, host_;  // of the rule's host, which may be "namespace/host"
  base::SocketAddr outside_address_;
  std::unique_ptr<HttpPool> outside_;
  uint64_t resolved_ = 0;
};

// What an answer means (OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response"; Zipkin's API).
SpanDelivery judge_span_answer(model::TraceRule::Protocol protocol, const wire::Headers& response,
                               const wire::Headers& trailers, std::string_view body);

}  // namespace culvert::waypoint
