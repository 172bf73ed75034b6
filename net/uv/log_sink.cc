// SPDX-License-Identifier: Apache-2.0
#include "net/uv/log_sink.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace culvert::uv {

LogSink::LogSink(int fd) : fd_(fd), thread_([this] { run(); }) {}

LogSink::~LogSink() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LogSink::push(std::string line) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_lines_ < kLinesMax; });
  waiting_ += line;
  if (waiting_lines_++ == 0) changed_.notify_all();
}

bool LogSink::try_push(std::string line) {
  std::lock_guard lock(mutex_);
  if (waiting_lines_ >= kLinesMax) return false;
  waiting_ += line;
  if (waiting_lines_++ == 0) changed_.notify_all();
  return true;
}

void LogSink::run() {
  for (;;) {
    std::string batch;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || waiting_lines_ > 0; });
      if (waiting_lines_ == 0) return;
      batch = std::exchange(waiting_, {});
      waiting_lines_ = 0;
    }
    changed_.notify_all();
    write_all(batch);
  }
}

void LogSink::write_all(const std::string& batch) {
  for (size_t done = 0; done < batch.size();) {
    ssize_t put = ::write(fd_, batch.data() + done, batch.size() - done);
    if (put > 0) {
      done += static_cast<size_t>(put);
    } else if (errno == EAGAIN) {
      pollfd one{fd_, POLLOUT, 0};
      ::poll(&one, 1, 1000);
    } else if (errno != EINTR) {
      return;  // nobody reads our log any more: the proxy goes on
    }
  }
}

}  // namespace culvert::uv
