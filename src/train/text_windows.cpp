#include "src/train/text_windows.h"

#include <algorithm>
#include <numeric>

namespace tll {

// The last window is the first one that reaches the end.
TextWindows::TextWindows(const std::vector<int32_t>& tokens, int64_t length, int64_t stride, int64_t rows)
    : tokens_(tokens), length_(length), stride_(stride), rows_(rows) {
  TLL_CHECK(stride >= 1 && stride <= length && rows >= 1, "length {} stride {} rows {}", length, stride, rows);
  const int64_t rest = std::max<int64_t>(0, static_cast<int64_t>(tokens.size()) - length);
  windows_ = tokens.empty() ? 0 : 1 + (rest + stride - 1) / stride;
}

TextWindows::Window TextWindows::window(int64_t k) const {
  const int64_t begin = k * stride_;
  return {begin, std::min(begin + length_, static_cast<int64_t>(tokens_.size())), k == 0 ? 0 : begin - stride_ + length_};
}

void TextWindows::next(BatchView& batch) {
  batch_ = next_;
  next_ = std::min(next_ + rows_, windows_);
  batch.documents = batch.token_count = batch.target_count = 0;
  int32_t at = 0;
  for (int64_t k = batch_; k < next_; k++) {
    const Window w = window(k);
    batch.cu_seqlens[batch.documents++] = at;
    const int64_t first = w.end - w.targets();  // target
    for (int64_t t = w.begin; t < w.end; t++, at++) {
      batch.tokens[at] = tokens_[static_cast<size_t>(t)];
      batch.targets[at] = t + 1 >= first && t + 1 < w.end ? tokens_[static_cast<size_t>(t + 1)] : kNoTarget;
      batch.positions[at] = static_cast<int32_t>(t - w.begin);
    }
    batch.target_count += static_cast<int32_t>(w.targets());
  }
  batch.token_count = at;
  batch.padded_documents = batch.documents;
  const auto size = static_cast<int32_t>(length_ * rows_), row = static_cast<int32_t>(length_);
  std::fill(batch.tokens + at, batch.tokens + size, 0);
  std::fill(batch.targets + at, batch.targets + size, kNoTarget);
  for (; at < size; at += std::min(size - at, row)) {
    batch.cu_seqlens[batch.padded_documents++] = at;
    std::iota(batch.positions + at, batch.positions + std::min(size, at + row), 0);
  }
  batch.cu_seqlens[batch.padded_documents] = size;
}

template <class Float>
void TextWindows::add(const Float* losses) {
  for (int64_t k = batch_; k < next_; k++) {
    const Window w = window(k);
    const int64_t count = w.targets(), weight = w.end - w.first_new - 1;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += static_cast<double>(*losses++);
    sum_ += sum, targets_ += count;
    if (count > 0) weighted_ += sum / static_cast<double>(count) * static_cast<double>(weight), weight_ += weight;
  }
}
template void TextWindows::add(const float*);

std::optional<double> TextWindows::guide_loss() const {
  return weight_ > 0 ? std::optional(weighted_ / static_cast<double>(weight_)) : std::nullopt;
}

std::optional<double> TextWindows::token_loss() const {
  return targets_ > 0 ? std::optional(sum_ / static_cast<double>(targets_)) : std::nullopt;
}

}  // namespace tll
