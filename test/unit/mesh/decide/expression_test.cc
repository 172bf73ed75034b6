// SPDX-License-Identifier: Apache-2.0
// The expressions of tags and filters, one row each (spec waypoint section 2.9).
#include "mesh/decide/expression.h"

#include <catch2/catch.hpp>
#include <map>

using namespace culvert;
using namespace culvert::decide;

namespace {

class Table final : public Attributes {
 public:
  ExpressionValue attribute(std::span<const std::string> path) const override {
    std::string key;
    for (const std::string& part : path) key += (key.empty() ? "" : "|") + part;
    auto found = values.find(key);
    return found == values.end() ? ExpressionValue{} : found->second;
  }
  std::map<std::string, ExpressionValue> values{
      {"request|path", "/api/v1"},     {"request|method", "GET"}, {"request|headers|x-a", "red"},
      {"response|code", int64_t{503}}, {"connection|mtls", true}, {"source|labels|app", "web"},
      {"response|size", int64_t{10}},  {"request|duration", 1.5},
  };
};

std::string run(std::string_view text) {
  auto expression = Expression::parse(text);
  REQUIRE(expression);
  return expression->text(Table());
}

std::string error(std::string_view text) {
  auto expression = Expression::parse(text);
  REQUIRE_FALSE(expression);
  return expression.error().message();
}

}  // namespace

TEST_CASE("what expressions give", "[waypoint-2.9]") {
  struct Row {
    const char* text;
    const char* value;
  };
  const Row rows[] = {
      {"request.path", "/api/v1"},
      {"request['path']", "/api/v1"},
      {"request.headers['x-a']", "red"},
      {"request.headers[\"x-a\"]", "red"},
      {"request.nothing", "unknown"},
      {"'it\\'s'", "it's"},
      {"7", "7"},
      {"-7", "-7"},
      {"1.25", "1.25"},
      {"request.duration", "1.5"},
      {"true", "true"},
      {"response.code == 503", "true"},
      {"response.code == 503.0", "true"},
      {"response.code != 503", "false"},
      {"response.code >= 500 && response.code < 600", "true"},
      {"response.code > 503 || response.size <= 10", "true"},
      {"response.code == '503'", "false"},
      {"response.code != '503'", "true"},
      {"response.code < '503'", "unknown"},
      {"!connection.mtls", "false"},
      {"!request.path", "unknown"},
      {"connection.mtls == true", "true"},
      {"request.method == 'GET' ? 'read' : 'write'", "read"},
      {"request.nothing ? 'a' : 'b'", "unknown"},
      {"false ? 1 : true ? 2 : 3", "2"},
      {"request.nothing == 'x'", "unknown"},
      {"false && request.nothing == 'x'", "false"},
      {"request.nothing == 'x' && false", "false"},
      {"request.nothing == 'x' || true", "true"},
      {"request.nothing == 'x' || false", "unknown"},
      {"has(request.path)", "true"},
      {"has(request.headers['x-b'])", "false"},
      {"has(source.labels['app']) ? source.labels['app'] : 'none'", "web"},
      {"'x-a' in request.headers", "true"},
      {"'x-b' in request.headers", "false"},
      {"request.method in ['GET', 'HEAD']", "true"},
      {"request.method in []", "false"},
      {"response.code in [500, 503]", "true"},
      {"request.path.startsWith('/api')", "true"},
      {"request.path.endsWith('/v1')", "true"},
      {"request.path.contains('v2')", "false"},
      {"request.path.matches('v[0-9]')", "true"},
      {"request.path.matches('^v[0-9]$')", "false"},
      {"response.code.startsWith('5')", "unknown"},
      {"string(response.code).startsWith('5')", "true"},
      {"size(request.path)", "7"},
      {"request.path.size() == 7", "true"},
      {"int('12') + 1", "13"},
      {"int(response.code)", "503"},
      {"int('x')", "unknown"},
      // At the edges of 64 bits nothing wraps, and no digit is lost.
      {"int('-9223372036854775808')", "-9223372036854775808"},
      {"-int('-9223372036854775808')", "unknown"},
      {"int('9223372036854775807') + 1", "unknown"},
      {"int('9007199254740993') == int('9007199254740992')", "false"},
      {"int('9007199254740993') > int('9007199254740992')", "true"},
      {"9223372036854775807 + 1", "unknown"},
      {"request.method + ' ' + request.path", "GET /api/v1"},
      {"(1 + 2) == 3", "true"},
      {"  request.method  ==\n'GET' ", "true"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK(run(row.text) == row.value);
  }
}

TEST_CASE("only true passes a filter", "[waypoint-2.9]") {
  CHECK(Expression::parse("response.code >= 500")->holds(Table()));
  CHECK_FALSE(Expression::parse("response.code >= 504")->holds(Table()));
  CHECK_FALSE(Expression::parse("request.nothing >= 500")->holds(Table()));
  CHECK_FALSE(Expression::parse("'true'")->holds(Table()));
  CHECK_FALSE(Expression::parse("1")->holds(Table()));
}

TEST_CASE("errors say what and where", "[waypoint-2.9]") {
  struct Row {
    const char* text;
    const char* message;
  };
  const Row rows[] = {
      {"", "character 1: a value is expected"},
      {"a b", "character 3: an operator or the end is expected"},
      {"a ==", "character 5: a value is expected"},
      {"(a", "character 3: \")\" is expected"},
      {"'a", "character 3: the quote is not closed"},
      {"a.size(", "\")\" is expected"},
      {"a.contains()", "character 12: a value is expected"},
      {"a.upper(b)", "there is no method \"upper\""},
      {"timestamp(b)", "there is no function \"timestamp\""},
      {"a[b]", "between [ ] a quoted key of an attribute is expected"},
      {"a ? b", "\":\" is expected"},
      {"x in y", "`in` needs a list, or a quoted key and a map"},
      {"a.matches('(')", "missing )"},
      {"a.matches(b)", "matches() takes a quoted expression"},
      {"has('x')", "has() takes an attribute"},
      {"99999999999999999999", "the number is too large"},
      {"a == b == c", "an operator or the end is expected"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    CHECK_THAT(error(row.text), Catch::Contains(row.message));
  }
  CHECK_THAT(error(std::string(65, '(')), Catch::Contains("nested too deeply"));
  CHECK_THAT(error(std::string(3000, '!')), Catch::Contains("nested too deeply"));
  CHECK_THAT(error(std::string(5000, 'a')), Catch::Contains("at most 4096 are read"));
}
