// The optimizer's own memory: what it places is what a checkpoint holds, and a run begins with zeros.
#include "src/train/optimizer.h"

#include <gtest/gtest.h>

namespace tll {
namespace {

TEST(Optimizer, ItsTensorsAreWhatItPlaced) {
  constexpr int64_t kCount = 100;
  Arena arena;
  Optimizer optimizer({});
  const std::vector<NamedTensor> tensors = {{"a", {40}, 0}, {"b", {6, 10}, 40}};
  optimizer.place(arena, nullptr, "lora", tensors);
  arena.allocate();
  optimizer.place(arena, nullptr, "lora", tensors);
  arena.seal();
  std::vector<std::pair<std::string, int64_t>> placed, held;
  for (const TensorRecord& t : arena.tensors())
    if (t.category == Category::optimizer) placed.emplace_back(t.name, t.bytes);
  for (const StateTensor& t : optimizer.tensors()) {
    held.emplace_back("lora." + t.name, t.bytes());
    EXPECT_EQ(t.count, kCount);
    std::fill_n(static_cast<float*>(t.data), kCount, 7.0f);
  }
  EXPECT_EQ(held, placed);
  optimizer.clear(Device{});
  for (const StateTensor& t : optimizer.tensors())
    for (int64_t i = 0; i < kCount; i++) ASSERT_EQ(static_cast<float*>(t.data)[i], 0) << t.name;
}

TEST(Optimizer, NothingTrainedTakesNoMemory) {
  Arena arena;
  Optimizer optimizer({});
  optimizer.place(arena, nullptr, "lora", {});
  EXPECT_TRUE(arena.tensors().empty());
}

}  // namespace
}  // namespace tll
