// Tables in text (RFC 4180): fields between commas, semicolons or tabs, quoted where they hold one, with the names of the columns
// in the first record. A quoted field may hold line ends, and quotes written twice. LF and CRLF end records; blank lines are
// none.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/row_reader.h"

namespace tll {

// Rows of a table as JSON objects {"column": "field", ...}. Error (kExitBadFile), with the line, for a record that has not as
// many fields as the header, a quote that is not closed, bytes behind a closing quote, or columns of one name or none.
std::unique_ptr<RowReader> table_rows(RowBuffer buffer, std::optional<TableHeader> header, int64_t row);

// The header of a table, if the first lines of the text look like one: names of letters, digits and _, at least two, and
// a second record with as many fields.
bool looks_like_table(std::string_view head);

}  // namespace tll
