// Runs as a user sees them: resuming is exact, plan equals arena, nothing is allocated in the step loop, errors have their codes.
#include "src/commands/training_run.h"

#include <cstdlib>

#include "src/commands/commands.h"
#include "tests/allocations.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

TEST_F(Run, ResumedRunHasTheBytesOfAnUninterruptedOne) {
  for (const std::vector<std::string>& variant :
       std::vector<std::vector<std::string>>{{}, {"--dropout", "0.1"}, {"--train", "full"}}) {
    std::vector<std::string> once = variant, again = variant;
    again.push_back("--resume");
    train(parse("whole", once));
    train(parse("parts", once), 3);
    train(parse("parts", again), 4);
    train(parse("parts", again));
    const char* file = variant.size() == 2 && variant[1] == "full" ? "model.safetensors" : "adapter_model.safetensors";
    EXPECT_EQ(bytes("whole", file), bytes("parts", file));
    std::filesystem::remove_all(directory_ / "whole");
    std::filesystem::remove_all(directory_ / "parts");
  }
}

TEST_F(Run, ResumeRefusesOtherSettingsAndDamagedFiles) {
  train(parse("run"), 2);
  EXPECT_THROW(train(parse("run", {"--resume", "--lr", "1e-3"})), Error);
  std::string optimizer = bytes("run", "checkpoint-2/optimizer.safetensors");
  optimizer.back() ^= 1;
  write_file_atomic(directory_ / "run/checkpoint-2/optimizer.safetensors", optimizer);
  try {
    train(parse("run", {"--resume"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitBadFile);
    EXPECT_NE(std::string(error.what()).find("optimizer.safetensors"), std::string::npos);
  }
}

TEST_F(Run, ResumeRefusesAnotherBaseOfTheSameShape) {
  train(parse("run", {"--init", "random"}), 2);
  try {
    train(parse("run", {"--resume"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitBadFile);
    EXPECT_NE(std::string(error.what()).find("base_weights"), std::string::npos) << error.what();
  }
}

TEST_F(Run, TwoRunsDoNotShareAnOutput) {
  const Options options = parse("shared");
  TrainingRun<float> first(options);
  first.start();
  try {
    train(options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitUsage) << error.what();
  }
}

TEST_F(Run, TrainingAllWeightsTakesNoAdapter) {
  try {
    parse("full", {"--train", "full", "--init-adapter", kModel + "/adapter"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitUsage) << error.what();
  }
}

// 65536 x 32768 is one more than the offsets of a batch can hold.
TEST_F(Run, ABatchThatIsTooLargeIsRefused) {
  for (const char* length : {"32768", "1000000"}) {
    Options options = parse("large", {"--batch-size", "65536", "--seq-len", length});
    options.command = Command::kPlan;
    try {
      command_plan(options);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code, kExitUsage) << error.what();
    }
  }
}

TEST_F(Run, ResumeWithoutCheckpointStartsFromTheBeginning) {
  train(parse("whole"));
  train(parse("other", {"--resume"}));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("other", "adapter_model.safetensors"));
}

TEST_F(Run, OneRowWithAccumulationEqualsABatch) {
  train(parse("batch", {"--batch-size", "4", "--grad-accum", "1", "--max-steps", "3"}));
  train(parse("accumulated", {"--batch-size", "1", "--grad-accum", "4", "--max-steps", "3"}));
  std::ifstream a(directory_ / "batch/metrics.jsonl"), b(directory_ / "accumulated/metrics.jsonl");
  std::string line_a, line_b;
  int steps = 0;
  while (std::getline(a, line_a) && std::getline(b, line_b)) {
    const Json x = Json::parse(line_a), y = Json::parse(line_b);
    if (!x.contains("loss")) continue;
    steps++;
    EXPECT_EQ(x.at("target_tokens"), y.at("target_tokens"));
    // Sums in another order: 200 terms of 6e-8 each, after up to three updates.
    EXPECT_NEAR(x.at("loss").get<double>(), y.at("loss").get<double>(), 2e-5 * x.at("loss").get<double>());
  }
  EXPECT_EQ(steps, 3);
}

TEST_F(Run, PlanEqualsArenaForEveryConfiguration) {
  for (const char* train_what : {"lora", "full"})
    for (const char* dtype : {"fp32", "bf16"})
      for (const char* recompute : {"none", "full"})
        for (const char* dropout : {"0", "0.1"}) {
          Options options = parse("plan", {"--train", train_what, "--dtype", dtype, "--recompute", recompute, "--dropout",
                                           dropout, "--max-steps", "1", "--eval-samples", "2", "--clip", "0"});
          resolve_options(options);
          // The second walk over the list of tensors is checked against the first, tensor by tensor, in start().
          if (options.dtype == DtypeOption::kBf16)
            train<bf16>(options);
          else
            train<float>(options);
        }
}

TEST_F(Run, NothingIsAllocatedInTheStepLoop) {
  if (!allocations_are_counted()) GTEST_SKIP() << "a sanitizer owns operator new";
  for (const char* dtype : {"fp32", "bf16"}) {
    Options options = parse("loop", {"--max-steps", "210", "--dtype", dtype});
    const auto count = [&](auto type) {
      TrainingRun<decltype(type)> run(options);
      run.start();
      for (int i = 0; i < 5; i++) run.step();
      const int64_t before = allocations;
      for (int i = 0; i < 200; i++) run.step();
      return allocations - before;
    };
    if (options.dtype == DtypeOption::kBf16) {
      count(bf16{});  // oneDNN compiles a matmul when it first meets its sizes, and the process keeps it
      EXPECT_EQ(count(bf16{}), 0);
    } else {
      EXPECT_EQ(count(0.0f), 0);
    }
  }
}

TEST_F(Run, LossThatIsNotFiniteEndsWithCodeFive) {
  std::filesystem::create_directories(directory_ / "broken");
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(std::filesystem::path(kModel) / file, directory_ / "broken" / file);
  std::string weights = read_file(directory_ / "broken/model.safetensors");
  weights[weights.size() - 1] = weights[weights.size() - 2] = '\x7f';  // bf16 0x7f7f is finite, the sums over it are not
  for (size_t i = 1; i <= 64; i++) weights[weights.size() - i] = '\x7f';
  write_file_atomic(directory_ / "broken/model.safetensors", weights);
  try {
    train(parse("run", {"--model", (directory_ / "broken").string(), "--max-steps", "10"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitCannotTrain) << error.what();
  }
}

TEST_F(Run, MemoryThatDoesNotSufficeIsExitCodeThree) {
  Options options = parse("small", {"--memory", "10K"});
  try {
    train(options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code, kExitDoesNotFit);
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "small/adapter_model.safetensors"));
}

}  // namespace
}  // namespace tll
