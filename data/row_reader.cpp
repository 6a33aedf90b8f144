#include "data/row_reader.h"

#include <algorithm>
#include <cstring>

#include "data/json_row.h"
#include "src/base/check.h"
#include "src/base/json_object.h"
#include "src/base/units.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

class JsonLines : public RowReader {
 public:
  JsonLines(RowBuffer buffer, int64_t row) : in_(std::move(buffer)), row_(row) {}

  bool next(std::string& text) override {
    for (;;) {
      std::string_view view = in_.view();
      size_t end = view.find('\n');
      while (end == view.npos) {
        const size_t searched = view.size();
        const bool more = in_.more();
        view = in_.view();
        if (!more) break;
        end = view.find('\n', searched);
      }
      if (view.empty()) return false;
      const std::string_view line = view.substr(0, end);
      if (line.size() > in_.row_bytes()) in_.refuse_long_row(in_.line);
      const bool blank = line.find_first_not_of(kBlanks) == line.npos;
      if (!blank) text += line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
      in_.take(line.size() + (end != view.npos));
      row_line_ = in_.line++;
      if (blank) continue;
      ++row_;
      return true;
    }
  }
  RowPosition position() const override { return {in_.offset(), in_.line, row_}; }
  std::string where() const override { return "line " + std::to_string(row_line_); }
  int64_t consumed() const override { return in_.consumed(); }

 private:
  RowBuffer in_;
  int64_t row_, row_line_ = 0;
};

// Tells JSON values apart by quotes and brackets. Whether a value is JSON in all else, its parser says.
class ValueSplitter {
 public:
  explicit ValueSplitter(RowBuffer buffer) : in(std::move(buffer)) {}

  // The next byte that is no blank, or -1 at the end.
  int peek() {
    for (;;) {
      const std::string_view view = in.view();
      const size_t blanks = std::min(view.find_first_not_of(kBlanks), view.size());
      in.line += std::count(view.begin(), view.begin() + std::ptrdiff_t(blanks), '\n');
      in.take(blanks);
      if (blanks < view.size()) return uint8_t(view[blanks]);
      if (!in.more()) return -1;
    }
  }
  bool take(char c) {
    if (peek() != uint8_t(c)) return false;
    in.take(1);
    return true;
  }
  // Appends the bytes of the value that begins at the next byte. `what` is its name in messages.
  void value(std::string& out, std::string_view what) {
    const size_t before = out.size();
    const int64_t first_line = in.line;
    int depth = 0;
    bool in_string = false, escaped = false, scalar = false;
    for (bool done = false; !done;) {
      if (in.view().empty() && !in.more()) {
        if (scalar) return;
        bad_file("{}: the file ends inside {}, which begins at line {}; is it cut off?", in.name(), what, first_line);
      }
      const std::string_view view = in.view();
      const char *p = view.data(), *end = p + view.size();
      while (p < end && !done) {
        if (escaped) {
          escaped = false, ++p;
        } else if (in_string) {
          p = find_string_stop(p, end);
          if (p == end) break;
          if (*p == '\\') escaped = true;
          if (*p == '"') in_string = false, done = depth == 0;
          ++p;
        } else if (scalar) {
          if (is_blank(*p) || std::string_view(",:]}[{\"").find(*p) != std::string_view::npos) {
            done = true;
          } else {
            ++p;
          }
        } else {
          const char c = *p;
          if (c == '"') {
            in_string = true, ++p;
          } else if (c == '{' || c == '[') {
            ++depth, ++p;
          } else if (c == '}' || c == ']') {
            ++p;
            done = --depth <= 0;  // without an opening one it is no value, and its parser says so
          } else if (depth == 0) {
            scalar = true, ++p;
            if (c == ',' || c == ':') done = true;  // nor is this
          } else {
            ++p;
          }
        }
      }
      const auto used = size_t(p - view.data());
      if (out.size() - before + used > in.row_bytes()) in.refuse_long_row(first_line);
      out.append(view.data(), used);
      in.line += std::count(view.data(), p, '\n');
      in.take(used);
    }
  }

  RowBuffer in;

 private:
  // The first quote or backslash.
  static const char* find_string_stop(const char* p, const char* end) {
    constexpr uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;
    for (; end - p >= 8; p += 8) {
      uint64_t word;
      std::memcpy(&word, p, 8);
      const uint64_t quote = word ^ (kOnes * '"'), slash = word ^ (kOnes * '\\');
      if ((((quote - kOnes) & ~quote) | ((slash - kOnes) & ~slash)) & kHighs) break;
    }
    while (p < end && *p != '"' && *p != '\\') ++p;
    return p;
  }
};

class JsonValues : public RowReader {
 public:
  JsonValues(RowBuffer buffer, Container container, int64_t row, Json* beside)
      : split_(std::move(buffer)),
        container_(container),
        row_(row),
        inside_(split_.in.offset() > 0 && row > 0),
        beside_(beside) {}

  bool next(std::string& text) override {
    const std::string place = container_ == Container::kValues ? "the value" : fmt::format("{}[{}]", list(), row_);
    if (container_ == Container::kValues) {
      if (split_.peek() < 0) return false;
    } else if (done_ || !go_to_element()) {
      return false;
    }
    row_line_ = split_.in.line;
    split_.value(text, place);
    ++row_;
    return true;
  }
  RowPosition position() const override { return {split_.in.offset(), split_.in.line, row_}; }
  std::string where() const override {
    return container_ == Container::kValues ? "line " + std::to_string(row_line_) : fmt::format("{}[{}]", list(), row_ - 1);
  }
  int64_t consumed() const override { return split_.in.consumed(); }

 private:
  const char* list() const { return container_ == Container::kDataList ? "data" : ""; }

  [[noreturn]] void refuse(std::string_view expected) {
    const int c = split_.peek();
    const std::string found = c < 0 ? "the end of the file" : in_quotes(std::string(1, char(c)));
    bad_file("{}: line {}: not valid JSON: expected {}, found {}", split_.in.name(), split_.in.line, expected, found);
  }

  // Goes to where an element begins; false behind the last one, with all that follows it read.
  bool go_to_element() {
    bool first = false;
    if (!inside_) {
      if (container_ == Container::kDataList) {
        if (!split_.take('{') || !members(true)) refuse("an object with a list \"data\"");
      }
      if (!split_.take('[')) refuse("a list");
      inside_ = first = true;
    }
    if (first ? split_.peek() == ']' : !split_.take(',')) {
      if (!split_.take(']')) {
        if (split_.peek() < 0)
          bad_file("{}: the file ends inside the list, behind element {}; is it cut off?", split_.in.name(), row_ - 1);
        refuse("\",\" or \"]\" behind an element");
      }
      done_ = true;
      if (container_ == Container::kDataList) {
        if (split_.take(',')) {
          members(false);
        } else if (!split_.take('}')) {
          refuse("\",\" or \"}\" behind the list");
        }
      }
      if (split_.peek() >= 0) refuse(fmt::format("nothing behind the {}", container_ == Container::kList ? "list" : "object"));
      return false;
    }
    if (split_.peek() == ']' || split_.peek() < 0) refuse("an element");
    return true;
  }

  // Reads members of the object up to the value of "data", or to the object's end.
  bool members(bool to_data) {
    for (;;) {
      std::string key, value;
      if (split_.peek() != '"') refuse("a key in quotes");
      split_.value(key, "a key");
      if (!split_.take(':')) refuse("\":\" behind a key");
      const std::string name = parse_row(key, split_.in.name()).get<std::string>();
      if (to_data && name == "data" && split_.peek() == '[') return true;
      if (split_.peek() < 0) refuse("a value");
      split_.value(value, name);
      const Json parsed = parse_row(value, fmt::format("{}: {}", split_.in.name(), in_quotes(name)));
      const bool twice = name == "data" || (beside_ && beside_->contains(name));
      if (twice) bad_file("{}: line {}: the key {} appears twice", split_.in.name(), split_.in.line, in_quotes(name));
      constexpr size_t kKept = 1000;
      if (beside_ && beside_->size() < kKept) (*beside_)[name] = parsed.is_structured() && !parsed.empty() ? Json(1) : parsed;
      if (split_.take(',')) continue;
      if (!split_.take('}')) refuse("\",\" or \"}\" behind a member");
      return false;
    }
  }

  ValueSplitter split_;
  Container container_;
  int64_t row_, row_line_ = 0;
  bool inside_, done_ = false;
  Json* beside_;
};

class TextPieces : public RowReader {
 public:
  TextPieces(RowBuffer buffer, int64_t row) : in_(std::move(buffer)), row_(row) {}

  bool next(std::string& text) override {
    while (in_.view().size() <= kTextBytes && in_.more()) {
    }
    std::string_view view = in_.view();
    if (view.empty()) return false;
    const size_t size = view.size() <= kTextBytes ? view.size() : divide(view.substr(0, kTextBytes + 1));
    view = view.substr(0, size);
    if (const size_t at = view.find('\0'); at != view.npos) {
      bad_file("{}: byte {}: found a NUL byte: this is a binary file, and no text", in_.name(), in_.offset() + int64_t(at));
    }
    for (std::string_view rest = view;;) {
      const size_t end = std::min(rest.find("\r\n"), rest.size());
      text += rest.substr(0, end);
      if (end == rest.size()) break;
      rest.remove_prefix(end + 1);
    }
    row_line_ = in_.line;
    in_.line += std::count(view.begin(), view.end(), '\n');
    in_.take(size);
    ++row_;
    return true;
  }
  RowPosition position() const override { return {in_.offset(), in_.line, row_}; }
  std::string where() const override { return "line " + std::to_string(row_line_); }
  int64_t consumed() const override { return in_.consumed(); }

 private:
  // How long a piece is: the best end in the later half of the text, whose last byte is already of the next piece. Tokens do not
  // reach over an end of a line with a letter behind it.
  static size_t divide(std::string_view text) {
    const size_t least = text.size() / 2, most = text.size() - 1;
    const auto last = [&](const auto& fits) -> size_t {
      for (size_t end = most; end > least; --end) {
        if (fits(end)) return end;
      }
      return 0;
    };
    const auto letter = [](char c) { return uint8_t(c) >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    const auto line_end = [&](size_t end) { return text[end - 1] == '\n'; };
    size_t end = last([&](size_t e) {
      const size_t before = text[e - 2] == '\r' ? e - 3 : e - 2;
      return line_end(e) && !is_blank(text[before]) && letter(text[e]);
    });
    if (!end) end = last(line_end);
    if (!end) end = last([&](size_t e) { return text[e] == ' ' && text[e - 1] != ' '; });
    if (!end) end = last([&](size_t e) { return !is_continuation(text[e]) && text[e] != '\n'; });
    return end ? end : most;
  }

  RowBuffer in_;
  int64_t row_, row_line_ = 0;
};

}  // namespace

RowBuffer::RowBuffer(std::unique_ptr<ByteStream> stream, std::string name, RowPosition from, size_t row_bytes)
    : line(from.line), stream_(std::move(stream)), name_(std::move(name)), offset_(from.bytes), row_bytes_(row_bytes) {
  if (from.bytes > 0) {
    stream_->skip(from.bytes);
    return;
  }
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  while (view().size() < kMark.size() && more()) {
  }
  if (view().starts_with(kMark)) take(kMark.size());
}

bool RowBuffer::more() {
  constexpr size_t kChunk = size_t(1) << 17;
  const size_t size = end_ - begin_;
  if (size > row_bytes_ + kChunk) refuse_long_row(line);
  if (begin_ >= size) {  // what is moved is less than what was taken since
    std::memmove(data_.data(), data_.data() + begin_, size);
    begin_ = 0, end_ = size;
  }
  if (data_.size() < end_ + kChunk) data_.resize(std::max(end_ + kChunk, end_ + end_ / 2));
  const size_t got = stream_->read(data_.data() + end_, kChunk);
  end_ += got;
  return got > 0;
}

void RowBuffer::refuse_long_row(int64_t at_line) const {
  bad_file("{}: line {}: this row is longer than {}; if the file has no rows, it is of another format", name_, at_line,
           Bytes{int64_t(row_bytes_)});
}

std::unique_ptr<RowReader> json_lines(RowBuffer buffer, int64_t row) {
  return std::make_unique<JsonLines>(std::move(buffer), row);
}

std::unique_ptr<RowReader> json_values(RowBuffer buffer, Container container, int64_t row, Json* beside) {
  return std::make_unique<JsonValues>(std::move(buffer), container, row, beside);
}

std::unique_ptr<RowReader> text_pieces(RowBuffer buffer, int64_t row) {
  return std::make_unique<TextPieces>(std::move(buffer), row);
}

bool has_data_list(RowBuffer buffer) {
  try {
    ValueSplitter split(std::move(buffer));
    if (!split.take('{')) return false;
    do {
      std::string text;
      if (split.peek() != '"') return false;
      split.value(text, "a key");
      if (!split.take(':')) return false;
      if (text == "\"data\"") return split.peek() == '[';
      if (split.peek() < 0) return false;
      text.clear();
      split.value(text, "a value");
    } while (split.take(','));
    return false;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace tll
