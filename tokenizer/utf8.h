// UTF-8 (RFC 3629): reads code points, finds and replaces invalid bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

inline constexpr char32_t kReplacement = 0xFFFD;

inline bool is_continuation(char byte) { return (uint8_t(byte) & 0xC0) == 0x80; }  // not the first of a sequence

struct CodePoint {
  char32_t value;  // kReplacement if no valid sequence begins at the byte
  uint32_t bytes;  // then 1
  bool valid;
};

// The code point at text[at], at < text.size(). Truncated, overlong and surrogate sequences and those above U+10FFFF are invalid.
inline CodePoint read_code_point(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return uint8_t(text[at + i]); };
  const auto follows = [&](size_t i) { return is_continuation(text[at + i]); };
  const size_t left = text.size() - at;
  const char32_t b = byte(0);
  if (b < 0x80) return {b, 1, true};
  if (b >= 0xC2 && b < 0xE0) {
    if (left >= 2 && follows(1)) return {(b & 0x1F) << 6 | (byte(1) & 0x3F), 2, true};
  } else if (b >= 0xE0 && b < 0xF0) {
    if (left >= 3 && follows(1) && follows(2)) {
      const char32_t c = (b & 0x0F) << 12 | char32_t(byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
      if (c >= 0x800 && (c < 0xD800 || c > 0xDFFF)) return {c, 3, true};
    }
  } else if (b >= 0xF0 && b < 0xF5) {
    if (left >= 4 && follows(1) && follows(2) && follows(3)) {
      const char32_t c = (b & 0x07) << 18 | char32_t(byte(1) & 0x3F) << 12 | char32_t(byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
      if (c >= 0x10000 && c <= 0x10FFFF) return {c, 4, true};
    }
  }
  return {kReplacement, 1, false};
}

void append_utf8(std::string& out, char32_t c);

// Offset of the first byte that belongs to no valid sequence; npos if the text is UTF-8.
size_t find_invalid_utf8(std::string_view text);

// Each byte that belongs to no valid sequence becomes one U+FFFD (SentencePiece). `origins`, if wanted, become the offset in the
// text of each byte of the result.
std::string replace_invalid_bytes(std::string_view text, std::vector<uint32_t>* origins = nullptr);

// Each maximal part that could begin a valid sequence becomes one U+FFFD (Unicode 16, section 3.9; as in Rust and Python).
std::string replace_invalid_sequences(std::string_view text);

}  // namespace tll
