// What ranks own of the trained values: all of it, each piece once, cut where nothing is summed or coded across the cut.
#include "src/model/shards.h"

#include <gtest/gtest.h>

#include "kernels/adamw8bit.h"
#include "kernels/reduce.h"
#include "src/commands/planner.h"
#include "src/files/known_models.h"
#include "src/options/resolve.h"
#include "tests/words.h"

namespace tll {
namespace {

constexpr int64_t kUnit = SumOfSquares::kBlock;

TEST(Shards, PiecesCoverEveryBucketOnce) {
  const std::vector<int64_t> counts = {1, kUnit, 5 * kUnit + 17, 100 * kUnit, 3};
  std::vector<Bucket> buckets;
  int64_t end = 0;
  for (const int64_t count : counts) {
    buckets.push_back({static_cast<int>(buckets.size()) - 1, end, count, {}});
    end += count;
  }
  for (const int size : {1, 2, 3, 4, 7}) {
    std::vector<int> owners(static_cast<size_t>(end));
    int64_t most = 0;
    for (int rank = 0; rank < size; rank++) {
      const Shards shards({rank, size, Shard::optimizer}, buckets, kUnit, [](int64_t) { return true; });
      int64_t own = 0;
      for (const OwnedPiece& piece : shards.own()) {
        EXPECT_EQ(piece.own, own);
        own += piece.count;
        for (int64_t i = 0; i < piece.count; i++) owners[static_cast<size_t>(piece.first + i)]++;
      }
      most = std::max(most, own);
      EXPECT_LE(own, shards.most_owned());
      for (const Bucket& b : shards.buckets())
        for (const int64_t bound : b.bounds) EXPECT_TRUE((bound - b.first) % kUnit == 0 || bound == b.first + b.count);
    }
    EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), end) << size;
    EXPECT_EQ(Shards({0, size, Shard::optimizer}, buckets, kUnit, [](int64_t) { return true; }).most_owned(), most);
    EXPECT_LE(most, end / size + static_cast<int64_t>(counts.size()) * kUnit + kUnit);  // each bucket is cut to within a unit
  }
}

TEST(Shards, CutsLieWhereTheyMay) {
  const std::vector<Bucket> buckets = {{0, 0, 64 * kUnit, {}}};
  const auto may_cut = [](int64_t element) { return element % (3 * kUnit) == 0; };
  const Shards shards({0, 4, Shard::optimizer}, buckets, kUnit, may_cut);
  for (const int64_t bound : shards.buckets()[0].bounds) EXPECT_TRUE(may_cut(bound) || bound == 64 * kUnit) << bound;
  const Shards nowhere({0, 4, Shard::optimizer}, buckets, kUnit, [](int64_t) { return false; });
  EXPECT_EQ(nowhere.pieces_of(3).size(), 1u);  // one rank owns all
  EXPECT_EQ(nowhere.pieces_of(3)[0].count, 64 * kUnit);
}

template <class Wanted>
int64_t bytes_of(const Arena& arena, const Wanted& wanted) {
  int64_t bytes = 0;
  for (const TensorRecord& t : arena.tensors())
    if (wanted(t)) bytes += t.bytes;
  return bytes;
}
int64_t bytes_of(const Arena& arena, const char* ending) {
  return bytes_of(arena, [&](const TensorRecord& t) { return t.name.ends_with(ending); });
}

// What is divided adds up, over the ranks, to what one rank has, but for the rounding of pieces.
TEST(Shards, PlansOfRanksAddUpToThatOfOne) {
  const auto plan = [](const std::string& more, const auto& use) {
    Options options = parse_options(words("plan --model meta-llama/Llama-3.2-1B --gpu H100 --quiet --recompute full " + more));
    const LlamaConfig config = known_model("meta-llama/Llama-3.2-1B")->config;
    resolve_options(options);
    Planner(config, std::nullopt, training_needs).with_session(options, [&](const auto& session) { use(session.arena); });
  };
  for (const std::string train : {"--train full", "--train full --optimizer adamw8bit", "--weights nf4"}) {
    std::map<std::string, int64_t> one;
    const auto divided = [&](const Arena& arena) {
      std::map<std::string, int64_t> bytes = {
          {"states", bytes_of(arena, [](const TensorRecord& t) { return t.category == Category::optimizer; })},
          {"gradients", bytes_of(arena, ".gradients")}};
      if (train != "--weights nf4") bytes["values"] = bytes_of(arena, ".values");
      return bytes;
    };
    plan(train, [&](const Arena& arena) { one = divided(arena); });
    for (const int ranks : {2, 4})
      plan(fmt::format("{} --ranks {} --shard optimizer", train, ranks), [&](const Arena& arena) {
        for (const auto& [name, bytes] : divided(arena)) {
          EXPECT_GE(bytes * ranks, one.at(name)) << name;
          EXPECT_LE(static_cast<double>(bytes * ranks), 1.02 * static_cast<double>(one.at(name))) << train << name;
        }
      });
    if (train != "--weights nf4") continue;
    int64_t whole = 0;
    plan(train, [&](const Arena& arena) {
      whole = bytes_of(arena,
                       [](const TensorRecord& t) { return t.category == Category::parameters && t.name.starts_with("layers."); });
    });
    for (const int ranks : {2, 4})
      plan(fmt::format("{} --ranks {} --shard weights", train, ranks), [&](const Arena& arena) {
        const double parts = static_cast<double>(ranks * bytes_of(arena, ".part"));
        EXPECT_NEAR(parts, static_cast<double>(whole), 0.01 * static_cast<double>(whole));
      });
  }
}

}  // namespace
}  // namespace tll
