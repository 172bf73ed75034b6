// SPDX-License-Identifier: Apache-2.0
#include "mesh/kube/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <deque>
#include <map>
#include <sstream>

namespace culvert::kube {

const YamlValue* YamlValue::find(std::string_view key) const {
  for (const auto& [name, value] : fields) {
    if (name->kind == Kind::kScalar && name->text == key) return value;
  }
  return nullptr;
}

namespace {

// Builds one document at a time from the parser's events.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const YamlLimits& limits) : limits_(limits) {}

  // Null: the document was empty.
  const YamlValue* root() const { return root_; }
  void clear() {
    values_.clear();
    anchors_.clear();
    root_ = nullptr;
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    // The parser does not step over some tokens that cannot begin a document, and meets them again for ever.
    if (begun_ && mark.pos == begun_at_) throw YAML::ParserException(mark, "nothing can begin like this");
    begun_ = true;
    begun_at_ = mark.pos;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place(make(YamlValue::Kind::kNull, mark, anchor), mark);
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string& text) override {
    YamlValue& value = make(YamlValue::Kind::kScalar, mark, anchor);
    value.text = text;
    place(value, mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw YAML::ParserException(mark, "an alias of nothing");
    for (const Open& open : open_) {
      if (open.value == found->second) throw YAML::ParserException(mark, "a value inside itself");
    }
    place(*found->second, mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(YamlValue::Kind::kList, mark, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(YamlValue::Kind::kMap, mark, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  // A list or map that has not ended, and in a map the key that waits for its value.
  struct Open {
    YamlValue* value;
    const YamlValue* key = nullptr;
  };

  YamlValue& make(YamlValue::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (values_.size() >= limits_.values_max) throw YAML::ParserException(mark, "too many values");
    YamlValue& value = values_.emplace_back();
    value.kind = kind;
    value.line = mark.line + 1;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = &value;
    return value;
  }
  void begin(YamlValue::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (open_.size() >= static_cast<size_t>(limits_.depth_max))
      throw YAML::ParserException(mark, "nested too deeply");
    YamlValue& value = make(kind, mark, anchor);
    place(value, mark);
    open_.push_back({&value});
  }
  // Into what is open, or as the root.
  void place(const YamlValue& value, const YAML::Mark& mark) {
    if (open_.empty()) {
      if (root_) throw YAML::ParserException(mark, "a document with two roots");
      root_ = &value;
    } else if (Open& around = open_.back(); around.value->kind == YamlValue::Kind::kList) {
      around.value->items.push_back(&value);
    } else if (!around.key) {
      around.key = &value;
    } else {
      around.value->fields.emplace_back(std::exchange(around.key, nullptr), &value);
    }
  }

  const YamlLimits& limits_;
  std::deque<YamlValue> values_;  // never moved
  std::map<YAML::anchor_t, YamlValue*> anchors_;
  std::vector<Open> open_;
  const YamlValue* root_ = nullptr;
  bool begun_ = false;
  int begun_at_ = 0;
};

}  // namespace

std::optional<YamlError> read_yaml(std::string_view text, const YamlLimits& limits,
                                   const std::function<bool(const YamlValue& root)>& each) {
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(limits);
    while (parser.HandleNextDocument(builder)) {
      if (builder.root() && !each(*builder.root())) break;
      builder.clear();
    }
  } catch (const YAML::Exception& error) {
    return YamlError{error.mark.line >= 0 ? error.mark.line + 1 : 0, error.msg};
  }
  return std::nullopt;
}

}  // namespace culvert::kube
