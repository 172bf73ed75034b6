// SPDX-License-Identifier: Apache-2.0
// CertCache: a data loop's copies of the certificates that the control loop's CertStore keeps
// (spec ztunnel section 9). A copy is used without asking until half of its lifetime has gone; then it is
// asked for again, at most once a second, and used on while it is valid.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "mesh/model/identity.h"
#include "net/async/deadline.h"
#include "net/async/task.h"
#include "net/async/wait.h"
#include "net/base/result.h"
#include "net/wire/tls.h"

namespace culvert::ca {

// Asks the control loop; the answer comes back on the data loop that asked.
using CertAnswer = std::function<void(base::Result<wire::TlsIdentityRef>)>;
using CertRequest = std::function<void(const model::Identity&, CertAnswer)>;

class CertCache {
 public:
  CertCache(async::Loop& loop, CertRequest request) : loop_(loop), request_(std::move(request)) {}
  CertCache(const CertCache&) = delete;
  CertCache& operator=(const CertCache&) = delete;

  async::Task<base::Result<wire::TlsIdentityRef>> get(model::Identity identity, async::Deadline deadline);
  // Drops what nobody will ask for again.
  void forget(const model::Identity& identity) { entries_.erase(identity); }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    explicit Entry(async::Loop& loop) : answered(loop) {}
    wire::TlsIdentityRef current;
    std::optional<base::Error> failure;  // of the last request; only kept until the next one
    bool asking = false;
    base::TimePoint asked_at{};
    async::Event answered;  // pulsed by every answer
  };
  static constexpr base::Duration kAskAgain = std::chrono::seconds(1);
  // Identities nobody has asked for lately are dropped above this.
  static constexpr size_t kEntriesMax = 10'000;

  void ask(const model::Identity& identity, const std::shared_ptr<Entry>& entry);

  async::Loop& loop_;
  CertRequest request_;
  std::unordered_map<model::Identity, std::shared_ptr<Entry>> entries_;
};

}  // namespace culvert::ca
