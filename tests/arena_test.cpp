// Lives and offsets: what shares bytes, what the total is, and what a run sees when it enters a phase.
#include "src/model/arena.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "tests/refusal.h"

namespace tll {
namespace {

using enum StepPhase;

int64_t offset_of(const Arena& arena, const std::string& name) {
  for (const TensorRecord& t : arena.tensors())
    if (t.name == name) return t.offset;
  ADD_FAILURE() << name;
  return -1;
}

TEST(Arena, LivesThatDoNotMeetShareBytes) {
  Arena arena;
  float* f;
  arena.place(f, "forward", {100}, Category::activations, during(forward_mlp));
  arena.place(f, "kept", {16}, Category::activations, {forward_attention, backward_qkv});
  arena.place(f, "weights", {32}, Category::parameters);
  arena.place(f, "backward", {200}, Category::activations, during(backward_mlp));
  EXPECT_EQ(offset_of(arena, "weights"), 0);
  EXPECT_EQ(offset_of(arena, "kept"), 128);
  EXPECT_EQ(offset_of(arena, "forward"), 192);
  EXPECT_EQ(offset_of(arena, "backward"), 192);
  EXPECT_EQ(arena.total(), 192 + 832);  // 800 bytes and a gap to the next multiple of 64
  EXPECT_EQ(arena.peak(), backward_mlp);
  EXPECT_EQ(arena.bytes_by_category(), (std::array<int64_t, kCategories>{128, 0, 0, 864, 32}));
  EXPECT_EQ(arena.bytes_in(load), 128);
}

// Random lives that nest or are apart: nothing that lives together overlaps, and the total is the most that lives in a phase.
TEST(Arena, NestedLivesWasteNothing) {
  for (unsigned seed = 0; seed < 200; seed++) {
    std::mt19937 random(seed);
    Arena arena;
    float* f;
    const std::function<void(int, int)> nest = [&](int first, int last) {
      const Life life{static_cast<StepPhase>(first), static_cast<StepPhase>(last)};
      for (unsigned n = random() % 3; n > 0; n--)
        arena.place(f, std::to_string(arena.tensors().size()), {static_cast<int64_t>(1 + random() % 100)}, Category::scratch,
                    life);
      if (first == last) return;
      const int middle = first + static_cast<int>(random() % static_cast<unsigned>(last - first));
      nest(first, middle), nest(middle + 1, last);
    };
    nest(0, kStepPhases - 1);
    int64_t most = 0;
    for (int p = 0; p < kStepPhases; p++) most = std::max(most, arena.bytes_in(static_cast<StepPhase>(p)));
    EXPECT_EQ(arena.total(), most);
    const std::vector<TensorRecord>& all = arena.tensors();
    for (size_t i = 0; i < all.size(); i++)
      for (size_t j = 0; j < i; j++)
        ASSERT_TRUE(!all[i].life.meets(all[j].life) || all[i].offset + all[i].bytes <= all[j].offset ||
                    all[j].offset + all[j].bytes <= all[i].offset)
            << all[i].name << " and " << all[j].name;
  }
}

struct Lives {
  Arena arena;
  float *always, *block, *kept, *gradients;
  explicit Lives() {
    arena.poison = true;
    place();
    arena.allocate();
    place();
    arena.seal();
  }
  void place() {
    arena.place(always, "always", {4}, Category::parameters);
    arena.place(gradients, "gradients", {4}, Category::gradients, {step, update});
    arena.place(kept, "kept", {4}, Category::activations, {forward_attention, backward_qkv});
    arena.place(block, "block", {4}, Category::activations, {forward_attention, forward_mlp});
  }
  void enter(StepPhase phase) { arena.enter({}, phase); }
  std::string living() const {  // those that still hold the 1 that write() wrote
    return std::string(*always == 1 ? "a" : "") + (*gradients == 1 ? "g" : "") + (*kept == 1 ? "k" : "") +
           (*block == 1 ? "b" : "");
  }
  void write() { *always = *gradients = *kept = *block = 1; }
};

TEST(Arena, ALifeBeginsWithNothing) {
  Lives l;
  l.write();
  l.enter(step);
  EXPECT_EQ(l.living(), "akb");  // those begin later
  l.enter(batch);
  l.enter(forward_attention);
  EXPECT_EQ(l.living(), "a");
  l.write();
  l.enter(forward_mlp);
  EXPECT_EQ(l.living(), "agkb");
  l.enter(forward_attention);  // the next block
  EXPECT_EQ(l.living(), "agk");
  l.write();
  l.enter(forward_mlp), l.enter(head), l.enter(backward_mlp), l.enter(backward_qkv), l.enter(backward_mlp);
  EXPECT_EQ(l.living(), "agkb");
  l.enter(backward_qkv), l.enter(batch), l.enter(forward_attention);  // the next micro-batch
  EXPECT_EQ(l.living(), "ag");
  l.write();
  l.enter(update), l.enter(evaluation), l.enter(eval_head), l.enter(step);
  EXPECT_EQ(l.living(), "akb");
}

TEST(Arena, TheSecondWalkRepeatsTheFirst) {
  const auto second = [](Life life, std::vector<int64_t> shape) {
    Arena arena;
    float* f;
    arena.place(f, "x", {4, 4}, Category::scratch, during(head));
    arena.allocate();
    arena.place(f, "x", shape, Category::scratch, life);
    arena.seal();
  };
  second(during(head), {4, 4});
  EXPECT_DEATH(second(during(update), {4, 4}), "another life");
  EXPECT_DEATH(second(during(head), {4, 5}), "planned x of 64 bytes, placed x of 80 bytes");
  EXPECT_TRUE(says(refusal_of(
                       [] {
                         Arena arena;
                         float* f;
                         for (int i = 0; i < 70; i++) arena.place(f, "x", {int64_t{1} << 54}, Category::scratch);
                         arena.total();
                       },
                       kExitDoesNotFit),
                   "more than 2^62 bytes"));
}

}  // namespace
}  // namespace tll
