#include "tokenizer/utf8.h"

#include <cstring>

namespace tll {
namespace {

// How many bytes at text[at] could be the start of a valid sequence, at least 1: one U+FFFD replaces them.
size_t maximal_part(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return uint8_t(text[at + i]); };
  const size_t left = text.size() - at;
  const unsigned char first = byte(0);
  const size_t whole = first >= 0xF0 && first < 0xF5 ? 4 : first >= 0xE0 && first < 0xF0 ? 3 : 1;
  if (whole == 1 || left < 2) return 1;
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 1;
  return whole == 4 && left >= 3 && is_continuation(text[at + 2]) ? 3 : 2;
}

// part(text, at): how many bytes at text[at], where no valid sequence begins, become one U+FFFD.
std::string replace_invalid(std::string_view text, size_t (*part)(std::string_view, size_t), std::vector<uint32_t>* origins) {
  std::string out;
  if (origins) origins->clear();
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = read_code_point(text, at);
    if (c.valid) {
      out.append(text, at, c.bytes);
    } else {
      append_utf8(out, kReplacement);
    }
    for (uint32_t i = 0; origins && origins->size() < out.size(); ++i) origins->push_back(uint32_t(at) + (c.valid ? i : 0));
    at += c.valid ? c.bytes : part(text, at);
  }
  return out;
}

}  // namespace

void append_utf8(std::string& out, char32_t c) {
  constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;  // bytes of six bits after the first
  out += char(kLead[more] | c >> 6 * more);
  while (more-- > 0) out += char(0x80 | (c >> 6 * more & 0x3F));
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

std::string replace_invalid_bytes(std::string_view text, std::vector<uint32_t>* origins) {
  return replace_invalid(
      text, [](std::string_view, size_t) { return size_t{1}; }, origins);
}

std::string replace_invalid_sequences(std::string_view text) { return replace_invalid(text, maximal_part, nullptr); }

}  // namespace tll
