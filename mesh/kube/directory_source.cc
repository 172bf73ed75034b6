// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/directory_source.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

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

// Regular files below `directory`, links followed (a ConfigMap mount is links into "..data"), dot entries
// left out.
Result<std::vector<std::string>> list_files(const std::string& directory, size_t limit) {
  std::error_code error;
  std::vector<std::string> out;
  fs::recursive_directory_iterator it(directory, fs::directory_options::follow_directory_symlink, error);
  if (error) return fail(base::Error::from_errno(error.value(), "read directory " + directory));
  for (; it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (error) break;  // a directory vanished under us; the next scan sees the rest
    std::error_code ignored;
    if (it->path().filename().string().starts_with('.')) {
      if (it->is_directory(ignored)) it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file(ignored) && is_manifest(it->path())) out.push_back(it->path().string());
    if (out.size() > limit) {
      return fail(base::Code::kExhausted, fmt::format("{} holds more than {} manifests", directory, limit));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

Result<> DirectorySource::scan() {
  Result<std::vector<std::string>> listed = list_files(directory_, kFilesMax);
  if (!listed) {
    // The directory is gone or unreadable: what was good stays in force.
    std::vector<Problem> before = problems_;
    problems_ = {Problem{
        {directory_, 0}, "", listed.error().message() + "; the last good objects stay in force", true}};
    report(before);
    return fail(std::move(listed).error());
  }
  bool any = false;
  std::map<std::string, File> next;
  for (const std::string& path : *listed) {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0) continue;
    Stamp stamp{static_cast<uint64_t>(info.st_size),
                int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_ino};
    auto known = files_.find(path);
    File file = known == files_.end() ? File{} : std::move(known->second);
    if (known == files_.end() || file.stamp != stamp) any |= read_file(path, stamp, file);
    next.emplace(path, std::move(file));
  }
  any |= next.size() != files_.size() ||
         !std::equal(next.begin(), next.end(), files_.begin(),
                     [](const auto& a, const auto& b) { return a.first == b.first; });
  files_ = std::move(next);
  if (any || !synced_) rebuild();
  return {};
}

bool DirectorySource::read_file(const std::string& path, const Stamp& stamp, File& file) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  file.stamp = stamp;
  file.problems.clear();
  if (!in) {
    file.problems.push_back({{path, 0}, "", "cannot be read", !file.items.empty()});
    return true;
  }
  DecodedFile decoded = decode_manifests(text.str(), path);
  file.unknown_kinds = decoded.unknown_kinds;
  if (decoded.syntax) {
    decoded.syntax->kept_last_good = !file.items.empty();
    file.problems.push_back(*decoded.syntax);
    return true;
  }
  std::vector<Item> items;
  for (Decoded& document : decoded.documents) {
    std::string identity = document.kind + " " + document.key;
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
  problems_.clear();
  std::vector<std::shared_ptr<const AnyObject>> items;
  for (const auto& [path, file] : files_) {
    problems_.insert(problems_.end(), file.problems.begin(), file.problems.end());
    for (const Item& item : file.items) items.push_back(item.object);
  }
  objects_ = assemble(items, problems_);
  report(before);
}

void DirectorySource::report(const std::vector<Problem>& before) {
  auto same = [](const Problem& a, const Problem& b) {
    return a.message == b.message && a.object == b.object && a.origin.to_string() == b.origin.to_string();
  };
  for (const Problem& problem : problems_) {
    if (std::any_of(before.begin(), before.end(), [&](const Problem& old) { return same(old, problem); }))
      continue;
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
#undef CULVERT_PLACE

// True if it took the place; false if another object of the same identity has it.
template <class T>
bool place(Objects& objects, const std::shared_ptr<const AnyObject>& any, const T& object) {
  return Placer<T>::table(objects).emplace(object.meta.key(), std::shared_ptr<const T>(any, &object)).second;
}
template <>
bool place(Objects& objects, const std::shared_ptr<const AnyObject>& any, const OtherObject& object) {
  return objects.others
      .emplace(object.kind + "/" + object.meta.key(), std::shared_ptr<const OtherObject>(any, &object))
      .second;
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
    bool placed = std::visit([&](const auto& object) { return place(*objects, item, object); }, *item);
    if (placed) continue;
    const Meta& meta = meta_of(*item);
    problems.push_back(
        {meta.origin, meta.key(),
         "another object of the same kind and name was read before this one; this one is ignored", false});
  }
  synthesize_namespaces(*objects);
  lay_bindings_over_pods(*objects);
  return objects;
}

}  // namespace culvert::kube
