// Windows of a text: which tokens each has, which are its targets, and how losses are weighted.
#include "src/train/text_windows.h"

#include <gtest/gtest.h>

#include <numeric>

namespace tll {
namespace {

struct Buffers {
  std::vector<int32_t> tokens, targets, positions, cu_seqlens;
  BatchView view;
  Buffers(int64_t length, int64_t rows) {
    const auto size = static_cast<size_t>(length * rows);
    tokens.resize(size), targets.resize(size), positions.resize(size), cu_seqlens.resize(size + 1);
    view = {tokens.data(), targets.data(), positions.data(), cu_seqlens.data()};
  }
};

std::vector<int32_t> text(int64_t size) {
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  std::iota(tokens.begin(), tokens.end(), 100);
  return tokens;
}

// The loss of predicting a token behind so many others: distinct for each pair.
float loss(int32_t token, int32_t position) {
  return 1 + 0.01f * static_cast<float>(token % 17) + 0.5f / static_cast<float>(position + 1);
}

// The guide's loop, with labels as there: a label counts unless it is -100 or the first of its window.
struct Reference {
  double guide = 0, by_token = 0;
  int64_t weight = 0, targets = 0, windows = 0;
  Reference(const std::vector<int32_t>& tokens, int64_t length, int64_t stride) {
    const auto size = static_cast<int64_t>(tokens.size());
    double weighted = 0, all = 0;
    for (int64_t begin = 0, before = 0; begin < size; begin += stride) {
      const int64_t end = std::min(begin + length, size), fresh = end - before;
      double sum = 0;
      int64_t count = 0, valid = 0;
      for (int64_t t = begin; t < end; t++) {
        if (t < end - fresh) continue;
        valid++;
        if (t == begin) continue;
        count++;
        sum += loss(tokens[static_cast<size_t>(t)], static_cast<int32_t>(t - 1 - begin));
      }
      if (count > 0) weighted += sum / static_cast<double>(count) * static_cast<double>(valid - 1), weight += valid - 1;
      all += sum, targets += count, windows++;
      before = end;
      if (end == size) break;
    }
    guide = weighted / static_cast<double>(weight), by_token = all / static_cast<double>(targets);
  }
};

TEST(TextWindows, AreThoseOfTheGuide) {
  for (const int64_t size : {2, 5, 16, 17, 18, 31, 32, 33, 100})
    for (const int64_t length : {2, 3, 8, 16})
      for (int64_t stride = 1; stride <= length; stride++)
        for (const int64_t rows : {1, 3}) {
          SCOPED_TRACE(testing::Message() << size << " tokens, length " << length << ", stride " << stride << ", rows " << rows);
          const std::vector<int32_t> tokens = text(size);
          const Reference expected(tokens, length, stride);
          TextWindows windows(tokens, length, stride, rows);
          EXPECT_EQ(windows.windows(), expected.windows);
          Buffers b(length, rows);
          std::vector<int> predicted(tokens.size());
          for (int64_t i = 0; i < windows.batches(); i++) {
            windows.next(b.view);
            std::vector<float> losses;
            for (int32_t at = 0; at < b.view.token_count; at++) {
              if (b.targets[static_cast<size_t>(at)] == kNoTarget) continue;
              EXPECT_EQ(b.targets[static_cast<size_t>(at)], b.tokens[static_cast<size_t>(at)] + 1);
              losses.push_back(loss(b.targets[static_cast<size_t>(at)], b.positions[static_cast<size_t>(at)]));
              predicted[static_cast<size_t>(b.targets[static_cast<size_t>(at)] - 100)]++;
            }
            EXPECT_EQ(static_cast<int32_t>(losses.size()), b.view.target_count);
            EXPECT_LE(b.view.documents, rows);
            EXPECT_EQ(b.view.cu_seqlens[b.view.padded_documents], length * rows);
            for (int32_t d = 0; d < b.view.documents; d++) {
              EXPECT_EQ(b.positions[static_cast<size_t>(b.view.cu_seqlens[d])], 0);
              EXPECT_LE(b.view.cu_seqlens[d + 1] - b.view.cu_seqlens[d], length);
            }
            windows.add(losses.data());
          }
          for (size_t t = 0; t < predicted.size(); t++) {
            const bool alone = stride == length && static_cast<int64_t>(t) % length == 0;
            EXPECT_EQ(predicted[t], t == 0 || alone ? 0 : 1) << "token " << t;
          }
          EXPECT_EQ(windows.targets(), expected.targets);
          EXPECT_EQ(windows.guide_loss().has_value(), expected.weight > 0);
          if (expected.weight > 0) {
            EXPECT_NEAR(*windows.guide_loss(), expected.guide, 1e-12);
          }
          if (expected.targets > 0) {
            EXPECT_NEAR(*windows.token_loss(), expected.by_token, 1e-12);
          }
        }
}

// 5 tokens in windows of 3 that move on by 2: targets 1, 2 of the first window and 3, 4 of the second.
TEST(TextWindows, ByHand) {
  const std::vector<int32_t> tokens = text(5);
  TextWindows windows(tokens, 3, 2, 1);
  Buffers b(3, 1);
  windows.next(b.view);
  EXPECT_EQ(b.tokens, (std::vector<int32_t>{100, 101, 102}));
  EXPECT_EQ(b.targets, (std::vector<int32_t>{101, 102, kNoTarget}));
  windows.add(std::vector<float>{1, 2}.data());
  windows.next(b.view);
  EXPECT_EQ(b.tokens, (std::vector<int32_t>{102, 103, 104}));
  EXPECT_EQ(b.targets, (std::vector<int32_t>{103, 104, kNoTarget}));
  windows.add(std::vector<float>{4, 8}.data());
  // Means 1.5 and 6; the first window has 3 new tokens, the second 2.
  EXPECT_DOUBLE_EQ(*windows.guide_loss(), (1.5 * 2 + 6 * 1) / 3);
  EXPECT_DOUBLE_EQ(*windows.token_loss(), (1 + 2 + 4 + 8) / 4.0);
}

}  // namespace
}  // namespace tll
