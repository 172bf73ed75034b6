// SPDX-License-Identifier: Apache-2.0
#include "net/io/network.h"

#include <coroutine>
#include <utility>

namespace culvert::io {

namespace {

// Waits for one readiness of anything with an arm method; disarms when cancelled.
template <class T, void (T::*Arm)(Waiter*)>
class ArmAwaiter final : private Waiter {
 public:
  explicit ArmAwaiter(T& object) : object_(object) {}
  ArmAwaiter(const ArmAwaiter&) = delete;
  ArmAwaiter& operator=(const ArmAwaiter&) = delete;
  ~ArmAwaiter() {
    if (handle_) (object_.*Arm)(nullptr);
  }
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    (object_.*Arm)(this);
  }
  void await_resume() const {}

 private:
  void on_ready() override { std::exchange(handle_, nullptr).resume(); }
  T& object_;
  std::coroutine_handle<> handle_;
};

}  // namespace

async::Task<base::Result<Accepted>> accept(Listener& listener) {
  for (;;) {
    base::Result<std::optional<Accepted>> got = listener.try_accept();
    if (!got) co_return base::fail(std::move(got).error());
    if (got->has_value()) co_return std::move(**got);
    co_await ArmAwaiter<Listener, &Listener::arm_accept>(listener);
  }
}

async::Task<base::Result<Packet>> receive(PacketSocket& socket, size_t bytes_max) {
  for (;;) {
    base::Result<std::optional<Packet>> got = socket.try_receive(bytes_max);
    if (!got) co_return base::fail(std::move(got).error());
    if (got->has_value()) co_return std::move(**got);
    co_await ArmAwaiter<PacketSocket, &PacketSocket::arm_receive>(socket);
  }
}

async::Task<base::Result<>> send(PacketSocket& socket, std::string bytes, int fd) {
  for (;;) {
    base::Result<bool> sent = socket.try_send(bytes, fd);
    if (!sent) co_return base::fail(std::move(sent).error());
    if (*sent) co_return base::Result<>{};
    co_await ArmAwaiter<PacketSocket, &PacketSocket::arm_send>(socket);
  }
}

async::Task<base::Result<std::unique_ptr<PacketSocket>>> accept(PacketListener& listener) {
  for (;;) {
    base::Result<std::unique_ptr<PacketSocket>> got = listener.try_accept();
    if (!got) co_return base::fail(std::move(got).error());
    if (*got) co_return std::move(*got);
    co_await ArmAwaiter<PacketListener, &PacketListener::arm_accept>(listener);
  }
}

}  // namespace culvert::io
