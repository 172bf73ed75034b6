// SPDX-License-Identifier: Apache-2.0
// LogSink: one thread that writes log lines, so that no loop waits for a terminal or a pipe (spec ztunnel
// section 10). A full queue makes the caller wait
// (`push`) or drops the line (`try_push`).
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace culvert::uv {

class LogSink {
 public:
  static constexpr size_t kLinesMax = 10'000;  // waiting

  // `fd` stays the caller's.
  explicit LogSink(int fd);
  // Writes what is left.
  ~LogSink();
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;

  // Thread safe.
  void push(std::string line);
  // False: the queue is full, and the line was dropped. Does not wait.
  bool try_push(std::string line);

 private:
  void run();
  void write_all(const std::string& batch);

  const int fd_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string waiting_;
  size_t waiting_lines_ = 0;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace culvert::uv
