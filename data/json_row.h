// A row of JSON, read fast. parse_json (src/base/json.h) says what JSON is, and what is wrong with a row that is none; this code
// reads the same values some ten times as fast.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/json.h"

namespace tll {

// The value of the text. Error (kExitBadFile) as from parse_json, with `where` (file and row) and the byte in the row.
Json parse_row(std::string_view text, const std::string& where);
// The same without the slow reader: false where the text is no JSON, and for rare forms of it.
bool parse_plain_row(std::string_view text, Json& value);

// What kind of value a key has, in a letter.
enum class ValueKind : char {
  kNull = '0',
  kEmptyString = '"',
  kString = 's',
  kNumber = '1',
  kBoolean = 'b',
  kObject = '{',
  kEmptyList = ']',
  kStrings = 'S',  // a list whose first element is a string, and so on
  kObjects = 'O',
  kLists = 'L',
  kOthers = 'N'
};

// The keys of a row's object and the kinds of their values, in the order of the file.
using RowShape = std::vector<std::pair<std::string, ValueKind>>;

// Finds the shape of one row after another. Checks the whole row as parse_row does, but for keys that appear twice below the top.
class ShapeScanner {
 public:
  // A hash of the shape; nothing if the row is no object or not plain (parse_row then decides). Valid until the next call:
  std::optional<uint64_t> scan(std::string_view row);
  RowShape shape() const;

 private:
  std::vector<std::pair<std::string_view, ValueKind>> members_;
};
RowShape shape_of(const Json& object);

}  // namespace tll
