// The plan as people read it: one line a group of tensors, and the sums.
#include "src/model/plan.h"

#include <gtest/gtest.h>

#include "tests/refusal.h"

namespace tll {
namespace {

TEST(PlanTable, GroupsTensorsOfOneCategoryOnly) {
  Arena arena;
  float* f;
  for (int layer = 0; layer < 3; layer++) {
    arena.place(f, "layers." + std::to_string(layer) + ".qkv", {16, 8}, Category::parameters);
    arena.place(f, "layers." + std::to_string(layer) + ".qkv", {4, 16}, Category::activations);
  }
  const std::string table = plan_table(arena);
  EXPECT_TRUE(says(table, "parameters   layers.*.qkv                 3  (16, 8)            fp32      1.50 KiB"));
  EXPECT_TRUE(says(table, "activations  layers.*.qkv                 3  (4, 16)            fp32         768 B"));
  EXPECT_TRUE(says(table, "parameters             1,536 bytes   1.50 KiB   66.7 %"));
  EXPECT_TRUE(says(table, "total                  2,304 bytes   2.25 KiB"));
}

TEST(PlanTable, TheLineAddsUp) {
  Arena arena;
  float* f;
  arena.place(f, "w", {16}, Category::parameters);
  arena.place(f, "x", {32}, Category::activations);
  EXPECT_EQ(plan_line(arena),
            "parameters 64 B + gradients 0 B + optimizer 0 B + activations 128 B + scratch 0 B = 192 B (192 bytes)");
}

}  // namespace
}  // namespace tll
