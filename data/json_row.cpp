#include "data/json_row.h"

#include <xxhash.h>

#include <charconv>
#include <cstring>

#include "src/base/check.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;

// High bits where a byte is zero; bits above the first such byte may be wrong.
uint64_t zero_bytes(uint64_t x) { return (x - kOnes) & ~x & kHighs; }

// Goes over ASCII that stands for itself in a string: all but ", \ and control characters.
const char* skip_plain(const char* p, const char* end) {
  while (end - p >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    const uint64_t control = (word - kOnes * 0x20) & ~word;  // bytes below 0x20 that are below 0x80
    const uint64_t stop = (control | word) & kHighs;
    if (stop | zero_bytes(word ^ (kOnes * '"')) | zero_bytes(word ^ (kOnes * '\\'))) break;
    p += 8;
  }
  while (p < end && uint8_t(*p) >= 0x20 && uint8_t(*p) < 0x80 && *p != '"' && *p != '\\') ++p;
  return p;
}

// Four hexadecimal digits; -1 if they are none.
int32_t hex4(const char* p, const char* end) {
  if (end - p < 4) return -1;
  int32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

bool is_high(int32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low(int32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

// What an escaped string that was checked stands for.
std::string unescaped(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  const char *p = raw.data(), *end = p + raw.size();
  while (p < end) {
    const auto* slash = static_cast<const char*>(std::memchr(p, '\\', size_t(end - p)));
    if (!slash) slash = end;
    out.append(p, slash);
    if (slash == end) break;
    p = slash + 2;
    switch (slash[1]) {
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'u': {
        const int32_t unit = hex4(p, end);
        p += 4;
        if (is_high(unit)) {
          append_utf8(out, char32_t(0x10000 + ((unit - 0xD800) << 10) + (hex4(p + 2, end) - 0xDC00)));
          p += 6;
        } else {
          append_utf8(out, char32_t(unit));
        }
        break;
      }
      default:
        out += slash[1];
        break;
    }
  }
  return out;
}

// Reads strict JSON. Every function returns false where the text is not.
class Reader {
 public:
  explicit Reader(std::string_view text) : p_(text.data()), end_(p_ + text.size()) {}

  void blanks() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }
  bool at_end() { return blanks(), p_ == end_; }
  bool take(char c) {
    blanks();
    if (p_ == end_ || *p_ != c) return false;
    ++p_;
    return true;
  }

  // The bytes between the quotes.
  bool string(std::string_view& raw, bool& escaped) {
    if (!take('"')) return false;
    const char* begin = p_;
    escaped = false;
    for (;;) {
      p_ = skip_plain(p_, end_);
      if (p_ == end_) return false;
      if (*p_ == '"') break;
      if (*p_ == '\\') {
        escaped = true;
        if (!escape()) return false;
      } else if (uint8_t(*p_) >= 0x80) {
        const CodePoint c = read_code_point({p_, size_t(end_ - p_)}, 0);
        if (!c.valid) return false;
        p_ += c.bytes;
      } else {
        return false;
      }
    }
    raw = {begin, size_t(p_++ - begin)};
    return true;
  }

  // Passes over a value and says its kind.
  bool skip(ValueKind& kind, int depth = 1) {
    blanks();
    if (p_ == end_) return false;
    std::string_view raw;
    bool escaped;
    switch (*p_) {
      case '"':
        if (!string(raw, escaped)) return false;
        kind = raw.empty() ? ValueKind::kEmptyString : ValueKind::kString;
        return true;
      case '{':
        kind = ValueKind::kObject;
        return list('}', depth, [&](bool) {
          ValueKind inner;
          return string(raw, escaped) && take(':') && skip(inner, depth + 1);
        });
      case '[':
        kind = ValueKind::kEmptyList;
        return list(']', depth, [&](bool first) {
          ValueKind inner;
          if (!skip(inner, depth + 1)) return false;
          if (first) kind = list_of(inner);
          return true;
        });
      default: {
        const char c = *p_;
        kind = c == 'n' ? ValueKind::kNull : c == 't' || c == 'f' ? ValueKind::kBoolean : ValueKind::kNumber;
        std::string_view digits;
        bool whole;
        return c == 'n' ? word("null") : c == 't' ? word("true") : c == 'f' ? word("false") : number(digits, whole);
      }
    }
  }

  bool build(Json& out, int depth = 1) {
    blanks();
    if (p_ == end_) return false;
    std::string_view raw;
    bool escaped;
    switch (*p_) {
      case '"':
        if (!string(raw, escaped)) return false;
        out = escaped ? Json(unescaped(raw)) : Json(std::string(raw));
        return true;
      case '{': {
        out = Json::object();
        auto& members = out.get_ref<Json::object_t&>();
        return list('}', depth, [&](bool) {
          if (!string(raw, escaped) || !take(':')) return false;
          const auto [place, added] = members.emplace(escaped ? unescaped(raw) : std::string(raw), nullptr);
          return added && build(place->second, depth + 1);
        });
      }
      case '[': {
        out = Json::array();
        auto& elements = out.get_ref<Json::array_t&>();
        return list(']', depth, [&](bool) { return build(elements.emplace_back(), depth + 1); });
      }
      case 'n':
        out = nullptr;
        return word("null");
      case 't':
        out = true;
        return word("true");
      case 'f':
        out = false;
        return word("false");
      default: {
        bool whole;
        if (!number(raw, whole)) return false;
        const char *begin = raw.data(), *end = begin + raw.size();
        if (whole) {
          constexpr size_t kFitting = 18;  // so many digits fit 64 bits
          if (raw.size() > kFitting) return false;
          int64_t value = 0;
          std::from_chars(begin, end, value);
          out = raw[0] == '-' ? Json(value) : Json(uint64_t(value));
          return true;
        }
        double value = 0;
        if (std::from_chars(begin, end, value).ec != std::errc()) return false;
        out = value;
        return true;
      }
    }
  }

 private:
  static ValueKind list_of(ValueKind first) {
    switch (first) {
      case ValueKind::kString:
      case ValueKind::kEmptyString:
        return ValueKind::kStrings;
      case ValueKind::kObject:
        return ValueKind::kObjects;
      case ValueKind::kEmptyList:
      case ValueKind::kStrings:
      case ValueKind::kObjects:
      case ValueKind::kLists:
      case ValueKind::kOthers:
        return ValueKind::kLists;
      default:
        return ValueKind::kOthers;
    }
  }

  // The elements of a list or object; element(whether it is the first) reads one.
  template <class Element>
  bool list(char close, int depth, const Element& element) {
    if (depth > kMaxJsonDepth) return false;
    ++p_;
    if (take(close)) return true;
    for (bool first = true;; first = false) {
      if (!element(first)) return false;
      if (take(close)) return true;
      if (!take(',')) return false;
    }
  }

  bool escape() {
    ++p_;
    if (p_ == end_) return false;
    const char c = *p_++;
    if (c != 'u') return std::memchr("\"\\/bfnrt", c, 8) != nullptr;
    const int32_t unit = hex4(p_, end_);
    if (unit < 0 || is_low(unit)) return false;
    p_ += 4;
    if (!is_high(unit)) return true;
    if (end_ - p_ < 6 || p_[0] != '\\' || p_[1] != 'u' || !is_low(hex4(p_ + 2, end_))) return false;
    p_ += 6;
    return true;
  }

  bool word(std::string_view expected) {
    if (!std::string_view(p_, size_t(end_ - p_)).starts_with(expected)) return false;
    p_ += expected.size();
    return true;
  }

  size_t digits() {
    const char* begin = p_;
    while (p_ < end_ && *p_ >= '0' && *p_ <= '9') ++p_;
    return size_t(p_ - begin);
  }
  bool number(std::string_view& text, bool& whole) {
    const char* begin = p_;
    if (p_ < end_ && *p_ == '-') ++p_;
    const bool zero = p_ < end_ && *p_ == '0';
    const size_t count = digits();
    if (count == 0 || (zero && count > 1)) return false;
    whole = true;
    if (p_ < end_ && *p_ == '.') {
      ++p_, whole = false;
      if (digits() == 0) return false;
    }
    if (p_ < end_ && (*p_ == 'e' || *p_ == 'E')) {
      ++p_, whole = false;
      if (p_ < end_ && (*p_ == '+' || *p_ == '-')) ++p_;
      if (digits() == 0) return false;
    }
    text = {begin, size_t(p_ - begin)};
    return true;
  }

  const char *p_, *end_;
};

}  // namespace

bool parse_plain_row(std::string_view text, Json& value) {
  Reader reader(text);
  return reader.build(value) && reader.at_end();
}

Json parse_row(std::string_view text, const std::string& where) {
  Json value;
  if (parse_plain_row(text, value)) return value;
  try {
    return parse_json(text, "");
  } catch (const Error& error) {
    const std::string_view message = error.what();  // ": line 1, byte 3: ..." or ": ..."
    const size_t byte = message.find(", byte");
    if (const size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
      bad_file(
          "{}, byte {}: found the byte 0x{:02X}, which is not UTF-8; save the file as UTF-8, such as with `iconv -f WINDOWS-1252 "
          "-t UTF-8`",
          where, at, uint8_t(text[at]));
    }
    bad_file("{}{}", where, message.substr(byte == std::string_view::npos ? 0 : byte));
  }
}

std::optional<uint64_t> ShapeScanner::scan(std::string_view row) {
  members_.clear();
  Reader reader(row);
  if (!reader.take('{')) return std::nullopt;
  uint64_t hash = 0;
  if (!reader.take('}')) {
    do {
      std::string_view key;
      bool escaped;
      ValueKind kind;
      if (!reader.string(key, escaped) || escaped || !reader.take(':') || !reader.skip(kind, 2)) return std::nullopt;
      for (const auto& [other, unused] : members_)
        if (members_.size() < 64 && other == key) return std::nullopt;
      members_.emplace_back(key, kind);
      hash = XXH3_64bits_withSeed(key.data(), key.size(), hash * 31 + uint64_t(kind) + 1);
    } while (reader.take(','));
    if (!reader.take('}')) return std::nullopt;
  }
  if (!reader.at_end()) return std::nullopt;
  return hash;
}

RowShape ShapeScanner::shape() const {
  RowShape out;
  for (const auto& [key, kind] : members_) out.emplace_back(key, kind);
  return out;
}

RowShape shape_of(const Json& object) {
  RowShape out;
  for (const auto& [key, value] : object.items()) {
    ValueKind kind = ValueKind::kNumber;
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    Reader(text).skip(kind, 2);
    out.emplace_back(key, kind);
  }
  return out;
}

}  // namespace tll
