#include "data/row_file.h"

#include <algorithm>
#include <optional>

#include "src/base/check.h"
#include "src/base/phase.h"

namespace tll {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

// The value that the text is; nothing if it is none.
std::optional<Json> try_json(std::string_view text) {
  try {
    return parse_json(text, "");
  } catch (const Error&) {
    return std::nullopt;
  }
}

// The value that a line is. An error names the line in the file, not in the line.
Json parse_line(std::string_view line, const std::string& file, int64_t number) {
  try {
    return parse_json(line, "");
  } catch (const Error& error) {
    const std::string_view message = error.what();  // ": line 1, byte 3: ..." or ": ..."
    const size_t byte = message.find(", byte");
    bad_file("{}: line {}{}", file, number, message.substr(byte == std::string_view::npos ? 0 : byte));
  }
}

// Calls visit(line_number, line) for each line that is not blank, without the CR of CRLF.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  Phase phase("reading data", int64_t(text.size()));
  for (int64_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    const size_t bytes = std::min(line.size() + 1, text.size());
    text.remove_prefix(bytes);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(kBlanks) != std::string_view::npos) visit(number, line);
    phase.advance(int64_t(bytes));
  }
}

}  // namespace

RowFile::RowFile(std::string_view text, std::string name) : name_(std::move(name)) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return;
  const size_t end = std::min(text.find('\n', begin), text.size());
  const std::string_view line = text.substr(begin, end - begin);
  const bool more_lines = text.find_first_not_of(kBlanks, end) != std::string_view::npos;
  std::optional<Json> value = try_json(line);
  if (value && (more_lines || (value->is_object() && !value->contains("data")))) {
    lines_ = text;
    first_line_ = std::move(*value);
    return;
  }
  if (!value) value = try_json(text);
  if (!value && (name_.ends_with(".jsonl") || name_.ends_with(".ndjson"))) {
    parse_line(line, name_, 1 + std::count(text.begin(), text.begin() + std::ptrdiff_t(begin), '\n'));
  }
  whole_ = value ? std::move(*value) : parse_json(text, name_);
  if (!whole_.is_structured()) bad_file("{}: expected a list or an object, found {}", name_, shown(whole_));
  if (whole_.is_array() || !whole_.contains("data")) return;
  if (!rows().is_array()) bad_file("{}: data: expected a list, found {}", name_, shown(rows()));
  constexpr std::string_view kHarmless[] = {"version"};
  beside_data_.meet(whole_, name_, kHarmless);
}

const Json& RowFile::first() const { return !lines_.empty() ? first_line_ : is_list() ? rows()[0] : whole_; }

void RowFile::for_each(const std::function<void(const Place&)>& visit) const {
  if (empty()) return;
  if (!lines_.empty()) {
    for_each_line(lines_, [&](int64_t number, std::string_view line) {
      const std::string where = fmt::format("line {}", number);
      visit({parse_line(line, name_, number), name_, where});
    });
  } else if (!is_list()) {
    visit({whole_, name_, "top level"});
  } else {
    const char* list = whole_.is_array() ? "" : "data";
    for (size_t i = 0; i < rows().size(); ++i) visit({rows()[i], name_, fmt::format("{}[{}]", list, i)});
  }
}

}  // namespace tll
