// Reading and writing the value of one option.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "src/base/check.h"
#include "src/base/spelling.h"
#include "src/options/nearest.h"
#include "src/options/option_table.h"

namespace tll {
namespace {

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

using OptionalPath = std::optional<std::filesystem::path> Options::*;
using WordList = std::vector<std::string> Options::*;
constexpr std::string_view kEveryItem = "all-linear";

// Words in small letters, as Python writes them (True), or in capitals.
std::optional<bool> read_bool(std::string_view typed) {
  const std::string text = lower_case(typed);
  if (text == "true" || text == "on" || text == "yes" || text == "1") return true;
  if (text == "false" || text == "off" || text == "no" || text == "0") return false;
  return std::nullopt;
}

template <class Number>
std::optional<Number> read_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Bytes: K, M, G, T, Ki, Mi, ... and KiB, MiB, ... are powers of 1024, KB, MB, ... of 1000, as in GNU's dd and sort.
std::optional<int64_t> read_size(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  std::string unit = lower_case(std::string_view(end, static_cast<size_t>(text.data() + text.size() - end)));
  unit.erase(0, unit.find_first_not_of(' '));
  unit.erase(unit.find_last_not_of(' ') + 1);
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    const char* powers = "kmgt";
    const char* power = std::strchr(powers, unit[0]);
    const std::string rest = unit.substr(1);
    if (power == nullptr || (rest != "" && rest != "b" && rest != "i" && rest != "ib")) return std::nullopt;
    factor = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power - powers + 1));
  }
  const double bytes = number * factor;
  if (!(bytes >= 0) || bytes > 0x1p62) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

// A number of bytes is that of a file or of a machine. 16 is neither, and means a number of some larger unit.
void refuse_missing_unit(std::string_view text, std::string_view typed) {
  const auto number = read_number<double>(text);
  if (number && *number > 0 && *number < 1 << 20)
    fail(kExitUsage, "{0} {1} is {1} bytes; did you mean {1}{2}?", typed, *number, *number < 1024 ? "GB" : "MB");
}

// The word of the table that is meant, in whatever case it was typed; else `text`.
std::string_view canonical(const OptionRow& row, std::string_view text) {
  const std::string typed = lower_case(text);
  for (const auto& [spelling, meaning] : row.synonyms) {
    if (typed == spelling) return meaning;
  }
  for (std::string_view choice : row.choices) {
    if (typed == choice) return choice;
  }
  return text;
}

bool in_range(const Range& range, double value) {
  if (!std::isfinite(value)) return false;
  if (range.low_excluded ? value <= range.low : value < range.low) return false;
  return range.high_excluded ? value < range.high : value <= range.high;
}

std::string range_text(const Range& range) {
  const std::string low = range.low_excluded ? fmt::format("above {}", range.low) : fmt::format("{}", range.low);
  if (std::isinf(range.high)) return range.low_excluded ? low : low + " or more";
  if (range.low_excluded) return fmt::format("{} and at most {}", low, range.high);
  return fmt::format("from {} to {}{}", low, range.high, range.high_excluded ? " (not included)" : "");
}

// The items of a comma-separated list, without blanks around them.
Words items_of(std::string_view text) {
  Words items;
  while (true) {
    const size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    items.push_back(item);
    if (comma == std::string_view::npos) return items;
    text.remove_prefix(comma + 1);
  }
}

bool is_choice(const OptionRow& row, std::string_view word) {
  return std::find(row.choices.begin(), row.choices.end(), word) != row.choices.end();
}

bool is_foreign(const OptionRow& row, std::string_view item) {
  return std::find(row.foreign.begin(), row.foreign.end(), lower_case(item)) != row.foreign.end();
}

// The items of a list as the row's choices, in their order, each once; nothing if one is unknown. A row without choices takes
// pairs NAME=FIELD, or none.
std::optional<std::vector<std::string>> read_list(const OptionRow& row, std::string_view text) {
  if (row.choices.empty()) {
    std::vector<std::string> pairs;
    if (text.empty()) return pairs;
    for (std::string_view item : items_of(text)) {
      const size_t equals = item.find('=');
      if (equals == 0 || equals == std::string_view::npos || equals + 1 == item.size()) return std::nullopt;
      pairs.emplace_back(item);
    }
    return pairs;
  }
  std::vector<std::string_view> found;
  for (std::string_view item : items_of(text)) {
    item = canonical(row, item);
    if (!row.nothing.empty() && item == row.nothing) {
      if (item != text) return std::nullopt;
    } else if (is_foreign(row, item)) {
      continue;
    } else if (item == kEveryItem) {
      found.insert(found.end(), row.choices.begin(), row.choices.end());
    } else if (!is_choice(row, item)) {
      return std::nullopt;
    } else {
      found.push_back(item);
    }
  }
  std::vector<std::string> ordered;
  for (std::string_view choice : row.choices) {
    if (std::find(found.begin(), found.end(), choice) != found.end()) ordered.emplace_back(choice);
  }
  return ordered;
}

// Whether `text` is a value of the row; if so, it is written into `options`.
bool read_value(const OptionRow& row, Options& options, std::string_view typed_text) {
  const std::string_view text = canonical(row, typed_text);
  const auto keep = [&](auto field, auto value) {
    if (value) options.*field = *value;
    return value.has_value();
  };
  return std::visit(Overloaded{[&](bool Options::*field) { return keep(field, read_bool(text)); },
                               [&](int64_t Options::*field) {
                                 if (row.automatic && text == "auto") return keep(field, std::optional(kAutomatic));
                                 const auto value = row.size ? read_size(text) : read_number<int64_t>(text);
                                 return value && in_range(row.range, static_cast<double>(*value)) && keep(field, value);
                               },
                               [&](double Options::*field) {
                                 const auto value = read_number<double>(text);
                                 return value && in_range(row.range, *value) && keep(field, value);
                               },
                               [&](std::string Options::*field) {
                                 options.*field = text;
                                 return true;
                               },
                               [&](std::filesystem::path Options::*field) {
                                 options.*field = text;
                                 return !text.empty();
                               },
                               [&](OptionalPath field) {
                                 const auto flag = read_bool(text);
                                 if (flag == false) (options.*field).reset();
                                 if (flag != false) options.*field = flag ? std::filesystem::path() : std::filesystem::path(text);
                                 return !text.empty();
                               },
                               [&](WordList field) { return keep(field, read_list(row, text)); },
                               [&](const EnumMember& field) {
                                 const auto choice = std::find(row.choices.begin(), row.choices.end(), text);
                                 if (choice == row.choices.end()) return false;
                                 field.set(options, static_cast<int>(choice - row.choices.begin()));
                                 return true;
                               }},
                    row.member);
}

}  // namespace

std::string expected_value(const OptionRow& row) {
  return std::visit<std::string>(
      Overloaded{[](bool Options::*) { return "true or false (on or off)"; },
                 [&](int64_t Options::*) {
                   return row.size ? "a size such as 8GiB, 1.5G, 500MB or a number of bytes"
                                   : fmt::format("a whole number, {}{}", range_text(row.range), row.automatic ? ", or auto" : "");
                 },
                 [&](double Options::*) { return "a number, " + range_text(row.range); },
                 [](std::string Options::*) { return "a text"; }, [](std::filesystem::path Options::*) { return "a path"; },
                 [](OptionalPath) { return "a directory, or nothing"; },
                 [&](WordList) {
                   if (row.choices.empty()) return std::string("a list, joined by commas, of NAME=FIELD");
                   if (!row.nothing.empty())
                     return fmt::format("{}, or a list, joined by commas, of {}", row.nothing, fmt::join(row.choices, ", "));
                   Words names;
                   for (const auto& [word, meaning] : row.synonyms) names.push_back(word);
                   return fmt::format("a list, joined by commas, of {} (short: {}), or {}", fmt::join(row.choices, ", "),
                                      fmt::join(names, ", "), kEveryItem);
                 },
                 [&](const EnumMember&) {
                   return fmt::format("{}{}", row.choices.size() > 1 ? "one of " : "", fmt::join(row.choices, ", "));
                 }},
      row.member);
}

Words foreign_items(const OptionRow& row, std::string_view text) {
  Words items = row.foreign.empty() ? Words() : items_of(text);
  std::erase_if(items, [&](std::string_view item) { return !is_foreign(row, item); });
  return items;
}

bool accepts_value(const OptionRow& row, std::string_view text) {
  Options scratch;
  return read_value(row, scratch, text);
}

namespace {

// A number as people also write it, in forms that are read here: what it may mean.
//   1_000   1,000   0,1   +5   5,   10%   2k   1e-4x   1e3 and 64.0 for a whole number
std::vector<std::string> plain_numbers(std::string text, bool whole) {
  for (const std::string_view minus : {"\u2212", "\u2013"})
    if (text.starts_with(minus)) text.replace(0, minus.size(), "-");
  text.erase(std::remove_if(text.begin(), text.end(), [](char c) { return c == '_' || c == ' ' || c == '+'; }), text.end());
  // Commas are of thousands where three digits follow each, else a decimal point.
  const size_t comma = text.find(',');
  const bool last = comma == std::string::npos || comma + 1 == text.size();
  bool thousands = !last && whole;
  for (size_t at = comma; thousands && at != std::string::npos; at = text.find(',', at + 1))
    thousands = (text.size() - at) % 4 == 0;
  if (thousands) text.erase(std::remove(text.begin(), text.end(), ','), text.end());
  if (!last && !thousands) text[comma] = '.';
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return {};
  const auto written = [&](double factor) {
    const double number = value * factor;
    return whole && number == std::floor(number) ? fmt::format("{:.0f}", number) : fmt::format("{}", number);
  };
  const std::string unit = lower_case(std::string_view(end, static_cast<size_t>(text.data() + text.size() - end)));
  if (unit == "%") return {written(0.01)};
  if (unit == "k") return {written(1e3), written(1024)};
  if (unit == "m") return {written(1e6), written(1 << 20)};
  if (whole) return {written(1)};
  return {std::string(text.data(), static_cast<size_t>(end - text.data()))};
}

}  // namespace

std::string guess_value(const OptionRow& row, std::string_view text) {
  constexpr size_t kLongest = 200;  // of what is worth a guess
  if (text.size() > kLongest) return "";
  Words words = row.choices;
  for (const auto& [spelling, meaning] : row.synonyms) words.push_back(spelling);
  if (row.is_flag()) words = {"true", "false", "on", "off"};
  if (row.automatic) words.push_back("auto");
  std::string_view wrong = text;
  if (std::holds_alternative<WordList>(row.member)) {
    if (!row.choices.empty()) words.push_back(row.nothing.empty() ? kEveryItem : row.nothing);
    for (std::string_view item : items_of(text))
      if (wrong = item; item != kEveryItem && !is_choice(row, canonical(row, item))) break;
  }
  if (const std::string_view word = nearest(wrong, words); !word.empty())
    return std::string(text).replace(static_cast<size_t>(wrong.data() - text.data()), wrong.size(), word);
  const bool whole = std::holds_alternative<int64_t Options::*>(row.member);
  if ((!whole && !std::holds_alternative<double Options::*>(row.member)) || row.size) return "";
  std::vector<std::string> numbers = plain_numbers(std::string(text), whole);
  std::erase_if(numbers, [&](const std::string& number) { return number == text || !accepts_value(row, number); });
  return fmt::format("{}", fmt::join(numbers, " or "));
}

void set_value(const OptionRow& row, Options& options, std::string_view text, std::string_view typed) {
  if (row.size) refuse_missing_unit(text, typed);
  if (!read_value(row, options, text))
    fail(kExitUsage, "{} expects {}, found {}{}", typed, expected_value(row), in_quotes(text),
         did_you_mean(guess_value(row, text)));
}

void set_implied(const OptionRow& row, Options& options, std::string_view text) {
  for (const Implied& implied : row.implies) {
    if (lower_case(text) != implied.value || options.given(implied.option)) continue;
    set_value(*find_row(implied.option), options, implied.its_value, row.name);
    options.given_names.emplace(implied.option);
  }
}

Json value_json(const OptionRow& row, const Options& options) {
  const auto path_json = [](const std::filesystem::path& path) { return path.empty() ? Json() : Json(path.string()); };
  return std::visit(Overloaded{[&](std::filesystem::path Options::*field) { return path_json(options.*field); },
                               [&](int64_t Options::*field) {
                                 const bool chosen = row.automatic && options.*field == kAutomatic;
                                 return chosen ? Json("auto") : Json(options.*field);
                               },
                               [&](OptionalPath field) {
                                 if (!(options.*field)) return Json();
                                 return (options.*field)->empty() ? Json(true) : path_json(*(options.*field));
                               },
                               [&](const EnumMember& field) { return Json(std::string(row.choices.at(field.get(options)))); },
                               [&](WordList field) {
                                 if (row.nothing.empty()) return Json(options.*field);
                                 return (options.*field).empty() ? Json(row.nothing)
                                                                 : Json(fmt::format("{}", fmt::join(options.*field, ",")));
                               },
                               [&](auto field) { return Json(options.*field); }},
                    row.member);
}

std::string value_text(const OptionRow& row, const Options& options) {
  const Json value = value_json(row, options);
  if (value.is_null()) return "";
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) return fmt::format("{}", fmt::join(value.get<std::vector<std::string>>(), ","));
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return fmt::format("{}", value.get<int64_t>());
}

Words names_of(const OptionRow& row) {
  Words names = row.aliases;
  names.push_back(row.name);
  for (const Shorthand& shorthand : row.shorthands) names.push_back(shorthand.name);
  return names;
}

std::string description(const OptionRow& row) {
  if (row.demo_default.empty()) return std::string(row.help);
  return fmt::format("{}; for the demo model {} unless given", row.help, row.demo_default);
}

std::string default_text(const OptionRow& row, Command command) {
  for (const auto& [where, text] : row.command_defaults) {
    if (where == command) return std::string(text);
  }
  return value_text(row, Options{});
}

}  // namespace tll
