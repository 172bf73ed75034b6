// SPDX-License-Identifier: Apache-2.0
#include "net/wire/h1.h"

#include <fmt/format.h>
#include <llhttp/llhttp.h>

#include <algorithm>

namespace culvert::wire {

using base::Code;
using base::fail;

struct H1Parser::Impl {
  llhttp_t parser{};
  llhttp_settings_t settings{};
  H1Limits limits;
  H1Message message;
  std::string name;
  std::string value;
  size_t head_bytes = 0;
  bool started = false;
  bool complete = false;
  bool too_large = false;

  static Impl& self(llhttp_t* parser) { return *static_cast<Impl*>(parser->data); }

  int add_head(std::string& to, const char* at, size_t size) {
    head_bytes += size;
    if (head_bytes > limits.head_bytes_max) {
      too_large = true;
      return HPE_USER;
    }
    to.append(at, size);
    return 0;
  }
  void end_field() {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.pop_back();
    message.headers.emplace_back(std::move(name), std::move(value));
    name.clear();
    value.clear();
  }
};

H1Parser::H1Parser(Kind kind, H1Limits limits) : impl_(std::make_unique<Impl>()) {
  impl_->limits = limits;
  llhttp_settings_t& on = impl_->settings;
  llhttp_settings_init(&on);
  on.on_message_begin = [](llhttp_t* p) {
    Impl::self(p).started = true;
    return 0;
  };
  on.on_url = [](llhttp_t* p, const char* at, size_t size) {
    return Impl::self(p).add_head(Impl::self(p).message.target, at, size);
  };
  on.on_header_field = [](llhttp_t* p, const char* at, size_t size) {
    return Impl::self(p).add_head(Impl::self(p).name, at, size);
  };
  on.on_header_value = [](llhttp_t* p, const char* at, size_t size) {
    return Impl::self(p).add_head(Impl::self(p).value, at, size);
  };
  on.on_header_value_complete = [](llhttp_t* p) {
    Impl::self(p).end_field();
    return 0;
  };
  on.on_body = [](llhttp_t* p, const char* at, size_t size) {
    Impl& me = Impl::self(p);
    if (me.message.body.size() + size > me.limits.body_bytes_max) {
      me.too_large = true;
      return static_cast<int>(HPE_USER);
    }
    me.message.body.append(at, size);
    return 0;
  };
  on.on_message_complete = [](llhttp_t* p) {
    Impl& me = Impl::self(p);
    me.complete = true;
    me.message.keep_alive = llhttp_should_keep_alive(p) != 0;
    me.message.status = p->status_code;
    if (p->type == HTTP_REQUEST)
      me.message.method = llhttp_method_name(static_cast<llhttp_method_t>(p->method));
    return static_cast<int>(HPE_PAUSED);  // one message at a time
  };
  llhttp_init(&impl_->parser, kind == Kind::kRequest ? HTTP_REQUEST : HTTP_RESPONSE, &on);
  impl_->parser.data = impl_.get();
}

H1Parser::~H1Parser() = default;

base::Result<size_t> H1Parser::feed(base::ByteView bytes) {
  if (impl_->complete) return size_t{0};
  auto* begin = reinterpret_cast<const char*>(bytes.data());
  llhttp_errno_t outcome = llhttp_execute(&impl_->parser, begin, bytes.size());
  if (outcome == HPE_OK) return bytes.size();
  auto used = static_cast<size_t>(llhttp_get_error_pos(&impl_->parser) - begin);
  if (outcome == HPE_PAUSED && impl_->complete) return used;
  if (outcome == HPE_PAUSED_UPGRADE) return fail(Code::kUnsupported, "protocol upgrade is not offered here");
  if (impl_->too_large) return fail(Code::kExhausted, "message above the size limit");
  const char* reason = llhttp_get_error_reason(&impl_->parser);
  return fail(Code::kInvalid, fmt::format("malformed HTTP message: {}",
                                          reason && *reason ? reason : llhttp_errno_name(outcome)));
}

base::Result<> H1Parser::feed_end() {
  llhttp_errno_t outcome = llhttp_finish(&impl_->parser);
  if (outcome == HPE_OK || outcome == HPE_PAUSED) {
    if (impl_->complete) return {};
    return fail(Code::kClosed, "the peer closed before its message was complete");
  }
  return fail(Code::kInvalid, "the message ended too early");
}

bool H1Parser::complete() const { return impl_->complete; }
bool H1Parser::started() const { return impl_->started; }

H1Message H1Parser::take_message() {
  H1Message message = std::move(impl_->message);
  impl_->message = {};
  impl_->head_bytes = 0;
  impl_->complete = impl_->started = false;
  llhttp_resume(&impl_->parser);
  return message;
}

namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

void append_fields(std::string& out, const Headers& headers, std::string_view body) {
  for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", name, value);
  out += fmt::format("content-length: {}\r\n", body.size());
}

}  // namespace

std::string h1_response(int status, Headers headers, std::string_view body, bool keep_alive) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  append_fields(out, headers, body);
  if (!keep_alive) out += "connection: close\r\n";
  out += "\r\n";
  return out.append(body);
}

std::string h1_request(std::string_view method, std::string_view target, Headers headers,
                       std::string_view body) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\n", method, target);
  append_fields(out, headers, body);
  return out.append("\r\n").append(body);
}

}  // namespace culvert::wire
