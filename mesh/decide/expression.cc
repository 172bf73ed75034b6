// SPDX-License-Identifier: Apache-2.0
#include "mesh/decide/expression.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "mesh/model/text_match.h"

namespace culvert::decide {

namespace {

using base::Code;
using base::fail;
using Value = ExpressionValue;

enum class Op : uint8_t {
  kLiteral,
  kAttribute,
  kHas,
  kNot,
  kNegate,
  kAnd,
  kOr,
  kEqual,
  kUnequal,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kAdd,
  kChoose,
  kIn,  // the first among the others
  kStartsWith,
  kEndsWith,
  kContains,
  kMatches,
  kSize,
  kString,
  kInt,
};

}  // namespace

struct Expression::Node {
  Op op = Op::kLiteral;
  Value literal;
  std::vector<std::string> path;  // of kAttribute and kHas
  std::optional<model::Regex> regex;
  std::vector<Node> operands;
};

namespace {

using Node = Expression::Node;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

Node make(Op op, std::vector<Node> operands) {
  Node node;
  node.op = op;
  node.operands = std::move(operands);
  return node;
}

Node make(Op op, Node first, Node second) {
  std::vector<Node> operands;
  operands.push_back(std::move(first));
  operands.push_back(std::move(second));
  return make(op, std::move(operands));
}

// Recursive descent, one function for each level of precedence. The first error ends it: from then on every
// function returns an empty node at once.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  base::Result<Node> parse() {
    Node root = choice();
    skip();
    if (error_.empty() && at_ < text_.size()) lose("an operator or the end is expected");
    if (!error_.empty()) return fail(Code::kInvalid, error_);
    return root;
  }

 private:
  class Deeper {
   public:
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > Expression::kDepthMax) parser_.lose("nested too deeply");
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Parser& parser_;
  };

  void lose(std::string_view what) {
    if (error_.empty()) error_ = fmt::format("expression \"{}\", character {}: {}", text_, at_ + 1, what);
    at_ = text_.size();
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n')) ++at_;
  }
  bool take(std::string_view token) {
    skip();
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  void need(std::string_view token) {
    if (!take(token)) lose(fmt::format("\"{}\" is expected", token));
  }
  std::string name() {
    skip();
    size_t from = at_;
    while (at_ < text_.size() && (is_letter(text_[at_]) || (at_ > from && is_digit(text_[at_])))) ++at_;
    if (at_ == from) lose("a name is expected");
    return std::string(text_.substr(from, at_ - from));
  }

  Node choice() {
    Deeper deeper(*this);
    Node condition = either();
    if (!take("?")) return condition;
    std::vector<Node> operands;
    operands.push_back(std::move(condition));
    operands.push_back(choice());
    need(":");
    operands.push_back(choice());
    return make(Op::kChoose, std::move(operands));
  }

  Node either() {
    Node left = both();
    while (take("||")) left = make(Op::kOr, std::move(left), both());
    return left;
  }

  Node both() {
    Node left = relation();
    while (take("&&")) left = make(Op::kAnd, std::move(left), relation());
    return left;
  }

  bool take_in() {
    skip();
    std::string_view rest = text_.substr(at_);
    if (!rest.starts_with("in") || (rest.size() > 2 && (is_letter(rest[2]) || is_digit(rest[2]))))
      return false;
    at_ += 2;
    return true;
  }

  Node relation() {
    static constexpr std::pair<std::string_view, Op> kOperators[] = {
        {"==", Op::kEqual},        {"!=", Op::kUnequal}, {"<=", Op::kLessEqual},
        {">=", Op::kGreaterEqual}, {"<", Op::kLess},     {">", Op::kGreater}};
    Node left = sum();
    for (const auto& [token, op] : kOperators) {
      if (take(token)) return make(op, std::move(left), sum());
    }
    return take_in() ? membership(std::move(left)) : left;
  }

  // `x in [..]`, or `'key' in map`.
  Node membership(Node item) {
    std::vector<Node> operands;
    if (!take("[")) {
      Node map = sum();
      const auto* key = std::get_if<std::string>(&item.literal);
      if (map.op != Op::kAttribute || item.op != Op::kLiteral || !key) {
        lose("`in` needs a list, or a quoted key and a map");
        return {};
      }
      map.op = Op::kHas;
      map.path.push_back(*key);
      return map;
    }
    operands.push_back(std::move(item));
    if (!take("]")) {
      do operands.push_back(choice());
      while (take(","));
      need("]");
    }
    return make(Op::kIn, std::move(operands));
  }

  Node sum() {
    Node left = unary();
    while (take("+")) left = make(Op::kAdd, std::move(left), unary());
    return left;
  }

  Node unary() {
    Deeper deeper(*this);
    skip();
    if (!text_.substr(at_).starts_with("!=") && take("!")) return wrap(Op::kNot, unary());
    if (take("-")) return wrap(Op::kNegate, unary());
    return member();
  }

  static Node wrap(Op op, Node operand) {
    std::vector<Node> operands;
    operands.push_back(std::move(operand));
    return make(op, std::move(operands));
  }

  // What follows a value: .name, .method(..), [key].
  Node member() {
    Node value = primary();
    while (error_.empty()) {
      if (take(".")) {
        std::string what = name();
        if (take("(")) {
          value = method(std::move(value), what);
        } else if (value.op == Op::kAttribute) {
          value.path.push_back(std::move(what));
        } else {
          lose("only attributes have fields");
        }
      } else if (take("[")) {
        Node key = choice();
        need("]");
        const auto* text = std::get_if<std::string>(&key.literal);
        if (value.op != Op::kAttribute || key.op != Op::kLiteral || !text) {
          lose("between [ ] a quoted key of an attribute is expected");
        } else {
          value.path.push_back(*text);
        }
      } else {
        break;
      }
    }
    return value;
  }

  Node method(Node subject, std::string_view name) {
    static constexpr std::pair<std::string_view, Op> kMethods[] = {{"startsWith", Op::kStartsWith},
                                                                   {"endsWith", Op::kEndsWith},
                                                                   {"contains", Op::kContains},
                                                                   {"matches", Op::kMatches},
                                                                   {"size", Op::kSize}};
    for (const auto& [known, op] : kMethods) {
      if (known != name) continue;
      if (op == Op::kSize) {
        need(")");
        return wrap(op, std::move(subject));
      }
      Node argument = choice();
      need(")");
      return op == Op::kMatches ? matching(std::move(subject), argument)
                                : make(op, std::move(subject), std::move(argument));
    }
    lose(fmt::format("there is no method \"{}\"", name));
    return {};
  }

  Node matching(Node subject, const Node& argument) {
    const auto* pattern = std::get_if<std::string>(&argument.literal);
    if (argument.op != Op::kLiteral || !pattern) {
      lose("matches() takes a quoted expression");
      return {};
    }
    // CEL finds it anywhere in the text.
    auto regex = model::Regex::compile("(?s:.*)(?:" + *pattern + ")(?s:.*)");
    if (!regex) {
      lose(regex.error().message());
      return {};
    }
    Node node = wrap(Op::kMatches, std::move(subject));
    node.regex = std::move(*regex);
    return node;
  }

  Node function(std::string_view name) {
    Node argument = choice();
    need(")");
    if (name == "has") {
      if (argument.op != Op::kAttribute) lose("has() takes an attribute");
      argument.op = Op::kHas;
      return argument;
    }
    if (name == "size") return wrap(Op::kSize, std::move(argument));
    if (name == "string") return wrap(Op::kString, std::move(argument));
    if (name == "int") return wrap(Op::kInt, std::move(argument));
    lose(fmt::format("there is no function \"{}\"", name));
    return {};
  }

  Node primary() {
    Node node;
    skip();
    if (at_ >= text_.size()) return lose("a value is expected"), node;
    char c = text_[at_];
    if (take("(")) {
      node = choice();
      need(")");
    } else if (c == '\'' || c == '"') {
      node.literal = quoted();
    } else if (is_digit(c)) {
      node.literal = number();
    } else if (is_letter(c)) {
      std::string what = name();
      if (what == "true" || what == "false") {
        node.literal = what == "true";
      } else if (take("(")) {
        node = function(what);
      } else {
        node.op = Op::kAttribute;
        node.path.push_back(std::move(what));
      }
    } else {
      lose("a value is expected");
    }
    return node;
  }

  std::string quoted() {
    char quote = text_[at_++];
    std::string out;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
        char escaped = text_[++at_];
        out += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
        ++at_;
      } else {
        out += text_[at_++];
      }
    }
    if (at_ >= text_.size()) {
      lose("the quote is not closed");
    } else {
      ++at_;
    }
    return out;
  }

  Value number() {
    std::string_view rest = text_.substr(at_);
    int64_t whole = 0;
    double broken = 0;
    auto integer = std::from_chars(rest.data(), rest.data() + rest.size(), whole);
    auto real = std::from_chars(rest.data(), rest.data() + rest.size(), broken);
    if (real.ec == std::errc{} && real.ptr > integer.ptr) {
      at_ += static_cast<size_t>(real.ptr - rest.data());
      return broken;
    }
    if (integer.ec != std::errc{}) return lose("the number is too large"), Value{};
    at_ += static_cast<size_t>(integer.ptr - rest.data());
    return whole;
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t depth_ = 0;
  std::string error_;
};

std::optional<double> as_number(const Value& value) {
  if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
  if (const auto* broken = std::get_if<double>(&value)) return *broken;
  return std::nullopt;
}

// Below, equal or above 0; nothing if the two cannot be compared.
std::optional<int> compare(const Value& left, const Value& right) {
  const auto* a = std::get_if<std::string>(&left);
  const auto* b = std::get_if<std::string>(&right);
  if (a && b) return a->compare(*b);
  // As integers first: a double has 53 bits of them.
  const auto* i = std::get_if<int64_t>(&left);
  const auto* j = std::get_if<int64_t>(&right);
  if (i && j) return *i < *j ? -1 : *i > *j ? 1 : 0;
  auto x = as_number(left), y = as_number(right);
  if (x && y) return *x < *y ? -1 : *x > *y ? 1 : 0;
  const auto* p = std::get_if<bool>(&left);
  const auto* q = std::get_if<bool>(&right);
  if (p && q) return static_cast<int>(*p) - static_cast<int>(*q);
  return std::nullopt;
}

Value add(const Value& left, const Value& right) {
  const auto* a = std::get_if<std::string>(&left);
  const auto* b = std::get_if<std::string>(&right);
  if (a && b) return *a + *b;
  const auto* i = std::get_if<int64_t>(&left);
  const auto* j = std::get_if<int64_t>(&right);
  int64_t sum = 0;
  if (i && j) return __builtin_add_overflow(*i, *j, &sum) ? Value{} : Value{sum};
  auto x = as_number(left), y = as_number(right);
  return x && y ? Value{*x + *y} : Value{};
}

std::string text_of(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const auto* whole = std::get_if<int64_t>(&value)) return fmt::format("{}", *whole);
  if (const auto* broken = std::get_if<double>(&value)) return fmt::format("{}", *broken);
  return "";
}

Value run(const Node& node, const Attributes& attributes);

Value run_relation(const Node& node, const Attributes& attributes) {
  Value left = run(node.operands[0], attributes);
  Value right = run(node.operands[1], attributes);
  std::optional<int> order = compare(left, right);
  if (!order) {
    // Two kinds of thing are different, but neither comes first.
    if (left.index() == 0 || right.index() == 0) return {};
    if (node.op == Op::kEqual) return false;
    if (node.op == Op::kUnequal) return true;
    return {};
  }
  switch (node.op) {
    case Op::kEqual: return *order == 0;
    case Op::kUnequal: return *order != 0;
    case Op::kLess: return *order < 0;
    case Op::kLessEqual: return *order <= 0;
    case Op::kGreater: return *order > 0;
    default: return *order >= 0;
  }
}

// `decisive` settles it whatever the other side is, also if that is unknown.
Value run_logic(const Node& node, const Attributes& attributes, bool decisive) {
  Value left = run(node.operands[0], attributes);
  if (left == Value{decisive}) return decisive;
  Value right = run(node.operands[1], attributes);
  if (right == Value{decisive}) return decisive;
  if (left == Value{!decisive} && right == Value{!decisive}) return !decisive;
  return {};
}

Value run_text(const Node& node, const Attributes& attributes) {
  Value subject = run(node.operands[0], attributes);
  const auto* text = std::get_if<std::string>(&subject);
  if (!text) return {};
  if (node.op == Op::kMatches) return node.regex->full_match(*text);
  if (node.op == Op::kSize) return static_cast<int64_t>(text->size());
  if (node.op == Op::kInt) {
    int64_t out = 0;
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), out);
    return error == std::errc{} && end == text->data() + text->size() ? Value{out} : Value{};
  }
  Value argument = run(node.operands[1], attributes);
  const auto* part = std::get_if<std::string>(&argument);
  if (!part) return {};
  if (node.op == Op::kStartsWith) return text->starts_with(*part);
  if (node.op == Op::kEndsWith) return text->ends_with(*part);
  return text->find(*part) != std::string::npos;
}

Value run_in(const Node& node, const Attributes& attributes) {
  Value item = run(node.operands[0], attributes);
  if (item.index() == 0) return {};
  for (size_t i = 1; i < node.operands.size(); ++i) {
    if (compare(item, run(node.operands[i], attributes)) == 0) return true;
  }
  return false;
}

Value run(const Node& node, const Attributes& attributes) {
  switch (node.op) {
    case Op::kLiteral: return node.literal;
    case Op::kAttribute: return attributes.attribute(node.path);
    case Op::kHas: return attributes.attribute(node.path).index() != 0;
    case Op::kNot: {
      Value value = run(node.operands[0], attributes);
      const auto* truth = std::get_if<bool>(&value);
      return truth ? Value{!*truth} : Value{};
    }
    case Op::kNegate: {
      Value value = run(node.operands[0], attributes);
      if (const auto* whole = std::get_if<int64_t>(&value)) {
        int64_t negated = 0;
        return __builtin_sub_overflow(int64_t{0}, *whole, &negated) ? Value{} : Value{negated};
      }
      auto broken = as_number(value);
      return broken ? Value{-*broken} : Value{};
    }
    case Op::kAnd: return run_logic(node, attributes, false);
    case Op::kOr: return run_logic(node, attributes, true);
    case Op::kEqual:
    case Op::kUnequal:
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kGreater:
    case Op::kGreaterEqual: return run_relation(node, attributes);
    case Op::kAdd: return add(run(node.operands[0], attributes), run(node.operands[1], attributes));
    case Op::kChoose: {
      Value condition = run(node.operands[0], attributes);
      const auto* truth = std::get_if<bool>(&condition);
      return truth ? run(node.operands[*truth ? 1 : 2], attributes) : Value{};
    }
    case Op::kIn: return run_in(node, attributes);
    case Op::kString: {
      Value value = run(node.operands[0], attributes);
      return value.index() == 0 ? Value{} : Value{text_of(value)};
    }
    case Op::kInt: {
      Value value = run(node.operands[0], attributes);
      if (std::holds_alternative<int64_t>(value)) return value;
      return run_text(node, attributes);
    }
    case Op::kStartsWith:
    case Op::kEndsWith:
    case Op::kContains:
    case Op::kMatches:
    case Op::kSize: return run_text(node, attributes);
  }
  return {};
}

}  // namespace

base::Result<Expression> Expression::parse(std::string_view text) {
  if (text.size() > kTextMax) {
    return fail(Code::kInvalid,
                fmt::format("an expression of {} bytes; at most {} are read", text.size(), kTextMax));
  }
  auto root = Parser(text).parse();
  if (!root) return fail(std::move(root).error());
  return Expression(std::make_shared<const Node>(std::move(*root)));
}

ExpressionValue Expression::evaluate(const Attributes& attributes) const { return run(*root_, attributes); }

std::string Expression::text(const Attributes& attributes) const {
  Value value = evaluate(attributes);
  return value.index() == 0 ? "unknown" : text_of(value);
}

bool Expression::holds(const Attributes& attributes) const { return evaluate(attributes) == Value{true}; }

}  // namespace culvert::decide
