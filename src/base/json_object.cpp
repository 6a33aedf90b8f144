#include "src/base/json_object.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <iterator>
#include <limits>

#include "src/base/check.h"
#include "src/base/spelling.h"

namespace tll {

namespace {

// The value of an integer of at most 64 bits, also if it is written as 64.0; nothing for other values.
std::optional<int64_t> as_integer(const Json& value) {
  constexpr double kMost = 9007199254740992.0;  // 2^53: a double holds every integer up to here
  if (value.is_number_float()) {
    const double number = value.get<double>();
    const bool whole = number == std::floor(number) && std::abs(number) <= kMost;
    return whole ? std::optional(static_cast<int64_t>(number)) : std::nullopt;
  }
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return value.is_number_integer() ? std::optional(value.get<int64_t>()) : std::nullopt;
}

// Its words in lower case: "maxLength", "max-length" and "MAX_LENGTH" are "max" and "length".
std::vector<std::string> words_of(std::string_view key) {
  std::vector<std::string> words(1);
  bool lower_before = false;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    const bool separator = c == '_' || c == '-' || c == '.' || c == ' ';
    if ((separator || (lower_before && std::isupper(byte))) && !words.back().empty()) words.emplace_back();
    if (!separator) words.back() += static_cast<char>(std::tolower(byte));
    lower_before = std::islower(byte);
  }
  if (words.back().empty() && words.size() > 1) words.pop_back();
  return words;
}

// Words that differ by a digit are names of different things, and so are short words that differ by a letter: top_k and top_p.
bool nearly_equal(const std::string& a, const std::string& b) {
  constexpr size_t kLongest = 64, kLong = 8, kMiddle = 5;
  if (a == b || a + "s" == b || b + "s" == a) return true;
  const auto digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const size_t shorter = std::min(a.size(), b.size()), longer = std::max(a.size(), b.size());
  if (longer > kLongest || std::any_of(a.begin(), a.end(), digit) || std::any_of(b.begin(), b.end(), digit)) return false;
  const size_t distance = edit_distance(a, b);
  if (distance == 1) {
    std::string x = a, y = b;
    std::sort(x.begin(), x.end()), std::sort(y.begin(), y.end());
    return longer >= kMiddle || (longer == 4 && a.size() != b.size()) || (longer >= 3 && x == y);
  }
  return distance == 2 && shorter >= kLong && a[0] == b[0];
}

}  // namespace

std::vector<std::string_view> close_keys(std::string_view key, std::span<const std::string_view> known) {
  const auto joined = [](const std::vector<std::string>& words) {
    std::string all;
    for (const std::string& word : words) all += word;
    return all;
  };
  std::vector<std::string_view> close;
  const std::vector<std::string> words = words_of(key);
  for (const std::string_view other : known) {
    const std::vector<std::string> others = words_of(other);
    if (joined(words) == joined(others) || std::equal(words.begin(), words.end(), others.begin(), others.end(), nearly_equal))
      close.push_back(other);
  }
  return close;
}

void UnknownKeys::meet(const Json& object, const std::string& where, std::span<const std::string_view> harmless) {
  for (const auto& [key, value] : object.items()) {
    const bool nothing =
        value.is_null() || value == false || value == 0 || value == "" || (value.is_structured() && value.empty());
    const auto is = [&key = key](std::string_view name) { return name == key; };
    if (nothing || std::any_of(known_.begin(), known_.end(), is) || std::any_of(harmless.begin(), harmless.end(), is)) continue;
    meet(key, where, [&](std::string_view name) { return object.contains(name); });
  }
}

void UnknownKeys::meet(std::string_view key, const std::string& where, const std::function<bool(std::string_view)>& has) {
  constexpr size_t kMost = 1000;
  auto found = met_.find(key);
  if (found == met_.end() && met_.size() == kMost) {
    more_ = true;  // nobody writes so many, and each costs a comparison with every known key
    return;
  }
  if (found == met_.end()) found = met_.emplace(key, Met{close_keys(key, known_)}).first;
  found->second.times++;
  for (const std::string_view meant : found->second.close)
    if (!has(meant))
      bad_file("{}: key {} is not known; if \"{}\" is meant, rename it, else remove it", where, in_quotes(key), meant);
}

void UnknownKeys::count_into(std::map<std::string, int64_t>& times) const {
  for (const auto& [key, met] : met_) times[key] += met.times;
}

std::vector<std::string> UnknownKeys::notes(const std::string& file) const {
  std::map<std::string, int64_t> times;
  count_into(times);
  return unknown_key_notes(times, file, more_);
}

std::vector<std::string> unknown_key_notes(const std::map<std::string, int64_t>& times, const std::string& file, bool at_least) {
  constexpr size_t kShown = 10;
  std::vector<std::string> lines;
  for (const auto& [key, count] : times) {
    if (lines.size() == kShown) break;
    const std::string often = count > 1 ? fmt::format(" ({} times)", count) : "";
    lines.push_back(fmt::format("{}: key {} is not known and is ignored{}", file, in_quotes(key), often));
  }
  if (at_least || times.size() > kShown)
    lines.push_back(
        fmt::format("{}: and {}{} more keys are not known", file, at_least ? "at least " : "", times.size() - kShown));
  return lines;
}

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

std::vector<double> JsonObject::numbers(const char* key, double above, double at_most) {
  std::vector<double> found;
  const Json* value = find(key);
  if (!value) return found;
  if (!value->is_array()) wrong(key, "a list of numbers", *value);
  for (const Json& item : *value) {
    const double number = item.is_number() ? item.get<double>() : NAN;
    if (!(number > above && number <= at_most))
      wrong(key, fmt::format("numbers above {:g} and at most {:g}", above, at_most), item);
    found.push_back(number);
  }
  return found;
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
  constexpr size_t kMost = 1024;  // lists are searched item by item
  std::vector<int64_t> found;
  const Json* value = find(key);
  if (!value) return found;
  if (value->is_array() && value->size() > kMost)
    bad_file("{}: key \"{}\": expected at most {} items, found {}", where_, key, kMost, value->size());
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
  UnknownKeys unknown({known_.begin(), known_.end()});
  unknown.meet(object_, where_, harmless);
  for (std::string& note : unknown.notes(where_)) warnings.push_back(std::move(note));
}

}  // namespace tll
