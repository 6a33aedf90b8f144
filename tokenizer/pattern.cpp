#include "tokenizer/pattern.h"

#include <array>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

struct Char {
  CharClass kind;
  uint32_t bytes;
};

Char char_at(std::string_view text, size_t at) {
  static const auto ascii = [] {
    std::array<CharClass, 128> out;
    for (char32_t c = 0; c < 128; ++c) out[c] = char_class(c);
    return out;
  }();
  const auto byte = uint8_t(text[at]);
  if (byte < 128) return {ascii[byte], 1};
  const CodePoint c = read_code_point(text, at);
  return {char_class(c.value), c.bytes};
}

size_t run_end(std::string_view text, size_t at, CharClass kind) {
  while (at < text.size()) {
    const Char c = char_at(text, at);
    if (c.kind != kind) break;
    at += c.bytes;
  }
  return at;
}

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

// Bytes of a contraction ('s 't 're 've 'm 'll 'd) at text[at], which is the apostrophe; 0: none. With any_case, U+017F is an s.
size_t contraction(std::string_view text, size_t at, bool any_case) {
  const std::string_view rest = text.substr(at + 1);
  const auto letter = [&](size_t i) -> char {
    if (i >= rest.size()) return 0;
    return any_case && rest[i] >= 'A' && rest[i] <= 'Z' ? char(rest[i] + 32) : rest[i];
  };
  const char first = letter(0), second = letter(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l')) return 3;
  return any_case && rest.starts_with("\u017F") ? 3 : 0;
}

// \s+(?!\S)|\s+ : the run of white space without its last character, which goes with what follows; at the end of the text, all.
size_t space_end(std::string_view text, size_t begin, size_t end) {
  if (end == text.size()) return end;
  size_t last = end - 1;
  while (is_continuation(text[last])) --last;
  return last > begin ? last : end;
}

size_t match_gpt2(std::string_view text, size_t begin) {
  if (text[begin] == '\'') {
    if (const size_t taken = contraction(text, begin, false)) return begin + taken;
  }
  const Char c = char_at(text, begin);
  if (c.kind != CharClass::kSpace) return run_end(text, begin + c.bytes, c.kind);
  if (text[begin] == ' ' && begin + 1 < text.size()) {
    const Char next = char_at(text, begin + 1);
    if (next.kind != CharClass::kSpace) return run_end(text, begin + 1 + next.bytes, next.kind);
  }
  return space_end(text, begin, run_end(text, begin, CharClass::kSpace));
}

size_t match_llama3(std::string_view text, size_t begin, int digits) {
  if (text[begin] == '\'') {
    if (const size_t taken = contraction(text, begin, true)) return begin + taken;
  }
  const Char c = char_at(text, begin);
  size_t at = begin + c.bytes;
  if (c.kind == CharClass::kLetter) return run_end(text, at, CharClass::kLetter);
  if (c.kind == CharClass::kNumber) {
    for (int taken = 1; taken < digits && at < text.size(); ++taken) {
      const Char next = char_at(text, at);
      if (next.kind != CharClass::kNumber) break;
      at += next.bytes;
    }
    return at;
  }
  const Char next = at < text.size() ? char_at(text, at) : Char{CharClass::kSpace, 0};
  if (next.kind == CharClass::kLetter && !is_line_end(text[begin])) return run_end(text, at + next.bytes, CharClass::kLetter);
  if (c.kind == CharClass::kOther || (text[begin] == ' ' && next.kind == CharClass::kOther)) {
    at = run_end(text, at, CharClass::kOther);
    while (at < text.size() && is_line_end(text[at])) ++at;
    return at;
  }
  const size_t end = run_end(text, begin, CharClass::kSpace);
  for (size_t i = end; i > begin; --i) {
    if (is_line_end(text[i - 1])) return i;
  }
  return space_end(text, begin, end);
}

}  // namespace

std::optional<SplitPattern> known_pattern(std::string_view regex) {
  if (regex == kGpt2Regex) return SplitPattern::kGpt2;
  if (regex == kLlama3Regex) return SplitPattern::kLlama3;
  if (regex == kQwen2Regex) return SplitPattern::kQwen2;
  return std::nullopt;
}

size_t match_end(SplitPattern pattern, std::string_view text, size_t begin) {
  if (pattern == SplitPattern::kGpt2) return match_gpt2(text, begin);
  return match_llama3(text, begin, pattern == SplitPattern::kLlama3 ? 3 : 1);
}

}  // namespace tll
