// SPDX-License-Identifier: Apache-2.0
// ZDS packets and state (spec apis sections 1.4 and 5, checklist Z1, Z2, 29).
#include "ztunnel/zds.h"

#include <fcntl.h>

#include <catch2/catch.hpp>

using namespace culvert;
using namespace culvert::ztunnel;

namespace {

struct FakeNs final : io::NetNs {
  explicit FakeNs(uint64_t inode) : inode_(inode) {}
  Id id() const override { return {1, inode_}; }
  uint64_t inode_;
};

PodInfo pod(std::string uid, uint64_t inode = 1) {
  return {std::move(uid), {"ns", "name", "sa"}, std::make_shared<FakeNs>(inode), PodKind::kPod};
}

io::Packet packet(std::string bytes, int fds = 0) {
  io::Packet packet;
  packet.bytes = std::move(bytes);
  for (int i = 0; i < fds; ++i) packet.fds.emplace_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return packet;
}

// Add{uid "u", info{name "n", namespace "m", service_account "s"}}.
const std::string kAdd("\x0a\x0e\x0a\x01u\x12\x09\x0a\x01n\x12\x01m\x1a\x01s", 16);

}  // namespace

TEST_CASE("golden bytes", "[Z1][apis29]") {
  CHECK(encode_zds_hello() == std::string("\x08\x01", 2));
  CHECK(encode_zds_ack("") == std::string("\x0a\x00", 2));
  CHECK(std::holds_alternative<ZdsSnapshotSent>(*decode_zds(packet(std::string("\x1a\x00", 2)))));
  CHECK(std::get<ZdsDel>(*decode_zds(packet("\x12\x03\x12\x01x"))).uid == "x");
  CHECK(std::get<ZdsKeep>(*decode_zds(packet("\x2a\x03\x0a\x01x"))).uid == "x");
}

TEST_CASE("an Add and its descriptor", "[Z1][apis29]") {
  auto add = decode_zds(packet(kAdd, 1));
  REQUIRE(add);
  CHECK(std::get<ZdsAdd>(*add).uid == "u");
  CHECK(std::get<ZdsAdd>(*add).name == config::WorkloadName{"m", "n", "s"});
  CHECK(std::get<ZdsAdd>(*add).netns.valid());
  CHECK_FALSE(decode_zds(packet(kAdd, 0)));
  CHECK_FALSE(decode_zds(packet(kAdd, 2)));
  CHECK_FALSE(decode_zds(packet("\x0a\x03\x0a\x01u", 1)));  // no workload_info
  CHECK_FALSE(decode_zds(packet("\x12\x03\x12\x01x", 1)));  // a Del with a descriptor
  CHECK_FALSE(decode_zds(packet("\xff\xff\xff")));
  CHECK_FALSE(decode_zds(packet("\x32\x00")));  // an unknown payload
  io::Packet cut = packet(kAdd, 1);
  cut.truncated = true;
  CHECK_FALSE(decode_zds(std::move(cut)));
}

TEST_CASE("descriptors never leak", "[Z1][apis29]") {
  int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(before);
  for (int fds : {0, 1, 2, 5}) {
    (void)decode_zds(packet(kAdd, fds));
    (void)decode_zds(packet("\xff", fds));
    (void)decode_zds(packet("\x2a\x03\x0a\x01x", fds));
  }
  int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(after);
  CHECK(before == after);
}

TEST_CASE("an error text fits the agent's buffer and stays UTF-8") {
  std::string text(899, 'a');
  text += "\xc3\xa4\xc3\xa4";
  std::string bytes = encode_zds_ack(text);
  CHECK(bytes.size() < kZdsPacketMax);
  CHECK(bytes.ends_with('a'));
}

TEST_CASE("add, add again, other namespace", "[Z1][apis29]") {
  ZdsState state;
  state.connected();
  CHECK(state.add(pod("u")) == ZdsState::AddAction::kStart);
  state.started(pod("u"));
  CHECK(state.add(pod("u")) == ZdsState::AddAction::kNothing);
  CHECK(state.add(pod("u", 2)) == ZdsState::AddAction::kReplace);
  state.started(pod("u", 2));
  CHECK(state.running().size() == 1);
  CHECK_FALSE(state.ready());
  CHECK(state.snapshot_sent()->empty());
  CHECK(state.ready());
}

TEST_CASE("a failed start is pending until a start or a delete", "[Z1][Z2][apis29]") {
  ZdsState state;
  state.connected();
  REQUIRE(state.snapshot_sent());
  state.add(pod("u"));
  state.failed(pod("u"), "port taken");
  CHECK_FALSE(state.ready());
  CHECK(state.pending().size() == 1);
  SECTION("retry succeeds") {
    state.started(pod("u"));
    CHECK(state.ready());
  }
  SECTION("deleted") {
    CHECK_FALSE(state.del("u"));
    CHECK(state.ready());
  }
  SECTION("a new connection forgets it") {
    state.connected();
    CHECK(state.pending().empty());
  }
}

TEST_CASE("the snapshot decides what stays", "[Z1][apis29]") {
  ZdsState state;
  state.connected();
  for (const char* uid : {"a", "b", "c", "d"}) {
    state.add(pod(uid));
    state.started(pod(uid));
  }
  REQUIRE(state.snapshot_sent());
  state.disconnected();
  CHECK_FALSE(state.ready());
  CHECK(state.running().size() == 4);  // the agent's restart disturbs nobody

  state.connected();
  REQUIRE(state.keep("a"));
  CHECK(state.add(pod("b")) == ZdsState::AddAction::kNothing);
  REQUIRE(state.keep("c"));
  CHECK_FALSE(state.del("c"));  // before the snapshot: reaped by it
  auto gone = state.snapshot_sent();
  REQUIRE(gone);
  CHECK(*gone == std::vector<std::string>{"c", "d"});
  CHECK(state.ready());
}

TEST_CASE("protocol errors", "[Z1][apis29]") {
  ZdsState state;
  state.connected();
  REQUIRE(state.snapshot_sent());
  CHECK(state.keep("a").error().code() == base::Code::kProtocol);
  CHECK(state.snapshot_sent().error().code() == base::Code::kProtocol);
  CHECK_FALSE(state.del("unknown"));
}

TEST_CASE("delete after the snapshot stops at once", "[Z1][apis29]") {
  ZdsState state;
  state.connected();
  REQUIRE(state.snapshot_sent());
  state.add(pod("u"));
  state.started(pod("u"));
  CHECK(state.del("u"));
  CHECK(state.add(pod("u")) == ZdsState::AddAction::kStart);
  state.started(pod("u"));
  CHECK(state.running().size() == 1);
}
