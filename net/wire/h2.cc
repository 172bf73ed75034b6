// SPDX-License-Identifier: Apache-2.0
#include "net/wire/h2.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "net/base/check.h"
#include "net/wire/authority.h"
#include "net/wire/h2_guard.h"
#include "net/wire/http1_internal.h"

namespace culvert::wire {

using base::Code;
using base::fail;
using base::Result;

const std::string* find_header(const Headers& headers, std::string_view name) {
  auto found =
      std::find_if(headers.begin(), headers.end(), [&](const auto& field) { return field.first == name; });
  return found == headers.end() ? nullptr : &found->second;
}

std::string_view h2_code_name(uint32_t code) {
  return code <= 13 ? std::string_view(nghttp2_http2_strerror(code)) : std::string_view("unknown error code");
}

namespace {

constexpr size_t kFrameHeadBytes = 9;
// Smaller pieces are copied: streams that wake together share a record.
constexpr size_t kMoveBytesMin = 4096;

// A stream as long as nghttp2 knows it.
struct Stream {
  Headers incoming;
  size_t incoming_bytes = 0;      // as RFC 9113 section 6.5.2 counts them
  bool incoming_refused = false;  // too many, too large or improper header fields
  bool got_headers = false;
  uint32_t informational = 0;
  // A frame's header goes before each piece where it lies, so that no byte is copied on its way from the
  // relay to the TLS record, and frame and record have the same ends.
  base::ByteQueue body{base::ByteQueue::Pieces{kFrameHeadBytes, H2Engine::kDataBytesMax}};
  bool finish = false;
  Headers trailers;
  bool has_trailers = false;
  bool source_open = false;  // a data source has been handed to nghttp2
  bool source_idle = false;  // it said DEFERRED and wants resume_data
};

std::vector<nghttp2_nv> to_nv(const Headers& headers) {
  std::vector<nghttp2_nv> out;
  out.reserve(headers.size());
  for (const auto& [name, value] : headers) {
    // RFC 9113 section 8.2.2; the proof of a WebSocket key is HTTP/1's (RFC 8441 section 5).
    if (is_hop_by_hop(name) || name == "host" || (name == "te" && value != "trailers")) continue;
    if (name == "sec-websocket-key" || name == "sec-websocket-accept") continue;
    out.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                   reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                   NGHTTP2_NV_FLAG_NONE});
  }
  return out;
}

// What HTTP/1 could carry as well: no spaces, no controls, nothing above ASCII. nghttp2 asks for a form only
// where the scheme is http or https.
bool is_clean_path(std::string_view path, std::string_view method) {
  if (!path.starts_with('/') && !(path == "*" && method == "OPTIONS")) return false;
  return std::all_of(path.begin(), path.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// RFC 9113 section 8.2.3: crumbs are one field again before anybody looks. Empty ones say nothing, and one at
// the end would leave a space that HTTP/1 takes away.
void join_cookies(Headers& headers) {
  std::string* first = nullptr;
  std::erase_if(headers, [&first](auto& field) {
    if (field.first != "cookie") return false;
    if (!first) {
      first = &field.second;
      return false;
    }
    if (!first->empty() && !field.second.empty()) first->append("; ");
    first->append(field.second);
    return true;
  });
}

}  // namespace

struct H2Engine::Impl {
  Role role;
  H2Settings settings;
  H2Visitor& visitor;
  nghttp2_session* session = nullptr;
  std::unordered_map<int32_t, Stream> streams;
  base::ByteQueue* out = nullptr;  // only during produce
  bool settings_seen = false;
  std::optional<H2Guard> guard;
  size_t continuation_bytes = 0;  // of the header block that is coming in

  Impl(Role r, H2Settings s, H2Visitor& v) : role(r), settings(s), visitor(v) {
    if (!s.users_traffic) return;
    H2GuardLimits limits;
    limits.block_bytes_max = std::max(limits.block_bytes_max, 4 * s.header_bytes_max);
    guard.emplace(limits, r == Role::kServer ? NGHTTP2_CLIENT_MAGIC_LEN : 0);
  }

  Stream* find(int32_t id) {
    auto it = streams.find(id);
    return it == streams.end() ? nullptr : &it->second;
  }
  static Impl& self(void* user) { return *static_cast<Impl*>(user); }

  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Impl& me = self(user);
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    Stream& stream = me.streams[frame->hd.stream_id];
    stream.incoming.clear();
    stream.incoming_bytes = 0;
    me.continuation_bytes = 0;
    return 0;
  }

  static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user) {
    if (head->type == NGHTTP2_CONTINUATION) self(user).continuation_bytes += head->length + 9;
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                       size_t name_size, const uint8_t* value, size_t value_size, uint8_t, void* user) {
    Impl& me = self(user);
    Stream* stream = me.find(frame->hd.stream_id);
    if (!stream || stream->incoming_refused) return 0;
    stream->incoming_bytes += name_size + value_size + 32;
    if (stream->incoming_bytes > me.settings.header_bytes_max ||
        stream->incoming.size() >= me.settings.header_fields_max) {
      stream->incoming_refused = true;
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_ENHANCE_YOUR_CALM);
      return 0;
    }
    stream->incoming.emplace_back(base::as_text({name, name_size}), base::as_text({value, value_size}));
    return 0;
  }

  void refuse(int32_t id, Stream& stream, uint32_t code) {
    stream.incoming_refused = true;
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, code);
  }

  // What nghttp2 lets pass and users' traffic may not (waypoint spec section 7.2). False: refused.
  bool put_in_order(int32_t id, Headers& headers) {
    std::string* authority = nullptr;
    std::string* host = nullptr;
    const std::string* method = find_header(headers, ":method");
    for (auto& [name, value] : headers) {
      if (name == ":authority") authority = &value;
      if (name == "host") host = &value;
      if (name == ":path" && !is_clean_path(value, method ? *method : "")) return false;
    }
    std::string* named = authority ? authority : host;
    if (!named || !valid_authority(*named)) return false;
    if (host) {
      std::string kept = *named;
      if (authority && !same_authority(*authority, *host)) visitor.on_host_ignored(id);
      std::erase_if(headers, [](const auto& field) { return field.first == "host"; });
      if (!authority) {
        auto behind = std::find_if(headers.begin(), headers.end(),
                                   [](const auto& field) { return !field.first.starts_with(':'); });
        headers.emplace(behind, ":authority", std::move(kept));
      }
    }
    join_cookies(headers);
    // What is not sent on, nobody goes by: the one field of HTTP/1's connections that nghttp2 lets pass.
    std::erase_if(headers, [](const auto& field) { return field.first == "http2-settings"; });
    return true;
  }

  void deliver_headers(int32_t id, Stream& stream, bool ends) {
    Headers headers = std::move(stream.incoming);
    stream.incoming.clear();
    if (stream.got_headers) {
      visitor.on_trailers(id, std::move(headers));
      return;
    }
    if (role == Role::kClient) {
      const std::string* status = find_header(headers, ":status");
      if (status && status->size() == 3 && (*status)[0] == '1' && !ends) {
        // 101 has no meaning here (RFC 9113 section 8.6).
        bool refused = ++stream.informational > settings.informational_max || *status == "101";
        refused ? refuse(id, stream, NGHTTP2_PROTOCOL_ERROR)
                : visitor.on_informational(id, std::move(headers));
        return;
      }
    } else if (settings.users_traffic && !put_in_order(id, headers)) {
      refuse(id, stream, NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    stream.got_headers = true;
    visitor.on_headers(id, std::move(headers));
  }

  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Impl& me = self(user);
    int32_t id = frame->hd.stream_id;
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS: {
        Stream* stream = me.find(id);
        if (!stream || stream->incoming_refused) return 0;
        me.deliver_headers(id, *stream, ends);
        stream = me.find(id);
        if (!stream || stream->incoming_refused) return 0;
        me.visitor.on_header_bytes(id, true, frame->hd.length + 9 + std::exchange(me.continuation_bytes, 0));
        if (ends) me.visitor.on_end(id);
        return 0;
      }
      case NGHTTP2_DATA:
        if (ends && me.find(id)) me.visitor.on_end(id);
        return 0;
      case NGHTTP2_SETTINGS:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
          me.visitor.on_settings_ack();
        } else if (!me.settings_seen) {
          me.settings_seen = true;
          me.visitor.on_settings();
        }
        return 0;
      case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) me.visitor.on_ping_ack();
        return 0;
      case NGHTTP2_GOAWAY:
        me.visitor.on_goaway(frame->goaway.last_stream_id, frame->goaway.error_code);
        return 0;
      default: return 0;
    }
  }

  static int on_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Impl& me = self(user);
    if (frame->hd.type == NGHTTP2_HEADERS && me.find(frame->hd.stream_id))
      me.visitor.on_header_bytes(frame->hd.stream_id, false, frame->hd.length + 9);
    bool carries_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && me.find(frame->hd.stream_id)) {
      me.visitor.on_end_sent(frame->hd.stream_id);
    }
    return 0;
  }

  static int on_data_chunk(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size,
                           void* user) {
    Impl& me = self(user);
    Stream* stream = me.find(id);
    if (!stream || stream->incoming_refused) {
      nghttp2_session_consume_connection(session, size);
      return 0;
    }
    me.visitor.on_data(id, {data, size});
    return 0;
  }

  static int on_stream_close(nghttp2_session*, int32_t id, uint32_t code, void* user) {
    Impl& me = self(user);
    bool told = me.streams.contains(id);
    me.streams.erase(id);
    if (told) me.visitor.on_closed(id, code);
    return 0;
  }

  // Says how much body there is; the bytes follow in send_data.
  static ssize_t read_body(nghttp2_session*, int32_t id, uint8_t*, size_t room, uint32_t* flags,
                           nghttp2_data_source*, void* user) {
    Impl& me = self(user);
    Stream* stream = me.find(id);
    if (!stream) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t take = std::min({room, stream->body.size(), kDataBytesMax});
    // Whole pieces, rather than the end of one and the beginning of the next.
    if (size_t piece = stream->body.front().size(); piece >= kMoveBytesMin) take = std::min(take, piece);
    bool last = take == stream->body.size() && stream->finish;
    if (take == 0 && !last) {
      stream->source_idle = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      if (stream->has_trailers) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        std::vector<nghttp2_nv> nv = to_nv(stream->trailers);
        nghttp2_submit_trailer(me.session, id, nv.data(), nv.size());
      }
    }
    return static_cast<ssize_t>(take);
  }

  static int send_body(nghttp2_session*, nghttp2_frame* frame, const uint8_t* frame_header, size_t length,
                       nghttp2_data_source*, void* user) {
    Impl& me = self(user);
    int32_t id = frame->hd.stream_id;
    Stream* stream = me.find(id);
    if (!stream || !me.out) return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (me.out->above_high()) return NGHTTP2_ERR_WOULDBLOCK;
    base::ByteView head(frame_header, kFrameHeadBytes);
    size_t left = length;
    if (length >= kMoveBytesMin && length == stream->body.front().size()) {
      stream->body.move_front(*me.out, head);
      left = 0;
    } else {
      me.out->append(head);
    }
    while (left > 0) {
      base::ByteView run = stream->body.front();
      run = run.first(std::min(left, run.size()));
      me.out->append(run);
      stream->body.consume(run.size());
      left -= run.size();
    }
    if (me.guard) me.guard->data_sent();
    if (length > 0) me.visitor.on_sent(id, length);
    return 0;
  }

  // Flow control, frame size and our record limit, whichever is smallest.
  static ssize_t body_length(nghttp2_session*, uint8_t, int32_t, int32_t session_window,
                             int32_t stream_window, uint32_t remote_frame_max, void*) {
    return std::max<ssize_t>(
        1, std::min({static_cast<ssize_t>(session_window), static_cast<ssize_t>(stream_window),
                     static_cast<ssize_t>(remote_frame_max), static_cast<ssize_t>(kDataBytesMax)}));
  }

  // A flood ends the connection with GOAWAY ENHANCE_YOUR_CALM.
  Result<> calm_down(std::string_view flood) {
    nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return fail(Code::kExhausted, fmt::format("http2 flood: too many or too large: {}", flood));
  }

  void open_source(int32_t id, Stream& stream) {
    if (!stream.source_open) return;
    if (stream.source_idle) {
      stream.source_idle = false;
      nghttp2_session_resume_data(session, id);
    }
  }
};

namespace {

struct SessionParts {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  ~SessionParts() {
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
  }
};

}  // namespace

H2Engine::H2Engine(Role role, H2Settings settings, H2Visitor& visitor)
    : impl_(std::make_unique<Impl>(role, settings, visitor)) {
  SessionParts parts;
  CULVERT_CHECK(nghttp2_session_callbacks_new(&parts.callbacks) == 0 &&
                nghttp2_option_new(&parts.option) == 0);
  nghttp2_session_callbacks_set_on_begin_headers_callback(parts.callbacks, Impl::on_begin_headers);
  nghttp2_session_callbacks_set_on_begin_frame_callback(parts.callbacks, Impl::on_begin_frame);
  nghttp2_session_callbacks_set_on_header_callback(parts.callbacks, Impl::on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(parts.callbacks, Impl::on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(parts.callbacks, Impl::on_data_chunk);
  nghttp2_session_callbacks_set_on_stream_close_callback(parts.callbacks, Impl::on_stream_close);
  nghttp2_session_callbacks_set_on_frame_send_callback(parts.callbacks, Impl::on_frame_sent);
  nghttp2_session_callbacks_set_send_data_callback(parts.callbacks, Impl::send_body);
  nghttp2_session_callbacks_set_data_source_read_length_callback(parts.callbacks, Impl::body_length);
  nghttp2_option_set_no_auto_window_update(parts.option, 1);
  // Floods: pending acknowledgements of SETTINGS and PING are bounded, closed streams are forgotten.
  nghttp2_option_set_max_outbound_ack(parts.option, 1000);
  nghttp2_option_set_no_closed_streams(parts.option, 1);
  nghttp2_option_set_max_settings(parts.option, 32);
  nghttp2_option_set_stream_reset_rate_limit(parts.option, 1000, 33);
  // What HPACK remembers for the peer is bounded, whatever its SETTINGS ask for.
  if (settings.users_traffic) nghttp2_option_set_max_deflate_dynamic_table_size(parts.option, 4096);
  int made = role == Role::kServer
                 ? nghttp2_session_server_new2(&impl_->session, parts.callbacks, impl_.get(), parts.option)
                 : nghttp2_session_client_new2(&impl_->session, parts.callbacks, impl_.get(), parts.option);
  CULVERT_CHECK(made == 0);
  std::vector<nghttp2_settings_entry> entries = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings.stream_window_bytes},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, settings.frame_bytes_max},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings.header_bytes_max},
  };
  if (role == Role::kClient) entries.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  if (settings.streams_max != 0) {
    entries.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings.streams_max});
  }
  if (role == Role::kServer && settings.connect_protocol)
    entries.push_back({NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1});
  nghttp2_submit_settings(impl_->session, NGHTTP2_FLAG_NONE, entries.data(), entries.size());
  nghttp2_session_set_local_window_size(impl_->session, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<int32_t>(settings.connection_window_bytes));
}

H2Engine::~H2Engine() { nghttp2_session_del(impl_->session); }

Result<> H2Engine::feed(base::ByteView bytes) {
  if (impl_->guard) {
    if (std::string_view flood = impl_->guard->feed(bytes); !flood.empty()) return impl_->calm_down(flood);
  }
  while (!bytes.empty()) {
    ssize_t used = nghttp2_session_mem_recv(impl_->session, bytes.data(), bytes.size());
    if (used == NGHTTP2_ERR_FLOODED) return impl_->calm_down("frames to acknowledge");
    if (used < 0) {
      return fail(Code::kProtocol,
                  std::string("http2 protocol error: ") + nghttp2_strerror(static_cast<int>(used)));
    }
    bytes = bytes.subspan(static_cast<size_t>(used));
  }
  if (nghttp2_session_get_outbound_queue_size(impl_->session) > kQueuedFramesMax)
    return impl_->calm_down("frames to answer");
  return {};
}

Result<> H2Engine::produce(base::ByteQueue& out) {
  impl_->out = &out;
  // DATA frames go straight into `out` through send_body, which stops nghttp2 at the high mark.
  const uint8_t* data = nullptr;
  ssize_t size = 1;
  while (size > 0 && !out.above_high()) {
    size = nghttp2_session_mem_send(impl_->session, &data);
    if (size > 0) out.append(base::ByteView(data, static_cast<size_t>(size)));
  }
  impl_->out = nullptr;
  if (size < 0) {
    return fail(Code::kProtocol,
                std::string("http2 send error: ") + nghttp2_strerror(static_cast<int>(size)));
  }
  return {};
}

bool H2Engine::wants_write() const { return nghttp2_session_want_write(impl_->session) != 0; }

bool H2Engine::wants_read() const { return nghttp2_session_want_read(impl_->session) != 0; }

Result<int32_t> H2Engine::open(const Headers& headers, bool end_stream) {
  if (find_header(headers, ":protocol") && !peer_takes_protocol())
    return fail(Code::kUnsupported, "the peer offers no extended CONNECT");
  std::vector<nghttp2_nv> nv = to_nv(headers);
  nghttp2_data_provider source{};
  source.read_callback = Impl::read_body;
  int32_t id = nghttp2_submit_request(impl_->session, nullptr, nv.data(), nv.size(),
                                      end_stream ? nullptr : &source, nullptr);
  if (id < 0) {
    return fail(Code::kExhausted,
                std::string("no further stream on this connection: ") + nghttp2_strerror(id));
  }
  impl_->streams[id].source_open = !end_stream;
  return id;
}

void H2Engine::inform(int32_t id, const Headers& headers) {
  if (!impl_->find(id)) return;
  std::vector<nghttp2_nv> nv = to_nv(headers);
  nghttp2_submit_headers(impl_->session, NGHTTP2_FLAG_NONE, id, nullptr, nv.data(), nv.size(), nullptr);
}

void H2Engine::respond(int32_t id, const Headers& headers, bool end_stream) {
  Stream* stream = impl_->find(id);
  if (!stream) return;
  std::vector<nghttp2_nv> nv = to_nv(headers);
  nghttp2_data_provider source{};
  source.read_callback = Impl::read_body;
  stream->source_open = !end_stream;
  nghttp2_submit_response(impl_->session, id, nv.data(), nv.size(), end_stream ? nullptr : &source);
}

void H2Engine::write(int32_t id, base::ByteView bytes) {
  Stream* stream = impl_->find(id);
  if (!stream || stream->finish) return;
  stream->body.append(bytes);
  impl_->open_source(id, *stream);
}

size_t H2Engine::queued(int32_t id) const {
  Stream* stream = impl_->find(id);
  return stream ? stream->body.size() : 0;
}

void H2Engine::finish(int32_t id) {
  Stream* stream = impl_->find(id);
  if (!stream || stream->finish) return;
  stream->finish = true;
  impl_->open_source(id, *stream);
}

void H2Engine::finish_with_trailers(int32_t id, Headers trailers) {
  Stream* stream = impl_->find(id);
  if (!stream || stream->finish) return;
  stream->trailers = std::move(trailers);
  stream->has_trailers = true;
  finish(id);
}

void H2Engine::reset(int32_t id, uint32_t code) {
  if (!impl_->find(id)) return;
  nghttp2_submit_rst_stream(impl_->session, NGHTTP2_FLAG_NONE, id, code);
}

void H2Engine::consume_connection(size_t bytes) {
  if (bytes > 0) nghttp2_session_consume_connection(impl_->session, bytes);
}

void H2Engine::consume_stream(int32_t id, size_t bytes) {
  if (bytes > 0 && impl_->find(id)) nghttp2_session_consume_stream(impl_->session, id, bytes);
}

void H2Engine::widen(int32_t id, uint32_t window_bytes) {
  if (!impl_->find(id)) return;
  nghttp2_session_set_local_window_size(impl_->session, NGHTTP2_FLAG_NONE, id,
                                        static_cast<int32_t>(window_bytes));
}

void H2Engine::ping() { nghttp2_submit_ping(impl_->session, NGHTTP2_FLAG_NONE, nullptr); }

void H2Engine::announce_drain() {
  if (impl_->role == Role::kServer) nghttp2_submit_shutdown_notice(impl_->session);
}

void H2Engine::goaway(uint32_t code) {
  int32_t last = nghttp2_session_get_last_proc_stream_id(impl_->session);
  nghttp2_submit_goaway(impl_->session, NGHTTP2_FLAG_NONE, last, code, nullptr, 0);
}

uint32_t H2Engine::peer_streams_max() const {
  return nghttp2_session_get_remote_settings(impl_->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool H2Engine::peer_takes_protocol() const {
  return nghttp2_session_get_remote_settings(impl_->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

size_t H2Engine::open_streams() const { return impl_->streams.size(); }

}  // namespace culvert::wire
