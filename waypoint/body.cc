// SPDX-License-Identifier: Apache-2.0
#include "waypoint/body.h"

#include <utility>

#include "net/io/stream_wait.h"

namespace culvert::waypoint {

namespace {

void end_message(const conn::HttpStream& from, conn::HttpStream& to) {
  if (from.trailers().empty()) {
    to.shutdown_write();
  } else {
    to.send_trailers(from.trailers());
  }
}

}  // namespace

async::Task<base::Result<>> RequestBody::send(conn::HttpStream& upstream) {
  uint64_t sent = 0;
  for (;;) {
    if (sent < kept_from_ + kept_.size()) {
      std::string_view rest = std::string_view(kept_).substr(sent - kept_from_);
      io::IoResult wrote = upstream.try_write(base::as_bytes(rest));
      if (wrote.is_would_block()) {
        co_await io::writable(upstream);
        continue;
      }
      if (!wrote.ok()) co_return base::Result<>{};
      sent += wrote.count();
      if (!keep_ && sent == kept_from_ + kept_.size()) {
        kept_from_ = sent;
        kept_ = std::string();
      }
      continue;
    }
    if (ended_) {
      end_message(client_, upstream);
      co_return base::Result<>{};
    }
    base::Result<bool> progress = pull();
    if (!progress) co_return base::fail(std::move(progress).error());
    if (!*progress) co_await io::readable(client_);
  }
}

base::Result<bool> RequestBody::pull() {
  if (broken_) return base::fail(*broken_);
  io::IoResult got = client_.try_read(buffer_.span());
  if (got.is_would_block()) return false;
  if (got.is_error()) return base::fail(got.error());
  if (got.is_eof()) {
    ended_ = true;
    if (on_complete_) on_complete_();
    return true;
  }
  received_ += got.count();
  if (on_bytes_) on_bytes_(base::ByteView(buffer_.span()).first(got.count()));
  kept_.append(reinterpret_cast<const char*>(buffer_.span().data()), got.count());
  if (kept_.size() > kReplayBytesMax) keep_ = false;
  return true;
}

bool RequestBody::begins() {
  if (ended_ || received_ > 0) return received_ > 0;
  base::Result<bool> progress = pull();
  if (!progress) broken_ = std::move(progress).error();
  return !ended_;
}

async::Task<base::Result<>> RequestBody::fill(size_t bytes) {
  while (!ended_ && kept_.size() < bytes) {
    base::Result<bool> progress = pull();
    if (!progress) co_return base::fail(std::move(progress).error());
    if (!*progress) co_await io::readable(client_);
  }
  co_return base::Result<>{};
}

void RequestBody::on_complete(std::function<void()> call) {
  on_complete_ = std::move(call);
  if (ended_) on_complete_();
}

void RequestBody::on_bytes(std::function<void(base::ByteView)> call) {
  on_bytes_ = std::move(call);
  if (!kept_.empty()) on_bytes_(base::as_bytes(kept_));
}

void RequestBody::release() { keep_ = false; }

async::Task<CopyEnd> copy_body(conn::HttpStream& from, conn::HttpStream& to, conn::RelayBuffer& buffer,
                               io::IoResult first, std::function<void(base::ByteView)> progress) {
  std::string rest;  // of the last read, what the sink did not take at once
  for (io::IoResult got = std::move(first);; got = from.try_read(buffer.span())) {
    if (got.is_would_block()) {
      co_await io::readable(from);
      continue;
    }
    if (got.is_error()) co_return CopyEnd::kSourceBroke;
    if (got.is_eof()) break;
    base::ByteView bytes = base::ByteView(buffer.span()).first(got.count());
    progress(bytes);
    io::IoResult wrote = to.try_write(bytes);
    if (wrote.is_error()) co_return CopyEnd::kSinkBroke;
    size_t taken = wrote.ok() ? wrote.count() : 0;
    if (taken == bytes.size()) continue;
    rest.assign(reinterpret_cast<const char*>(bytes.data()) + taken, bytes.size() - taken);
    for (size_t at = 0; at < rest.size();) {
      co_await io::writable(to);
      io::IoResult more = to.try_write(base::as_bytes(std::string_view(rest).substr(at)));
      if (more.is_error()) co_return CopyEnd::kSinkBroke;
      if (more.ok()) at += more.count();
    }
  }
  end_message(from, to);
  co_return CopyEnd::kDone;
}

}  // namespace culvert::waypoint
