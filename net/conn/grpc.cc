// SPDX-License-Identifier: Apache-2.0
#include "net/conn/grpc.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "net/wire/grpc_frame.h"

namespace culvert::conn {

using base::Code;
using base::fail;
using base::Result;

std::string_view to_string(GrpcCode code) {
  static constexpr std::array<std::string_view, 17> kNames = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  auto index = static_cast<size_t>(code);
  return index < kNames.size() ? kNames[index] : "UNKNOWN";
}

base::Error to_error(const GrpcStatus& status) {
  Code code = Code::kInternal;
  switch (status.code) {
    case GrpcCode::kInvalidArgument:
    case GrpcCode::kFailedPrecondition:
    case GrpcCode::kOutOfRange: code = Code::kInvalid; break;
    case GrpcCode::kDeadlineExceeded: code = Code::kTimeout; break;
    case GrpcCode::kNotFound: code = Code::kNotFound; break;
    case GrpcCode::kAlreadyExists: code = Code::kExists; break;
    case GrpcCode::kPermissionDenied: code = Code::kDenied; break;
    case GrpcCode::kUnauthenticated: code = Code::kUnauthenticated; break;
    case GrpcCode::kResourceExhausted: code = Code::kExhausted; break;
    case GrpcCode::kUnimplemented: code = Code::kUnsupported; break;
    case GrpcCode::kUnavailable: code = Code::kUnavailable; break;
    case GrpcCode::kCancelled: code = Code::kCancelled; break;
    default: break;
  }
  return {code, fmt::format("{}: {}", to_string(status.code), status.message)};
}

namespace {

GrpcCode code_for_http(std::string_view status) {
  if (status == "400") return GrpcCode::kInternal;
  if (status == "401") return GrpcCode::kUnauthenticated;
  if (status == "403") return GrpcCode::kPermissionDenied;
  if (status == "404") return GrpcCode::kUnimplemented;
  if (status == "429" || status == "502" || status == "503" || status == "504") return GrpcCode::kUnavailable;
  return GrpcCode::kUnknown;
}

GrpcCode code_for_reset(uint32_t code) {
  switch (code) {
    case wire::kH2Cancel: return GrpcCode::kCancelled;
    case wire::kH2RefusedStream: return GrpcCode::kUnavailable;
    case wire::kH2EnhanceYourCalm: return GrpcCode::kResourceExhausted;
    case wire::kH2InadequateSecurity: return GrpcCode::kPermissionDenied;
    default: return GrpcCode::kInternal;
  }
}

std::optional<GrpcStatus> status_in(const wire::Headers& fields) {
  const std::string* number = wire::find_header(fields, "grpc-status");
  if (!number) return std::nullopt;
  unsigned value = 0;
  auto [end, error] = std::from_chars(number->data(), number->data() + number->size(), value);
  bool good = error == std::errc() && end == number->data() + number->size() && value <= 16;
  const std::string* message = wire::find_header(fields, "grpc-message");
  return GrpcStatus{good ? static_cast<GrpcCode>(value) : GrpcCode::kUnknown,
                    message ? wire::grpc_percent_decode(*message) : std::string()};
}

async::Task<Result<>> send_message(Http2Stream& stream, std::string message) {
  std::string frame = wire::grpc_frame(message);
  message = {};
  Result<> written = co_await io::write_all(stream, base::as_bytes(frame));
  co_return written;
}

// Reads into `received` until a message is whole. nullopt: end of stream.
async::Task<Result<std::optional<std::string>>> receive_message(Http2Stream& stream,
                                                                base::ByteQueue& received, size_t bytes_max) {
  for (;;) {
    Result<std::optional<std::string>> message = wire::take_grpc_message(received, bytes_max);
    if (!message || message->has_value()) co_return message;
    Result<size_t> got = co_await io::read_some(stream, received.reserve(4096));
    received.commit(got ? *got : 0);
    if (!got) co_return fail(std::move(got).error());
    if (*got > 0) continue;
    if (received.empty()) co_return std::optional<std::string>();
    co_return fail(Code::kProtocol, "the stream ended inside a gRPC message");
  }
}

}  // namespace

GrpcStream::GrpcStream(std::unique_ptr<Http2Stream> stream, size_t message_bytes_max)
    : stream_(std::move(stream)), message_bytes_max_(message_bytes_max) {}

async::Task<Result<>> GrpcStream::send(std::string message) {
  return send_message(*stream_, std::move(message));
}

void GrpcStream::conclude(const wire::Headers& fields) {
  ended_ = true;
  if (auto status = status_in(fields)) {
    status_ = std::move(*status);
  } else {
    status_ = {GrpcCode::kUnknown, "the stream ended without a grpc-status"};
  }
}

void GrpcStream::conclude_broken() {
  ended_ = true;
  if (auto code = stream_->reset_code()) {
    status_ = {code_for_reset(*code), fmt::format("stream reset: {}", wire::h2_code_name(*code))};
  } else {
    status_ = {GrpcCode::kUnavailable, "connection lost"};
  }
}

async::Task<Result<std::optional<std::string>>> GrpcStream::receive() {
  if (ended_) co_return std::optional<std::string>();
  if (!answered_) {
    // No deadline: a server may send its headers with its first message, whenever that is.
    Result<wire::Headers> headers = co_await stream_->response(async::Deadline::never());
    if (!headers) {
      conclude_broken();
      trailers_only_ = true;
      co_return fail(to_error(status_));
    }
    answered_ = true;
    const std::string* http = wire::find_header(*headers, ":status");
    if (auto status = status_in(*headers)) {
      status_ = std::move(*status);
      ended_ = trailers_only_ = true;
      co_return std::optional<std::string>();
    }
    if (!http || *http != "200") {
      status_ = {code_for_http(http ? *http : ""), "HTTP status " + (http ? *http : std::string("missing"))};
      ended_ = trailers_only_ = true;
      co_return std::optional<std::string>();
    }
  }
  Result<std::optional<std::string>> message =
      co_await receive_message(*stream_, received_, message_bytes_max_);
  if (!message) {
    if (message.error().code() == Code::kReset || message.error().code() == Code::kProtocol) {
      conclude_broken();
    } else {
      ended_ = true;
      status_ = {
          message.error().code() == Code::kExhausted ? GrpcCode::kResourceExhausted : GrpcCode::kInternal,
          message.error().message()};
      cancel();
    }
    co_return fail(std::move(message).error());
  }
  if (!message->has_value()) conclude(stream_->trailers());
  co_return message;
}

wire::Headers GrpcClient::request_headers(const std::string& path, const Metadata& metadata) const {
  wire::Headers headers = {{":method", "POST"},      {":scheme", "https"},
                           {":path", path},          {":authority", authority_},
                           {"te", "trailers"},       {"content-type", "application/grpc"},
                           {"user-agent", "culvert"}};
  headers.insert(headers.end(), metadata.begin(), metadata.end());
  return headers;
}

Result<std::unique_ptr<GrpcStream>> GrpcClient::stream(std::string path, Metadata metadata) {
  auto opened = connection_.open(request_headers(path, metadata));
  if (!opened) return fail(std::move(opened).error());
  return std::make_unique<GrpcStream>(std::move(*opened), message_bytes_max_);
}

namespace {

using UnaryAnswer = std::expected<std::string, GrpcStatus>;

async::Task<Result<UnaryAnswer>> converse(std::unique_ptr<GrpcStream> call, std::string message) {
  Result<> sent = co_await call->send(std::move(message));
  if (sent) call->finish_sending();
  // Even after a failed send the status may have come.
  Result<std::optional<std::string>> answer = co_await call->receive();
  if (!answer) co_return UnaryAnswer(std::unexpected(call->status()));
  if (!answer->has_value()) {
    GrpcStatus status = call->status();
    if (status.ok()) status = {GrpcCode::kInternal, "the call ended without an answer"};
    co_return UnaryAnswer(std::unexpected(std::move(status)));
  }
  Result<std::optional<std::string>> end = co_await call->receive();
  if (!end || !call->status().ok()) co_return UnaryAnswer(std::unexpected(call->status()));
  if (end->has_value())
    co_return UnaryAnswer(std::unexpected(GrpcStatus{GrpcCode::kInternal, "more than one answer"}));
  co_return UnaryAnswer(std::move(**answer));
}

}  // namespace

async::Task<UnaryAnswer> GrpcClient::unary(std::string path, std::string message, Metadata metadata,
                                           async::Deadline deadline) {
  if (!deadline.is_never()) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.when() - loop_.now()).count();
    metadata.emplace_back("grpc-timeout", fmt::format("{}m", std::clamp<int64_t>(left, 1, 99'999'999)));
  }
  Result<std::unique_ptr<GrpcStream>> call = stream(std::move(path), std::move(metadata));
  if (!call) co_return std::unexpected(GrpcStatus{GrpcCode::kUnavailable, call.error().message()});
  Result<UnaryAnswer> answer =
      co_await async::with_deadline(loop_, deadline, "call", converse(std::move(*call), std::move(message)));
  if (!answer) co_return std::unexpected(GrpcStatus{GrpcCode::kDeadlineExceeded, "no answer in time"});
  co_return std::move(*answer);
}

async::Task<Result<std::optional<std::string>>> GrpcCall::receive() {
  return receive_message(stream_, received_, message_bytes_max_);
}

async::Task<Result<>> GrpcCall::send(std::string message) {
  if (!std::exchange(answered_, true)) {
    stream_.respond({{":status", "200"}, {"content-type", "application/grpc"}}, false);
  }
  return send_message(stream_, std::move(message));
}

namespace {

// grpc-timeout: at most 8 digits and a unit.
std::optional<base::Duration> parse_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size() - 1, value);
  if (error != std::errc() || end != text.data() + text.size() - 1 || value < 0) return std::nullopt;
  switch (text.back()) {
    case 'H': return std::chrono::hours(std::min<int64_t>(value, 100'000));
    case 'M': return std::chrono::minutes(std::min<int64_t>(value, 6'000'000));
    case 'S': return std::chrono::seconds(value);
    case 'm': return std::chrono::milliseconds(value);
    case 'u': return std::chrono::microseconds(value);
    case 'n': return std::chrono::nanoseconds(value);
    default: return std::nullopt;
  }
}

async::Task<Result<GrpcStatus>> run_handler(const GrpcServer::Handler& handler, GrpcCall& call) {
  co_return co_await handler(call);
}

}  // namespace

async::Task<void> GrpcServer::serve_call(std::unique_ptr<Http2Stream> stream, const wire::PeerInfo& peer) {
  const std::string* path = wire::find_header(stream->headers(), ":path");
  const std::string* type = wire::find_header(stream->headers(), "content-type");
  if (!type || !type->starts_with("application/grpc")) {
    stream->respond({{":status", "415"}}, true);
    co_return;
  }
  auto handler = handlers_.find(path ? *path : std::string());
  GrpcCall call(*stream, peer, options_.message_bytes_max);
  GrpcStatus status{GrpcCode::kUnimplemented, "no such method: " + (path ? *path : std::string())};
  if (handler != handlers_.end()) {
    async::Deadline deadline = async::Deadline::never();
    if (const std::string* timeout = call.metadata("grpc-timeout")) {
      if (auto duration = parse_timeout(*timeout)) deadline = async::Deadline::in(loop_, *duration);
    }
    Result<GrpcStatus> outcome =
        co_await async::with_deadline(loop_, deadline, "call", run_handler(handler->second, call));
    status = outcome ? std::move(*outcome) : GrpcStatus{GrpcCode::kDeadlineExceeded, "the deadline passed"};
  }
  wire::Headers trailers = {{"grpc-status", fmt::to_string(static_cast<int>(status.code))}};
  if (!status.message.empty())
    trailers.emplace_back("grpc-message", wire::grpc_percent_encode(status.message));
  if (!call.answered_) {
    trailers.insert(trailers.begin(), {{":status", "200"}, {"content-type", "application/grpc"}});
    stream->respond(std::move(trailers), true);
    co_return;
  }
  stream->send_trailers(std::move(trailers));
  // The handle must live until the trailers are on their way, or its end would reset the stream.
  (void)co_await io::flush(*stream);
}

async::Task<void> GrpcServer::serve(std::unique_ptr<io::ByteStream> lower, wire::PeerInfo peer) {
  Http2Conn connection(loop_, std::move(lower), wire::H2Engine::Role::kServer, options_.http2);
  async::Scope calls(loop_);
  for (;;) {
    std::unique_ptr<Http2Stream> stream = co_await connection.accept();
    if (!stream) break;
    calls.spawn(serve_call(std::move(stream), peer));
  }
}

}  // namespace culvert::conn
