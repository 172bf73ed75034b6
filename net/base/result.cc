// SPDX-License-Identifier: Apache-2.0
#include "net/base/result.h"

#include <cerrno>
#include <system_error>

namespace culvert::base {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::kInvalid: return "invalid";
    case Code::kNotFound: return "not found";
    case Code::kExists: return "exists";
    case Code::kDenied: return "denied";
    case Code::kUnauthenticated: return "unauthenticated";
    case Code::kRefused: return "refused";
    case Code::kReset: return "reset";
    case Code::kClosed: return "closed";
    case Code::kTimeout: return "timeout";
    case Code::kCancelled: return "cancelled";
    case Code::kExhausted: return "exhausted";
    case Code::kUnavailable: return "unavailable";
    case Code::kUnsupported: return "unsupported";
    case Code::kProtocol: return "protocol";
    case Code::kTls: return "tls";
    case Code::kIo: return "io";
    case Code::kInternal: return "internal";
  }
  return "unknown";
}

namespace {

Code code_for_errno(int number) {
  switch (number) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN: return Code::kRefused;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED: return Code::kReset;
    case ENOTCONN:
    case EBADF: return Code::kClosed;
    case ETIMEDOUT: return Code::kTimeout;
    case ECANCELED: return Code::kCancelled;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC: return Code::kExhausted;
    case ENOENT:
    case ESRCH: return Code::kNotFound;
    case EEXIST:
    case EADDRINUSE: return Code::kExists;
    case EACCES:
    case EPERM: return Code::kDenied;
    case EINVAL: return Code::kInvalid;
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENOSYS: return Code::kUnsupported;
    default: return Code::kIo;
  }
}

}  // namespace

Error Error::from_errno(int number, std::string_view doing) {
  std::string text = std::generic_category().message(number);
  Error error(code_for_errno(number), doing.empty() ? std::move(text) : std::string(doing) + ": " + text);
  error.errno_ = number;
  return error;
}

Error Error::wrap(std::string_view doing) && {
  message_.insert(0, std::string(doing) + ": ");
  return std::move(*this);
}

Error Error::wrap(std::string_view doing) const& { return Error(*this).wrap(doing); }

Error Error::with_code(Code code) && {
  code_ = code;
  return std::move(*this);
}

}  // namespace culvert::base
