// SPDX-License-Identifier: Apache-2.0
// How `culvert` prints: aligned tables for people, JSON and YAML for programs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"

namespace culvert::control {

enum class OutputFormat : unsigned char { kTable, kJson, kYaml };
base::Result<OutputFormat> parse_output_format(std::string_view text);

// Columns as wide as their widest cell plus a gap; the last cell of a line is not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> columns, size_t gap = 1) : gap_(gap) {
    rows_.push_back(std::move(columns));
  }
  // As many cells as there are columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text() const;

 private:
  size_t gap_;
  std::vector<std::vector<std::string>> rows_;
};

// A JSON text as it is printed: indented, or as YAML. Error: the text is not JSON.
base::Result<std::string> print_document(std::string_view json_text, OutputFormat format);

// What a terminal might obey (escapes, newlines) is shown as "\x1b"; names come from the network.
std::string printable(std::string_view text);

}  // namespace culvert::control
