// SPDX-License-Identifier: Apache-2.0
// LogFiles: lines to files by path, each with its LogSink; a file is opened when its first line comes. The
// process's standard output goes to the sink it already has, so that lines of both do not mix.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "net/uv/log_sink.h"

namespace culvert::uv {

class LogFiles {
 public:
  explicit LogFiles(LogSink& standard_output) : standard_output_(standard_output) {}
  ~LogFiles();
  LogFiles(const LogFiles&) = delete;
  LogFiles& operator=(const LogFiles&) = delete;

  // False: the line was dropped, because the file cannot be opened (tried again every second) or its writer
  // is behind by LogSink::kLinesMax. Any thread, does not wait.
  bool push(const std::string& path, std::string line);

 private:
  struct File {
    int fd = -1;
    std::unique_ptr<LogSink> sink;
    int64_t tried_at = 0;  // seconds of the monotonic clock
  };
  LogSink* sink_of(const std::string& path);

  LogSink& standard_output_;
  std::mutex mutex_;
  std::map<std::string, File> files_;
};

}  // namespace culvert::uv
