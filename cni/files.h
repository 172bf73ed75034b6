// SPDX-License-Identifier: Apache-2.0
// Small files, read bounded and written so that no reader ever sees half of one.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"

namespace culvert::cni {

// kNotFound if it does not exist; kExhausted above `bytes_max`.
base::Result<std::string> read_small_file(const std::string& path, size_t bytes_max = 4 << 20);
// Whether both can be read and hold the same bytes; neither is held in memory.
bool same_content(const std::string& one, const std::string& other);
// Temporary file `<name>.tmp.<random>` in the same directory, then rename.
base::Result<> write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode);
// Deletes leftovers of an interrupted write of `path`.
void remove_stale_temporaries(const std::string& path);
// Names of the regular files (links followed) in a directory, sorted bytewise. kNotFound if there is none.
base::Result<std::vector<std::string>> list_files(const std::string& directory);
base::Result<> make_directories(const std::string& path, mode_t mode);
// Success if it is gone already.
base::Result<> remove_file(const std::string& path);

}  // namespace culvert::cni
