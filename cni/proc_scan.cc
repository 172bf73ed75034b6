// SPDX-License-Identifier: Apache-2.0
#include "cni/proc_scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <set>

namespace culvert::cni {
namespace {

constexpr size_t kFileBytesMax = 64 * 1024;

std::optional<std::string> read_file(const std::string& path) {
  base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return std::nullopt;
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while (text.size() < kFileBytesMax && (got = ::read(file.get(), buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

std::vector<std::string> process_dirs(const std::string& proc_root) {
  std::vector<std::string> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(proc_root.c_str()), ::closedir);
  if (!dir) return found;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (!name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      found.push_back(proc_root + "/" + std::string(name));
    }
  }
  return found;
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_punct(char c) { return c > ' ' && c < 0x7f && !is_word(c); }

// Reads 8-4-4-4-12 hex digits with optional single punctuation between, as "x-x-x-x-x".
std::optional<std::string> read_uid(std::string_view text, size_t& at) {
  std::string uid;
  bool first = true;
  for (size_t count : {8u, 4u, 4u, 4u, 12u}) {
    if (!first) {
      if (at < text.size() && is_punct(text[at]) && text[at] != '/') ++at;
      uid += '-';
    }
    first = false;
    for (size_t i = 0; i < count; ++i, ++at) {
      if (at >= text.size() || !is_hex(text[at])) return std::nullopt;
      uid += text[at];
    }
  }
  return uid;
}

// "<punct>pod<UID><punct>(segment<punct>)*<container id>" anywhere up to the end.
std::optional<CgroupIdentity> parse_path(std::string_view path) {
  if (path.ends_with(".scope")) path.remove_suffix(6);
  for (size_t at = path.find("pod"); at != std::string_view::npos; at = path.find("pod", at + 1)) {
    if (at == 0 || !is_punct(path[at - 1])) continue;
    size_t next = at + 3;
    auto uid = read_uid(path, next);
    if (!uid || next >= path.size() || !is_punct(path[next])) continue;
    // The container id is the last run of word characters.
    size_t begin = path.size();
    while (begin > next + 1 && is_word(path[begin - 1])) --begin;
    if (begin == path.size()) continue;
    return CgroupIdentity{std::move(*uid), std::string(path.substr(begin))};
  }
  return std::nullopt;
}

std::optional<NetnsId> netns_id_at(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return NetnsId{info.st_dev, info.st_ino};
}

bool contains_kubelet(const std::string& cmdline) {
  // Arguments after the program's name and the name itself: some name "kubelet" in any case.
  std::string text = cmdline;
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text.find("kubelet") != std::string::npos;
}

}  // namespace

base::Result<std::optional<CgroupIdentity>> parse_cgroup(std::string_view text) {
  std::optional<CgroupIdentity> found;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    at = end + 1;
    if (line.empty()) continue;
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos)
      return base::fail(base::Code::kInvalid, "a cgroup line has fewer than three fields");
    auto identity = parse_path(line.substr(second + 1));
    if (!identity) continue;
    if (found && *found != *identity)
      return base::fail(base::Code::kInvalid, "cgroup lines name different pods or containers");
    found = std::move(identity);
  }
  return found;
}

std::optional<uint64_t> parse_start_time(std::string_view stat) {
  const size_t close = stat.rfind(')');
  if (close == std::string_view::npos) return std::nullopt;
  std::string_view rest = stat.substr(close + 1);
  for (int field = 0; field < 20; ++field) {
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    const size_t end = std::min(rest.find(' '), rest.size());
    if (field == 19) {
      uint64_t value = 0;
      auto [last, error] = std::from_chars(rest.data(), rest.data() + end, value);
      if (error != std::errc() || end == 0) return std::nullopt;
      return value;
    }
    rest.remove_prefix(end);
  }
  return std::nullopt;
}

std::optional<NetnsId> host_netns_id(const std::string& proc_root) {
  return netns_id_at(proc_root + "/1/ns/net");
}

base::Result<bool> netns_has_address(const NetnsRef& netns, const std::vector<base::IpAddr>& ips) {
  bool found = false;
  auto checked = run_in_netns(netns, [&]() -> base::Result<> {
    auto addresses = interface_addresses();
    if (!addresses) return base::fail(addresses.error());
    found = std::any_of(addresses->begin(), addresses->end(), [&](const base::IpAddr& address) {
      return std::find(ips.begin(), ips.end(), address) != ips.end();
    });
    return {};
  });
  if (!checked) return base::fail(checked.error());
  return found;
}

base::Result<std::map<std::string, NetnsRef>> scan_pod_netns(const std::string& proc_root,
                                                             const WantedPods& wanted) {
  struct Best {
    NetnsRef netns;
    uint64_t started = 0;
  };
  std::map<std::string, Best> best;
  std::set<NetnsId> accepted;
  const auto host = host_netns_id(proc_root);
  const auto dirs = process_dirs(proc_root);
  if (dirs.empty()) return base::fail(base::Code::kIo, "no processes under " + proc_root);
  for (const auto& dir : dirs) {
    // Processes come and go while we look: every failure here just means "not this one".
    const auto id = netns_id_at(dir + "/ns/net");
    if (!id || id == host || accepted.contains(*id)) continue;
    const auto cgroup = read_file(dir + "/cgroup");
    if (!cgroup) continue;
    const auto identity = parse_cgroup(*cgroup);
    if (!identity || !*identity) continue;
    const auto pod = wanted.find((*identity)->pod_uid);
    if (pod == wanted.end() || pod->second.empty()) continue;
    const auto stat = read_file(dir + "/stat");
    const auto started = stat ? parse_start_time(*stat) : std::nullopt;
    if (!started) continue;
    auto netns = Netns::open(dir + "/ns/net");
    if (!netns || (host && (*netns)->id() == *host)) continue;
    auto fits = netns_has_address(*netns, pod->second);
    if (!fits || !*fits) continue;
    accepted.insert((*netns)->id());
    auto [slot, fresh] = best.try_emplace(pod->first);
    if (fresh || *started < slot->second.started) slot->second = Best{std::move(*netns), *started};
  }
  std::map<std::string, NetnsRef> found;
  for (auto& [uid, winner] : best) found[uid] = std::move(winner.netns);
  return found;
}

base::Result<uint32_t> find_kubelet_uid(const std::string& proc_root) {
  for (const auto& dir : process_dirs(proc_root)) {
    auto comm = read_file(dir + "/comm");
    if (!comm) continue;
    while (!comm->empty() && comm->back() == '\n') comm->pop_back();
    bool hit = *comm == "k3s";
    if (*comm == "kubelet" || *comm == "kubelite") {
      auto cmdline = read_file(dir + "/cmdline");
      hit = cmdline && contains_kubelet(*cmdline);
    }
    if (!hit) continue;
    const auto status = read_file(dir + "/status");
    const size_t at = status ? status->find("\nUid:\t") : std::string::npos;
    if (at == std::string::npos) continue;
    uint32_t uid = 0;
    const char* begin = status->data() + at + 6;
    auto [last, error] = std::from_chars(begin, status->data() + status->size(), uid);
    if (error == std::errc()) return uid;
  }
  return base::fail(base::Code::kNotFound, "no kubelet process under " + proc_root);
}

}  // namespace culvert::cni
