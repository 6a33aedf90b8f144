// Runs as a user sees them: resuming is exact, plan equals arena, nothing is allocated in the step loop, errors have their codes.
#include "src/commands/training_run.h"

#include "src/commands/commands.h"
#include "tests/allocations.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

TEST_F(Run, ResumedRunHasTheBytesOfAnUninterruptedOne) {
  for (const std::string variant : {"", "--dropout 0.1", "--train full"}) {
    train(parse("whole", variant));
    train(parse("parts", variant), 3);
    train(parse("parts", variant + " --resume"), 4);
    train(parse("parts", variant + " --resume"));
    const char* file = variant == "--train full" ? "model.safetensors" : "adapter_model.safetensors";
    EXPECT_EQ(bytes("whole", file), bytes("parts", file));
    std::filesystem::remove_all(directory_ / "whole");
    std::filesystem::remove_all(directory_ / "parts");
  }
}

TEST_F(Run, ResumeRefusesOtherSettingsAndDamagedFiles) {
  train(parse("run"), 2);
  EXPECT_THROW(train(parse("run", "--resume --lr 1e-3")), Error);
  std::string optimizer = bytes("run", "checkpoint-2/optimizer.safetensors");
  optimizer.back() ^= 1;
  write_file_atomic(directory_ / "run/checkpoint-2/optimizer.safetensors", optimizer);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--resume")); }), "optimizer.safetensors"));
}

TEST_F(Run, ResumeRefusesAnotherBaseOfTheSameShape) {
  train(parse("run", "--init random"), 2);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--resume")); }), "base_weights"));
}

TEST_F(Run, TwoRunsDoNotShareAnOutput) {
  const Options options = parse("shared");
  TrainingRun<float> first(options);
  first.start();
  refusal_of([&] { train(options); }, kExitUsage);
}

TEST_F(Run, TrainingAllWeightsTakesNoAdapter) {
  refusal_of([&] { parse("full", "--train full --init-adapter " + kModel + "/adapter"); }, kExitUsage);
}

// 65536 x 32768 is one more than the offsets of a batch can hold.
TEST_F(Run, ABatchThatIsTooLargeIsRefused) {
  for (const std::string length : {"32768", "1000000"}) {
    Options options = parse("large", "--batch-size 65536 --seq-len " + length);
    options.command = Command::kPlan;
    refusal_of([&] { command_plan(options); }, kExitUsage);
  }
}

TEST_F(Run, ResumeWithoutCheckpointStartsFromTheBeginning) {
  train(parse("whole"));
  train(parse("other", "--resume"));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("other", "adapter_model.safetensors"));
}

TEST_F(Run, OneRowWithAccumulationEqualsABatch) {
  train(parse("batch", "--batch-size 4 --grad-accum 1 --max-steps 3"));
  train(parse("accumulated", "--batch-size 1 --grad-accum 4 --max-steps 3"));
  const std::vector<Json> a = json_lines(directory_ / "batch/metrics.jsonl");
  const std::vector<Json> b = json_lines(directory_ / "accumulated/metrics.jsonl");
  int steps = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); i++) {
    const Json &x = a[i], &y = b[i];
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
          const Options options = parse("plan", fmt::format("--train {} --dtype {} --recompute {} --dropout {} --max-steps 1 "
                                                            "--eval-samples 2 --clip 0",
                                                            train_what, dtype, recompute, dropout));
          // The second walk over the list of tensors is checked against the first, tensor by tensor, in start().
          if (options.dtype == DtypeOption::kBf16)
            train<bf16>(options);
          else
            train<float>(options);
        }
}

TEST_F(Run, NothingIsAllocatedInTheStepLoop) {
  if (!allocations_are_counted()) GTEST_SKIP() << "a sanitizer owns operator new";
  for (const std::string dtype : {"fp32", "bf16"}) {
    const Options options = parse("loop", "--max-steps 210 --dtype " + dtype);
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
  const std::string model = "--model " + (directory_ / "broken").string();
  refusal_of([&] { train(parse("run", model + " --max-steps 10")); }, kExitCannotTrain);
}

TEST_F(Run, MemoryThatDoesNotSufficeIsExitCodeThree) {
  refusal_of([&] { train(parse("small", "--memory 10K")); }, kExitDoesNotFit);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "small/adapter_model.safetensors"));
}

}  // namespace
}  // namespace tll
