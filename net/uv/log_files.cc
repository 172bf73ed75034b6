// SPDX-License-Identifier: Apache-2.0
#include "net/uv/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <ctime>

namespace culvert::uv {

LogFiles::~LogFiles() {
  for (auto& [path, file] : files_) {
    file.sink.reset();
    if (file.fd >= 0) ::close(file.fd);
  }
}

LogSink* LogFiles::sink_of(const std::string& path) {
  if (path == "/dev/stdout") return &standard_output_;
  std::lock_guard lock(mutex_);
  File& file = files_[path];
  if (!file.sink) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (file.tried_at == now.tv_sec) return nullptr;
    file.tried_at = now.tv_sec;
    file.fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    if (file.fd < 0) return nullptr;
    file.sink = std::make_unique<LogSink>(file.fd);
  }
  return file.sink.get();
}

bool LogFiles::push(const std::string& path, std::string line) {
  LogSink* sink = sink_of(path);
  return sink && sink->try_push(std::move(line));
}

}  // namespace culvert::uv
