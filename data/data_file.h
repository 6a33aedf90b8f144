// The files of a data set: what each of them is, and its rows.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "data/row_reader.h"

namespace tll {

struct DataFile {
  std::filesystem::path path;  // to open
  std::string label;           // its name in messages
  std::string name = {};       // in a folder, relative to it; else empty
  Container container = Container::kLines;
  Compression compression = Compression::kNone;
  std::optional<TableHeader> header = {};
  // Known after the first pass: its place in the whole, and its size, uncompressed.
  int64_t first_row = 0, first_byte = 0, rows = 0, bytes = 0;

  bool plain() const { return container == Container::kText || container == Container::kPdf; }
  std::string kind() const;  // "JSON lines, gzip"
};

struct DataFiles {
  bool folder = false;
  std::vector<DataFile> files = {};     // sorted by name
  int64_t bytes = 0;                    // on the disk
  std::vector<std::string> notes = {};  // what was left out of a folder
  std::shared_ptr<void> spooled = {};   // keeps a copy of a pipe
};

// The file, or those of a folder, without hidden ones, with what each of them is. Error (kExitBadFile) as DataSource::open.
DataFiles find_data_files(const std::filesystem::path& path, const PrepareOptions& options);

// Whether this is what prepare works in: OUTPUT.part. It may lie in the folder that is read.
inline bool is_part_of_output(const std::filesystem::path& path) { return path.extension() == ".part"; }

// The rows of a file from a position on. `beside`, if given, gets the members of an object beside its list "data".
std::unique_ptr<RowReader> open_rows(const DataFile& file, const RowPosition& from, size_t row_bytes, Json* beside);

// Error unless there is a file or a folder at this path. It may be the name of a data set on the hub.
void refuse_no_file(const std::filesystem::path& path);

}  // namespace tll
