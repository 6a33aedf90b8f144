#include "data/utf8.h"

#include <cstdint>

namespace tll {

std::u32string decode_utf8(std::string_view s, bool* valid) {
  std::u32string out;
  out.reserve(s.size());
  bool all = true;
  for (size_t i = 0; i < s.size();) {
    const auto byte = [&](size_t k) { return i + k < s.size() ? uint32_t(uint8_t(s[i + k])) : 0u; };
    const uint32_t b = byte(0);
    const size_t n = b < 0x80 ? 1 : b < 0xC2 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
    uint32_t c = n <= 1 ? b : b & (0x7Fu >> n);
    bool good = n > 0;
    for (size_t k = 1; k < n; ++k) {
      good = good && (byte(k) & 0xC0) == 0x80;
      c = c << 6 | (byte(k) & 0x3F);
    }
    good = good && !(n == 3 && c < 0x800) && !(n == 4 && (c < 0x10000 || c > 0x10FFFF)) && !(c >= 0xD800 && c <= 0xDFFF);
    out += char32_t(good ? c : 0xFFFD);
    i += good ? n : 1;
    all = all && good;
  }
  if (valid) *valid = all;
  return out;
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  } else {
    out += {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 0x3F)), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  }
}

}  // namespace tll
