// How byte tokens are spelled. Byte-level vocabularies use a printable alphabet (GPT-2's bytes_to_unicode): bytes 33-126, 161-172
// and 174-255 are the code points of the same number; the other 68, in order, are U+0100, U+0101 and so on.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/utf8.h"

namespace tll {

struct ByteAlphabet {
  std::array<char32_t, 256> character;  // of a byte
  std::array<int16_t, 0x144> byte;      // of a character, -1: not in the alphabet

  constexpr ByteAlphabet() : character(), byte() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      character[b] = printable ? b : next++;
      byte[character[b]] = int16_t(b);
    }
  }

  std::string spell(std::string_view bytes) const {
    std::string out;
    for (const char b : bytes) append_utf8(out, character[uint8_t(b)]);
    return out;
  }

  // The bytes that a token stands for; nothing if it contains a character outside the alphabet.
  std::optional<std::string> bytes(std::string_view token) const {
    std::string out;
    for (size_t at = 0; at < token.size();) {
      const CodePoint c = read_code_point(token, at);
      if (!c.valid || c.value >= byte.size() || byte[c.value] < 0) return std::nullopt;
      out += char(byte[c.value]);
      at += c.bytes;
    }
    return out;
  }
};

inline constexpr ByteAlphabet kByteAlphabet;

// The other spelling, in vocabularies of characters: the byte of "<0xHH>"; -1 for other tokens.
inline int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? static_cast<int>(value) : -1;
}

}  // namespace tll
