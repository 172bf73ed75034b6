// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/directory_source.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

namespace culvert::kube {

namespace fs = std::filesystem;
using base::fail;
using base::Result;

DirectorySource::DirectorySource(async::Loop& loop, base::Log& log, std::string directory)
    : loop_(loop),
      log_(log),
      directory_(std::move(directory)),
      settle_([this] { (void)scan(); }),
      sweep_([this] {
        (void)scan();
        loop_.arm(sweep_, loop_.now() + kSweepEvery);
      }) {}

Result<> DirectorySource::start() {
  CULVERT_TRY(scan());
  synced_ = true;
  loop_.arm(sweep_, loop_.now() + kSweepEvery);
  return {};
}

void DirectorySource::changed() {
  if (!settle_.armed()) loop_.arm(settle_, loop_.now() + kSettle);
}

namespace {

bool is_manifest(const fs::path& path) {
  std::string name = path.filename().string();
  std::string extension = path.extension().string();
  return !name.starts_with('.') && (extension == ".yaml" || extension == ".yml" || extension == ".json");
}

struct Listing {
  std::vector<std::string> files;
  std::vector<std::pair<std::string, base::Error>> unreadable;  // directories
  std::set<std::pair<dev_t, ino_t>> seen;                       // directories: links may form a ring
};

// Regular files below `directory`, links followed (a ConfigMap mount is links into "..data"), dot entries
// left out. By name, so that of two ways to one directory the same is taken every time.
void list_files(const std::string& directory, size_t limit, Listing& out) {
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0) {
    out.unreadable.emplace_back(directory, base::Error::from_errno(errno, "read directory " + directory));
    return;
  }
  if (!out.seen.emplace(info.st_dev, info.st_ino).second) return;
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator it(directory, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (!it->path().filename().string().starts_with('.')) entries.push_back(*it);
  }
  if (error) {
    out.unreadable.emplace_back(directory,
                                base::Error::from_errno(error.value(), "read directory " + directory));
  }
  std::sort(entries.begin(), entries.end());
  for (const fs::directory_entry& entry : entries) {
    if (out.files.size() > limit) return;
    std::error_code ignored;
    if (entry.is_directory(ignored)) {
      list_files(entry.path().string(), limit, out);
    } else if (is_manifest(entry.path()) && entry.is_regular_file(ignored)) {
      out.files.push_back(entry.path().string());
    }
  }
}

bool same(const Problem& a, const Problem& b) {
  return a.message == b.message && a.object == b.object && a.kept_last_good == b.kept_last_good &&
         a.origin.to_string() == b.origin.to_string();
}
bool same(const std::vector<Problem>& a, const std::vector<Problem>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Problem& x, const Problem& y) { return same(x, y); });
}

}  // namespace

Result<> DirectorySource::scan() {
  Listing listing;
  list_files(directory_, kFilesMax, listing);
  if (listing.files.size() > kFilesMax) {
    listing.unreadable = {
        {directory_,
         {base::Code::kExhausted, fmt::format("{} holds more than {} manifests", directory_, kFilesMax)}}};
  }
  // A directory below that vanished between two looks is simply gone.
  std::erase_if(listing.unreadable, [&](const auto& one) {
    return one.first != directory_ && one.second.code() == base::Code::kNotFound;
  });
  std::vector<std::string> unreadable;
  std::vector<Problem> problems;
  for (const auto& [path, error] : listing.unreadable) {
    unreadable.push_back(path);
    problems.push_back(
        {{path, 0}, "", error.message() + "; the last good objects below it stay in force", true});
  }
  bool any = !same(problems, listing_problems_);
  listing_problems_ = std::move(problems);
  bool whole = unreadable.empty() || unreadable.front() != directory_;
  // Half a root is no root: what was good stays in force.
  if (whole) any |= take(listing.files, unreadable);
  if (any || !synced_) rebuild();
  if (!whole) return fail(listing.unreadable.front().second);
  return {};
}

bool DirectorySource::take(const std::vector<std::string>& listed,
                           const std::vector<std::string>& unreadable) {
  bool any = false;
  std::map<std::string, File> next;
  for (const std::string& path : listed) {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) continue;
    Stamp stamp{static_cast<uint64_t>(info.st_size),
                int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_ino};
    auto known = files_.find(path);
    bool added = known == files_.end();
    File file = added ? File{} : std::move(known->second);
    if (added || file.young || file.stamp != stamp) any |= read_file(path, stamp, file);
    any |= added;
    next.emplace(path, std::move(file));
  }
  for (auto& [path, file] : files_) {
    if (next.contains(path)) continue;
    bool hidden = std::any_of(unreadable.begin(), unreadable.end(), [&](const std::string& directory) {
      return path.starts_with(directory + "/");
    });
    if (hidden) {
      next.emplace(path, std::move(file));
    } else {
      any = true;
    }
  }
  files_ = std::move(next);
  return any;
}

bool DirectorySource::read_file(const std::string& path, const Stamp& stamp, File& file) {
  std::vector<Problem> before = std::move(file.problems);
  file.problems.clear();
  auto unusable = [&](std::string message) {
    file.problems.push_back({{path, 0}, "", std::move(message), !file.items.empty()});
    file.text_hash = 0;
    return !same(file.problems, before);
  };
  file.stamp = stamp;
  file.young = base::WallTime(std::chrono::nanoseconds(stamp.modified_ns)) + kYoung > loop_.wall_now();
  if (stamp.size > DecodeLimits().file_bytes_max) {
    return unusable(fmt::format("the file is larger than {} bytes", DecodeLimits().file_bytes_max));
  }
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (in) text << in.rdbuf();
  if (!in) {
    file.young = true;  // the next sweep tries again
    return unusable("cannot be read");
  }
  size_t hash = std::hash<std::string>()(text.str());
  if (hash == file.text_hash) {
    file.problems = std::move(before);
    return false;
  }
  file.text_hash = hash;
  return decode(path, text.str(), file);
}

bool DirectorySource::decode(const std::string& path, const std::string& text, File& file) {
  DecodedFile decoded = decode_manifests(text, path);
  file.unknown_kinds = decoded.unknown_kinds;
  if (decoded.syntax) {
    decoded.syntax->kept_last_good = !file.items.empty();
    file.problems.push_back(*decoded.syntax);
    return true;
  }
  std::vector<Item> items;
  for (Decoded& document : decoded.documents) {
    std::string identity = document.kind + "." + document.group + " " + document.key;
    std::shared_ptr<const AnyObject> object;
    if (document.object) {
      object = std::make_shared<const AnyObject>(std::move(*document.object));
    } else {
      auto old = std::find_if(file.items.begin(), file.items.end(),
                              [&](const Item& item) { return item.identity == identity; });
      if (old != file.items.end()) object = old->object;
    }
    for (Problem& problem : document.problems) {
      problem.kept_last_good = object != nullptr;
      file.problems.push_back(std::move(problem));
    }
    if (object) items.push_back({std::move(identity), std::move(object)});
  }
  file.items = std::move(items);
  return true;
}

void DirectorySource::rebuild() {
  std::vector<Problem> before = std::move(problems_);
  problems_ = listing_problems_;
  std::vector<std::shared_ptr<const AnyObject>> items;
  for (const auto& [path, file] : files_) {
    problems_.insert(problems_.end(), file.problems.begin(), file.problems.end());
    for (const Item& item : file.items) items.push_back(item.object);
  }
  objects_ = assemble(items, problems_);
  report(before);
}

void DirectorySource::report(const std::vector<Problem>& before) {
  auto told = [](const Problem& problem) {
    return std::tuple(problem.origin.to_string(), problem.object, problem.message, problem.kept_last_good);
  };
  std::set<decltype(told(problems_.front()))> known;
  for (const Problem& problem : before) known.insert(told(problem));
  for (const Problem& problem : problems_) {
    if (known.contains(told(problem))) continue;
    log_.warn("source",
              problem.kept_last_good ? "bad manifest; its last good form stays in force" : "bad manifest",
              {base::Field::bare("at", problem.origin.to_string()),
               base::Field::text("object", problem.object), base::Field::text("error", problem.message)});
  }
  for (const auto& listener : listeners_) listener();
}

namespace {

template <class T>
struct Placer {
  static Table<T>& table(Objects& objects);
};
#define CULVERT_PLACE(Type, member)                    \
  template <>                                          \
  Table<Type>& Placer<Type>::table(Objects& objects) { \
    return objects.member;                             \
  }
CULVERT_PLACE(Namespace, namespaces)
CULVERT_PLACE(Node, nodes)
CULVERT_PLACE(ServiceAccount, service_accounts)
CULVERT_PLACE(Pod, pods)
CULVERT_PLACE(Service, services)
CULVERT_PLACE(EndpointSlice, endpoint_slices)
CULVERT_PLACE(WorkloadEntry, workload_entries)
CULVERT_PLACE(ServiceEntry, service_entries)
CULVERT_PLACE(Gateway, gateways)
CULVERT_PLACE(GatewayClass, gateway_classes)
CULVERT_PLACE(AuthorizationPolicy, authorization_policies)
CULVERT_PLACE(PeerAuthentication, peer_authentications)
CULVERT_PLACE(PodBinding, pod_bindings)
CULVERT_PLACE(VirtualService, virtual_services)
CULVERT_PLACE(DestinationRule, destination_rules)
CULVERT_PLACE(HttpRoute, http_routes)
CULVERT_PLACE(GrpcRoute, grpc_routes)
CULVERT_PLACE(TcpRoute, tcp_routes)
CULVERT_PLACE(TlsRoute, tls_routes)
CULVERT_PLACE(ReferenceGrant, reference_grants)
CULVERT_PLACE(BackendTlsPolicy, backend_tls_policies)
CULVERT_PLACE(BackendTrafficPolicy, backend_traffic_policies)
CULVERT_PLACE(RequestAuthentication, request_authentications)
CULVERT_PLACE(Telemetry, telemetries)
CULVERT_PLACE(RateLimitPolicy, rate_limit_policies)
CULVERT_PLACE(IstioOperator, istio_operators)
CULVERT_PLACE(ProxyConfig, proxy_configs)
CULVERT_PLACE(ConfigMap, config_maps)
CULVERT_PLACE(Secret, secrets)
CULVERT_PLACE(NetworkPolicy, network_policies)
#undef CULVERT_PLACE

// Null if it took the place, else the object of the same identity that has it.
template <class T>
const Meta* place(Objects& objects, const std::shared_ptr<const AnyObject>& any, const T& object) {
  auto [it, placed] =
      Placer<T>::table(objects).emplace(object.meta.key(), std::shared_ptr<const T>(any, &object));
  return placed ? nullptr : &it->second->meta;
}
template <>
const Meta* place(Objects& objects, const std::shared_ptr<const AnyObject>& any, const OtherObject& object) {
  auto [it, placed] = objects.others.emplace(object.kind + "/" + object.meta.key(),
                                             std::shared_ptr<const OtherObject>(any, &object));
  return placed ? nullptr : &it->second->meta;
}

std::string kind_of(const AnyObject& object) {
  static constexpr std::array<std::string_view, std::variant_size_v<AnyObject>> kNames = {
      "Namespace",
      "Node",
      "ServiceAccount",
      "Pod",
      "Service",
      "EndpointSlice",
      "WorkloadEntry",
      "ServiceEntry",
      "Gateway",
      "GatewayClass",
      "AuthorizationPolicy",
      "PeerAuthentication",
      "PodBinding",
      "VirtualService",
      "DestinationRule",
      "HTTPRoute",
      "GRPCRoute",
      "TCPRoute",
      "TLSRoute",
      "ReferenceGrant",
      "BackendTLSPolicy",
      "XBackendTrafficPolicy",
      "RequestAuthentication",
      "Telemetry",
      "RateLimitPolicy",
      "IstioOperator",
      "ProxyConfig",
      "ConfigMap",
      "Secret",
      "NetworkPolicy",
      ""};
  if (const auto* other = std::get_if<OtherObject>(&object)) return other->kind;
  return std::string(kNames[object.index()]);
}

void synthesize_namespaces(Objects& objects) {
  auto need = [&](const std::string& ns) {
    if (ns.empty() || objects.namespaces.contains(ns)) return;
    Namespace made;
    made.meta.name = ns;
    made.meta.labels["kubernetes.io/metadata.name"] = ns;
    objects.namespaces[ns] = std::make_shared<const Namespace>(std::move(made));
  };
  auto need_all = [&](const auto& table) {
    for (const auto& [key, object] : table) need(object->meta.ns);
  };
  need_all(objects.pods);
  need_all(objects.services);
  need_all(objects.workload_entries);
  need_all(objects.service_entries);
  need_all(objects.gateways);
  need_all(objects.authorization_policies);
  need_all(objects.peer_authentications);
}

void lay_bindings_over_pods(Objects& objects) {
  for (const auto& [key, binding] : objects.pod_bindings) {
    auto found = objects.pods.find(key);
    if (found == objects.pods.end()) continue;
    const Pod& pod = *found->second;
    // A binding of an earlier pod of the same name says nothing about this one.
    if (!binding->pod_uid.empty() && !pod.meta.uid.empty() && binding->pod_uid != pod.meta.uid) continue;
    auto bound = std::make_shared<Pod>(pod);
    bound->meta.annotations["ambient.istio.io/redirection"] = binding->redirection;
    if (bound->ips.empty()) bound->ips = binding->ips;
    found->second = std::move(bound);
  }
}

}  // namespace

ObjectsRef assemble(const std::vector<std::shared_ptr<const AnyObject>>& items,
                    std::vector<Problem>& problems) {
  auto objects = std::make_shared<Objects>();
  for (const auto& item : items) {
    const Meta* first = std::visit([&](const auto& object) { return place(*objects, item, object); }, *item);
    if (!first) continue;
    const Meta& meta = meta_of(*item);
    problems.push_back({meta.origin, kind_of(*item) + " " + meta.key(),
                        fmt::format("is given at {} already; this one is ignored", first->origin.to_string()),
                        false});
  }
  synthesize_namespaces(*objects);
  lay_bindings_over_pods(*objects);
  return objects;
}

}  // namespace culvert::kube
