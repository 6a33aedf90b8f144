// The rows of a data file of JSON: its lines, the elements of one list, those of the list "data" of one object, or one object
// alone. A byte-order mark, CRLF and blank lines are accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "src/base/json_object.h"

namespace tll {

// A value of the file, and where it stands. Errors (kExitBadFile) name the file and the place.
struct Place {
  const Json& value;
  const std::string& file;
  std::string where;  // "line 7", "line 7: answers[0]", "data[3].paragraphs[2]"

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

class RowFile {
 public:
  // `text` must outlive this, and `name` is the file's name in messages. Error (kExitBadFile), with file and place, if the text
  // is not strict JSON (src/base/json.h), or neither a list nor an object. A file named .jsonl or .ndjson holds lines, even where
  // its first one is damaged.
  RowFile(std::string_view text, std::string name);

  const std::string& name() const { return name_; }
  bool empty() const { return lines_.empty() && (whole_.is_null() || (is_list() && rows().empty())); }
  const Json& first() const;  // only if there is one
  void for_each(const std::function<void(const Place&)>& visit) const;
  std::vector<std::string> notes() const { return beside_data_.notes(name_); }

 private:
  bool is_list() const { return whole_.is_array() || whole_.contains("data"); }
  const Json& rows() const { return whole_.is_array() ? whole_ : whole_["data"]; }

  std::string name_;
  std::string_view lines_;  // empty: the file is one value,
  Json whole_;              // this one; null: the file is blank
  Json first_line_;
  UnknownKeys beside_data_{{"data"}};
};

}  // namespace tll
