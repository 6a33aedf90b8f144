// Finds added tokens in a text: the leftmost first, and of those that begin at the same place the longest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/placement.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// Finds the longest of a set of strings that begins at a place of a text. A trie: the time does not depend on their number.
class LongestPrefix {
 public:
  void add(std::string_view text, int32_t value);  // value >= 0; an equal string added later is ignored
  struct Match {
    int32_t value;  // -1: none
    size_t bytes;
  };
  Match find(std::string_view text, size_t at) const;

 private:
  static uint64_t edge(uint32_t node, char c) { return uint64_t{node} << 8 | uint8_t(c); }
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> values_ = {-1};  // of a node
  bool first_[256] = {};
};

class AddedTokenMatcher {
 public:
  // A part of a text: an added token, or what lies between two of them (id -1). With lstrip or rstrip, a token's part includes
  // the white space beside it.
  struct Part {
    int32_t id;
    size_t begin, end;
  };

  // `pattern` is the text to look for: the token's content, or its normalized content.
  void add(std::string_view pattern, const AddedToken& token);
  // Whether split() can find a token without markup. Special tokens are then never found: in a text they are text.
  bool finds() const { return finds_; }
  bool empty() const { return tokens_.empty(); }
  // With `parts`, of which the text is made (its bytes have these origins), special tokens are found in markup.
  std::vector<Part> split(std::string_view text, const JoinedParts* parts = nullptr, Origin origin = {}) const;

 private:
  LongestPrefix::Match find(std::string_view text, size_t at, const JoinedParts* parts, Origin origin) const;

  LongestPrefix patterns_;
  std::vector<AddedToken> tokens_;
  bool finds_ = false;
};

}  // namespace tll
