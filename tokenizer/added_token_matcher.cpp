#include "tokenizer/added_token_matcher.h"

#include <algorithm>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

// Start of the character that ends at `end`, end > 0. The text is valid UTF-8.
size_t previous(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && is_continuation(text[end]));
  return end;
}

bool word_at(std::string_view text, size_t at) { return at < text.size() && is_word_character(read_code_point(text, at).value); }

}  // namespace

void LongestPrefix::add(std::string_view text, int32_t value) {
  if (text.empty()) return;
  first_[uint8_t(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const auto [next, is_new] = edges_.emplace(edge(node, c), uint32_t(values_.size()));
    if (is_new) values_.push_back(-1);
    node = next->second;
  }
  if (values_[node] < 0) values_[node] = value;
}

LongestPrefix::Match LongestPrefix::find(std::string_view text, size_t at) const {
  Match longest = {-1, 0};
  if (!first_[uint8_t(text[at])]) return longest;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (values_[node] >= 0) longest = {values_[node], i + 1 - at};
  }
  return longest;
}

void AddedTokenMatcher::add(std::string_view pattern, const AddedToken& token) {
  patterns_.add(pattern, int32_t(tokens_.size()));
  tokens_.push_back(token);
  finds_ = finds_ || !token.special;
}

// The longest token that begins at text[at] and is found; else of value -1, with the bytes to skip. A special token that is text
// is skipped, and matches that would begin inside it are not looked for.
LongestPrefix::Match AddedTokenMatcher::find(std::string_view text, size_t at, const JoinedParts* parts, Origin origin) const {
  LongestPrefix::Match match = patterns_.find(text, at);
  if (match.value < 0) return {-1, 1};
  if (!tokens_[size_t(match.value)].special) return match;
  if (!parts) return {-1, match.bytes};
  const JoinedParts::Range& range = parts->around(origin[at]);
  size_t inside = 0;  // bytes of the match in the range
  while (inside < match.bytes && origin[at + inside] < range.end) ++inside;
  if (inside < match.bytes && range.markup) match = patterns_.find(text.substr(0, at + inside), at);
  if (match.value < 0) return {-1, 1};
  if (range.markup || !tokens_[size_t(match.value)].special) return match;
  return {-1, std::max<size_t>(inside, 1)};
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::split(std::string_view text, const JoinedParts* joined,
                                                              Origin origin) const {
  std::vector<Part> parts;
  size_t done = 0;  // everything before it is in a part
  for (size_t at = 0; at < text.size();) {
    const LongestPrefix::Match match = find(text, at, joined, origin);
    if (match.value < 0) {
      at += match.bytes;
      continue;
    }
    const AddedToken& token = tokens_[size_t(match.value)];
    size_t begin = at;
    size_t end = at + match.bytes;
    at = end;
    if (token.single_word && (word_at(text, end) || (begin > 0 && word_at(text, previous(text, begin))))) continue;
    if (token.lstrip) {
      while (begin > 0 && char_class(read_code_point(text, previous(text, begin)).value) == CharClass::kSpace)
        begin = previous(text, begin);
      begin = std::max(begin, done);
    }
    if (token.rstrip) {
      while (end < text.size()) {
        const CodePoint c = read_code_point(text, end);
        if (char_class(c.value) != CharClass::kSpace) break;
        end += c.bytes;
      }
    }
    if (end <= begin) continue;  // white space that the token before has already taken
    if (done < begin) parts.push_back({-1, done, begin});
    parts.push_back({token.id, begin, end});
    done = end;
  }
  if (done < text.size()) parts.push_back({-1, done, text.size()});
  return parts;
}

}  // namespace tll
