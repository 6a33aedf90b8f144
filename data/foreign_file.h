// What a data file that no format reads looks like, as an error (kExitBadFile) that says what to do.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "data/row_file.h"

namespace tll {

// Error if there is no file at this path: it is a directory, or the name of a data set on the hub.
void refuse_no_file(const std::filesystem::path& path);
// Error unless the text may be JSON in UTF-8. `file` is the file's name in messages.
void refuse_no_json(std::string_view text, const std::string& file);
// For rows of no format that is read.
[[noreturn]] void refuse_unknown_rows(const RowFile& rows);

}  // namespace tll
