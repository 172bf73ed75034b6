// SPDX-License-Identifier: Apache-2.0
#include "ztunnel/zds.h"

#include <utility>

#include "proto/zds.pb.h"

namespace culvert::ztunnel {

namespace pb = istio::workload::zds;
using base::Code;

namespace {

base::Result<ZdsMessage> add_message(const pb::AddWorkload& add, std::vector<base::UniqueFd> fds) {
  if (fds.empty()) return base::fail(Code::kProtocol, "an Add without the network namespace's descriptor");
  if (fds.size() > 1) return base::fail(Code::kProtocol, "an Add with more than one descriptor");
  if (add.uid().empty()) return base::fail(Code::kProtocol, "an Add without a uid");
  if (!add.has_workload_info()) return base::fail(Code::kProtocol, "an Add without workload_info");
  const pb::WorkloadInfo& info = add.workload_info();
  return ZdsAdd{add.uid(), {info.namespace_(), info.name(), info.service_account()}, std::move(fds.front())};
}

}  // namespace

base::Result<ZdsMessage> decode_zds(io::Packet packet) {
  // The descriptors are owned already: whatever is wrong below, none leaks.
  if (packet.truncated) return base::fail(Code::kProtocol, "a packet longer than 1024 bytes");
  pb::WorkloadRequest request;
  if (!request.ParseFromString(packet.bytes)) return base::fail(Code::kProtocol, "not a WorkloadRequest");
  if (request.has_add()) return add_message(request.add(), std::move(packet.fds));
  if (!packet.fds.empty()) return base::fail(Code::kProtocol, "a descriptor on a message that is no Add");
  switch (request.payload_case()) {
    case pb::WorkloadRequest::kDel: return ZdsDel{request.del().uid()};
    case pb::WorkloadRequest::kKeep: return ZdsKeep{request.keep().uid()};
    case pb::WorkloadRequest::kSnapshotSent: return ZdsSnapshotSent{};
    default: return base::fail(Code::kProtocol, "a WorkloadRequest without a known payload");
  }
}

std::string encode_zds_hello() {
  pb::ZdsHello hello;
  hello.set_version(pb::V1);
  return hello.SerializeAsString();
}

std::string encode_zds_ack(std::string_view error) {
  std::string_view shown = error.substr(0, kZdsErrorMax);
  // Never cut a UTF-8 character in two: the peer would refuse the message.
  while (shown.size() < error.size() && !shown.empty() &&
         (static_cast<unsigned char>(error[shown.size()]) & 0xc0) == 0x80) {
    shown.remove_suffix(1);
  }
  pb::WorkloadResponse response;
  response.mutable_ack()->set_error(shown.data(), shown.size());
  return response.SerializeAsString();
}

void ZdsState::connected() {
  snapshot_.clear();
  pending_.clear();
  failures_.clear();
  snapshot_received_ = false;
}

ZdsState::AddAction ZdsState::add(const PodInfo& pod) {
  if (!snapshot_received_) snapshot_.insert(pod.uid);
  auto known = running_.find(pod.uid);
  if (known == running_.end()) return AddAction::kStart;
  bool same = known->second.netns && pod.netns && known->second.netns->id() == pod.netns->id();
  if (same) {
    pending_.erase(pod.uid);
    failures_.erase(pod.uid);
    return AddAction::kNothing;
  }
  running_.erase(known);
  return AddAction::kReplace;
}

void ZdsState::started(const PodInfo& pod) {
  pending_.erase(pod.uid);
  failures_.erase(pod.uid);
  running_[pod.uid] = pod;
}

void ZdsState::failed(const PodInfo& pod, std::string why) {
  pending_[pod.uid] = pod;
  failures_[pod.uid] = std::move(why);
}

base::Result<> ZdsState::keep(const std::string& uid) {
  if (snapshot_received_) return base::fail(Code::kProtocol, "a Keep after the snapshot");
  snapshot_.insert(uid);
  return {};
}

bool ZdsState::del(const std::string& uid) {
  pending_.erase(uid);
  failures_.erase(uid);
  if (!snapshot_received_) {
    snapshot_.erase(uid);
    return false;
  }
  return running_.erase(uid) > 0;
}

base::Result<std::vector<std::string>> ZdsState::snapshot_sent() {
  if (snapshot_received_) return base::fail(Code::kProtocol, "a second SnapshotSent");
  std::vector<std::string> gone;
  for (const auto& [uid, pod] : running_) {
    if (!snapshot_.contains(uid)) gone.push_back(uid);
  }
  for (const std::string& uid : gone) running_.erase(uid);
  snapshot_.clear();
  snapshot_received_ = true;
  return gone;
}

std::vector<PodInfo> ZdsState::pending() const {
  std::vector<PodInfo> pods;
  for (const auto& [uid, pod] : pending_) pods.push_back(pod);
  return pods;
}

}  // namespace culvert::ztunnel
