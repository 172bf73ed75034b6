// SPDX-License-Identifier: Apache-2.0
#include "test/sim/world.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "control/serve/token.h"
#include "mesh/kube/decode.h"
#include "mesh/kube/directory_source.h"
#include "net/io/stream_wait.h"
#include "proto/zds.pb.h"

namespace culvert::test {

namespace {

using async::Task;
using base::Result;
constexpr char kControlIp[] = "192.0.2.10";
constexpr char kZdsPath[] = "/run/ztunnel.sock";

// The byte at `offset` of what every application sends.
void fill_pattern(std::string& out, uint64_t offset, size_t count) {
  out.resize(count);
  for (size_t i = 0; i < count; ++i) out[i] = kMarker[(offset + i) % kMarker.size()];
}

}  // namespace

void MemorySource::put(const std::string& name, std::string yaml) {
  if (yaml.empty()) {
    texts_.erase(name);
  } else {
    texts_[name] = std::move(yaml);
  }
  std::vector<std::shared_ptr<const kube::AnyObject>> items;
  problems_.clear();
  for (const auto& [file, text] : texts_) {
    kube::DecodedFile decoded = kube::decode_manifests(text, file);
    if (decoded.syntax) problems_.push_back(*decoded.syntax);
    for (kube::Decoded& document : decoded.documents) {
      for (kube::Problem& problem : document.problems) problems_.push_back(std::move(problem));
      if (document.object) {
        items.push_back(std::make_shared<const kube::AnyObject>(std::move(*document.object)));
      }
    }
  }
  objects_ = kube::assemble(items, problems_);
  for (const kube::Problem& problem : problems_) FAIL(problem.origin.to_string() << ": " << problem.message);
  loop_.defer(tell_);
}

World::World(uint64_t seed, base::Duration certificate_lifetime, SimOptions options)
    : network(loop, options), seed_(seed), certificate_lifetime_(certificate_lifetime) {
  char path[] = "/tmp/culvert-sim-XXXXXX";
  REQUIRE(::mkdtemp(path) != nullptr);
  state_path_ = path;
  control_host_ = &network.add_host("control", "control", {*base::IpAddr::parse(kControlIp)});
  control_network_ = network.process(*control_host_);
  network.set_tap([this](const SimFlow& flow, base::ByteView bytes) {
    bool between = flow.from_node != flow.to_node && flow.from_node != "control" && flow.to_node != "control";
    if (!between) return;
    bytes_between += bytes.size();
    if (base::as_text(bytes).find(kMarker) != std::string_view::npos) ++plaintext_runs;
  });
  put("namespaces", R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
)");
}

World::~World() {
  for (auto& [name, pod] : pods_) pod->tasks.reset();
  for (auto& pod : deleted_) pod->tasks.reset();
  for (auto& [name, node] : nodes_) {
    kill_proxy(*node);
    node->agent.reset();
  }
  stop_control();
  loop.run_ready();
  std::filesystem::remove_all(state_path_);
}

// --- control plane ---

Task<void> World::run_plane(World& world) {
  Result<> ended = co_await world.plane_->run();
  if (!ended) FAIL(ended.error().message());
}

void World::start_control() {
  auto state = control::StateDir::open(state_path_);
  REQUIRE(state.has_value());
  auto vips = control::VipPool::make(*base::Cidr::parse("240.241.0.0/16"));
  REQUIRE(vips.has_value());
  control::PlaneOptions options;
  options.server_names = {kControlIp};
  options.version = "sim";
  auto plane = control::ControlPlane::make(loop, *control_network_, quiet_log_, source_, std::move(*state),
                                           std::move(*vips), std::move(options));
  if (!plane) FAIL(plane.error().message());
  plane_ = std::move(*plane);
  plane_task_ = std::make_unique<async::Scope>(loop);
  plane_task_->spawn(run_plane(*this));
}

void World::stop_control() {
  if (!plane_) return;
  plane_task_.reset();
  source_.on_change(nullptr);
  plane_.reset();
  loop.run_ready();
}

// --- nodes ---

SimNode& World::add_node(const std::string& name, const std::string& ip) {
  auto node = std::make_unique<SimNode>();
  node->name = name;
  node->host = &network.add_host("node-" + name, name, {*base::IpAddr::parse(ip)});
  node->agent_network = network.process(*node->host);
  auto listener = node->agent_network->listen_packet(kZdsPath, 0600);
  REQUIRE(listener.has_value());
  node->agent_listener = std::move(*listener);
  node->agent = std::make_unique<async::Scope>(loop);
  SimNode& made = *node;
  nodes_[name] = std::move(node);
  made.agent->spawn(agent_accept(*this, made));
  put("node-" + name, fmt::format("apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\n", name));
  return made;
}

Task<void> World::run_proxy(SimNode& node) {
  Result<> ended = co_await node.proxy->run();
  if (!ended) FAIL(ended.error().message());
  node.proxy_ended = true;
}

void World::start_proxy(SimNode& node) {
  auto state = control::StateDir::open(state_path_);
  auto key = control::load_token_key(*state);
  REQUIRE(key.has_value());
  control::TokenClaims claims;
  claims.caller = {"istio-system", "ztunnel", node.name, "ztunnel-" + node.name};
  claims.issued_at = loop.wall_now();
  claims.expires_at = loop.wall_now() + std::chrono::hours(24 * 365);
  auto roots = state->read("ca/root-cert.pem");
  REQUIRE((roots && roots->has_value()));
  std::string control_url = fmt::format("https://{}:15012", kControlIp);
  config::Environment environment({{"XDS_ADDRESS", control_url},
                                   {"CA_ADDRESS", control_url},
                                   {"XDS_ROOT_CA", **roots},
                                   {"CA_ROOT_CA", **roots},
                                   {"AUTH_TOKEN", key->issue(claims)},
                                   {"NODE_NAME", node.name},
                                   {"POD_NAME", "ztunnel-" + node.name},
                                   {"POD_NAMESPACE", "istio-system"},
                                   {"INPOD_UDS", kZdsPath},
                                   {"ISTIO_META_DNS_CAPTURE", "false"},
                                   {"CULVERT_LOCAL_PATH", local_path ? "true" : "false"},
                                   {"SECRET_TTL", base::format_duration(certificate_lifetime_)}});
  auto no_files = [](const std::string& path) -> Result<std::string> {
    return base::fail(base::Code::kNotFound, path);
  };
  auto config = config::load_ztunnel_config(environment, no_files, 1);
  if (!config) FAIL(config.error().message());
  auto filter = base::LogFilter::parse("info");
  node.log = std::make_unique<base::LineLog>(
      *filter, base::LogFormat::kPlain, [this] { return loop.wall_now(); },
      [this, name = node.name](std::string line) { log_lines_.push_back(name + " " + std::move(line)); });
  node.proxy_network = network.process(*node.host);
  node.proxy_ended = false;
  node.proxy = std::make_unique<ztunnel::App>(std::move(*config),
                                              ztunnel::AppParts{{loop, *node.proxy_network},
                                                                {{loop, *node.proxy_network}},
                                                                *node.log,
                                                                no_files,
                                                                seed_ + std::hash<std::string>()(node.name),
                                                                nullptr});
  node.proxy_task = std::make_unique<async::Scope>(loop);
  node.proxy_task->spawn(run_proxy(node));
}

void World::kill_proxy(SimNode& node) {
  if (!node.proxy) return;
  node.proxy_task.reset();
  node.proxy.reset();
  node.proxy_network.reset();
  loop.run_ready();
}

// --- the node agent: ZDS, one request and its answer at a time ---

Task<Result<>> World::agent_send(World& world, io::PacketSocket& socket, SimNode::Update update) {
  istio::workload::zds::WorkloadRequest request;
  base::UniqueFd netns;
  SimPod* pod = world.pod_by_uid(update.uid);
  if (update.uid.empty()) {
    request.mutable_snapshot_sent();
  } else if (update.add) {
    if (!pod) co_return Result<>{};
    auto& add = *request.mutable_add();
    add.set_uid(update.uid);
    add.mutable_workload_info()->set_name(pod->spec.name);
    add.mutable_workload_info()->set_namespace_(pod->spec.ns);
    add.mutable_workload_info()->set_service_account(pod->spec.account);
    netns = pod->host->open_netns();
  } else {
    request.mutable_del()->set_uid(update.uid);
  }
  std::string bytes = request.SerializeAsString();
  if (bytes.empty()) bytes = std::string("\x1a\x00", 2);
  Result<> sent = co_await io::send(socket, bytes, netns.valid() ? netns.get() : -1);
  if (!sent) co_return sent;
  Result<io::Packet> answer = co_await io::receive(socket, 4096);
  if (!answer) co_return base::fail(std::move(answer).error());
  if (answer->bytes.empty()) co_return base::fail(base::Code::kClosed, "the proxy has gone");
  co_return Result<>{};
}

Task<void> World::agent_serve(World& world, SimNode& node, std::unique_ptr<io::PacketSocket> socket) {
  Result<io::Packet> hello = co_await io::receive(*socket, 4096);
  if (!hello || hello->bytes.empty()) co_return;
  SimNode::Feed feed(world.loop);
  for (auto& [name, pod] : world.pods_) {
    if (pod->spec.node == node.name && pod->spec.enrolled) feed.updates.push_back({true, pod->uid});
  }
  feed.updates.push_back({false, ""});
  struct Registered {
    std::list<SimNode::Feed*>& feeds;
    SimNode::Feed* feed;
    ~Registered() { feeds.remove(feed); }
  } registered{node.feeds, &feed};
  node.feeds.push_back(&feed);
  for (;;) {
    while (!feed.updates.empty()) {
      SimNode::Update update = feed.updates.front();
      feed.updates.pop_front();
      Result<> sent = co_await agent_send(world, *socket, update);
      if (!sent) co_return;
    }
    feed.changed.reset();
    co_await feed.changed.wait();
  }
}

Task<void> World::agent_accept(World& world, SimNode& node) {
  for (;;) {
    Result<std::unique_ptr<io::PacketSocket>> socket = co_await io::accept(*node.agent_listener);
    if (!socket) co_return;
    node.agent->spawn(agent_serve(world, node, std::move(*socket)));
  }
}

// --- pods ---

SimPod* World::pod_by_uid(const std::string& uid) {
  for (auto& [name, pod] : pods_) {
    if (pod->uid == uid) return pod.get();
  }
  return nullptr;
}

void World::write_pod(const SimPod& pod) {
  put("pod-" + pod.spec.name, fmt::format(R"(
apiVersion: v1
kind: Pod
metadata:
  name: {}
  namespace: {}
  uid: {}
  labels: {{app: {}}}
  annotations: {{{}}}
spec: {{nodeName: {}, serviceAccountName: {}, containers: [{{name: c}}]}}
status:
  phase: Running
  podIPs: [{{ip: "{}"}}]
  conditions: [{{type: Ready, status: "True"}}]
)",
                                          pod.spec.name, pod.spec.ns, pod.uid, pod.spec.app,
                                          pod.spec.enrolled ? "ambient.istio.io/redirection: enabled" : "",
                                          pod.spec.node, pod.spec.account, pod.spec.ip));
}

SimPod& World::add_pod(PodSpec spec) {
  if (spec.app.empty()) spec.app = spec.name;
  if (spec.account.empty()) spec.account = spec.app;
  auto pod = std::make_unique<SimPod>();
  pod->uid = fmt::format("uid-{}", next_uid_++);
  pod->spec = spec;
  pod->host = &network.add_host(spec.name, spec.node, {*base::IpAddr::parse(spec.ip)});
  if (spec.enrolled) pod->host->redirect = {.outbound = 15001, .inbound = 15006};
  pod->network = network.process(*pod->host);
  pod->resume = std::make_unique<async::Event>(loop);
  pod->tasks = std::make_unique<async::Scope>(loop);
  SimPod& made = *pod;
  pods_[spec.name] = std::move(pod);
  write_pod(made);
  if (spec.enrolled) {
    for (SimNode::Feed* feed : node(spec.node).feeds) {
      feed->updates.push_back({true, made.uid});
      feed->changed.set();
    }
  }
  return made;
}

void World::delete_pod(const std::string& name) {
  std::unique_ptr<SimPod> pod = std::move(pods_.at(name));
  pods_.erase(name);
  pod->tasks->cancel_all();
  loop.run_ready();
  pod->listener.reset();
  network.remove_host(*pod->host);
  put("pod-" + name, "");
  if (pod->spec.enrolled) {
    for (SimNode::Feed* feed : node(pod->spec.node).feeds) {
      feed->updates.push_back({false, pod->uid});
      feed->changed.set();
    }
  }
  deleted_.push_back(std::move(pod));
}

void World::add_service(const std::string& name, const std::string& vip, uint16_t port, uint16_t target) {
  put("service-" + name, fmt::format(R"(
apiVersion: v1
kind: Service
metadata: {{name: {}, namespace: shop}}
spec:
  clusterIP: {}
  selector: {{app: {}}}
  ports: [{{name: tcp-x, port: {}, targetPort: {}}}]
)",
                                     name, vip, name, port, target));
}

bool World::ready() const {
  for (const auto& [name, node] : nodes_) {
    if (node->proxy && !node->proxy->readiness().pending_text().empty()) return false;
  }
  return true;
}

void World::settle(base::Duration limit) {
  bool settled = loop.run_until([this] { return ready(); }, limit);
  if (!settled) {
    for (const auto& [name, node] : nodes_) {
      if (node->proxy) UNSCOPED_INFO(name << " waits for " << node->proxy->readiness().pending_text());
    }
    for (const std::string& line : log_lines_) UNSCOPED_INFO(line);
    FAIL("the mesh did not become ready");
  }
  // What was written last may still be on its way.
  loop.run_for(std::chrono::milliseconds(200));
}

// --- applications ---

Task<void> World::echo(World& world, SimPod& pod, std::unique_ptr<io::ByteStream> stream) {
  pod.peers_seen.insert(stream->peer_addr().ip.to_string());
  std::vector<uint8_t> buffer(8 * 1024);
  for (;;) {
    if (!pod.reading) {
      co_await pod.resume->wait();
      continue;
    }
    Result<size_t> got = co_await io::read_some(*stream, buffer);
    if (!got) co_return;
    if (*got == 0) break;
    pod.bytes_in += *got;
    Result<> wrote = co_await io::write_all(*stream, base::ByteView(buffer).first(*got));
    if (!wrote) co_return;
    pod.bytes_out += *got;
  }
  stream->shutdown_write();
  co_await io::flush(*stream);
}

Task<void> World::accept_echo(World& world, SimPod& pod) {
  for (;;) {
    Result<io::Accepted> accepted = co_await io::accept(*pod.listener);
    if (!accepted) co_return;
    ++pod.accepted;
    pod.tasks->spawn(echo(world, pod, std::move(accepted->stream)));
  }
}

void World::serve_echo(SimPod& pod, uint16_t port) {
  auto listener = pod.network->listen({base::IpAddr::any_v6(), port}, {});
  REQUIRE(listener.has_value());
  pod.listener = std::move(*listener);
  pod.tasks->spawn(accept_echo(*this, pod));
}

Task<void> World::run_upload(World& world, io::ByteStream& stream, uint64_t bytes, base::Duration pause,
                             CallResult& result) {
  std::string piece;
  while (result.sent < bytes) {
    fill_pattern(piece, result.sent, std::min<uint64_t>(4096, bytes - result.sent));
    Result<> wrote = co_await io::write_all(stream, base::as_bytes(piece));
    if (!wrote) {
      result.error = wrote.error().message();
      co_return;
    }
    result.sent += piece.size();
    if (pause.count() > 0) co_await async::sleep_for(world.loop, pause);
  }
  stream.shutdown_write();
}

Task<void> World::run_call(World& world, SimPod& from, base::SocketAddr to, uint64_t bytes,
                           base::Duration pause, CallResult& result) {
  struct Done {
    CallResult& result;
    ~Done() { result.done = true; }
  } done{result};
  async::Deadline deadline = async::Deadline::in(world.loop, std::chrono::seconds(30));
  Result<std::unique_ptr<io::ByteStream>> stream = co_await from.network->dial(to, {}, deadline);
  if (!stream) {
    result.error = stream.error().message();
    co_return;
  }
  result.connected = true;
  async::Scope upload(world.loop);
  upload.spawn(run_upload(world, **stream, bytes, pause, result));
  std::vector<uint8_t> buffer(8 * 1024);
  std::string expected;
  for (;;) {
    Result<size_t> got = co_await io::read_some(**stream, buffer);
    if (!got) {
      result.error = got.error().message();
      break;
    }
    if (*got == 0) {
      result.clean_end = true;
      break;
    }
    fill_pattern(expected, result.received, *got);
    result.intact = result.intact && base::as_text(base::ByteView(buffer).first(*got)) == expected;
    result.received += *got;
  }
}

CallResult& World::call(SimPod& from, const std::string& to, uint64_t bytes, base::Duration pause) {
  CallResult& result = results_.emplace_back();
  from.tasks->spawn(run_call(*this, from, *base::SocketAddr::parse(to), bytes, pause, result));
  return result;
}

void World::finish(CallResult& result, base::Duration limit) {
  bool done = loop.run_until([&] { return result.done; }, limit);
  CHECK(done);
}

// --- what was seen ---

std::string World::metrics(SimNode& node) { return node.proxy->metrics().render(); }

uint64_t World::metric(SimNode& node, const std::string& family) {
  uint64_t sum = 0;
  std::string text = metrics(node);
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(family) || (line[family.size()] != '{' && line[family.size()] != ' ')) continue;
    sum += std::stoull(std::string(line.substr(line.rfind(' ') + 1)));
  }
  return sum;
}

bool World::logged(const std::string& text) const {
  for (const std::string& line : log_lines_) {
    if (line.find(text) != std::string::npos) return true;
  }
  return false;
}

void World::check_end() {
  for (auto& [name, pod] : pods_) pod->tasks->cancel_all();
  loop.run_for(std::chrono::seconds(30));
  CHECK(plaintext_runs == 0);
  for (auto& [name, node] : nodes_) {
    if (!node->proxy) continue;
    INFO("node " << name);
    uint64_t opened = metric(*node, "istio_tcp_connections_opened_total");
    CHECK(opened == metric(*node, "istio_tcp_connections_closed_total"));
    node->proxy->shut_down("end of the day");
    bool ended = loop.run_until([&] { return node->proxy_ended; },
                                node->proxy->config().drain_deadline + std::chrono::seconds(5));
    CHECK(ended);
    kill_proxy(*node);
  }
  stop_control();
  for (auto& [name, pod] : pods_) pod->listener.reset();
  loop.run_for(std::chrono::seconds(1));
  CHECK(network.open_streams() == 0);
  for (auto& [name, node] : nodes_) {
    node->agent.reset();
    node->agent_listener.reset();
  }
  loop.run_for(std::chrono::minutes(10));
  CHECK(loop.quiet());
}

}  // namespace culvert::test
