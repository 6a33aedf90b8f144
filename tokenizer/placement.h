// Where the bytes of a text are from, for Tokenizer::encode_parts. A text changes on its way to the tokens (spaces become marks,
// characters compose); its origins say at which byte of the given text each of its bytes began.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tll {

using Origins = std::vector<uint32_t>;  // one for each byte

// The origins of a text that is a part of another: listed, or those of a text that has not changed.
class Origin {
 public:
  Origin() = default;
  explicit Origin(size_t first) : first_(first) {}
  explicit Origin(const Origins& list) : list_(list.data()) {}

  size_t operator[](size_t byte) const { return list_ ? list_[byte] : first_ + byte; }
  Origin from(size_t byte) const { return list_ ? Origin(list_ + byte) : Origin(first_ + byte); }
  // Those of `size` bytes as a list.
  Origins list(size_t size) const {
    Origins out(size);
    for (size_t i = 0; i < size; ++i) out[i] = uint32_t((*this)[i]);
    return out;
  }

 private:
  explicit Origin(const uint32_t* list) : list_(list) {}
  const uint32_t* list_ = nullptr;
  size_t first_ = 0;
};

// The parts of a text as one text, and which bytes of it are markup.
class JoinedParts {
 public:
  // Error (kExitBadFile) if they have 4 GiB or more.
  explicit JoinedParts(std::span<const TextPart> parts);

  const std::string& text() const { return text_; }
  struct Range {
    size_t begin, end;
    bool markup;
  };
  // The longest range around a byte that is all markup, or has none. byte < text().size().
  const Range& around(size_t byte) const;
  bool has_markup() const { return has_markup_; }

 private:
  std::string text_;
  std::vector<Range> ranges_;  // they adjoin, and neighbours differ
  bool has_markup_ = false;
};

}  // namespace tll
