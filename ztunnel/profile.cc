// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/profile.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "net/base/unique_fd.h"
#include "net/conn/http_server.h"
#include "net/wire/gzip.h"
#include "proto/profile.pb.h"

namespace culvert::ztunnel {

namespace {

namespace pprof = ::perftools::profiles;
using base::Code;
using base::fail;
using base::Result;
using Stack = std::vector<uint64_t>;

std::vector<pid_t> own_threads() {
  std::vector<pid_t> threads;
  DIR* directory = ::opendir("/proc/self/task");
  if (!directory) return threads;
  while (const dirent* entry = ::readdir(directory)) {
    pid_t id = 0;
    std::string_view name = entry->d_name;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error == std::errc{} && end == name.data() + name.size()) threads.push_back(id);
  }
  ::closedir(directory);
  return threads;
}

// Executable parts of the process's memory: "start-end r-xp offset dev inode path".
void add_mappings(pprof::Profile& profile) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights, offset, device, inode, path;
    words >> range >> rights >> offset >> device >> inode >> path;
    size_t dash = range.find('-');
    if (rights.find('x') == std::string::npos || path.empty() || dash == std::string::npos) continue;
    auto hex = [](std::string_view text) {
      uint64_t value = 0;
      std::from_chars(text.data(), text.data() + text.size(), value, 16);
      return value;
    };
    pprof::Mapping& mapping = *profile.add_mapping();
    mapping.set_id(static_cast<uint64_t>(profile.mapping_size()));
    mapping.set_memory_start(hex(std::string_view(range).substr(0, dash)));
    mapping.set_memory_limit(hex(std::string_view(range).substr(dash + 1)));
    mapping.set_file_offset(hex(offset));
    mapping.set_filename(profile.string_table_size());
    profile.add_string_table(path);
  }
}

uint64_t mapping_of(const pprof::Profile& profile, uint64_t address) {
  for (const pprof::Mapping& mapping : profile.mapping()) {
    if (address >= mapping.memory_start() && address < mapping.memory_limit()) return mapping.id();
  }
  return 0;
}

std::string encode(const std::map<Stack, int64_t>& stacks, uint32_t frequency, base::Duration sampled) {
  pprof::Profile profile;
  for (const char* text : {"", "samples", "count", "cpu", "nanoseconds"}) profile.add_string_table(text);
  auto type = [](pprof::ValueType& value, int64_t kind, int64_t unit) {
    value.set_type(kind);
    value.set_unit(unit);
  };
  type(*profile.add_sample_type(), 1, 2);
  type(*profile.add_sample_type(), 3, 4);
  type(*profile.mutable_period_type(), 3, 4);
  int64_t period = 1'000'000'000 / frequency;
  profile.set_period(period);
  profile.set_duration_nanos(sampled.count());
  add_mappings(profile);
  std::map<uint64_t, uint64_t> locations;
  for (const auto& [stack, count] : stacks) {
    pprof::Sample& sample = *profile.add_sample();
    sample.add_value(count);
    sample.add_value(count * period);
    for (uint64_t address : stack) {
      uint64_t& id = locations[address];
      if (id == 0) {
        pprof::Location& location = *profile.add_location();
        id = static_cast<uint64_t>(profile.location_size());
        location.set_id(id);
        location.set_address(address);
        location.set_mapping_id(mapping_of(profile, address));
      }
      sample.add_location_id(id);
    }
  }
  return wire::gzip(profile.SerializeAsString());
}

}  // namespace

// One sampled thread: the kernel writes records into a ring that we read once, at the end.
struct CpuProfiler::Thread {
  ~Thread() {
    if (memory != MAP_FAILED) ::munmap(memory, bytes);
  }
  void collect(std::map<Stack, int64_t>& stacks) const;

  base::UniqueFd fd;
  void* memory = MAP_FAILED;
  size_t bytes = 0;
  size_t page = 0;
};

void CpuProfiler::Thread::collect(std::map<Stack, int64_t>& stacks) const {
  auto* head_page = static_cast<perf_event_mmap_page*>(memory);
  uint64_t head = head_page->data_head;
  std::atomic_thread_fence(std::memory_order_acquire);
  const char* data = static_cast<const char*>(memory) + page;
  size_t size = bytes - page;
  auto copy = [&](uint64_t at, void* into, size_t count) {
    for (size_t i = 0; i < count; ++i) static_cast<char*>(into)[i] = data[(at + i) % size];
  };
  // The ring is never read before, so that the kernel stops at its end instead of writing over it.
  for (uint64_t at = 0; at + sizeof(perf_event_header) <= head;) {
    perf_event_header header{};
    copy(at, &header, sizeof header);
    if (header.size < sizeof header || at + header.size > head) return;
    if (header.type == PERF_RECORD_SAMPLE && header.size >= sizeof header + sizeof(uint64_t)) {
      uint64_t count = 0;
      copy(at + sizeof header, &count, sizeof count);
      count = std::min<uint64_t>(count, (header.size - sizeof header) / sizeof(uint64_t) - 1);
      Stack stack;
      for (uint64_t i = 0; i < count; ++i) {
        uint64_t address = 0;
        copy(at + sizeof header + (i + 1) * sizeof(uint64_t), &address, sizeof address);
        // Markers between kernel and user frames are no addresses.
        if (address < PERF_CONTEXT_MAX) stack.push_back(address);
      }
      if (!stack.empty()) ++stacks[stack];
    }
    at += header.size;
  }
}

Result<std::unique_ptr<CpuProfiler>> CpuProfiler::start(uint32_t frequency) {
  std::unique_ptr<CpuProfiler> profiler(new CpuProfiler(frequency));
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = PERF_TYPE_SOFTWARE;
  wanted.config = PERF_COUNT_SW_CPU_CLOCK;
  wanted.sample_freq = frequency;
  wanted.freq = 1;
  wanted.sample_type = PERF_SAMPLE_CALLCHAIN;
  wanted.exclude_kernel = 1;
  wanted.exclude_hv = 1;
  size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  for (pid_t id : own_threads()) {
    auto thread = std::make_unique<Thread>();
    thread->fd.reset(
        static_cast<int>(::syscall(SYS_perf_event_open, &wanted, id, -1, -1, PERF_FLAG_FD_CLOEXEC)));
    if (!thread->fd.valid()) {
      base::Error error = base::Error::from_errno(errno, "sample our own threads (perf_event_open)");
      return fail(std::move(error).with_code(Code::kUnsupported));
    }
    thread->page = page;
    thread->bytes = page * (kRingPages + 1);
    thread->memory = ::mmap(nullptr, thread->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, thread->fd.get(), 0);
    if (thread->memory == MAP_FAILED) return fail(base::Error::from_errno(errno, "map the samples"));
    profiler->threads_.push_back(std::move(thread));
  }
  return profiler;
}

CpuProfiler::CpuProfiler(uint32_t frequency) : frequency_(frequency) {}
CpuProfiler::~CpuProfiler() = default;

std::string CpuProfiler::finish(base::Duration sampled) {
  std::map<Stack, int64_t> stacks;
  for (const auto& thread : threads_) {
    ::ioctl(thread->fd.get(), PERF_EVENT_IOC_DISABLE, 0);
    thread->collect(stacks);
  }
  return encode(stacks, frequency_, sampled);
}

Result<ProfileRequest> parse_profile_request(std::string_view query) {
  ProfileRequest out;
  auto read = [&](const char* name, uint32_t& into, uint32_t most) -> Result<> {
    std::optional<std::string> text = conn::query_value(query, name);
    if (!text) return {};
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), into);
    bool whole = error == std::errc{} && end == text->data() + text->size();
    if (whole && into >= 1 && into <= most) return {};
    return fail(Code::kInvalid, std::string(name) + " must be a number from 1 to " + std::to_string(most));
  };
  CULVERT_TRY(read("seconds", out.seconds, 300));
  CULVERT_TRY(read("frequency", out.frequency, 1000));
  return out;
}

}  // namespace culvert::ztunnel
