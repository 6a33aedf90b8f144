#include "src/base/json_object.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/base/check.h"

namespace tll {

namespace {

// The value of an integer of at most 64 bits; nothing for other values.
std::optional<int64_t> as_integer(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return value.is_number_integer() ? std::optional(value.get<int64_t>()) : std::nullopt;
}

}  // namespace

std::string shown(const Json& value) {
  if (value.is_object()) return value.empty() ? "{}" : "an object";
  if (value.is_array()) return value.empty() ? "[]" : "a list";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

JsonObject::JsonObject(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) bad_file("{}: expected a JSON object, found {}", where_, shown(object));
}

const Json* JsonObject::find(const char* key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonObject::wrong(const char* key, std::string_view expected, const Json& found) const {
  bad_file("{}: key \"{}\": expected {}, found {}", where_, key, expected, shown(found));
}

int32_t JsonObject::size(const char* key, std::optional<int32_t> absent) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const Json* value = find(key);
  if (!value && absent) return *absent;
  if (!value) bad_file("{}: key \"{}\" is missing: this size has no safe default", where_, key);
  const int64_t number = as_integer(*value).value_or(0);
  if (number < 1 || number > kMax) wrong(key, fmt::format("an integer from 1 to {}", kMax), *value);
  return int32_t(number);
}

double JsonObject::number(const char* key, double absent, double above, double at_most) {
  const Json* value = find(key);
  if (!present(key)) return absent;
  const double number = value && value->is_number() ? value->get<double>() : NAN;
  if (!(number > above && number <= at_most))
    wrong(key, fmt::format("a number above {:g} and at most {:g}", above, at_most), value ? *value : Json());
  return number;
}

bool JsonObject::flag(const char* key) {
  const Json* value = find(key);
  if (value && !value->is_boolean()) wrong(key, "true or false", *value);
  return value && value->get<bool>();
}

std::string JsonObject::text(const char* key) {
  const Json* value = find(key);
  if (value && !value->is_string()) wrong(key, "a string", *value);
  return value ? value->get<std::string>() : "";
}

std::vector<std::string> JsonObject::strings(const char* key) {
  const Json* value = find(key);
  if (!value) return {};
  if (value->is_string()) return {value->get<std::string>()};
  const bool all =
      value->is_array() && std::all_of(value->begin(), value->end(), [](const Json& item) { return item.is_string(); });
  if (!all) wrong(key, "a string or a list of strings", *value);
  return value->get<std::vector<std::string>>();
}

std::vector<int64_t> JsonObject::integers(const char* key, int64_t least, std::string_view expected) {
  std::vector<int64_t> found;
  const Json* value = find(key);
  if (!value) return found;
  for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
    const std::optional<int64_t> integer = as_integer(item);
    if (!integer || *integer < least) wrong(key, expected, item);
    found.push_back(*integer);
  }
  return found;
}

void JsonObject::refuse(std::span<const RefusedKeys> rows) {
  for (const auto& [off, keys] : rows)
    for (const char* key : keys) {
      const Json* value = find(key);
      if (value && *value != Json::parse(off))
        bad_file("{}: key \"{}\" is {}: this changes the mathematics, and is not implemented", where_, key, shown(*value));
    }
}

void JsonObject::warn_unknown(std::span<const std::string_view> harmless, std::vector<std::string>& warnings) const {
  for (const auto& [key, value] : object_.items()) {
    const bool nothing =
        value.is_null() || value == false || value == 0 || ((value.is_structured() || value.is_string()) && value.size() == 0);
    if (!nothing && !known_.contains(key) && std::find(harmless.begin(), harmless.end(), key) == harmless.end())
      warnings.push_back(fmt::format("{}: key {} is not known and is ignored", where_, in_quotes(key)));
  }
}

}  // namespace tll
