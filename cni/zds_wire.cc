// SPDX-License-Identifier: Apache-2.0
// The wire half of zds_server.h: messages to and from protobuf.
#include <fmt/format.h>

#include "cni/zds_server.h"
#include "proto/zds.pb.h"

namespace culvert::cni {
namespace {

namespace zds = istio::workload::zds;

base::Result<std::string> finish(const zds::WorkloadRequest& request) {
  std::string bytes;
  if (!request.SerializeToString(&bytes))
    return base::fail(base::Code::kInvalid, "ZDS message with text that is not UTF-8");
  if (bytes.size() >= kZdsMessageBytesMax) {
    return base::fail(base::Code::kInvalid, fmt::format("ZDS message of {} bytes is not below {}",
                                                        bytes.size(), kZdsMessageBytesMax));
  }
  return bytes;
}

}  // namespace

base::Result<std::string> encode_zds_add(const ZdsPod& pod) {
  zds::WorkloadRequest request;
  auto* add = request.mutable_add();
  add->set_uid(pod.uid);
  add->mutable_workload_info()->set_name(pod.name);
  add->mutable_workload_info()->set_namespace_(pod.name_space);
  add->mutable_workload_info()->set_service_account(pod.service_account);
  return finish(request);
}

base::Result<std::string> encode_zds_keep(const std::string& uid) {
  zds::WorkloadRequest request;
  request.mutable_keep()->set_uid(uid);
  return finish(request);
}

base::Result<std::string> encode_zds_delete(const std::string& uid) {
  zds::WorkloadRequest request;
  request.mutable_del()->set_uid(uid);
  return finish(request);
}

std::string encode_zds_snapshot_sent() {
  zds::WorkloadRequest request;
  request.mutable_snapshot_sent();
  return request.SerializeAsString();
}

base::Result<> check_zds_hello(std::string_view bytes) {
  zds::ZdsHello hello;
  if (bytes.size() > kZdsMessageBytesMax ||
      !hello.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return base::fail(base::Code::kProtocol, "the first ZDS packet is not a hello");
  }
  return {};
}

base::Result<std::string> parse_zds_ack(std::string_view bytes) {
  zds::WorkloadResponse response;
  if (bytes.size() > kZdsMessageBytesMax ||
      !response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !response.has_ack()) {
    return base::fail(base::Code::kProtocol, "a ZDS answer is not an ack");
  }
  return response.ack().error();
}

}  // namespace culvert::cni
