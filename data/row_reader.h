// The rows of one data file, one after another: lines of JSON, the elements of a list, records of a table, pieces of a text. Only
// the row that is read is in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_stream.h"
#include "src/base/json.h"

namespace tll {

// Where a reader stands: in front of a row.
struct RowPosition {
  int64_t bytes = 0;  // of the file, uncompressed
  int64_t line = 1;   // from 1
  int64_t row = 0;    // from 0
};

// Of a table: what stands between the fields, and the first record.
struct TableHeader {
  char separator = ',';
  std::vector<std::string> columns;
};

class RowReader {
 public:
  virtual ~RowReader() = default;

  // Appends the next row to `text`; false at the end of the file. Error (kExitBadFile), with the line, where the rows cannot be
  // told apart, or a row is longer than is read.
  virtual bool next(std::string& text) = 0;
  virtual RowPosition position() const = 0;                      // behind the row that was read last
  virtual std::string where() const = 0;                         // of that row: "line 7", "data[3]"
  virtual int64_t consumed() const = 0;                          // bytes of the file as it lies on the disk
  virtual const TableHeader* header() const { return nullptr; }  // of a table, when a row was read
};

// A window over a stream, for the readers.
class RowBuffer {
 public:
  // `row_bytes`: no row may be longer.
  RowBuffer(std::unique_ptr<ByteStream> stream, std::string name, RowPosition from, size_t row_bytes);

  std::string_view view() const { return std::string_view(data_).substr(begin_, end_ - begin_); }
  void take(size_t bytes) { begin_ += bytes, offset_ += int64_t(bytes); }
  // Reads more behind the view; false at the end of the file. A view from before is not valid afterwards. Error if the view is
  // longer than a row may be.
  bool more();
  // The next byte, or -1 at the end.
  int peek() { return begin_ == end_ && !more() ? -1 : uint8_t(data_[begin_]); }

  const std::string& name() const { return name_; }
  int64_t offset() const { return offset_; }
  int64_t consumed() const { return stream_->consumed(); }
  size_t row_bytes() const { return row_bytes_; }
  [[noreturn]] void refuse_long_row(int64_t line) const;

  int64_t line;  // of the first byte of the view; kept by the readers

 private:
  std::unique_ptr<ByteStream> stream_;
  std::string name_, data_;
  size_t begin_ = 0, end_ = 0;
  int64_t offset_;
  size_t row_bytes_;
};

// What holds the rows.
enum class Container { kLines, kList, kDataList, kValues, kTable, kText, kPdf, kParquet };

// Lines of JSON: each line that is not blank, without its end.
std::unique_ptr<RowReader> json_lines(RowBuffer buffer, int64_t row);
// kList: the elements of the one list that the file is. kDataList: those of the list "data" of the one object that it is;
// `beside` then gets the object's other members. kValues: values one after another.
std::unique_ptr<RowReader> json_values(RowBuffer buffer, Container container, int64_t row, Json* beside);
// Pieces of a plain text of at most kTextBytes, divided at ends of lines. CRLF becomes LF.
std::unique_ptr<RowReader> text_pieces(RowBuffer buffer, int64_t row);
inline constexpr size_t kTextBytes = size_t(1) << 20;

// Whether the object that the stream begins with has a list of the name "data".
bool has_data_list(RowBuffer buffer);

}  // namespace tll
