// SPDX-License-Identifier: Apache-2.0
// Expressions of metric tags and log filters, over attributes that strangers choose. Input: the attributes'
// text, a newline, the expression.
#include "mesh/decide/expression.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace culvert;

namespace {

void check(bool holds) {
  if (!holds) abort();
}

// By the last part of a name: "code" is a number, "share" a fraction, "yes" a truth, "gone" unknown, all else
// the text.
class Chosen final : public decide::Attributes {
 public:
  explicit Chosen(std::string_view text) : text_(text) {}
  decide::ExpressionValue attribute(std::span<const std::string> path) const override {
    check(!path.empty());
    const std::string& last = path.back();
    if (last == "code") return int64_t{503};
    if (last == "least") return INT64_MIN;
    if (last == "share") return 0.25;
    if (last == "yes") return true;
    if (last == "gone") return {};
    return text_;
  }

 private:
  std::string text_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string_view text = rest.substr(0, rest.find('\n'));
  rest.remove_prefix(std::min(rest.size(), text.size() + 1));
  Chosen attributes(text);
  auto parsed = decide::Expression::parse(rest);
  if (!parsed) {
    check(!parsed.error().message().empty());
    return 0;
  }
  check(rest.size() <= decide::Expression::kTextMax);
  decide::ExpressionValue value = parsed->evaluate(attributes);
  std::string shown = parsed->text(attributes);
  check(parsed->text(attributes) == shown);
  bool unknown = std::holds_alternative<std::monostate>(value);
  if (unknown) check(shown == "unknown");
  const bool* truth = std::get_if<bool>(&value);
  check(parsed->holds(attributes) == (truth && *truth));

  // Brackets change nothing; what holds does not hold negated, and only truths do either.
  std::string bracketed = "(" + std::string(rest) + ")";
  auto same = decide::Expression::parse(bracketed);
  if (!same) return 0;  // at the limits of length or depth
  check(same->text(attributes) == shown);
  auto negated = decide::Expression::parse("!" + bracketed);
  if (negated) check(negated->holds(attributes) == (truth && !*truth));
  auto either = decide::Expression::parse(bracketed + " ? 'yes' : 'no'");
  if (either) check(either->text(attributes) == (!truth ? "unknown" : *truth ? "yes" : "no"));
  return 0;
}
