// SPDX-License-Identifier: Apache-2.0
// LogFormat: an access log format with Envoy's operators, compiled once to a list of operations (spec
// waypoint section 5.4). Also what formats values of header edits. Immutable, any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/base/result.h"
#include "waypoint/record.h"

namespace culvert::waypoint {

class LogFormat {
 public:
  // Text. kInvalid names the operator that is unknown and where it stands.
  static base::Result<LogFormat> text(std::string_view format);
  // A JSON object whose strings are formats; `{"status": "%RESPONSE_CODE%"}` gives a number where the whole
  // string is one operator that is numeric.
  static base::Result<LogFormat> json(std::string_view object);
  // The line upstream's default gives, with a newline.
  static std::string_view default_text();
  static std::string_view default_json();

  // One whole line; a newline is added to formats that have none.
  std::string line(const RequestRecord& record) const;
  // For header values: no newline.
  std::string value(const RequestRecord& record) const;

 private:
  struct Program;
  explicit LogFormat(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

}  // namespace culvert::waypoint
