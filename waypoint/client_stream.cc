// SPDX-License-Identifier: Apache-2.0
#include "waypoint/client_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace culvert::waypoint {

async::Task<base::Result<bool>> ClientStream::peek() {
  std::string more(kPeekBytes, '\0');
  base::ByteSpan into(reinterpret_cast<uint8_t*>(more.data()), more.size());
  base::Result<size_t> count = co_await io::read_some(bytes_, into);
  if (!count) co_return base::fail(std::move(count).error());
  ahead_.append(more, 0, *count);
  co_return *count > 0;
}

void ClientStream::arm_read(io::Waiter* waiter) {
  waiter_ = ahead_.empty() ? nullptr : waiter;
  bytes_.arm_read(waiter_ ? nullptr : waiter);
  if (waiter_) loop_.defer(tell_);
}

void ClientStream::tell() {
  if (io::Waiter* waiter = std::exchange(waiter_, nullptr)) waiter->on_ready();
}

io::IoResult ClientStream::try_read(base::ByteSpan into) {
  if (ahead_.empty()) return bytes_.try_read(into);
  size_t count = std::min(into.size(), ahead_.size());
  std::memcpy(into.data(), ahead_.data(), count);
  if (count == ahead_.size()) {
    ahead_ = std::string();
  } else {
    ahead_.erase(0, count);
  }
  return io::IoResult::bytes(count);
}

}  // namespace culvert::waypoint
