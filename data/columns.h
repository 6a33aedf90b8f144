// --columns: which names the fields of a format have in the data.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/json_row.h"

namespace tll {

class Columns {
 public:
  // "prompt=question": the field prompt is what the data calls question. Error (kExitUsage), with the fields that there are, for
  // a text of another form, a name that is no field, or one that comes twice.
  explicit Columns(const std::vector<std::string>& assignments = {});

  bool empty() const { return fields_.empty() && role_.empty() && content_.empty(); }
  // The row with the names of the fields in place of the data's. A key of the row that has the name of a field by itself, without
  // being assigned to it, is left out.
  void rename(Json& row) const;
  RowShape renamed(RowShape shape) const;
  // Error (kExitUsage), with the data's keys, if a name of the data is not among them.
  void check(const std::vector<std::string>& keys) const;
  std::string text() const;  // "prompt=question, response=answer"

  // Keys of one message, if they were assigned; else "".
  const std::string& role() const { return role_; }
  const std::string& content() const { return content_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;  // field, name in the data
  std::string role_, content_;
};

}  // namespace tll
