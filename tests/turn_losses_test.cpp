// Losses by turn: which target belongs to which turn, and that they add up to the loss of an evaluation, which keeps its bits.
#include "src/train/turn_losses.h"

#include <gtest/gtest.h>

#include "src/commands/session.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

TEST(TurnLosses, ARunOfTrainedTokensIsATurn) {
  // Two documents, and padding: o is not trained.      o  a  a  o  b  |  a  o  o  b  b  | padding
  std::vector<int32_t> targets = {kNoTarget, 7, 8, kNoTarget, 9, 5, kNoTarget, kNoTarget, 6, 6, kNoTarget, kNoTarget};
  std::vector<int32_t> cu_seqlens = {0, 5, 10, 12};
  BatchView batch{.targets = targets.data(),
                  .cu_seqlens = cu_seqlens.data(),
                  .documents = 2,
                  .padded_documents = 3,
                  .token_count = 10,
                  .target_count = 6};
  const std::vector<float> losses = {1, 2, 4, 8, 16, 32};
  std::vector<TurnLoss> turns;
  for (int times = 1; times <= 2; times++) {
    add_turn_losses(batch, losses.data(), turns);
    ASSERT_EQ(turns.size(), 2u);
    EXPECT_EQ(turns[0].sum, times * (1 + 2 + 8));
    EXPECT_EQ(turns[0].target_tokens, times * 3);
    EXPECT_EQ(turns[1].sum, times * (4 + 16 + 32));
    EXPECT_EQ(turns[1].target_tokens, times * 3);
  }
}

class TurnLossesOfAModel : public Run {};

TEST_F(TurnLossesOfAModel, AddUpToTheLossWhichKeepsItsBits) {
  std::ofstream data(directory_ / "turns.jsonl");
  for (int d = 0; d < 12; d++) {
    std::string ids = std::to_string(d + 1), labels = "-100";
    for (int t = 1; t < 10 + d; t++) {
      const int id = (d * 31 + t * t * 7 + 3) % 64;
      ids += "," + std::to_string(id), labels += "," + std::to_string(t % 4 == 0 ? -100 : id);
    }
    data << "{\"input_ids\":[" << ids << "],\"labels\":[" << labels << "]}\n";
  }
  data.close();
  for (const std::string device : {"cpu", "cuda"}) {
    if (device == "cuda" && cuda_device_count() == 0) continue;
    Options options = parse_options(words("evaluate --model " + kModel + " --data " + (directory_ / "turns.jsonl").string() +
                                          " --seq-len 32 --batch-size 2 --dtype fp32 --quiet --device " + device));
    resolve_options(options);
    const ModelSource source = open_model(options, TokenizerNeed::wanted);
    Dataset dataset = load_dataset(options.data, nullptr, prepare_options(options, source));
    Session<float> session(options, source.config, {}, [](const Options& o) {
      return SessionNeeds{.tokens = o.batch_size * o.seq_len, .positions = o.seq_len};
    });
    session.start(source, {});
    LoaderOptions in_order = loader_options(options, Split::kTrain);
    in_order.shuffle = false;
    Loader loader(dataset, in_order);
    LoaderBatches batches(loader);
    const auto plain = session.trainer.evaluate(session.device, batches);
    std::vector<TurnLoss> turns;
    const auto again = session.trainer.evaluate(
        session.device, batches, [&](const BatchView& batch, const float* losses) { add_turn_losses(batch, losses, turns); });
    ASSERT_TRUE(plain.loss && again.loss);
    EXPECT_EQ(*plain.loss, *again.loss);
    EXPECT_EQ(plain.target_tokens, again.target_tokens);
    EXPECT_EQ(turns.size(), 5u) << "of the longest document";
    double sum = 0;
    int64_t count = 0;
    for (const TurnLoss& turn : turns) sum += turn.sum, count += turn.target_tokens;
    EXPECT_EQ(count, plain.target_tokens);
    // Both are sums in double of the same floats, in another order.
    EXPECT_NEAR(sum / static_cast<double>(count), *plain.loss, 1e-13 * *plain.loss);
  }
}

}  // namespace
}  // namespace tll
