// SPDX-License-Identifier: Apache-2.0
#include "cni/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "net/base/unique_fd.h"

namespace culvert::cni {
namespace {

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// A whole block, or what is left of the file. False if it cannot be read.
bool read_block(int file, std::string& block) {
  constexpr size_t kBlockBytes = 64 * 1024;
  block.resize(kBlockBytes);
  size_t size = 0;
  while (size < kBlockBytes) {
    const ssize_t got = ::read(file, block.data() + size, kBlockBytes - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  block.resize(size);
  return true;
}

}  // namespace

base::Result<std::string> read_small_file(const std::string& path, size_t bytes_max) {
  base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return base::fail(base::Error::from_errno(errno, "open " + path));
  std::string text;
  char buffer[64 * 1024];
  while (true) {
    const ssize_t got = ::read(file.get(), buffer, sizeof(buffer));
    if (got == 0) return text;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::fail(base::Error::from_errno(errno, "read " + path));
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > bytes_max) return base::fail(base::Code::kExhausted, path + " is too large");
  }
}

bool same_content(const std::string& one, const std::string& other) {
  base::UniqueFd left(::open(one.c_str(), O_RDONLY | O_CLOEXEC));
  base::UniqueFd right(::open(other.c_str(), O_RDONLY | O_CLOEXEC));
  if (!left.valid() || !right.valid()) return false;
  std::string ours, theirs;
  while (true) {
    if (!read_block(left.get(), ours) || !read_block(right.get(), theirs) || ours != theirs) return false;
    if (ours.empty()) return true;
  }
}

base::Result<> write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode) {
  std::string temporary = path + ".tmp.XXXXXX";
  base::UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.valid()) return base::fail(base::Error::from_errno(errno, "create a file beside " + path));
  auto failed = [&](const char* doing) {
    auto error = base::Error::from_errno(errno, std::string(doing) + " " + temporary);
    (void)::unlink(temporary.c_str());
    return base::fail(std::move(error));
  };
  if (::fchmod(file.get(), mode) != 0) return failed("set the mode of");
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(file.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed("write");
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  if (::fsync(file.get()) != 0) return failed("sync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed("rename");
  return {};
}

void remove_stale_temporaries(const std::string& path) {
  const std::string directory = directory_of(path);
  const std::string prefix = path.substr(path.rfind('/') + 1) + ".tmp.";
  auto names = list_files(directory);
  if (!names) return;
  for (const auto& name : *names) {
    if (name.starts_with(prefix)) (void)::unlink((directory + "/" + name).c_str());
  }
}

base::Result<std::vector<std::string>> list_files(const std::string& directory) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory.c_str()), ::closedir);
  if (!dir) return base::fail(base::Error::from_errno(errno, "list " + directory));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    struct stat info{};
    if (::stat((directory + "/" + name).c_str(), &info) == 0 && S_ISREG(info.st_mode)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

base::Result<> make_directories(const std::string& path, mode_t mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST)
      return base::fail(base::Error::from_errno(errno, "create directory " + part));
    if (slash == std::string::npos) return {};
  }
}

base::Result<> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return base::fail(base::Error::from_errno(errno, "delete " + path));
  return {};
}

}  // namespace culvert::cni
