// SPDX-License-Identifier: Apache-2.0
#include "net/io/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace culvert::io {

base::Result<SplicePipe> SplicePipe::make() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    return base::fail(base::Error::from_errno(errno, "make a pipe"));
  // Above the user's share of pipe memory it stays at its default, which works as well.
  (void)::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(kBytes));
  return SplicePipe(ends[1], ends[0]);
}

}  // namespace culvert::io
