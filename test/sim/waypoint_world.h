// SPDX-License-Identifier: Apache-2.0
// WaypointWorld: one data loop of a waypoint between clients that come by HBONE and HTTP servers, on the
// simulated network. Its rules are given as values, as the control plane would send them.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "mesh/hbone/tunnel_pool.h"
#include "mesh/model/store.h"
#include "net/conn/http1_conn.h"
#include "net/conn/http2_conn.h"
#include "net/wire/x509.h"
#include "test/support/sim_loop.h"
#include "test/support/sim_network.h"
#include "waypoint/telemetry/span_exporter.h"
#include "waypoint/worker.h"

namespace culvert::test {

// Keeps what was told.
class RecordingTelemetry final : public waypoint::Telemetry {
 public:
  void finished(const waypoint::RequestRecord& record, const waypoint::TelemetryRules*,
                const waypoint::MeshState&) override {
    records.push_back(record);
    if (spans) spans->finished(record);
  }
  void tcp_opened(const waypoint::RequestRecord&, const waypoint::TelemetryRules*,
                  const waypoint::MeshState&) override {
    ++tcp_connections;
  }
  void tcp_bytes(const waypoint::RequestRecord& record, const waypoint::TelemetryRules*,
                 const waypoint::MeshState&, uint64_t received, uint64_t sent) override {
    tcp_told.push_back({*record.times.end - record.times.start, received, sent});
  }
  void rate_limited(const decide::RateLimitNote&, bool) override {}
  void asked(Asked, std::string_view name, std::string_view result, base::Duration) override {
    questions.push_back(std::string(name) + " " + std::string(result));
  }
  void connect_refused(std::string_view code) override { refusals.emplace_back(code); }
  void handshake_failed() override { ++failed_handshakes; }

  std::deque<waypoint::RequestRecord> records;
  std::vector<std::string> refusals;
  std::vector<std::string> questions;  // "provider result"
  struct TcpBytes {
    base::Duration after{0};  // the connection began
    uint64_t received = 0, sent = 0;
  };
  std::vector<TcpBytes> tcp_told;
  int tcp_connections = 0, failed_handshakes = 0;
  waypoint::SpanExporter* spans = nullptr;
};

struct HttpAnswer {
  int status = 0;
  wire::Headers headers;
  std::string body;
  std::string error;  // the exchange broke
  bool done = false;
  std::string header(std::string_view name) const {
    const std::string* found = wire::find_header(headers, name);
    return found ? *found : "";
  }
};

// One HTTP server in a pod. What it does is changed by tests.
struct HttpPod {
  std::string name;
  SimHost* host = nullptr;
  std::unique_ptr<io::Network> network;
  std::unique_ptr<io::Listener> listener;
  std::unique_ptr<async::Scope> acceptor;
  uint64_t connections = 0;
  std::vector<wire::Headers> requests;
  std::vector<std::string> bodies;  // of requests that were read to the end
  int status = 200;
  wire::Headers headers;  // beside its own
  std::string body;       // "" answers its name
  wire::Headers trailers;
  base::Duration delay{0};
  bool break_off = false;     // resets instead of answering
  bool echo = false;          // answers with the request's body
  std::optional<bool> http2;  // none: as the service's protocol and policy say
  bool bare = false;          // answers with headers that end the stream
  std::string raw;            // not empty: these bytes for an answer, then the end, whatever was asked
  wire::TlsIdentityRef tls;   // set: it speaks TLS with this certificate, and believes clients of the mesh
  std::string raw_request;    // what `raw` answered, the first bytes of it
  base::Duration handshake_delay{0};
  bool proxied = false;  // a PROXY header of version 1 comes first, and is kept in `proxy_line`
  std::string proxy_line;
  std::string alpn;                      // of the last TLS client,
  std::vector<std::string> client_uris;  // and who it was, if it said
  bool raw_waits = false;                // then the end comes only after ten minutes
  uint64_t bytes_in = 0;
  bool side = false;  // of another service
};

struct Request {
  std::string method = "GET";
  std::string path = "/";
  wire::Headers headers;
  std::string body;
  bool http2 = false;
  std::string dialled = "10.96.0.1:80";  // the authority of the CONNECT
  std::string host = "api";
};

class WaypointWorld {
 public:
  explicit WaypointWorld(uint64_t seed = 1, waypoint::Overload::Bounds bounds = {1000, 10'000});
  ~WaypointWorld();

  SimLoop loop;
  SimNetwork network{loop};
  RecordingTelemetry telemetry;

  // Serves HTTP/1.1 or HTTP/2, whichever comes, on 8080; `version` is its label.
  HttpPod& add_pod(const std::string& name, const std::string& ip, const std::string& version);
  // The same outside of the mesh, which knows nothing about it.
  HttpPod& add_outside(const std::string& name, const std::string& ip, uint16_t port);
  // The same for a service of its own, on its port: somebody the waypoint asks.
  HttpPod& add_side(const std::string& name, const std::string& ip, const model::NamespacedHostname& service,
                    uint16_t port);
  HttpPod& pod(const std::string& name);
  // Takes no more connections: they are refused.
  void close(HttpPod& pod);
  // What is sent from now on: the service api (VIP 10.96.0.1:80) of namespace shop.
  void set_rules(model::WaypointService rules);
  void set_backend(model::Backend backend);
  void set_protocol(model::AppProtocol protocol);

  // Whatever else the control plane says.
  void tell(model::WaypointUpdate update);
  // Something else of the mesh.
  void add(std::optional<model::Service> service, std::optional<model::Workload> workload);
  // The same of everything at once, in place of what was added.
  void set_mesh(std::vector<model::Service> services, std::vector<model::Workload> workloads);
  // A server where a workload of that mesh is.
  HttpPod& listen(const std::string& name, const std::string& ip, uint16_t port);
  // To be changed before anything is sent.
  config::WaypointConfig& config() { return config_; }
  waypoint::SpanExporter& spans() { return *spans_; }
  waypoint::Overload& overload() { return shared_.overload; }
  const waypoint::Mirrors& mirrors() const { return worker_->mirrors(); }
  wire::TlsIdentityRef issue(const model::Identity& identity);
  // A server's certificate of the mesh's authority.
  wire::TlsIdentityRef issue_server(const std::string& dns_name);
  const std::string& roots() const { return ca_.certificate().pem; }
  // A client's certificate: chain and key.
  std::pair<std::string, std::string> issue_pem(const std::string& uri);

  // A request from the pod of that identity ("account", or "ns/account"), through the waypoint.
  HttpAnswer& send(Request request, const std::string& account = "web");
  HttpAnswer get(const std::string& path, wire::Headers headers = {}, const std::string& account = "web");
  void finish(HttpAnswer& answer, base::Duration limit = std::chrono::minutes(5));
  // Bytes as they are to the service; what comes back until the waypoint closes, at most two minutes.
  std::string raw(std::string bytes, const std::string& account = "web",
                  const std::string& dialled = "10.96.0.1:80");
  // The status of a CONNECT to an authority.
  int connect(const std::string& authority, const std::string& account = "web");

 private:
  struct Client;
  Client& client(const std::string& account);
  HttpPod& start_pod(const std::string& name, const std::string& ip, uint16_t port);
  void publish();
  static async::Task<base::Result<wire::TlsIdentityRef>> give(wire::TlsIdentityRef identity);
  static async::Task<void> serve(WaypointWorld& world, HttpPod& pod);
  static async::Task<void> serve_connection(WaypointWorld& world, HttpPod& pod,
                                            std::unique_ptr<io::ByteStream> stream);
  static async::Task<void> answer(WaypointWorld& world, HttpPod& pod,
                                  std::unique_ptr<conn::HttpStream> request);
  static async::Task<void> run(WaypointWorld& world, Client& client, Request request, HttpAnswer& answer);
  static async::Task<void> exchange_raw(WaypointWorld& world, Client& client, std::string dialled,
                                        std::string bytes, std::string& answer);
  static async::Task<void> send_body(conn::HttpStream& stream, std::string body);
  static async::Task<void> exchange(WaypointWorld& world, conn::HttpStream& stream, Request request,
                                    HttpAnswer& answer);

  config::WaypointConfig config_;
  wire::CertSigner ca_;
  base::NullLog log_;
  model::MeshStore store_{""};
  model::WaypointViewRef l7_ = model::WaypointView::empty();
  model::AppProtocol protocol_ = model::AppProtocol::kHttp11;
  SimHost& host_;
  std::unique_ptr<io::Network> own_network_;
  waypoint::Shared shared_;
  std::unique_ptr<waypoint::Worker> worker_;
  std::unique_ptr<waypoint::SpanExporter> spans_;
  std::vector<model::Service> more_services_;
  std::vector<model::Workload> more_workloads_;
  std::list<HttpPod> pods_;
  std::list<HttpPod> outside_;
  std::map<std::string, std::unique_ptr<Client>> clients_;
  std::list<HttpAnswer> answers_;
  std::unique_ptr<async::Scope> tasks_;
};

// Rules with one HTTP route table on port 80.
model::WaypointService rules_of(std::vector<model::HttpRoute> routes);
model::HttpRoute route_to(const std::string& prefix, std::vector<std::pair<std::string, uint32_t>> subsets);
model::Backend versions(model::TrafficPolicy policy = {});
inline const model::NamespacedHostname kApiService{"shop", "api.shop.svc.cluster.local"};

}  // namespace culvert::test
