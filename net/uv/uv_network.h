// SPDX-License-Identifier: Apache-2.0
// UvNetwork: io::Network on the kernel, for one UvLoop (spec ztunnel section 5).
#pragma once

#include "net/io/network.h"
#include "net/uv/netns.h"
#include "net/uv/uv_loop.h"

namespace culvert::uv {

class UvNetwork final : public io::Network {
 public:
  // Fails only where /proc is missing.
  static base::Result<std::unique_ptr<UvNetwork>> create(UvLoop& loop);

  base::Result<std::unique_ptr<io::Listener>> listen(base::SocketAddr address,
                                                     io::ListenOptions options) override;
  async::Task<base::Result<std::unique_ptr<io::ByteStream>>> dial(base::SocketAddr address,
                                                                  io::DialOptions options,
                                                                  async::Deadline deadline) override;
  base::Result<std::unique_ptr<io::Listener>> listen_unix(std::string path, uint32_t mode) override;
  async::Task<base::Result<std::unique_ptr<io::ByteStream>>> dial_unix(std::string path,
                                                                       async::Deadline deadline) override;
  base::Result<std::unique_ptr<io::PacketListener>> listen_packet(std::string path, uint32_t mode) override;
  base::Result<std::unique_ptr<io::PacketSocket>> dial_packet(std::string path) override;
  async::Task<base::Result<std::vector<base::IpAddr>>> resolve(std::string host,
                                                               async::Deadline deadline) override;
  bool has_address(base::IpAddr ip, const io::NetNsRef& netns) override;
  base::Result<io::NetNsRef> adopt_netns(base::UniqueFd fd) override { return FdNetNs::adopt(std::move(fd)); }

 private:
  UvNetwork(UvLoop& loop, HomeNetNs home) : loop_(loop), home_(std::move(home)) {}
  UvLoop& loop_;
  HomeNetNs home_;
};

}  // namespace culvert::uv
