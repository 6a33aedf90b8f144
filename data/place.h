// A value of a data file and where it stands, for readers that name the place of what is wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "src/base/json_object.h"

namespace tll {

// Errors (kExitBadFile) name the file and the place.
struct Place {
  const Json& value;
  const std::string& file;
  std::string where;        // the row, "line 7" or "data[3]", and the way into it: "line 7: answers[0].text"
  bool inside_row = false;  // whether there is a way

  std::string name() const { return file + ": " + where; }
  [[noreturn]] void refuse(std::string_view expected) const;
  Place at(const char* key) const;                    // Error unless the value is an object that has the key
  bool has(const char* key) const;                    // false also where its value is null
  std::vector<Place> elements() const;                // Error unless the value is a list
  std::string string() const;                         // Error unless it is one
  std::string label() const;                          // of a string or a whole number
  std::string optional_label(const char* key) const;  // "" where it is absent or null
  int64_t integer() const;                            // Error unless it is one
};

}  // namespace tll
