#include "src/model/row_chunks.h"

#include <gtest/gtest.h>

#include <vector>

namespace tll {
namespace {

std::vector<int> sizes(const RowChunks& chunks, int count) {
  std::vector<int> all;
  for (int i = 0; i < chunks.number(count); i++) all.push_back(chunks.begin(count, i + 1) - chunks.begin(count, i));
  return all;
}

TEST(RowChunks, AreEqualWhereTheyCanBe) {
  EXPECT_EQ(sizes({576, 64}, 4096), std::vector<int>(8, 512));  // not seven of 576, and 64
  EXPECT_EQ(sizes({1024, 64}, 4096), std::vector<int>(4, 1024));
  EXPECT_EQ(sizes({1024, 64}, 1024), std::vector<int>{1024});
  EXPECT_EQ(sizes({1024, 64}, 1088), (std::vector<int>{576, 512}));
  EXPECT_EQ(sizes({100, 1}, 101), (std::vector<int>{50, 51}));
  EXPECT_EQ(sizes({5, 1}, 0), std::vector<int>{});
}

TEST(RowChunks, CoverAllRowsInAsFewChunksAsTheMostAllows) {
  for (const int unit : {1, 8, 64})
    for (const int units : {1, 2, 3, 9})
      for (int count = 1; count < 700; count++) {
        const RowChunks chunks{units * unit, unit};
        const std::vector<int> all = sizes(chunks, count);
        ASSERT_EQ(static_cast<int>(all.size()), (count + chunks.most - 1) / chunks.most);
        ASSERT_EQ(chunks.begin(count, 0), 0);
        ASSERT_EQ(chunks.begin(count, chunks.number(count)), count);
        const auto [least, most] = std::minmax_element(all.begin(), all.end());
        ASSERT_GT(*least, 0) << count << " in " << chunks.most;
        ASSERT_LE(*most, chunks.most) << count;
        ASSERT_LT(*most - *least, 2 * unit) << count;
        for (int i = 0; i < chunks.number(count); i++) ASSERT_EQ(chunks.begin(count, i) % unit, 0);
      }
}

}  // namespace
}  // namespace tll
