// Training on several ranks: the same bits as on one rank, with everything that can be divided among them, and over a change of
// their number. Here the ranks are threads of one process.
#include <atomic>
#include <thread>

#include "src/ranks/shared_memory.h"
#include "tests/emulated_gpu.h"
#include "tests/rank_processes.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

class RanksRun : public Run {
 protected:
  // `more` is for each rank; --grad-accum is what makes twelve micro-batches a step, unless it is given.
  Options parse_for(int ranks, const std::string& output, const std::string& more) const {
    const std::string accumulated = fmt::format("--batch-size 1 --grad-accum {} --ranks {} ", 12 / ranks, ranks);
    return parse(output, accumulated + more);
  }
  template <class Float = float>
  void train_on(int ranks, const Options& options, int64_t stop_after = kWhole) const {
    if (ranks == 1) return train<Float>(options, stop_after);
    const auto block = SharedBlock::anonymous(ranks, 1 << 16);
    std::vector<std::thread> threads;
    std::vector<std::string> errors(static_cast<size_t>(ranks));
    std::atomic<ExitCode> code = kExitFault;
    for (int r = 0; r < ranks; r++)
      threads.emplace_back([&, r] {
        SharedMemoryCollectives collectives(block, r);
        try {
          train_rank<Float>(options, collectives, stop_after);
        } catch (const Error& error) {
          if (collectives.leave(error.exit_code, error.what()))
            errors[static_cast<size_t>(r)] = error.what(), code = error.exit_code;
        }
      });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& error : errors)
      if (!error.empty()) fail(code, "{}", error);
  }
  // What each rank does.
  template <class Float>
  void train_rank(Options own, Collectives& collectives, int64_t stop_after = kWhole) const {
    own.process_rank = own.local_rank = collectives.rank(), own.local_ranks = collectives.size();
    train<Float>(own, stop_after, &collectives);
  }
  // Everything of a run that is numbers: the result, each checkpoint, and the lines of metrics.jsonl without their times.
  std::string numbers(const std::string& output) const {
    std::string all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / output))
      if (entry.path().extension() == ".safetensors") files_.insert(entry.path().lexically_relative(directory_ / output));
    for (const std::filesystem::path& file : files_) all += file.string() + read_file(directory_ / output / file);
    std::istringstream lines(bytes(output, "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      Json json = parse_json(line, "metrics.jsonl");
      for (const char* key : {"seconds", "tokens_per_second"}) json.erase(key);
      all += json_text(json) + "\n";
    }
    files_.clear();
    return all;
  }
  template <class Float = float>
  void expect_same_bits(const std::string& more,
                        const std::vector<std::string>& shards = {"none", "optimizer", "weights"}) const {
    train_on<Float>(1, parse_for(1, "one", more));
    const std::string expected = numbers("one");
    for (const int ranks : {2, 3, 4})
      for (const std::string& shard : shards) {
        train_on<Float>(ranks, parse_for(ranks, "several", more + " --shard " + shard));
        EXPECT_TRUE(numbers("several") == expected) << ranks << " ranks, --shard " << shard << more;
        std::filesystem::remove_all(directory_ / "several");
      }
    std::filesystem::remove_all(directory_ / "one");
  }

 private:
  mutable std::set<std::filesystem::path> files_;
};

const std::string kSteps = " --max-steps 5 --save-steps 2 --eval-steps 2";

TEST_F(RanksRun, HaveTheBitsOfOneRank) { expect_same_bits(kSteps + " --rank 32"); }
TEST_F(RanksRun, WithDropout) { expect_same_bits(kSteps + " --dropout 0.2", {"none"}); }
TEST_F(RanksRun, InBf16) { expect_same_bits<bf16>(kSteps + " --dtype bf16", {"none", "weights"}); }
TEST_F(RanksRun, WithStatesInBf16) { expect_same_bits(kSteps + " --lora-states bf16", {"optimizer"}); }
TEST_F(RanksRun, WithNf4) { expect_same_bits(kSteps + " --weights nf4", {"none", "weights"}); }
TEST_F(RanksRun, WithJoinedAdapters) { expect_same_bits(kSteps + " --lora-gemm joined --weights fp32", {"weights"}); }
TEST_F(RanksRun, WithTheOptimizerIn8Bits) {
  expect_same_bits(kSteps + " --optimizer adamw8bit --rank 64", {"none", "optimizer"});
}
TEST_F(RanksRun, WithTrainedEmbeddings) {
  expect_same_bits(kSteps + " --train-embeddings --recompute full", {"none", "gradients"});
}
TEST_F(RanksRun, WithAllWeights) { expect_same_bits(kSteps + " --train full"); }
TEST_F(RanksRun, WithAllWeightsInBf16) { expect_same_bits<bf16>(kSteps + " --train full --dtype bf16", {"none", "gradients"}); }
TEST_F(RanksRun, WithAllWeightsAndTheOptimizerIn8Bits) {
  expect_same_bits<bf16>(kSteps + " --train full --dtype bf16 --optimizer adamw8bit", {"none", "optimizer"});
}
TEST_F(RanksRun, WithTheBestValuesKept) {
  expect_same_bits<bf16>(kSteps + " --train full --dtype bf16 --keep best --lr 0.1", {"gradients"});
}

// More ranks than documents in a step: some have rows without tokens.
TEST_F(RanksRun, WithRanksThatHaveNothing) {
  const std::string more = " --max-steps 4 --seq-len 512 --packing on --eval-docs 1 --eval-steps 1";
  expect_same_bits(more, {"none", "weights"});
}

TEST_F(RanksRun, GoOnWithAnotherNumberOfRanks) {
  for (const std::string more : {" --optimizer adamw8bit --rank 64", " --train full"}) {
    train_on(1, parse_for(1, "whole", kSteps + more));
    int64_t before = 0;
    for (const int ranks : {4, 1, 2, 3, 1}) {
      Options options =
          parse_for(ranks, "parts", kSteps + more + (before > 0 ? " --resume" : "") + (ranks == 1 ? "" : " --shard optimizer"));
      options.given_names.erase("grad-accum");
      if (before > 0) options.grad_accum = 1;  // what the checkpoint says is taken
      train_on(ranks, options, before == 4 ? kWhole : 1);
      before++;
    }
    for (const char* output : {"whole", "parts"})
      for (const CheckpointEntry& c : checkpoints(directory_ / output))
        if (c.step < 5) std::filesystem::remove_all(c.path);  // there are more where the run was stopped
    EXPECT_TRUE(numbers("parts") == numbers("whole")) << more;
    for (const char* output : {"whole", "parts"}) std::filesystem::remove_all(directory_ / output);
  }
}

// Each rank may have seen another amount of memory.
TEST_F(RanksRun, TakeTheBatchesThatTheFirstChose) {
  const auto block = SharedBlock::anonymous(2, 1 << 16);
  std::vector<Solution> taken(2);
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; r++)
    threads.emplace_back([&, r] {
      SharedMemoryCollectives collectives(block, r);
      Solution own{parse("run", r == 0 ? "--recompute full --mlp-chunk 8 --batch-size 4 --grad-accum 3" : "--batch-size 2"),
                   0.5 + r};
      own.options.process_rank = r;
      taken[static_cast<size_t>(r)] = of_first(collectives, own);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken[0].text(), taken[1].text());
  EXPECT_EQ(taken[1].options.mlp_chunk, 8);
  EXPECT_EQ(taken[1].options.process_rank, 1);
}

TEST_F(RanksRun, RefuseANumberThatCannotShareAStep) {
  train_on(1, parse_for(1, "run", "--max-steps 4"), 2);
  Options options = parse("run", "--batch-size 1 --ranks 5 --max-steps 4 --resume");
  options.given_names.erase("grad-accum");
  EXPECT_TRUE(says(refusal_of([&] { train_on(5, options); }), "12 batches, which 5 ranks cannot share equally"));
}

// On emulated GPUs, which its NCCL connects, with everything on two streams checked. Five blocks: slots are used again.
using RanksOnGpus = EmulatedGpu<RanksRun>;

TEST_F(RanksOnGpus, HaveTheBitsOfOneRank) {
  Json config = parse_json(read_file(std::filesystem::path(kModel) / "config.json"), "config.json");
  config["num_hidden_layers"] = 5;
  write_file_atomic(directory_ / "config.json", json_text(config));
  const std::string model =
      fmt::format("train --config {} --init random --data {} --output {} --quiet --valid-split 0.1 ",
                  (directory_ / "config.json").string(), (directory_ / "data.jsonl").string(), (directory_ / "run").string());
  for (const std::string more :
       {"--rank 32 --shard none", "--rank 32 --dropout 0.2 --shard optimizer", "--weights nf4 --shard weights",
        "--train full --shard gradients", "--lora-gemm joined --shard weights"}) {
    const std::string settings = "--device cuda --dtype bf16 --seq-len 32 --lr 1e-2 --max-steps 2 --eval-docs 1 --batch-size 1 ";
    std::vector<std::string> found;
    for (const int ranks : {1, 2, 4}) {
      if (ranks == 4 && more.find("optimizer") == more.npos) continue;
      Options options =
          parse_options(words(fmt::format("{}{}{} --grad-accum {} --ranks {}", model, settings, more, 4 / ranks, ranks)));
      resolve_options(options);
      const auto errors = test::run_processes(ranks, [&](int rank, const auto& block) -> std::string {
        SharedMemoryCollectives collectives(block, rank);
        if (ranks == 1)
          train<bf16>(options);
        else
          train_rank<bf16>(options, collectives);
        return "";
      });
      for (const std::string& error : errors) EXPECT_EQ(error, "") << ranks << " ranks " << more;
      found.push_back(numbers("run"));
      std::filesystem::remove_all(directory_ / "run");
    }
    EXPECT_GT(found[0].size(), 10000u);
    for (const std::string& numbers : found) EXPECT_TRUE(numbers == found[0]) << more;
  }
}

}  // namespace
}  // namespace tll
