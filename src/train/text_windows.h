// One long text in windows, for its perplexity as Hugging Face's guide "Perplexity of fixed-length models" computes it.
//
// A window is the `length` tokens from k·stride on. Its targets are those tokens that no window before it had; the others are
// context. The first token of a window is predicted by nothing, so in the first window, and in every one where windows do not
// overlap, it is no target.
//   guide        sum over windows of mean(window) · (new(window) - 1)  /  sum over windows of (new(window) - 1)
//   tokens       sum over targets of the loss / targets
// new(window): tokens that no window before it had. The guide subtracts 1 for the first token of each window, which only counts
// where windows do not overlap. So the two differ a little if they do, and with stride 1 the guide's is that of the first window.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/train/trainer.h"

namespace tll {

class TextWindows : public BatchSource {
 public:
  // 1 <= stride <= length; `rows` windows a batch, at most as long as `length`. The tokens must outlive this object.
  TextWindows(const std::vector<int32_t>& tokens, int64_t length, int64_t stride, int64_t rows);

  int64_t windows() const { return windows_; }
  int64_t batches() const override { return (windows_ + rows_ - 1) / rows_; }
  void next(BatchView& batch) override;

  // The losses of the batch that next() made last.
  template <class Float>
  void add(const Float* losses);

  // Of the windows until now; nothing where there is no target, or no weight.
  std::optional<double> guide_loss() const;
  std::optional<double> token_loss() const;
  int64_t targets() const { return targets_; }

 private:
  struct Window {
    int64_t begin, end, first_new;
    int64_t targets() const { return end - std::max(first_new, begin + 1); }
  };
  Window window(int64_t k) const;

  const std::vector<int32_t>& tokens_;
  int64_t length_, stride_, rows_, windows_, next_ = 0, batch_ = 0;  // next_: the window that follows, batch_: the batch's first
  double weighted_ = 0, sum_ = 0;
  int64_t weight_ = 0, targets_ = 0;
};

}  // namespace tll
