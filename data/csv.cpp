#include "data/csv.h"

#include <algorithm>
#include <iterator>

#include "src/base/check.h"

namespace tll {
namespace {

constexpr std::string_view kSeparators = ",;\t";

// Appends the text as a JSON string.
void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && uint8_t(text[end]) >= 0x20 && text[end] != '"' && text[end] != '\\') ++end;
    out += text.substr(i, end - i);
    if (end == text.size()) break;
    const char c = text[end];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", unsigned(uint8_t(c)));
    }
    i = end + 1;
  }
  out += '"';
}

// How many bytes append_json() appends.
size_t size_in_json(std::string_view text) {
  size_t size = text.size() + 2;
  for (const char c : text) size += uint8_t(c) >= 0x20 ? c == '"' || c == '\\' : c == '\n' ? 1 : 5;
  return size;
}

// The separator that stands most often outside quotes in the first line.
char separator_of(std::string_view line) {
  size_t count[kSeparators.size()] = {};
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    const size_t at = kSeparators.find(c);
    if (!quoted && at != kSeparators.npos) ++count[at];
  }
  return kSeparators[size_t(std::max_element(std::begin(count), std::end(count)) - count)];
}

class TableRows : public RowReader {
 public:
  TableRows(RowBuffer buffer, std::optional<TableHeader> header, int64_t row) : in_(std::move(buffer)), row_(row) {
    if (header) {
      header_ = std::move(*header);
      name_columns();
    }
  }

  bool next(std::string& text) override {
    if (header_.columns.empty()) {
      while (in_.view().find('\n') == std::string_view::npos && in_.view().size() < kLongestHeader && in_.more()) {
      }
      header_.separator = separator_of(in_.view().substr(0, in_.view().find('\n')));
      if (!read_record()) return false;
      header_.columns.clear();
      for (size_t i = 0; i < count_; ++i) header_.columns.push_back(fields_[i]);
      check_columns();
      name_columns();
    }
    if (!read_record()) return false;
    const size_t columns = header_.columns.size();
    if (count_ != columns) {
      bad_file(
          "{}: line {}: this record has {} fields, and the header has {} columns; put fields that hold a {} or a line end in "
          "quotes",
          in_.name(), row_line_, count_, columns, separator_name());
    }
    const size_t before = text.size();
    for (size_t i = 0; i < columns; ++i) {
      text += names_[i];
      if (text.size() - before + size_in_json(fields_[i]) > in_.row_bytes()) in_.refuse_long_row(row_line_);
      append_json(text, fields_[i]);
    }
    text += '}';
    ++row_;
    return true;
  }
  RowPosition position() const override { return {in_.offset(), in_.line, row_}; }
  std::string where() const override { return "line " + std::to_string(row_line_); }
  int64_t consumed() const override { return in_.consumed(); }
  const TableHeader* header() const override { return header_.columns.empty() ? nullptr : &header_; }

 private:
  static constexpr size_t kLongestHeader = size_t(1) << 16;

  const char* separator_name() const {
    return header_.separator == ',' ? "comma" : header_.separator == ';' ? "semicolon" : "tab";
  }

  void check_columns() const {
    for (size_t i = 0; i < header_.columns.size(); ++i) {
      const std::string& name = header_.columns[i];
      if (name.empty() && header_.columns.size() > 1 && i == 0) continue;  // an index, as pandas writes it
      if (name.find_first_not_of(" \t") == name.npos) {
        bad_file("{}: line {}: column {} has no name; a table begins with the names of its columns", in_.name(), row_line_,
                 i + 1);
      }
      if (std::find(header_.columns.begin(), header_.columns.begin() + std::ptrdiff_t(i), name) !=
          header_.columns.begin() + std::ptrdiff_t(i)) {
        bad_file("{}: line {}: two columns have the name {}", in_.name(), row_line_, in_quotes(name));
      }
    }
  }

  // What stands in front of each value in the JSON of a row.
  void name_columns() {
    for (const std::string& column : header_.columns) {
      std::string& name = names_.emplace_back(names_.empty() ? "{" : ",");
      append_json(name, column);
      name += ':';
    }
  }

  // Reads fields_[0 … count_) of the next record that is not blank; false at the end of the file.
  bool read_record() {
    for (;;) {
      const int c = in_.peek();
      if (c < 0) return false;
      if (c == '\n') ++in_.line;
      if (c != '\n' && c != '\r') break;
      in_.take(1);
    }
    row_line_ = in_.line;
    count_ = 0, record_bytes_ = 0;
    for (;;) {
      if (fields_.size() == count_) fields_.emplace_back();
      std::string& field = fields_[count_++];
      field.clear();
      if (in_.peek() == '"') {
        read_quoted(field);
      } else {
        read_plain(field);
      }
      const int c = in_.peek();
      if (c == header_.separator) {
        in_.take(1);
        continue;
      }
      if (c == '\r') {
        in_.take(1);
        if (in_.peek() == '\n') in_.take(1);
        ++in_.line;
      } else if (c == '\n') {
        in_.take(1), ++in_.line;
      }
      return true;
    }
  }

  void append(std::string& field, std::string_view part) {
    record_bytes_ += part.size() + 1;
    if (record_bytes_ > in_.row_bytes()) in_.refuse_long_row(row_line_);
    field += part;
    in_.take(part.size());
  }

  void read_plain(std::string& field) {
    const char stops[] = {header_.separator, '\n', '\r', '\0'};
    for (;;) {
      const std::string_view view = in_.view();
      const size_t stop = view.find_first_of(stops);
      append(field, view.substr(0, stop));
      if (stop != view.npos || in_.peek() < 0) return;
    }
  }

  void read_quoted(std::string& field) {
    const int64_t begin = in_.line;
    in_.take(1);
    for (;;) {
      const std::string_view view = in_.view();
      const size_t quote = std::min(view.find('"'), view.size());
      in_.line += std::count(view.begin(), view.begin() + std::ptrdiff_t(quote), '\n');
      append(field, view.substr(0, quote));
      const int c = in_.peek();
      if (c < 0) bad_file("{}: line {}: this field begins with a quote that is never closed", in_.name(), begin);
      if (c != '"') continue;
      in_.take(1);
      const int after = in_.peek();
      if (after == '"') {
        append(field, "\"");
        continue;
      }
      if (after >= 0 && after != header_.separator && after != '\n' && after != '\r') {
        bad_file(
            "{}: line {}: expected a {} or a line end behind a closing quote, found {}; a quote inside a quoted field is "
            "written twice",
            in_.name(), in_.line, separator_name(), in_quotes(std::string(1, char(after))));
      }
      return;
    }
  }

  RowBuffer in_;
  TableHeader header_;
  std::vector<std::string> names_, fields_;
  size_t count_ = 0, record_bytes_ = 0;
  int64_t row_, row_line_ = 0;
};

// The fields of a line, if none is quoted over its end; 0 if one is.
size_t count_fields(std::string_view line, char separator) {
  size_t fields = 1;
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') quoted = !quoted;
    fields += !quoted && c == separator;
  }
  return quoted ? 0 : fields;
}

}  // namespace

std::unique_ptr<RowReader> table_rows(RowBuffer buffer, std::optional<TableHeader> header, int64_t row) {
  return std::make_unique<TableRows>(std::move(buffer), std::move(header), row);
}

bool looks_like_table(std::string_view head) {
  const auto take_line = [&] {
    std::string_view line = head.substr(0, head.find('\n'));
    head.remove_prefix(std::min(line.size() + 1, head.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  };
  const std::string_view line = take_line();
  const char separator = separator_of(line);
  size_t fields = 1, length = 0;
  for (const char c : line) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '"';
    if (c == separator ? length == 0 : !letter) return false;
    fields += c == separator;
    length = c == separator ? 0 : length + 1;
  }
  if (fields < 2 || length == 0) return false;
  const std::string_view second = take_line();
  const size_t found = count_fields(second, separator);
  return !second.empty() && (found == 0 || found == fields);
}

}  // namespace tll
