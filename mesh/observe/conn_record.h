// SPDX-License-Identifier: Apache-2.0
// ConnRecord: one per proxied connection, opened before the dial, closed exactly once; feeds
// metrics, the access log and the admin view (design section 3.18, spec ztunnel section 10).
// Owned by the connection's coroutine, on its data loop.
//
// | event                | opened_total | closed_total | failed_total | line                  |
// |----------------------|--------------|--------------|--------------|-----------------------|
// | constructed          | +1, flag "-" |              |              | DEBUG connection opened |
// | close(ok)            |              | +1           |              | INFO connection complete |
// | close(error, flag)   |              | +1 with flag | +1 with flag | ERROR connection complete |
// | destroyed unclosed   |              | +1           |              | ERROR ... due to connection drain |
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mesh/observe/labels.h"
#include "mesh/observe/metrics.h"
#include "net/async/loop.h"
#include "net/base/ip.h"
#include "net/base/log.h"
#include "net/base/result.h"

namespace culvert::observe {

enum class ConnProtocol : unsigned char { kTcp, kHbone };

struct ConnFacts {
  std::string owner;  // the pod's uid, or a fixed name in dedicated mode
  base::SocketAddr source;
  base::SocketAddr destination;             // where we really went: hop address, or podIP:15008 inbound
  std::optional<std::string> hbone_target;  // the CONNECT authority
  std::string original_destination;         // admin: address text; inbound: forwarded host or ""
  ConnProtocol protocol = ConnProtocol::kTcp;
  bool local = false;  // joined within this process; the log line says local=true
  TrafficLabels labels;
};

class ConnRecord;

// The open records of one loop, for the admin view. Must outlive the records.
class ConnTable {
 public:
  struct Row {
    std::string owner;
    bool inbound = false;
    std::string source;
    std::string original_destination;
    std::string actual_destination;
    ConnProtocol protocol = ConnProtocol::kTcp;
    uint64_t received_bytes = 0;
    uint64_t sent_bytes = 0;
  };
  std::vector<Row> rows() const;
  // Brings the byte counters of all open connections up to date, before a scrape.
  void sync();
  size_t size() const { return count_; }

 private:
  friend class ConnRecord;
  ConnRecord* first_ = nullptr;
  size_t count_ = 0;
};

// What every record of one loop shares.
struct Observer {
  const async::Loop& loop;
  base::Log& log;
  MetricsShard& metrics;
  ConnTable& table;
};

class ConnRecord {
 public:
  ConnRecord(Observer observer, ConnFacts facts);
  ~ConnRecord();
  ConnRecord(const ConnRecord&) = delete;
  ConnRecord& operator=(const ConnRecord&) = delete;

  // Totals so far, as the relay counts them. `received`: downstream to upstream.
  struct Bytes {
    uint64_t received = 0;
    uint64_t sent = 0;
  };
  using ByteSource = std::function<Bytes()>;
  // Takes over what was carried since the last call; without a Follow nothing happens.
  void sync();
  void close();
  void close(const base::Error& error, Flag flag);
  bool closed() const { return closed_; }
  const ConnFacts& facts() const { return facts_; }

 private:
  friend class ConnTable;
  friend class Follow;
  void finish(const std::string* error, Flag flag);
  std::vector<base::Field> fields() const;

  Observer observer_;
  ConnFacts facts_;
  TrafficCells* cells_;
  base::TimePoint opened_at_;
  Bytes bytes_;
  ByteSource source_;
  bool closed_ = false;
  ConnRecord* previous_ = nullptr;
  ConnRecord* next_ = nullptr;
};

// While it lives the record's counters follow a relay; declare it after the relay.
class Follow {
 public:
  Follow(ConnRecord& record, ConnRecord::ByteSource source) : record_(record) {
    record_.source_ = std::move(source);
  }
  ~Follow() {
    record_.sync();
    record_.source_ = nullptr;
  }
  Follow(const Follow&) = delete;
  Follow& operator=(const Follow&) = delete;

 private:
  ConnRecord& record_;
};

// Refused before a record existed: WARN "connection failed" (section 10, early deny).
void log_early_deny(base::Log& log, const base::SocketAddr& source, const base::SocketAddr& destination,
                    Reporter reporter, const base::Error& error);

}  // namespace culvert::observe
