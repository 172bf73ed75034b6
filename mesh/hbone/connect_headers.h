// SPDX-License-Identifier: Apache-2.0
// ConnectHeaders: what an HBONE CONNECT carries besides bytes, built and parsed without I/O
// (spec ztunnel section 3.3): authority, baggage, forwarded, traceparent, x-forwarded-network.
// Everything parsed here comes from a peer: no input may stop the process or read past its end.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mesh/model/workload.h"
#include "net/base/ip.h"
#include "net/base/result.h"
#include "net/base/rng.h"

namespace culvert::hbone {

// Name and value, names in lower case, pseudo-headers first.
using HeaderList = std::vector<std::pair<std::string, std::string>>;

// The longest header value we look into; longer ones count as absent.
inline constexpr size_t kHeaderValueMax = 8192;

// Who a workload says it is. "" is unset.
struct Baggage {
  std::string cluster;        // k8s.cluster.name
  std::string ns;             // k8s.namespace.name
  std::string workload_type;  // the <type> of k8s.<type>.name: deployment, cronjob, pod or job
  std::string workload_name;  // k8s.<type>.name
  std::string service_name;   // service.name, the canonical name
  std::string revision;       // service.version
  std::string region;         // cloud.region
  std::string zone;           // cloud.availability_zone

  static Baggage of(const model::Workload& workload);
  bool empty() const { return *this == Baggage{}; }
  bool operator==(const Baggage&) const = default;
};
// Keys in upstream's order, empty ones left out; "" if nothing is set. Bytes that would break the
// list are percent-encoded.
std::string format_baggage(const Baggage& baggage);
// All header lines together; the last value of a key wins; unknown keys are skipped.
Baggage parse_baggage(std::span<const std::string_view> lines);

// for="1.2.3.4:80" or for="[::1]:80", plus ;host=name if there is one.
std::string format_forwarded(const base::SocketAddr& source, std::string_view host);
// The first part that starts with host=, quotes stripped; nullopt if empty, absent or not ASCII.
std::optional<std::string> parse_forwarded_host(std::string_view header);

// "00-<32 hex>-<16 hex>-00".
std::string make_traceparent(base::Rng& rng);
// Exactly that shape (any version but ff, any flags, ids not all zero).
bool valid_traceparent(std::string_view text);

// Where the client wants to go.
struct HostPort {
  std::string host;
  uint16_t port = 0;
  bool operator==(const HostPort&) const = default;
};
using Authority = std::variant<base::SocketAddr, HostPort>;
// ip:port, [v6]:port or hostname:port; the port must not be 0.
base::Result<Authority> parse_authority(std::string_view text);
std::string to_string(const Authority& authority);

// What the client side sends.
struct ConnectRequest {
  std::string authority;
  Baggage baggage;
  base::SocketAddr source;
  std::string service_hostname;  // "": unknown
  std::string traceparent;
  HeaderList to_headers() const;
};

// What the server side understood.
struct ParsedConnect {
  Authority authority;
  std::string authority_text;
  Baggage baggage;
  std::optional<std::string> forwarded_host;
  std::string traceparent;        // valid, or "" if the peer sent none that is
  std::string forwarded_network;  // x-forwarded-network
};
// kInvalid: answer 400.
base::Result<ParsedConnect> parse_connect(const HeaderList& headers);

// The baggage of a 200 answer.
Baggage response_baggage(const HeaderList& headers);

}  // namespace culvert::hbone
