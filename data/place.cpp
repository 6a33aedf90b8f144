#include "data/place.h"

#include "src/base/check.h"

namespace tll {

void Place::refuse(std::string_view expected) const { bad_file("{}: expected {}, found {}", name(), expected, shown(value)); }

Place Place::at(const char* key) const {
  if (!value.is_object()) refuse("an object");
  const std::string path = where + (inside_row || where.ends_with(']') ? "." : ": ") + key;
  if (!value.contains(key)) bad_file("{}: {}: this field is missing", file, path);
  return {value[key], file, path, true};
}

bool Place::has(const char* key) const { return value.is_object() && value.contains(key) && !value[key].is_null(); }

std::vector<Place> Place::elements() const {
  if (!value.is_array()) refuse("a list");
  std::vector<Place> out;
  for (size_t i = 0; i < value.size(); ++i) out.push_back({value[i], file, fmt::format("{}[{}]", where, i), inside_row});
  return out;
}

std::string Place::string() const {
  if (!value.is_string()) refuse("a string");
  return value.get<std::string>();
}

std::string Place::label() const {
  if (value.is_number_integer()) return value.dump();
  if (!value.is_string()) refuse("a string or a whole number");
  return value.get<std::string>();
}

std::string Place::optional_label(const char* key) const { return has(key) ? at(key).label() : ""; }

int64_t Place::integer() const {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX))) {
    refuse("a whole number");
  }
  return value.get<int64_t>();
}

}  // namespace tll
