// SPDX-License-Identifier: Apache-2.0
#include "control/serve/state_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "net/base/unique_fd.h"

namespace culvert::control {

using base::Error;
using base::fail;
using base::Result;

namespace {

Result<> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(Error::from_errno(errno, "create directory " + path));
  }
  return {};
}

}  // namespace

Result<StateDir> StateDir::open(std::string path) {
  if (auto made = make_directory(path); !made) return fail(std::move(made).error());
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    return fail(Error::from_errno(errno, "the state directory " + path + " is not writable"));
  }
  return StateDir(std::move(path));
}

Result<std::optional<std::string>> StateDir::read(const std::string& name) const {
  base::UniqueFd fd(::open(path(name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) return std::optional<std::string>();
    return fail(Error::from_errno(errno, "read " + path(name)));
  }
  std::string content;
  char buffer[4096];
  for (ssize_t got; (got = ::read(fd.get(), buffer, sizeof buffer)) != 0;) {
    if (got < 0) return fail(Error::from_errno(errno, "read " + path(name)));
    content.append(buffer, static_cast<size_t>(got));
  }
  return std::optional<std::string>(std::move(content));
}

Result<std::string> StateDir::write_temporary(const std::string& name, std::string_view content,
                                              uint32_t mode) const {
  if (size_t slash = name.find('/'); slash != std::string::npos) {
    if (auto made = make_directory(path(name.substr(0, slash))); !made) return fail(std::move(made).error());
  }
  std::string temporary = path(name) + ".tmp." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  base::UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid()) return fail(Error::from_errno(errno, "write " + temporary));
  while (!content.empty()) {
    ssize_t put = ::write(fd.get(), content.data(), content.size());
    if (put < 0) {
      Error error = Error::from_errno(errno, "write " + temporary);
      ::unlink(temporary.c_str());
      return fail(std::move(error));
    }
    content.remove_prefix(static_cast<size_t>(put));
  }
  if (::fsync(fd.get()) != 0) return fail(Error::from_errno(errno, "write " + temporary));
  return temporary;
}

Result<> StateDir::write(const std::string& name, std::string_view content, uint32_t mode) const {
  Result<std::string> temporary = write_temporary(name, content, mode);
  if (!temporary) return fail(std::move(temporary).error());
  if (::rename(temporary->c_str(), path(name).c_str()) != 0) {
    return fail(Error::from_errno(errno, "replace " + path(name)));
  }
  return {};
}

Result<bool> StateDir::create(const std::string& name, std::string_view content, uint32_t mode) const {
  Result<std::string> temporary = write_temporary(name, content, mode);
  if (!temporary) return fail(std::move(temporary).error());
  int linked = ::link(temporary->c_str(), path(name).c_str());
  int number = errno;
  ::unlink(temporary->c_str());
  if (linked == 0) return true;
  if (number == EEXIST) return false;
  return fail(Error::from_errno(number, "create " + path(name)));
}

}  // namespace culvert::control
