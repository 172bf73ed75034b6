// SPDX-License-Identifier: Apache-2.0
// HTTP/1.0 and HTTP/1.1 (RFC 9112) without I/O, streaming, for users' traffic and for our own small servers.
//
// Http1Decoder is pulled: `next(bytes)` takes a prefix and tells at most one event, so back-pressure is
// simply not calling. Grammar of the events, per message:
//
//   request:   head data* end                  (an upgrade: head end, and raw data once it is granted)
//   response:  informational* head data* end       (101 to an upgrade that was asked for: head data*, raw)
//
// Heads and trailers are parsed by llhttp in strict mode, after a guard of our own has looked at every byte
// of them (waypoint spec section 7.2): line ends, folding, names and control bytes, each with its own reason.
// Body framing is decided here alone. A fault is final: nothing after it can be trusted to be where it seems.
//
// Both sides speak the HTTP/2 form of headers: lower-case names, :method :scheme :authority :path (and
// :protocol with :method CONNECT for an upgrade, RFC 8441) or :status first; what belongs to one hop only is
// gone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "net/base/bytes.h"
#include "net/base/result.h"
#include "net/wire/h2.h"

namespace culvert::wire {

// Why a message was refused. Closed: the waypoint names it in its log.
enum class Http1Fault : unsigned char {
  kNone,
  // start line
  kStartLine,
  kMethod,
  kTarget,
  kTargetTooLong,  // 414
  kVersion,        // 505
  kHttp10,         // 426: HTTP/1.0 where it is not allowed
  kStatus,
  // lines and fields
  kBareLf,
  kBareCr,
  kObsFold,
  kSpaceBeforeColon,
  kFieldName,   // empty, or not a token
  kFieldValue,  // a control byte
  kNoColon,
  kHeadTooLarge,   // 431
  kTooManyFields,  // 431
  // routing
  kHostMissing,
  kHostRepeated,
  kAuthority,        // userinfo, bad port, foreign characters
  kConnectionNames,  // Connection nominates a header that must not be removable
  kExpectation,      // 417: an Expect other than 100-continue
  // framing
  kLengthAndCoding,
  kLengthRepeated,
  kLength,
  kCoding,
  kCodingInHttp10,
  kChunkSize,
  kChunkExtensions,
  kChunkEnd,
  kTrailers,  // a trailer that frames or routes
  // responses
  kTooManyInformational,
  kUnaskedUpgrade,
  kIgnoredUpgrade,  // 2xx instead of 101: who takes it for a grant tunnels to a server that still reads HTTP
  // told by the connection
  kTruncated,    // the peer closed inside a message
  kHeadTooSlow,  // 408
};
std::string_view to_string(Http1Fault fault);  // "http1.headers_too_large"
// The status a server answers such a request with: 400, 408, 414, 417, 426, 431 or 505.
int status_for(Http1Fault fault);

struct Http1Limits {
  size_t head_bytes_max = 60 * 1024;  // start line and fields as on the wire; trailers have as much again
  size_t fields_max = 100;            // per block
  size_t target_bytes_max = 60 * 1024;
  size_t chunk_extension_bytes_max = 4 * 1024;  // per message
  size_t informational_max = 10;                // 1xx per response
  bool allow_http10 = false;                    // requests; responses of 1.0 are always understood
};

enum class Http1Body : unsigned char {
  kNone,
  kLength,
  kChunked,
  kUntilClose,  // a response that ends with its connection
  kRaw,         // after a 101 or a CONNECT: bytes, no message
};

struct Http1Head {
  Headers headers;  // HTTP/2 form; :scheme is empty where the target does not say
  int minor_version = 1;
  // The peer lets the connection go on after this message (Connection, version).
  bool keep_alive = false;
  Http1Body body = Http1Body::kNone;
  uint64_t length = 0;  // kLength
  // Requests: the lower-case protocol of an upgrade that may be granted (then :method is CONNECT); what
  // follows is nobody's until it is. Responses: granted by 101 (then :status is 200).
  std::string upgrade;
  std::string websocket_key;  // of such a request
  bool expect_continue = false;
  // Absolute-form and Host said different things; the target won (for the log).
  bool host_ignored = false;
  size_t wire_bytes = 0;
};

class Http1Decoder {
 public:
  enum class Kind : unsigned char { kRequest, kResponse };
  enum class Event : unsigned char { kNeedMore, kInformational, kHead, kData, kEnd, kFault };
  struct Step {
    Event event = Event::kNeedMore;
    size_t used = 0;      // of the given bytes
    base::ByteView data;  // kData: a part of the given bytes
  };

  Http1Decoder(Kind kind, Http1Limits limits);
  ~Http1Decoder();
  Http1Decoder(const Http1Decoder&) = delete;

  // Client, before each response: what was asked decides how the answer is framed.
  void expect_answer_to(std::string_view method, std::string_view upgrade);
  // kNeedMore takes all bytes given. After kEnd nothing is taken until next_message().
  Step next(base::ByteView bytes);
  // The peer will send nothing more: kEnd where that is a proper end, kNeedMore between messages, else
  // kFault.
  Step end_of_input();
  // After kHead or kInformational.
  Http1Head take_head();
  // After kEnd; empty if none.
  Headers take_trailers();
  // Server: the upgrade was granted; all that follows is raw.
  void become_raw();
  void next_message();

  // Something of a message has arrived.
  bool started() const;
  // Body bytes that may be read straight into the reader's buffer before next() must see a byte again (tell
  // it with `took`); 0 where framing is in between.
  uint64_t plain_bytes_left() const;
  void took(uint64_t bytes);
  Http1Fault fault() const;
  // Of the current message so far, framing included.
  uint64_t header_bytes() const;
  uint64_t wire_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Heads and body framing out. Appends to a queue; refuses what would let a peer see something else than meant
// (CR, LF, NUL in a value, a body beyond its length). One per connection and direction.
class Http1Encoder {
 public:
  struct Answering {
    std::string_view method;         // of the request that is answered
    int minor_version = 1;           // of its sender
    bool keep_alive = true;          // what we decided; says Connection when it must
    std::string_view upgrade;        // of the request, if granted by this answer
    std::string_view websocket_key;  // of the request
  };

  // Starts a request; HTTP/2 form. `websocket_key` for an upgrade whose headers bring none.
  base::Result<> request(const Headers& headers, bool end_stream, std::string_view websocket_key,
                         base::ByteQueue& out);
  // A final answer, or a 1xx.
  base::Result<> response(const Headers& headers, bool end_stream, const Answering& answering,
                          base::ByteQueue& out);
  base::Result<> informational(const Headers& headers, base::ByteQueue& out);
  // The first `count` bytes of `parts`, as one write. kInvalid: more than content-length said, or no body is
  // allowed here.
  base::Result<> body(std::span<const iovec> parts, size_t count, base::ByteQueue& out);
  // The end. kInvalid: less than content-length said (the connection must then break). Trailers go out only
  // where the body is chunked.
  base::Result<> finish(const Headers& trailers, base::ByteQueue& out);

  Http1Body framing() const { return framing_; }
  // After an answer: its end is the connection's end.
  bool ends_with_connection() const {
    return framing_ == Http1Body::kUntilClose || framing_ == Http1Body::kRaw;
  }
  bool finished() const { return finished_; }
  // After an answer: what it told the client about the connection.
  bool keeps_alive() const { return keeps_alive_; }

 private:
  bool keeps_alive_ = false;
  Http1Body framing_ = Http1Body::kNone;
  uint64_t left_ = 0;
  bool suppressed_ = false;  // HEAD, 204, 304: a body is taken and dropped
  bool finished_ = true;
};

// RFC 6455 section 4.2.2.
std::string websocket_accept(std::string_view key);

}  // namespace culvert::wire
