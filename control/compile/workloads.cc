// SPDX-License-Identifier: Apache-2.0
// Pods, WorkloadEntries, ServiceEntry endpoints and stray EndpointSlice endpoints to model::Workload (spec
// control-plane sections 1.5 to 1.9 and 1.11).
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "control/compile/context.h"

namespace culvert::control {

namespace {

using model::Membership;
using model::PortMapping;

// --- names (section 1.8) ---

bool strip_suffix(std::string& name, const std::string& suffix) {
  if (suffix.empty() || name.size() <= suffix.size() + 1 || !name.ends_with("-" + suffix)) return false;
  name.resize(name.size() - suffix.size() - 1);
  return true;
}

std::string workload_name(const kube::Meta& meta) {
  std::string name = meta.name;
  if (!meta.generate_name.empty() && !meta.owner_name.empty()) {
    name = meta.owner_name;
    if (meta.owner_kind == "ReplicaSet") {
      for (const char* key : {"pod-template-hash", "rollouts-pod-template-hash"}) {
        const std::string* hash = label(meta.labels, key);
        if (hash && strip_suffix(name, *hash)) break;
      }
    } else if (meta.owner_kind == "ReplicationController") {
      if (const std::string* config = label(meta.labels, "deploymentconfig")) name = *config;
    } else if (meta.owner_kind == "Job") {
      size_t dash = name.rfind('-');
      size_t digits = dash == std::string::npos ? 0 : name.size() - dash - 1;
      bool all = digits >= 8 && digits <= 10 &&
                 std::all_of(name.begin() + static_cast<long>(dash) + 1, name.end(),
                             [](unsigned char c) { return c >= '0' && c <= '9'; });
      if (all) name.resize(dash);
    }
  }
  if (const std::string* own = label(meta.labels, "service.istio.io/workload-name")) name = *own;
  return name;
}

std::string first_label(const kube::Labels& labels, std::initializer_list<const char*> keys,
                        std::string fallback) {
  for (const char* key : keys) {
    if (const std::string* value = label(labels, key)) return *value;
  }
  return fallback;
}

void set_names(const kube::Labels& labels, std::string name, model::Workload& out) {
  out.canonical_name =
      first_label(labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}, name);
  out.canonical_revision = first_label(
      labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}, "latest");
  out.workload_name = std::move(name);
}

// --- tunnel protocol (section 1.7) ---

void set_protocol(const kube::Labels& labels, const kube::Labels& annotations, model::Workload& out) {
  const std::string* redirection = label(annotations, "ambient.istio.io/redirection");
  if (redirection && *redirection == "enabled") out.protocol = model::TunnelProtocol::kHbone;
  const std::string* tunnel = label(labels, "networking.istio.io/tunnel");
  if (!tunnel) return;
  std::string list = "," + *tunnel + ",";
  if (list.find(",http,") != std::string::npos) {
    out.protocol = model::TunnelProtocol::kHbone;
    out.native_tunnel = true;
  }
}

// Names of the waypoints that traffic for the workload itself goes through.
std::vector<std::string> set_waypoint(Context& context, const kube::Meta& meta, std::string_view kind,
                                      model::Workload& out) {
  if (const Waypoint* own = waypoint_instance(context, meta)) {
    out.app_tunnel = own->binding;
    return {};
  }
  WaypointBinding binding = bind_waypoint(context, meta, kind, true);
  out.waypoint = std::move(binding.primary);
  // Its canary, if one is named, is not used for workloads.
  if (binding.names.size() > 1) binding.names.resize(1);
  return std::move(binding.names);
}

// After its services are known. `meta`: whose labels selectors look at; `waypoints`: the workload's own.
void set_policies(Context& context, const kube::Meta& meta, const std::vector<std::string>& waypoints,
                  model::Workload& out) {
  std::set<std::string> all;
  // One that is not ready serves nobody yet.
  auto take = [&](const std::string& name) {
    if (context.waypoints.at(name).address) all.insert(name);
  };
  std::for_each(waypoints.begin(), waypoints.end(), take);
  for (const Membership& member : out.services) {
    // A service elsewhere is not told of the policies of this namespace.
    auto bound = context.out.waypoints_of.find(member.service.to_string());
    if (member.service.ns == out.ns && bound != context.out.waypoints_of.end()) {
      std::for_each(bound->second.begin(), bound->second.end(), take);
    }
  }
  for (const std::string& name : attached_policies(context, out.name.str(), meta, all)) {
    out.authorization_policies.push_back(name);
  }
}

void set_place(const Context& context, model::Workload& out) {
  out.cluster_id = context.options.cluster_id;
  out.trust_domain = context.options.trust_domain;
  if (out.network.empty()) out.network = context.network;
}

// --- membership (section 1.11) ---

uint16_t named_pod_port(const kube::Pod& pod, const std::string& name) {
  for (const kube::ContainerPort& port : pod.ports) {
    if (port.name == name && port.protocol == "TCP") return port.port;
  }
  return 0;
}

std::vector<PortMapping> pod_ports(const ServiceSource& source, const kube::Pod& pod) {
  std::vector<PortMapping> out;
  if (source.service) {
    for (const kube::ServicePort& port : source.service->ports) {
      if (port.protocol == "UDP") continue;
      uint16_t target = port.target_name.empty() ? port.target_port : named_pod_port(pod, port.target_name);
      if (target != 0) out.push_back({port.port, target});
    }
    return out;
  }
  for (const auto& port : source.entry->ports) {
    if (port.protocol == "UDP") continue;
    uint16_t named = named_pod_port(pod, port.name);
    uint16_t fallback = port.target_port != 0 ? port.target_port : port.number;
    out.push_back({port.number, named != 0 ? named : fallback});
  }
  return out;
}

std::vector<PortMapping> entry_ports(const ServiceSource& source,
                                     const std::map<std::string, uint16_t>& ports) {
  std::vector<PortMapping> out;
  auto named = [&](const std::string& name) {
    auto found = ports.find(name);
    return found == ports.end() ? uint16_t{0} : found->second;
  };
  if (source.service) {
    for (const kube::ServicePort& port : source.service->ports) {
      if (port.protocol == "UDP") continue;
      uint16_t target = port.target_name.empty() ? named(port.name) : named(port.target_name);
      if (target == 0) target = port.target_port;
      if (target != 0) out.push_back({port.port, target});
    }
    return out;
  }
  for (const auto& port : source.entry->ports) {
    if (port.protocol == "UDP") continue;
    uint16_t target = named(port.name);
    if (target == 0) target = port.target_port != 0 ? port.target_port : port.number;
    out.push_back({port.number, target});
  }
  return out;
}

void add_member(model::Workload& out, const std::string& ns, const std::string& hostname,
                std::vector<PortMapping> ports) {
  model::NamespacedHostname key{ns, hostname};
  if (out.membership(key)) return;
  Membership membership{std::move(key), std::move(ports)};
  std::vector<Membership> services = out.services.to_vector();
  auto at = std::lower_bound(services.begin(), services.end(), membership,
                             [](const Membership& a, const Membership& b) { return a.service < b.service; });
  services.insert(at, std::move(membership));
  out.services = services;
}

template <class Ports>
void add_selected(const Context& context, const std::string& ns, const kube::Labels& labels,
                  model::Workload& out, Ports ports) {
  auto sources = context.sources_by_ns.find(ns);
  if (sources == context.sources_by_ns.end()) return;
  sources->second.each_candidate(labels, [&](const ServiceSource& source) {
    if (selects(*source.selector(), labels)) add_member(out, ns, source.hostname, ports(source));
  });
}

// Pods an EndpointSlice names by targetRef: "ns/pod" to the slices that do.
using SliceIndex =
    std::map<std::string,
             std::vector<std::pair<const kube::EndpointSlice*, const kube::EndpointSlice::Endpoint*>>>;

std::string hostname_of(const Context& context, const std::string& ns, const std::string& service) {
  return fmt::format("{}.{}.svc.{}", service, ns, context.options.cluster_domain);
}

std::vector<PortMapping> slice_ports(const kube::Service& service, const kube::EndpointSlice& slice) {
  std::vector<PortMapping> out;
  for (const kube::ServicePort& port : service.ports) {
    if (port.protocol == "UDP") continue;
    for (const auto& have : slice.ports) {
      if (have.name == port.name && have.protocol == "TCP" && have.port != 0)
        out.push_back({port.port, have.port});
    }
  }
  return out;
}

const kube::Service* service_of(const Context& context, const kube::EndpointSlice& slice) {
  if (slice.service.empty() || slice.address_type == "FQDN") return nullptr;
  auto found = context.objects.services.find(slice.meta.ns + "/" + slice.service);
  if (found == context.objects.services.end() || found->second->type == "ExternalName") return nullptr;
  return found->second.get();
}

bool names_pod(const kube::EndpointSlice::Endpoint& endpoint) {
  return endpoint.target_kind == "Pod" && !endpoint.target_name.empty();
}

SliceIndex index_slices(const Context& context) {
  SliceIndex index;
  for (const auto& [key, slice] : context.objects.endpoint_slices) {
    if (!service_of(context, *slice)) continue;
    for (const auto& endpoint : slice->endpoints) {
      if (!names_pod(endpoint)) continue;
      const std::string& ns = endpoint.target_ns.empty() ? slice->meta.ns : endpoint.target_ns;
      index[ns + "/" + endpoint.target_name].emplace_back(slice.get(), &endpoint);
    }
  }
  return index;
}

// --- one function per source ---

model::Locality locality_of(const Context& context, const std::string& node) {
  auto found = context.objects.nodes.find(node);
  if (found == context.objects.nodes.end()) return {};
  const kube::Labels& labels = found->second->meta.labels;
  return {first_label(labels, {"topology.kubernetes.io/region"}, ""),
          first_label(labels, {"topology.kubernetes.io/zone"}, ""),
          first_label(labels, {"topology.istio.io/subzone"}, "")};
}

model::Locality parse_locality(const std::string& text) {
  std::vector<std::string> parts(3);
  size_t part = 0;
  for (char c : text) {
    if (c == '/' && part < 2) {
      ++part;
    } else {
      parts[part] += c;
    }
  }
  return {parts[0], parts[1], parts[2]};
}

// One that is as it was stays the same object: nothing after this has to look into it again. `labels`: what
// selectors go by; waypoints wait for them, so a workload without any says so too.
void publish(Context& context, model::Workload out, kube::Labels labels) {
  auto& told = context.out.workload_labels;
  std::string uid = out.uid.str();
  told.try_emplace(told.end(), uid,
                   std::make_shared<const model::WorkloadLabels>(
                       model::WorkloadLabels{uid, {labels.begin(), labels.end()}}));
  std::shared_ptr<const model::Workload> made;
  if (context.previous) {
    auto before = context.previous->workloads.find(uid);
    if (before != context.previous->workloads.end() && *before->second == out) made = before->second;
  }
  if (!made) made = std::make_shared<const model::Workload>(std::move(out));
  // Sources come in the order of their names, so the end is nearly always the place.
  auto& workloads = context.out.workloads;
  workloads.try_emplace(workloads.end(), std::move(uid), made);
}

void compile_pod(Context& context, const kube::Pod& pod, const SliceIndex& slices) {
  if (pod.phase == "Succeeded" || pod.phase == "Failed") return;
  model::Workload out;
  for (const std::string& text : pod.ips) {
    auto ip = base::IpAddr::parse(text);
    if (!ip) {
      context.find("IST0106", Severity::kError, pod.meta, "Pod", "status.podIPs: " + ip.error().message());
      return;
    }
    out.addresses.push_back(*ip);
  }
  if (out.addresses.empty()) return;
  out.uid = fmt::format("{}//Pod/{}/{}", context.options.cluster_id, pod.meta.ns, pod.meta.name);
  out.name = pod.meta.name;
  out.ns = pod.meta.ns;
  out.service_account = pod.service_account;
  out.node = pod.node;
  out.type = model::WorkloadType::kPod;
  if (pod.host_network) out.network_mode = model::NetworkMode::kHostNetwork;
  // A manifest that says nothing of conditions is taken as ready (section 1.14); "Pending" is not.
  bool ready = pod.ready ? *pod.ready : pod.phase != "Pending";
  out.status = ready && !pod.meta.deleting ? model::HealthStatus::kHealthy : model::HealthStatus::kUnhealthy;
  out.locality = locality_of(context, pod.node);
  set_names(pod.meta.labels, workload_name(pod.meta), out);
  set_protocol(pod.meta.labels, pod.meta.annotations, out);
  set_place(context, out);
  std::vector<std::string> waypoints = set_waypoint(context, pod.meta, "Pod", out);
  add_selected(context, pod.meta.ns, pod.meta.labels, out,
               [&](const ServiceSource& source) { return pod_ports(source, pod); });
  if (auto found = slices.find(pod.meta.key()); found != slices.end()) {
    for (const auto& [slice, endpoint] : found->second) {
      if (!endpoint->target_uid.empty() && !pod.meta.uid.empty() && endpoint->target_uid != pod.meta.uid)
        continue;
      add_member(out, slice->meta.ns, hostname_of(context, slice->meta.ns, slice->service),
                 slice_ports(*service_of(context, *slice), *slice));
    }
  }
  set_policies(context, pod.meta, waypoints, out);
  publish(context, std::move(out), pod.meta.labels);
}

// What WorkloadEntry and ServiceEntry endpoints share.
model::Workload from_entry(const Context& context, const kube::WorkloadEntry& entry) {
  model::Workload out;
  if (auto ip = base::IpAddr::parse(entry.address)) {
    out.addresses.push_back(*ip);
  } else {
    out.hostname = entry.address;
  }
  out.service_account = entry.service_account;
  out.network = entry.network.empty() ? context.network : entry.network;
  out.locality = parse_locality(entry.locality);
  out.type = model::WorkloadType::kPod;
  if (entry.weight && *entry.weight > 0) out.capacity = *entry.weight;
  return out;
}

void compile_workload_entry(Context& context, const kube::WorkloadEntry& entry) {
  model::Workload out = from_entry(context, entry);
  const kube::Meta& meta = entry.meta;
  kube::Labels labels = entry.labels;
  for (const auto& [key, value] : meta.labels) labels[key] = value;
  out.uid = fmt::format("{}/networking.istio.io/WorkloadEntry/{}/{}", context.options.cluster_id, meta.ns,
                        meta.name);
  out.name = meta.name;
  out.ns = meta.ns;
  std::string name = first_label(meta.annotations, {"istio.io/autoRegistrationGroup"},
                                 first_label(labels, {"service.istio.io/workload-name"}, meta.name));
  set_names(labels, std::move(name), out);
  set_protocol(labels, meta.annotations, out);
  set_place(context, out);
  kube::Meta merged = meta;
  merged.labels = labels;
  std::vector<std::string> waypoints = set_waypoint(context, merged, "WorkloadEntry", out);
  add_selected(context, meta.ns, labels, out,
               [&](const ServiceSource& source) { return entry_ports(source, entry.ports); });
  set_policies(context, merged, waypoints, out);
  publish(context, std::move(out), std::move(labels));
}

void compile_inline(Context& context, const kube::ServiceEntry& entry, const kube::WorkloadEntry& endpoint,
                    const std::vector<std::string>& hosts, const std::string& id, bool implicit) {
  model::Workload out = from_entry(context, endpoint);
  out.uid = fmt::format("{}/networking.istio.io/ServiceEntry/{}/{}/{}", context.options.cluster_id,
                        entry.meta.ns, entry.meta.name, id);
  out.name = entry.meta.name;
  out.ns = entry.meta.ns;
  set_names(entry.meta.labels, entry.meta.name, out);
  set_protocol(entry.meta.labels, entry.meta.annotations, out);
  set_place(context, out);
  std::vector<std::string> waypoints;
  if (!implicit) {
    kube::Meta meta = entry.meta;
    for (const auto& [key, value] : endpoint.labels) meta.labels[key] = value;
    waypoints = set_waypoint(context, meta, "ServiceEntry", out);
  }
  for (const std::string& host : hosts) {
    auto source = context.sources.find(entry.meta.ns + "/" + host);
    if (source == context.sources.end() || source->second.entry.get() != &entry) continue;
    add_member(out, entry.meta.ns, host, entry_ports(source->second, endpoint.ports));
  }
  if (out.services.empty()) return;
  set_policies(context, entry.meta, waypoints, out);
  publish(context, std::move(out), entry.meta.labels);
}

void compile_service_entry(Context& context, const kube::ServiceEntry& entry) {
  for (const kube::WorkloadEntry& endpoint : entry.endpoints) {
    compile_inline(context, entry, endpoint, entry.hosts, endpoint.address, false);
  }
  bool by_name =
      entry.resolution == "DNS" || entry.resolution == "DNS_ROUND_ROBIN" || entry.resolution == "DYNAMIC_DNS";
  if (!entry.endpoints.empty() || entry.workload_selector || !by_name) return;
  for (const std::string& host : entry.hosts) {
    kube::WorkloadEntry implicit;
    implicit.address = host;
    compile_inline(context, entry, implicit, {host}, host, true);
  }
}

// Endpoints that are no Pods of ours: their address is not assumed to be theirs alone.
void compile_slice(Context& context, const kube::EndpointSlice& slice) {
  const kube::Service* service = service_of(context, slice);
  if (!service) return;
  for (const auto& endpoint : slice.endpoints) {
    if (names_pod(endpoint) || endpoint.addresses.empty()) continue;
    auto ip = base::IpAddr::parse(endpoint.addresses.front());
    if (!ip) continue;
    model::Workload out;
    out.uid = fmt::format("{}/discovery.k8s.io/EndpointSlice/{}/{}/{}", context.options.cluster_id,
                          slice.meta.ns, slice.meta.name, ip->to_string());
    out.name = slice.meta.name;
    out.ns = slice.meta.ns;
    out.addresses = {*ip};
    out.network_mode = model::NetworkMode::kHostNetwork;
    out.status =
        endpoint.ready.value_or(true) ? model::HealthStatus::kHealthy : model::HealthStatus::kUnhealthy;
    set_place(context, out);
    add_member(out, slice.meta.ns, hostname_of(context, slice.meta.ns, slice.service),
               slice_ports(*service, slice));
    publish(context, std::move(out), {});
  }
}

void report_shared_addresses(Context& context) {
  std::unordered_map<std::string_view, const kube::Pod*> owner;
  owner.reserve(context.objects.pods.size());
  for (const auto& [key, pod] : context.objects.pods) {
    if (pod->host_network || pod->phase == "Succeeded" || pod->phase == "Failed") continue;
    for (const std::string& ip : pod->ips) {
      auto [at, first] = owner.emplace(ip, pod.get());
      if (first) continue;
      context.find("MSH009", Severity::kWarning, pod->meta, "Pod",
                   fmt::format("has the address {} of Pod {} too", ip, at->second->meta.key()));
    }
  }
}

}  // namespace

void compile_workloads(Context& context) {
  SliceIndex slices = index_slices(context);
  for (const auto& [key, pod] : context.objects.pods) compile_pod(context, *pod, slices);
  for (const auto& [key, entry] : context.objects.workload_entries) compile_workload_entry(context, *entry);
  for (const auto& [key, entry] : context.objects.service_entries) compile_service_entry(context, *entry);
  for (const auto& [key, slice] : context.objects.endpoint_slices) compile_slice(context, *slice);
  report_shared_addresses(context);
}

}  // namespace culvert::control
