// SPDX-License-Identifier: Apache-2.0
#include "net/io/stream.h"

#include "net/io/stream_wait.h"

namespace culvert::io {

IoResult ByteStream::splice_in(SplicePipe&) {
  return IoResult::failed({base::Code::kUnsupported, "this stream cannot splice"});
}
IoResult ByteStream::splice_out(SplicePipe&) {
  return IoResult::failed({base::Code::kUnsupported, "this stream cannot splice"});
}

async::Task<base::Result<size_t>> read_some(ByteStream& stream, base::ByteSpan into) {
  for (;;) {
    IoResult got = stream.try_read(into);
    if (got.ok()) co_return got.count();
    if (got.is_eof()) co_return size_t{0};
    if (got.is_error()) co_return base::fail(got.error());
    co_await readable(stream);
  }
}

async::Task<base::Result<>> read_exact(ByteStream& stream, base::ByteSpan into) {
  while (!into.empty()) {
    base::Result<size_t> got = co_await read_some(stream, into);
    if (!got) co_return base::fail(std::move(got).error());
    if (*got == 0) {
      co_return base::fail(base::Code::kClosed, "the peer closed before all bytes arrived");
    }
    into = into.subspan(*got);
  }
  co_return base::Result<>{};
}

async::Task<base::Result<>> write_all(ByteStream& stream, base::ByteView from) {
  while (!from.empty()) {
    IoResult put = stream.try_write(from);
    if (put.ok()) {
      from = from.subspan(put.count());
    } else if (put.is_would_block()) {
      co_await writable(stream);
    } else {
      co_return base::fail(put.is_error() ? put.error()
                                          : base::Error(base::Code::kClosed, "write after close"));
    }
  }
  co_return base::Result<>{};
}

async::Task<base::Result<>> flush(ByteStream& stream) {
  // A broken stream counts as flushed: nothing more can leave it.
  while (!stream.flushed()) co_await writable(stream);
  co_return base::Result<>{};
}

}  // namespace culvert::io
