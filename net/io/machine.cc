// SPDX-License-Identifier: Apache-2.0
#include "net/io/machine.h"

namespace culvert::io {

std::string ProcessEnd::to_string() const {
  return signal != 0 ? "killed by signal " + std::to_string(signal)
                     : "ended with status " + std::to_string(status);
}

}  // namespace culvert::io
