// SPDX-License-Identifier: Apache-2.0
// Error and Result: the only way failures travel (design section 3.1).
//
// An Error is a closed code for programs plus a sentence for a person. Code that
// passes an error upward adds what it was doing with `wrap`; the error is logged
// once, where it stops.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace culvert::base {

enum class Code : unsigned char {
  kInvalid,          // malformed input: the sender must change something
  kNotFound,         // the named thing does not exist
  kExists,           // the named thing exists already
  kDenied,           // authorization said no
  kUnauthenticated,  // the peer did not prove who it is
  kRefused,          // the peer (or the kernel) refused the connection
  kReset,            // the connection broke underneath us
  kClosed,           // used after close, or closed while waiting
  kTimeout,          // a deadline passed
  kCancelled,        // the owner gave up
  kExhausted,        // a limit was reached (descriptors, memory, streams)
  kUnavailable,      // try again later
  kUnsupported,      // understood, but this build or kernel cannot do it
  kProtocol,         // the peer broke a wire protocol
  kTls,              // TLS handshake or record failure
  kIo,               // any other failure of the operating system
  kInternal,         // our own fault
};

std::string_view to_string(Code code);

class Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  // From an errno value: picks the code, keeps the operating system's wording.
  // `doing` says what failed: from_errno(errno, "bind [::]:15008").
  static Error from_errno(int number, std::string_view doing);

  Code code() const { return code_; }
  // The errno this came from, or 0.
  int os_errno() const { return errno_; }
  // Outermost context first: "dial 10.0.0.1:80: connection refused".
  const std::string& message() const { return message_; }

  // Prepends what the caller was doing; keeps the code.
  Error wrap(std::string_view doing) &&;
  Error wrap(std::string_view doing) const&;
  // The same sentence under another code.
  Error with_code(Code code) &&;

 private:
  Code code_;
  int errno_ = 0;
  std::string message_;
};

template <class T = void>
using Result = std::expected<T, Error>;

// return fail(Code::kInvalid, "port 70000 is above 65535");
inline std::unexpected<Error> fail(Code code, std::string message) {
  return std::unexpected(Error(code, std::move(message)));
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

}  // namespace culvert::base

// Returns the error of `expr` from the enclosing function, or goes on.
#define CULVERT_TRY(expr)                                             \
  do {                                                                \
    if (auto culvert_try_result_ = (expr); !culvert_try_result_) {    \
      return std::unexpected(std::move(culvert_try_result_).error()); \
    }                                                                 \
  } while (0)
