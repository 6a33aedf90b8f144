#include "src/base/json.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <unordered_set>
#include <vector>

#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/file_kind.h"
#include "src/base/utf8_length.h"

namespace tll {
namespace {

// A pointer that records how far the parser has read, because nlohmann's events carry no position.
struct CountingPointer {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  const char** next;

  reference operator*() const { return *at; }
  CountingPointer& operator++() {
    *next = ++at;
    return *this;
  }
  bool operator==(const CountingPointer& other) const { return at == other.at; }
  bool operator!=(const CountingPointer& other) const { return at != other.at; }
};

}  // namespace

void JsonEvents::read() {
  next_ = text_.data();
  if (text_.starts_with("\xEF\xBB\xBF")) refuse("expected JSON, found a byte-order mark; save the file as UTF-8 without one");
  if (const size_t nul = text_.find('\0'); nul != std::string_view::npos) {  // the parser would take it for the end
    refuse_other_kind();
    next_ = text_.data() + nul + 1;
    refuse("expected JSON, found a NUL byte");
  }
  Json::sax_parse(CountingPointer{text_.data(), &next_}, CountingPointer{text_.data() + text_.size(), &next_}, this);
}

bool JsonEvents::parse_error(size_t position, const std::string& last_token, const nlohmann::detail::exception& error) {
  if (text_.empty()) bad_file("{}: expected JSON, found nothing", where_);
  refuse_other_kind();
  std::string reason = error.what();  // "[...] parse error at line 1, column 2: <reason>; last read: '<bytes>'; expected ..."
  if (const size_t start = reason.find(": "); start != std::string::npos) reason = reason.substr(start + 2);
  if (const size_t end = reason.find("; last read"); end != std::string::npos) reason.resize(end);
  if (reason.find("number overflow") != std::string::npos) reason = "number too large";  // the original repeats all digits
  next_ = text_.data() + std::min(position, text_.size());
  refuse(fmt::format("not valid JSON: {}, found {}", reason, in_quotes(last_token, 40)));
}

void JsonEvents::refuse_other_kind() const {
  const FileKind kind = base_ == 0 ? file_kind(text_) : FileKind::unknown;
  if (kind != FileKind::unknown) bad_file("{}: {}", where_, wrong_kind(kind, "JSON"));
}

void JsonEvents::deeper() {
  if (++depth_ > max_depth_) refuse(fmt::format("arrays and objects nested deeper than {} levels", max_depth_));
}

void JsonEvents::refuse(const std::string& message) const {
  const size_t read = size_t(next_ - text_.data());
  const size_t byte = read > 0 ? read - 1 : 0;
  if (base_ > 0) bad_file("{}: byte {}: {}", where_, base_ + byte, message);
  const auto line = 1 + std::count(text_.begin(), text_.begin() + std::ptrdiff_t(byte), '\n');
  bad_file("{}: line {}, byte {}: {}", where_, line, byte, message);
}

namespace {

// Builds a tree of either kind. An ordered object is a plain list, to which keys are appended without a search. So each open
// object has a set of its keys, to find duplicates.
template <class Tree>
class TreeBuilder : public JsonEvents {
 public:
  TreeBuilder(std::string_view text, const std::string& where, int max_depth) : JsonEvents(text, where, 0, max_depth) { read(); }
  Tree root;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool open_object() override { return open(Tree::object()); }
  bool open_array() override { return open(Tree::array()); }
  bool close_object() override { return close(); }
  bool close_array() override { return close(); }

  bool key(std::string& name) override {
    if (!open_.back().keys.insert(name).second) refuse(fmt::format("the key {} appears twice", in_quotes(name)));
    key_ = std::move(name);
    return true;
  }

 private:
  struct Level {
    Tree* value;
    std::unordered_set<std::string> keys;
  };

  template <class Value>
  Tree* place(Value&& value) {
    if (open_.empty()) {
      root = std::forward<Value>(value);
      return &root;
    }
    Tree& parent = *open_.back().value;
    if (parent.is_array()) return &parent.emplace_back(std::forward<Value>(value));
    auto& members = parent.template get_ref<typename Tree::object_t&>();
    if constexpr (std::is_same_v<Tree, OrderedJson>) {
      using List = typename Tree::object_t::Container;
      return &static_cast<List&>(members).emplace_back(std::move(key_), Tree(std::forward<Value>(value))).second;
    } else {
      return &members.emplace(std::move(key_), Tree(std::forward<Value>(value))).first->second;
    }
  }
  template <class Value>
  bool add(Value&& value) {
    return place(std::forward<Value>(value)) != nullptr;
  }
  bool open(Tree&& empty) {
    open_.push_back({place(std::move(empty)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<Level> open_;
  std::string key_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, int max_depth) {
  return TreeBuilder<Json>(text, where, max_depth).root;
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& where, int max_depth) {
  return TreeBuilder<OrderedJson>(text, where, max_depth).root;
}

std::string json_text(const Json& value, int indent) { return value.dump(indent, ' ', false, Json::error_handler_t::replace); }

void write_json(const std::filesystem::path& path, const Json& value) { write_file_atomic(path, json_text(value, 2) + "\n"); }

std::string in_quotes(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    if (i >= max_bytes) {
      out += "...";
      break;
    }
    const size_t length = utf8_length(text.substr(i));
    const auto c = uint8_t(text[i]);
    if (length == 0 || c < 0x20 || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
      ++i;
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += char(c);
      ++i;
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  return out + '"';
}

}  // namespace tll
