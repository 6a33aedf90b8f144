// U+2581, the mark that stands for a space in SentencePiece vocabularies.
#pragma once

#include <algorithm>
#include <string_view>

namespace tll {

inline constexpr std::string_view kSpaceMark = "\u2581";

// Whether the piece has a mark after another character. If no piece has one, no merge crosses the beginning of a word, and words
// can be encoded one by one.
inline bool has_space_inside(std::string_view piece) {
  while (piece.starts_with(kSpaceMark)) piece.remove_prefix(kSpaceMark.size());
  return piece.find(kSpaceMark) != std::string_view::npos;
}

// Splits before each run of marks. Calls visit(word) with the run and the text that follows it.
template <class Visit>
void for_each_word(std::string_view text, Visit&& visit) {
  size_t begin = 0;
  size_t at = 0;
  while (begin < text.size()) {
    while (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
    at = std::min(text.find(kSpaceMark, at), text.size());
    visit(text.substr(begin, at - begin));
    begin = at;
  }
}

}  // namespace tll
