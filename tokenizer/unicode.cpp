#include "tokenizer/unicode.h"

#include <array>
#include <vector>

namespace tll {
namespace {

#include "tokenizer/unicode_tables.inc"

// A two-level table: distinct pages of 256 classes, and the number of the page for each 256 code points.
struct ClassTable {
  std::array<uint8_t, 0x1100> page_of;
  std::vector<std::array<CharClass, 256>> pages;

  ClassTable() {
    std::vector<CharClass> all(0x110000, CharClass::kOther);
    const auto mark = [&](const auto& ranges, CharClass value) {
      for (const CodePointRange r : ranges) std::fill(all.begin() + r.first, all.begin() + r.last + 1, value);
    };
    mark(kLetters, CharClass::kLetter);
    mark(kNumbers, CharClass::kNumber);
    mark(kSpaces, CharClass::kSpace);
    for (size_t p = 0; p < page_of.size(); ++p) {
      std::array<CharClass, 256> page;
      std::copy_n(all.begin() + std::ptrdiff_t(p * 256), 256, page.begin());
      size_t same = 0;
      while (same < pages.size() && pages[same] != page) ++same;
      if (same == pages.size()) pages.push_back(page);
      page_of[p] = uint8_t(same);  // 140 distinct pages
    }
  }
};

}  // namespace

CharClass char_class(char32_t c) {
  static const ClassTable table;
  return table.pages[table.page_of[c >> 8]][c & 0xFF];
}

bool is_digit(char32_t c) {
  return char_class(c) == CharClass::kNumber || (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6);
}

bool is_word_character(char32_t c) { return char_class(c) == CharClass::kLetter || range_at(kWordsButLetters, c); }

}  // namespace tll
