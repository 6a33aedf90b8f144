// Rows of a Parquet file. data/parquet_arrow.cpp reads them where the build has Apache Arrow's library (make ARROW=DIR); else
// data/parquet_none.cpp refuses them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/row_reader.h"

namespace tll {

// Rows as JSON objects of the columns, from row `from.row` on. `bytes` of a position count the JSON. Error (kExitBadFile) for a
// file that is damaged, or has a column of a type that JSON has no value for.
std::unique_ptr<RowReader> parquet_rows(const std::filesystem::path& path, const std::string& name, RowPosition from,
                                        size_t row_bytes);

}  // namespace tll
