#include "tokenizer/utf8.h"

#include <cstring>

namespace tll {
namespace {

// How many bytes at text[at] could be the start of a valid sequence, at least 1: one U+FFFD replaces them.
size_t maximal_part(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const size_t left = text.size() - at;
  const unsigned char first = byte(0);
  const size_t whole = first >= 0xF0 && first < 0xF5 ? 4 : first >= 0xE0 && first < 0xF0 ? 3 : 1;
  if (whole == 1 || left < 2) return 1;
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 1;
  return whole == 4 && left >= 3 && (byte(2) & 0xC0) == 0x80 ? 3 : 2;
}

template <class Skip>
std::string replace_invalid(std::string_view text, Skip skip) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_code_point(text, at);
    if (c.valid) {
      out.append(text, at, c.bytes);
      at += c.bytes;
    } else {
      append_utf8(out, kReplacement);
      at += skip(at);
    }
  }
  return out;
}

}  // namespace

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    uint64_t eight;
    if (text.size() - at >= sizeof eight) {
      std::memcpy(&eight, text.data() + at, sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {
        at += sizeof eight;
        continue;
      }
    }
    const CodePoint c = read_code_point(text, at);
    if (!c.valid) return at;
    at += c.bytes;
  }
  return std::string_view::npos;
}

std::string replace_invalid_bytes(std::string_view text) {
  return replace_invalid(text, [](size_t) { return size_t{1}; });
}

std::string replace_invalid_sequences(std::string_view text) {
  return replace_invalid(text, [&](size_t at) { return maximal_part(text, at); });
}

}  // namespace tll
