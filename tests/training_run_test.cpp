// Runs as a user sees them: resuming is exact, plan equals arena, nothing is allocated in the step loop, errors have their codes.
#include "src/commands/training_run.h"

#include <malloc.h>

#include "src/commands/commands.h"
#include "src/commands/source.h"
#include "tests/allocations.h"
#include "tests/json_lines.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

TEST_F(Run, ResumedRunHasTheBytesOfAnUninterruptedOne) {
  for (const std::string variant : {"", "--dropout 0.1", "--train full", "--optimizer adamw8bit --rank 128", "--lora-states bf16",
                                    "--train full --optimizer adamw8bit", "--train-embeddings --weight-decay 0.1",
                                    "--train-embeddings --optimizer adamw8bit --rank 128"}) {
    train(parse("whole", variant));
    train(parse("parts", variant), 3);
    train(parse("parts", variant + " --resume"), 4);
    train(parse("parts", variant + " --resume"));
    const char* file = variant.starts_with("--train full") ? "model.safetensors" : "adapter_model.safetensors";
    EXPECT_EQ(bytes("whole", file), bytes("parts", file));
    std::filesystem::remove_all(directory_ / "whole");
    std::filesystem::remove_all(directory_ / "parts");
  }
}

// Once the device has the values of an adapter to start from, the host keeps none.
TEST_F(Run, TheAdapterToStartFromLeavesTheHost) {
  const std::string rank = " --rank 2048 --max-steps 1 --grad-accum 1 --eval-samples 0";
  train(parse("first", rank));
  const auto adapter = static_cast<int64_t>(std::filesystem::file_size(directory_ / "first/adapter_model.safetensors"));
  const auto allocated = [] {
    const struct mallinfo2 info = mallinfo2();
    return static_cast<int64_t>(info.uordblks + info.hblkhd);
  };
  if (allocated() == 0) GTEST_SKIP() << "another allocator";
  const int64_t before = allocated();
  TrainingRun<float> run(parse("second", rank + " --init-adapter " + (directory_ / "first").string()));
  EXPECT_GT(allocated(), before + adapter);
  run.start();
  EXPECT_LT(allocated(), before + adapter / 2);
  run.step();
  run.save();
  run.finish();
  EXPECT_EQ(parse_json(bytes("second", "run.json"), "run.json").at("result").at("first_gradients").at("zero"), Json::array());
}

TEST_F(Run, ResumeRefusesOtherSettingsAndDamagedFiles) {
  train(parse("run"), 2);
  EXPECT_THROW(train(parse("run", "--resume --lr 1e-3")), Error);
  std::string optimizer = bytes("run", "checkpoint-2/optimizer.safetensors");
  optimizer.back() ^= 1;
  write_file_atomic(directory_ / "run/checkpoint-2/optimizer.safetensors", optimizer);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--resume")); }), "optimizer.safetensors"));
  train<bf16>(parse("bf16", "--dtype bf16"), 2);
  const std::string refusal = refusal_of([&] { train<bf16>(parse("bf16", "--dtype bf16 --logits 16bit --resume")); });
  EXPECT_TRUE(says(refusal, "logits was \"fp32\" when the checkpoint was written and is \"16bit\" now"));
}

TEST_F(Run, ResumeRefusesTheOtherKindOfTraining) {
  train(parse("lora", "--max-steps 4"), 2);
  train(parse("full", "--max-steps 4 --train full"), 2);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("lora", "--max-steps 4 --train full --resume")); }), "--train lora"));
  EXPECT_TRUE(says(refusal_of([&] { train(parse("full", "--max-steps 4 --resume")); }), "--train full"));
}

TEST_F(Run, ResumeRefusesAnotherBaseOfTheSameShape) {
  train(parse("run", "--weights fp32 --init random"), 2);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--weights fp32 --resume")); }), "base_weights"));
}

// The model's files are in bf16. Held so, the weights are the same values in every product.
TEST_F(Run, WeightsStayInTheTypeOfTheFiles) {
  const auto held = [](Options options) {
    open_model(options, TokenizerNeed::none);
    return options.weights;
  };
  EXPECT_EQ(held(parse("any", "")), DtypeOption::kBf16);
  EXPECT_EQ(held(parse("any", "--weights fp32")), DtypeOption::kFp32);
  EXPECT_EQ(held(parse("any", "--train full")), DtypeOption::kFp32);
  EXPECT_EQ(held(parse("any", "--init random")), DtypeOption::kFp32);
  EXPECT_EQ(held(parse("any", "--model tests/goldens/mha_biases")), DtypeOption::kFp32) << "a model in fp32";
  train(parse("wide", "--max-steps 3 --weights fp32"));
  train(parse("narrow", "--max-steps 3"));
  EXPECT_EQ(bytes("narrow", "adapter_model.safetensors"), bytes("wide", "adapter_model.safetensors"));
  EXPECT_EQ(json_lines(directory_ / "narrow/metrics.jsonl").back().at("eval_loss"),
            json_lines(directory_ / "wide/metrics.jsonl").back().at("eval_loss"));
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
  for (const char* train_what : {"lora", "full", "lora --train-embeddings"})
    for (const char* dtype : {"fp32", "bf16", "bf16 --logits 16bit"})
      for (const char* recompute : {"none", "full"})
        for (const char* dropout : {"0", "0.1"}) {
          const Options options = parse("plan", fmt::format("--train {} --dtype {} --recompute {} --dropout {} --max-steps 1 "
                                                            "--eval-samples 2 --clip 0 --overwrite",
                                                            train_what, dtype, recompute, dropout));
          // The second walk over the list of tensors is checked against the first, tensor by tensor, in start().
          if (options.dtype == DtypeOption::kBf16)
            train<bf16>(options);
          else
            train<float>(options);
        }
}

TEST_F(Run, ABatchThatIsChosenFitsAndIsKeptOnResume) {
  const auto options = [&](const std::string& output, const std::string& memory, const std::string& more) {
    const std::string paths = fmt::format("train --model {} --data {} --output {} ", kModel, (directory_ / "data.jsonl").string(),
                                          (directory_ / output).string());
    Options parsed = parse_options(words(paths +
                                         "--seq-len 32 --dtype fp32 --quiet --rank 4 --lr 1e-2 --threads 1 --save-steps 2 "
                                         "--batch-size auto --effective-batch 8 --memory " +
                                         memory + " " + more));
    resolve_options(parsed);
    return parsed;
  };
  const auto used = [&](const std::string& output) { return parse_json(bytes(output, "run.json"), "run.json"); };
  train(options("roomy", "1GiB", "--max-steps 3"));
  const Json roomy = used("roomy").at("options");
  EXPECT_EQ(roomy.at("batch_size").get<int>() * roomy.at("grad_accum").get<int>(), 8);
  const int64_t planned = used("roomy").at("measured").at("memory").at("arena").at("planned");
  EXPECT_EQ(planned, used("roomy").at("plan").at("bytes").at("total"));
  EXPECT_LE(used("roomy").at("measured").at("memory").at("arena").at("measured"), planned);
  EXPECT_GT(used("roomy").at("measured").at("memory").at("process").at("measured"), 0);
  // Where there is less memory, and nothing may be computed again, fewer rows are computed at once.
  const std::string less = fmt::format("{}B", planned - 1), kept = "--recompute none --schedule constant --max-steps 3 ";
  train(options("narrow", less, kept), 2);
  const Json narrow = used("narrow");
  EXPECT_LT(narrow.at("plan").at("bytes").at("total"), planned);
  EXPECT_LT(narrow.at("options").at("batch_size"), roomy.at("batch_size"));
  EXPECT_EQ(narrow.at("options").at("batch_size").get<int>() * narrow.at("options").at("grad_accum").get<int>(), 8);
  // A resumed run goes on with the checkpoint's batches, although there is more memory now.
  train(options("narrow", "1GiB", kept + "--resume"));
  EXPECT_EQ(used("narrow").at("options").at("batch_size"), narrow.at("options").at("batch_size"));
  EXPECT_EQ(used("narrow").at("result").at("steps"), 3);
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
    EXPECT_EQ(options.dtype == DtypeOption::kBf16 ? count(bf16{}) : count(0.0f), 0);
  }
}

// Metrics without what depends on the clock.
std::vector<Json> timeless_metrics(const std::filesystem::path& run) {
  std::vector<Json> lines = json_lines(run / "metrics.jsonl");
  for (Json& line : lines) line.erase("seconds"), line.erase("tokens_per_second");
  return lines;
}
Json result_of(const std::filesystem::path& run) { return parse_json(read_file(run / "run.json"), "run.json").at("result"); }

TEST_F(Run, AResumedRunHasTheLinesOfAnUninterruptedOne) {
  const std::string settings = "--max-steps 9 --eval-steps 2 --save-steps 2";
  train(parse("whole", settings));
  train(parse("parts", settings), 0);  // stopped before the first step
  for (const int64_t stop : {2, 3, 1}) train(parse("parts", settings + " --resume"), stop);
  // As a kill between the checkpoint and the evaluation of step 6 leaves them.
  const std::string metrics = bytes("parts", "metrics.jsonl");
  const size_t evaluation = metrics.rfind("{\"step\":6,\"eval_loss\"");
  ASSERT_NE(evaluation, std::string::npos);
  directory_.write("parts/metrics.jsonl", metrics.substr(0, evaluation));
  train(parse("parts", settings + " --resume"), kInLastEvaluation);
  EXPECT_TRUE(result_of(directory_ / "parts").at("finished"));
  EXPECT_FALSE(result_of(directory_ / "parts").at("evaluated"));
  train(parse("parts", settings + " --resume"));
  EXPECT_EQ(timeless_metrics(directory_ / "whole"), timeless_metrics(directory_ / "parts"));
  EXPECT_EQ(timeless_metrics(directory_ / "whole").size(), 9u + 6) << "evaluations at 0, 2, 4, 6, 8 and the end";
  Json whole = result_of(directory_ / "whole"), parts = result_of(directory_ / "parts");
  whole.erase("output"), parts.erase("output");
  EXPECT_EQ(whole, parts);
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("parts", "adapter_model.safetensors"));
}

TEST_F(Run, TheResultIsSavedBeforeTheLastEvaluation) {
  train(parse("run", "--max-steps 3"), kInLastEvaluation);
  EXPECT_TRUE(std::filesystem::exists(directory_ / "run/adapter_model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "run/checkpoint-3/state.json"));
  EXPECT_TRUE(result_of(directory_ / "run").at("after").empty());
}

TEST_F(Run, AFinishedRunIsNotTrainedAgain) {
  train(parse("run", "--max-steps 4"));
  const std::string adapter = bytes("run", "adapter_model.safetensors"), metrics = bytes("run", "metrics.jsonl");
  for (const std::string steps : {"4", "2"}) {
    train(parse("run", "--resume --max-steps " + steps));
    EXPECT_EQ(bytes("run", "adapter_model.safetensors"), adapter);
    EXPECT_EQ(bytes("run", "metrics.jsonl"), metrics);
  }
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--resume --max-steps 4 --lr 1e-3")); }), "lr was"));
  std::filesystem::remove_all(directory_ / "run/checkpoint-4");
  train(parse("run", "--resume --max-steps 4"));
  EXPECT_EQ(bytes("run", "adapter_model.safetensors"), adapter);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--resume --max-steps 5")); }, kExitUsage), "--init-adapter"));
}

TEST_F(Run, ASecondRunKeepsTheFirstBesideIt) {
  train(parse("run", "--max-steps 4 --save-steps 2"));
  const std::string first = bytes("run", "adapter_model.safetensors");
  train(parse("run", "--max-steps 3"), 1);
  EXPECT_EQ(bytes("run", "earlier-1/adapter_model.safetensors"), first);
  for (const char* name : {"checkpoint-2", "checkpoint-4", "run.json", "metrics.jsonl", "adapter_config.json"}) {
    EXPECT_TRUE(std::filesystem::exists(directory_ / "run/earlier-1" / name)) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/adapter_model.safetensors"));
  train(parse("run", "--max-steps 3 --resume"));
  train(parse("alone", "--max-steps 3"));
  EXPECT_EQ(bytes("run", "adapter_model.safetensors"), bytes("alone", "adapter_model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/earlier-2"));
  train(parse("run", "--max-steps 2 --overwrite"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/earlier-2"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/checkpoint-3"));
}

// The checkpoints of the first run are further on, and the second run's settings are the same: only the start differs.
TEST_F(Run, ResumeTakesTheCheckpointOfItsOwnRun) {
  const std::string settings = "--max-steps 6 --save-steps 2 ", start = "--init-adapter " + (directory_ / "start").string();
  train(parse("start", "--max-steps 2"));
  train(parse("shared", settings));
  train(parse("shared", settings + start), 1);
  // As if both runs' checkpoints lay side by side.
  for (const char* name : {"checkpoint-4", "checkpoint-6"})
    std::filesystem::rename(directory_ / "shared/earlier-1" / name, directory_ / "shared" / name);
  train(parse("shared", settings + start + " --resume"));
  train(parse("alone", settings + start));
  EXPECT_EQ(bytes("shared", "adapter_model.safetensors"), bytes("alone", "adapter_model.safetensors"));
}

TEST_F(Run, MoreStepsOnResume) {
  const std::string constant = "--schedule constant --max-steps ";
  train(parse("whole", constant + "6"));
  train(parse("more", constant + "4"));
  train(parse("more", constant + "6 --resume"));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("more", "adapter_model.safetensors"));
  train(parse("cosine", "--max-steps 4"));
  refusal_of([&] { parse("cosine", "--max-steps 6 --reschedule"); }, kExitUsage);  // without --resume
  const std::string refused = refusal_of([&] { train(parse("cosine", "--max-steps 6 --resume")); });
  for (const char* way : {"constant", "--reschedule", "--init-adapter"}) EXPECT_TRUE(says(refused, way));
  train(parse("cosine", "--max-steps 6 --lr 5e-3 --resume --reschedule"));
  const std::vector<Json> lines = timeless_metrics(directory_ / "cosine");
  EXPECT_EQ(lines[lines.size() - 2].at("step"), 6);
  const double planned = Schedule{ScheduleKind::kCosine, 5e-3, 6, 1}.learning_rate(5);
  EXPECT_DOUBLE_EQ(lines[lines.size() - 2].at("lr").get<double>(), planned);
}

TEST_F(Run, NothingThatARunReadsIsWrittenOver) {
  std::filesystem::create_directories(directory_ / "own");
  const std::filesystem::path data = directory_ / "own/metrics.jsonl";
  std::filesystem::copy_file(directory_ / "data.jsonl", data);
  const std::string before = read_file(data);
  for (const std::string more : {"", " --overwrite"})
    EXPECT_TRUE(says(refusal_of([&] { train(parse("own", "--data " + data.string() + more)); }, kExitUsage), "the data set"));
  EXPECT_EQ(read_file(data), before);
  // The weights of the model are a link to a file that the result would replace.
  std::filesystem::create_directories(directory_ / "linked");
  std::filesystem::create_directories(directory_ / "there");
  std::filesystem::copy_file(kModel + "/config.json", directory_ / "linked/config.json");
  std::filesystem::copy_file(kModel + "/model.safetensors", directory_ / "there/model.safetensors");
  std::filesystem::create_symlink("../there/model.safetensors", directory_ / "linked/model.safetensors");
  const std::string linked = "--train full --model " + (directory_ / "linked").string();
  EXPECT_TRUE(says(refusal_of([&] { train(parse("there", linked)); }, kExitUsage), "of the model"));
}

TEST_F(Run, OverwriteDropsWhatRunsLeftAlone) {
  std::filesystem::create_directories(directory_ / "run");
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(std::filesystem::path(kModel) / name, directory_ / "run" / name);
  train(parse("run", "--train full --max-steps 1 --overwrite"));
  EXPECT_EQ(bytes("run", "earlier-1/model.safetensors"), read_file(kModel + "/model.safetensors"));
  train(parse("run", "--train full --max-steps 1 --overwrite"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/earlier-2"));
}

TEST_F(Run, ResumingKeepsCheckpointsThatWereAskedFor) {
  train(parse("run", "--max-steps 8 --save-steps 1"), 4);
  train(parse("run", "--max-steps 8 --resume"));
  std::vector<int64_t> left;
  for (const CheckpointEntry& c : checkpoints(directory_ / "run")) left.push_back(c.step);
  EXPECT_EQ(left, (std::vector<int64_t>{1, 2, 3, 4, 8}));
}

TEST_F(Run, ARecordSaysWhatWasUsed) {
  train(parse("start", "--max-steps 1"));
  const std::string start = " --init-adapter " + (directory_ / "start").string();
  train(parse("run", "--max-steps 40" + start), 2);
  EXPECT_TRUE(
      says(refusal_of([&] { train(parse("run", "--max-steps 40 --resume --init-adapter nosuch")); }), "init_adapter was"));
  train(parse("run", "--max-steps 40 --resume"), 1);
  const Json options = parse_json(bytes("run", "run.json"), "run.json").at("options");
  EXPECT_EQ(options.at("init_adapter"), (directory_ / "start").string());
  EXPECT_EQ(options.at("warmup_steps"), 2) << "ceil(0.03 x 40)";
}

TEST_F(Run, ALostRecordLosesNoRun) {
  train(parse("whole", "--max-steps 6 --save-steps 2"));
  train(parse("run", "--max-steps 6 --save-steps 2"), 5);
  directory_.write("run/run.json", "");
  directory_.write("run/checkpoint-5/state.json", "");
  const std::string resume = "--max-steps 6 --save-steps 2 --resume ";
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", resume)); }), "checkpoint-5"));
  train(parse("run", resume + (directory_ / "run/checkpoint-4").string()));
  EXPECT_EQ(timeless_metrics(directory_ / "whole"), timeless_metrics(directory_ / "run"));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("run", "adapter_model.safetensors"));
}

// As after a checkpoint that was found damaged: those behind the one that is resumed are out of the way.
TEST_F(Run, AnOlderCheckpointIsTheNewestAfterItIsResumed) {
  const std::string settings = "--max-steps 6 --save-steps 2 --save-total-limit 1 ";
  train(parse("whole", settings));
  train(parse("run", "--max-steps 6 --save-steps 2"), 5);
  train(parse("run", settings + "--resume " + (directory_ / "run/checkpoint-2").string()), 3);
  std::vector<int64_t> left;
  for (const CheckpointEntry& c : checkpoints(directory_ / "run")) left.push_back(c.step);
  EXPECT_EQ(left, (std::vector<int64_t>{5}));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "run/earlier-1/checkpoint-4"));
  train(parse("run", settings + "--resume"));
  EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("run", "adapter_model.safetensors"));
}

TEST_F(Run, AnAdapterKeepsWhatItIs) {
  train(parse("start", "--max-steps 1"));
  const std::string start = "--max-steps 1 --init-adapter " + (directory_ / "start").string();
  for (const std::string other : {"--rank 8", "--alpha 7", "--targets q,v", "--rslora"})
    EXPECT_TRUE(says(refusal_of([&] { train(parse("other", start + " " + other)); }, kExitUsage), other.substr(0, 7)));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "other"));
  train(parse("same", start + " --rank 4 --alpha 32"));
}

TEST_F(Run, NoModelIsWrittenOver) {
  std::filesystem::copy(kModel, directory_ / "model", std::filesystem::copy_options::recursive);
  const std::string own = " --model " + (directory_ / "model").string();
  for (const std::string what : {"", " --train full"})
    EXPECT_TRUE(says(refusal_of([&] { train(parse("model", what + own)); }, kExitUsage), "directory of the model"));
  train(parse("run", "--max-steps 1"));
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--train full")); }, kExitUsage), "holds an adapter"));
  const std::string start = " --init-adapter " + (directory_ / "run").string();
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--overwrite" + start)); }, kExitUsage), "--overwrite would drop"));
  train(parse("run", "--train full --max-steps 1 --overwrite"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run/adapter_config.json"));
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
  for (const std::string first : {"on", "off"})  // found by the evaluation before the first step, and by that step
    refusal_of([&] { train(parse("run", model + " --max-steps 1 --eval-on-start " + first)); }, kExitCannotTrain);
}

TEST_F(Run, DataThatTrainsNothingIsRefused) {
  directory_.write("untrained.jsonl", "{\"input_ids\":[1,2,3],\"labels\":[-100,-100,-100]}\n");
  const std::string data = " --allow-empty --valid-split 0 --data " + (directory_ / "untrained.jsonl").string();
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", data)); }), "no document to train on has a trained token"));
}

TEST_F(Run, OddWarmupsAreSaid) {
  for (const auto& [options, said] : {std::pair("--max-steps 2 --warmup-steps 5", "as long as the run"),
                                      {"--max-steps 2 --schedule constant --warmup-steps 5", "has no warm-up"},
                                      {"--max-steps 1", ""}}) {
    testing::internal::CaptureStderr();
    train(parse("run", std::string("--overwrite ") + options));
    const std::string notes = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(*said ? says(notes, said) : notes.empty()) << options << ": " << notes;
  }
}

// A run of one step trains: its warm-up would be all of it.
TEST_F(Run, OneStepTrains) {
  train(parse("run", "--max-steps 1"));
  EXPECT_EQ(json_lines(directory_ / "run/metrics.jsonl")[1].at("lr"), 1e-2);
}

TEST_F(Run, MemoryThatDoesNotSufficeIsExitCodeThree) {
  refusal_of([&] { train(parse("small", "--memory 10K")); }, kExitDoesNotFit);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "small/adapter_model.safetensors"));
}

}  // namespace
}  // namespace tll
