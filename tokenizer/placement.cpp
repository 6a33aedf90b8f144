#include "tokenizer/placement.h"

#include <limits>

#include "src/base/check.h"

namespace tll {

JoinedParts::JoinedParts(std::span<const TextPart> parts) {
  size_t size = 0;
  for (const TextPart& part : parts) size += part.text.size();
  if (size > std::numeric_limits<uint32_t>::max()) bad_file("a text of {} bytes is too long for one sample", size);
  text_.reserve(size);
  for (const TextPart& part : parts) {
    if (part.text.empty()) continue;
    text_ += part.text;
    has_markup_ = has_markup_ || part.markup;
    if (!ranges_.empty() && ranges_.back().markup == part.markup) {
      ranges_.back().end = text_.size();
    } else {
      ranges_.push_back({text_.size() - part.text.size(), text_.size(), part.markup});
    }
  }
}

const JoinedParts::Range& JoinedParts::around(size_t byte) const {
  return *(std::upper_bound(ranges_.begin(), ranges_.end(), byte, [](size_t b, const Range& r) { return b < r.begin; }) - 1);
}

}  // namespace tll
