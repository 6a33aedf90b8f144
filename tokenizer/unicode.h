// The Unicode data that pre-tokenizers need, as in the reference libraries: classes of Unicode 16, NFC of Unicode 9.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

// What \p{L}, \p{N} and \s of the reference regular expressions match; everything else (marks, symbols) is kOther.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

CharClass char_class(char32_t c);

// Numeric for the Digits pre-tokenizer, which knows 13 more numbers (Unicode 17).
bool is_digit(char32_t c);

// Part of a word, for single_word of added tokens: letters, marks, digits, connectors, join controls.
bool is_word_character(char32_t c);

struct CodePointRange {
  char32_t first, last;
};

// The range of a sorted table that holds c; null if none does.
template <class Range, size_t N>
const Range* range_at(const Range (&table)[N], char32_t c) {
  const Range* next = std::upper_bound(table, table + N, c, [](char32_t x, const Range& r) { return x < r.first; });
  return next == table || c > next[-1].last ? nullptr : next - 1;
}

// Canonical composition (UAX #15) of valid UTF-8. `origins`, if there are any, has a number for each byte of the text, and gets
// those of the result: of a character, the number of the character in the text that its first part was in.
std::string nfc(std::string_view utf8, std::vector<uint32_t>* origins = nullptr);

}  // namespace tll
