// SPDX-License-Identifier: Apache-2.0
// Expression: the part of CEL that tags of metrics and filters of access logs are written in (spec waypoint
// section 2.9). Parsed once, immutable, evaluated on any thread; evaluation is bounded by the size of the
// text and cannot fail: what is not known, or does not fit its operator, is the unknown value.
//
//   request.path   request.headers['x-a']   has(source.labels['app'])   response.code >= 500
//   a == b  !=  <  <=  >  >=   a && b  ||  !   a ? b : c   a + b   x in ['a', 'b']   'h' in request.headers
//   t.startsWith(s)  endsWith  contains  matches(regex)   size(t)  string(v)  int(t)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "net/base/result.h"

namespace culvert::decide {

// monostate: unknown.
using ExpressionValue = std::variant<std::monostate, bool, int64_t, double, std::string>;

// What the names in an expression stand for.
class Attributes {
 public:
  virtual ~Attributes() = default;
  // {"request", "headers", "x-a"}; unknown if there is none.
  virtual ExpressionValue attribute(std::span<const std::string> path) const = 0;
};

class Expression {
 public:
  static constexpr size_t kTextMax = 4096;
  static constexpr size_t kDepthMax = 64;  // of brackets and operators

  // kInvalid says what at which character.
  static base::Result<Expression> parse(std::string_view text);

  ExpressionValue evaluate(const Attributes& attributes) const;
  // For a tag; "unknown" for what is unknown. Numbers in the shortest form.
  std::string text(const Attributes& attributes) const;
  // For a filter: true, and nothing else, passes.
  bool holds(const Attributes& attributes) const;

  struct Node;

 private:
  explicit Expression(std::shared_ptr<const Node> root) : root_(std::move(root)) {}
  std::shared_ptr<const Node> root_;
};

}  // namespace culvert::decide
