// A value inside a JSON file together with its path, so that every error names file and key, and what was expected and found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/check.h"
#include "src/base/json.h"
#include "src/base/json_object.h"

namespace tll {

class JsonNode {
 public:
  JsonNode(const Json& json, const std::string& where) : json_(&json), where_(&where) {}

  const Json& json() const { return *json_; }
  const std::string& path() const { return path_; }

  bool is_null() const { return json_->is_null(); }
  bool is_string() const { return json_->is_string(); }
  bool is_array() const { return json_->is_array(); }
  bool is_object() const { return json_->is_object(); }

  // Nothing if the key is absent or null.
  std::optional<JsonNode> find(const std::string& key) const {
    const Json::object_t& entries = object();
    const auto found = entries.find(key);
    if (found == entries.end() || found->second.is_null()) return std::nullopt;
    return JsonNode(found->second, *where_, path_.empty() ? shown_key(key) : path_ + "." + shown_key(key));
  }
  JsonNode at(const std::string& key) const {
    auto found = find(key);
    if (!found) refuse(fmt::format("the key '{}' is missing", shown_key(key)));
    return *found;
  }
  std::vector<JsonNode> items() const {
    if (!json_->is_array()) expected("an array");
    std::vector<JsonNode> out;
    for (size_t i = 0; i < json_->size(); ++i) out.push_back({(*json_)[i], *where_, fmt::format("{}[{}]", path_, i)});
    return out;
  }
  const Json::object_t& object() const {
    if (!json_->is_object()) expected("an object");
    return json_->get_ref<const Json::object_t&>();
  }
  const std::string& string() const {
    if (!json_->is_string()) expected("a string");
    return json_->get_ref<const std::string&>();
  }
  bool boolean() const {
    if (!json_->is_boolean()) expected("true or false");
    return json_->get<bool>();
  }
  // A whole number in [0, below).
  int32_t id(size_t below) const {
    if (!json_->is_number_unsigned() || json_->get<uint64_t>() >= below) expected(fmt::format("a whole number below {}", below));
    return json_->get<int32_t>();
  }
  bool boolean_or(const std::string& key, bool value) const {
    const auto found = find(key);
    return found ? found->boolean() : value;
  }

  // Error for a key that is not in `known`, unless its value says nothing: what it means may change ids.
  void only(const std::vector<std::string_view>& known) const {
    object();  // Error if it is none
    UnknownKeys unknown(known);
    unknown.meet(*json_, place());
    if (const std::optional<std::string> key = unknown.first()) {
      refuse(fmt::format("the key {} is not known, and may change token ids: remove it if it does not", in_quotes(*key)));
    }
  }

  [[noreturn]] void expected(std::string_view what) const {
    const std::string text = json_->dump(-1, ' ', true, Json::error_handler_t::replace);
    refuse(fmt::format("expected {}, found {}", what, text.size() > 60 ? text.substr(0, 60) + "..." : text));
  }
  [[noreturn]] void refuse(std::string_view complaint) const { bad_file("{}: {}", place(), complaint); }

 private:
  // File and path; of a long path the end.
  std::string place() const {
    constexpr size_t kLongest = 300;
    size_t cut = path_.size() > kLongest ? path_.size() - kLongest : 0;
    while (cut > 0 && (path_[cut] & 0xC0) == 0x80) ++cut;  // not inside a character
    return fmt::format("{}{}{}{}", *where_, path_.empty() ? "" : ": ", cut ? "..." : "", path_.substr(cut));
  }
  // A key that is long, or has characters that a message must not have, in quotes.
  static std::string shown_key(const std::string& key) {
    constexpr size_t kLongest = 60;
    std::string quoted = in_quotes(key, kLongest);
    return quoted.size() == key.size() + 2 ? key : quoted;
  }

  JsonNode(const Json& json, const std::string& where, std::string path) : json_(&json), where_(&where), path_(std::move(path)) {}
  const Json* json_;
  const std::string* where_;
  std::string path_;
};

}  // namespace tll
