// The rows of a data file of JSON: its lines, the elements of one list, those of the list "data" of one object, or one object
// alone. A byte-order mark, CRLF and blank lines are accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/place.h"

namespace tll {

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
