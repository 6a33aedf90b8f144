// The whole program against transformers + peft: logits, loss, every adapter gradient, and ten steps of training, on the tiny
// models of tests/goldens (made by dev/golden/make_golden.py, in double precision).
#include "kernels/cuda_device.h"
#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/commands/session.h"
#include "tests/golden_run.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

const std::vector<const char*> kLlamas = {"gqa_tied", "mha_biases", "llama3_rope", "fp16_sharded", "old_config"};
const std::vector<const char*> kOthers = {"mistral_window", "qwen2_biases", "qwen2_windows", "phi3_fused",
                                          "phi3_longrope",  "phi3_partial", "qwen3_untied"};
// The emulator is slow.
const std::vector<const char*> kOthersOnCpu = {"qwen3_tied", "qwen3_windows"};
const std::vector<const char*> kWithEmbeddings = {"gqa_tied", "mha_biases"};  // tied, and not
const std::vector<const char*> kTrainedWhole = {"qwen3_untied", "qwen3_tied"};
const std::vector<const char*> kGenerating = {"mistral_window", "qwen2_windows", "phi3_longrope", "phi3_partial",
                                              "qwen3_windows"};

struct Where {
  const char *model, *device;
};
void PrintTo(const Where& where, std::ostream* out) { *out << where.model << " on " << where.device; }
std::vector<Where> places(const std::vector<const char*>& models, bool on_cuda = true) {
  std::vector<Where> places;
  for (const char* model : models) places.push_back({model, "cpu"});
  if (on_cuda && cuda_device_count() > 0)
    for (const char* model : models) places.push_back({model, "cuda"});
  return places;
}
// Training on the emulator: of the others these two.
std::vector<Where> training_places() {
  std::vector<Where> all = places(kOthers);
  std::erase_if(all, [](const Where& w) {
    return std::string_view(w.device) == "cuda" && std::string_view(w.model) != "phi3_longrope" &&
           std::string_view(w.model) != "mistral_window";
  });
  return all;
}
std::string name_of(const testing::TestParamInfo<Where>& info) {
  return fmt::format("{}_{}", info.param.model, info.param.device);
}

// What training left, against the golden file. AdamW divides by the root of v, so an entry whose gradient is near zero moves by a
// step of 1e-2 in a direction that rounding decides; the goldens were chosen so that transformers in float stays within 2e-6. An
// embedding has many such entries: there it is up to 2.3e-5 off, so ten times as much as without (`times`) is no fault of ours.
// After fewer steps than the golden has, losses and norms alone.
void expect_steps(const GoldenSteps& steps, const SafetensorsFile& golden, const std::filesystem::path& output, double times = 1,
                  size_t count = 10) {
  const std::vector<float> losses = floats(golden, "losses"), norms = floats(golden, "grad_norms");
  ASSERT_EQ(steps.losses.size(), count);
  for (size_t step = 0; step < count; step++) {
    EXPECT_NEAR(steps.losses[step], losses[step], 1e-5 * times * losses[step]);
    EXPECT_NEAR(steps.norms[step], norms[step], 1e-4 * times * norms[step]);
  }
  if (count < losses.size()) return;
  const SafetensorsFile trained(output / "adapter_model.safetensors");
  for (const TensorInfo& t : trained.tensors()) {
    // The one tensor of a tied model has two names in the file, and one in the golden.
    const bool second = !golden.find("adapter_after." + t.name);
    EXPECT_TRUE(!second || t.name == peft_name(std::string("lm_head.weight"))) << t.name;
    const std::string name = second ? peft_name(std::string("model.embed_tokens.weight")) : t.name;
    EXPECT_LT(relative_error(floats(trained, t.name), floats(golden, "adapter_after." + name)), 1e-4 * times) << t.name;
  }
}

class Golden : public testing::TestWithParam<Where> {
 protected:
  const bool cuda_ = std::string_view(GetParam().device) == "cuda";
  const std::filesystem::path model_ = std::filesystem::path("tests/goldens") / GetParam().model;
  const TemporaryDirectory output_;
  const SafetensorsFile golden_{model_ / "golden.safetensors"};

  Options parse(const std::string& command, const std::filesystem::path& data, const std::string& output) const {
    return golden_options(command, model_, data, output_ / output, GetParam().device);
  }
};

// In float the sums of at most 64 terms through 2 layers are some 10 ulp off (1 ulp = 6e-8); transformers itself, in float, is
// up to 3e-6 away from these values in a gradient. 1e-5 is what the comparison promises.
TEST_P(Golden, DumpEqualsTransformersAndPeft) {
  Options options = parse("dump --docs 6 --seq-len 64 --adapter " + (model_ / "adapter").string(), model_ / "data.jsonl", "dump");
  ASSERT_EQ(command_dump(options), kExitDone);
  expect_dump(SafetensorsFile(output_ / "dump"), golden_, 1e-5);
}

// Without an adapter. The tolerance is that of the adapters.
class GoldenTrainedWhole : public Golden {};
TEST_P(GoldenTrainedWhole, EveryGradientEqualsTransformers) {
  Options options = parse("dump --docs 6 --seq-len 64 --train full --recompute selective", model_ / "data.jsonl", "dump");
  ASSERT_EQ(command_dump(options), kExitDone);
  expect_dump(SafetensorsFile(output_ / "dump"), SafetensorsFile(model_ / "full.safetensors"), 1e-5);
}

class GoldenGeneration : public Golden {};

// What follows each document, greedily, with a cache: by transformers, in fp32 and in double. In every one of these tokens the
// largest logit is above the second by 1e-3 or more, and a logit differs by some 1e-6. Documents of 3 to 40 tokens become 20
// tokens longer: beyond the windows of 7 and 9, and beyond 16 and 12 tokens, where frequencies change. One has 16 tokens. On the
// emulator, which is slow: two documents that cross them.
TEST_P(GoldenGeneration, GreedyTokensEqualTransformers) {
  Options options = parse("evaluate --adapter " + (model_ / "adapter").string(), model_ / "data.jsonl", "none");
  resolve_options(options);
  const ModelSource source = open_model(options, TokenizerNeed::none);
  const AdapterSource adapter = open_named_adapter(options, source.config);
  const auto needs_of = [](const Options&) { return SessionNeeds{.sequences = 4, .tokens = 40, .positions = 60}; };
  Session<float> session(options, source.config, adapter.targets, needs_of);
  session.start(source, adapter);
  std::vector<std::vector<int32_t>> prompts, wanted;
  for (const Json& line : json_lines(model_ / "data.jsonl")) {
    const std::vector<float> tokens = floats(golden_, fmt::format("greedy.{}", prompts.size()));
    wanted.emplace_back(tokens.begin(), tokens.end());
    prompts.push_back(line.at("input_ids").get<std::vector<int32_t>>());
  }
  ASSERT_EQ(prompts.size(), 6u);
  if (cuda_) {
    prompts = {prompts[3], prompts[4]}, wanted = {wanted[3], wanted[4]};  // of 10 and 16 tokens
    for (auto& tokens : wanted) tokens.resize(8);
  }
  std::vector<GenerateRequest> requests;
  for (size_t i = 0; i < prompts.size(); i++) requests.push_back({prompts[i], static_cast<int>(wanted[i].size())});
  EXPECT_EQ(session.generator->generate(session.device, requests, {}), wanted);
}

class GoldenLlama : public Golden {};

// A document is dumped whole unless --seq-len is given, and a document without targets (of one token, or all masked) as well.
TEST_P(GoldenLlama, DumpTakesEveryDocumentWhole) {
  const int longest = cuda_ ? 70 : 1500;  // the emulator is slow
  std::string long_line = "{\"input_ids\": [1";
  for (int t = 1; t < longest; t++) long_line += "," + std::to_string(t % 60);
  write_file_atomic(output_ / "data.jsonl",
                    "{\"input_ids\": [5]}\n{\"input_ids\": [5, 6], \"labels\": [5, -100]}\n" + long_line + "]}\n");
  Options options = parse("dump --docs 3", output_ / "data.jsonl", "dump");
  ASSERT_EQ(command_dump(options), kExitDone);
  const SafetensorsFile dump(output_ / "dump");
  const int64_t lengths[] = {1, 2, longest};
  for (int i = 0; i < 3; i++) {
    const TensorInfo* logits = dump.find("logits." + std::to_string(i));
    ASSERT_NE(logits, nullptr) << i;
    EXPECT_EQ(logits->shape[0], lengths[i]);
  }
  EXPECT_GT(floats(dump, "loss")[0], 0);
}

class GoldenTraining : public Golden {};

TEST_P(GoldenTraining, StepsEqualTransformersAndPeft) {
  // On the emulator two steps of other models than Llama's: the batches of long and short documents that dump has not.
  const bool few = cuda_ && std::find(kLlamas.begin(), kLlamas.end(), std::string_view(GetParam().model)) == kLlamas.end();
  // Once with each on the CPU; on the emulator one of them for each model.
  const std::vector<std::string> all = {"none", "selective", "full"}, one = {GetParam().model[0] % 2 ? "none" : "full"};
  for (const std::string& recompute : cuda_ ? one : all) {
    const GoldenSteps steps = golden_steps("--recompute " + recompute + " --init-adapter " + (model_ / "adapter").string(),
                                           model_, model_ / "data.jsonl", output_ / recompute, GetParam().device, few ? 2 : 10);
    expect_steps(steps, golden_, output_ / recompute, 1, few ? 2 : 10);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(places(kLlamas)), name_of);
INSTANTIATE_TEST_SUITE_P(Others, Golden, testing::ValuesIn(places(kOthers)), name_of);
INSTANTIATE_TEST_SUITE_P(OthersOnCpu, Golden, testing::ValuesIn(places(kOthersOnCpu, false)), name_of);
INSTANTIATE_TEST_SUITE_P(Models, GoldenTrainedWhole, testing::ValuesIn(places(kTrainedWhole)), name_of);
INSTANTIATE_TEST_SUITE_P(Models, GoldenTraining, testing::ValuesIn(places(kLlamas)), name_of);
INSTANTIATE_TEST_SUITE_P(Others, GoldenTraining, testing::ValuesIn(training_places()), name_of);
INSTANTIATE_TEST_SUITE_P(OthersOnCpu, GoldenTraining, testing::ValuesIn(places(kOthersOnCpu, false)), name_of);
INSTANTIATE_TEST_SUITE_P(Models, GoldenLlama, testing::ValuesIn(places(kLlamas)), name_of);
INSTANTIATE_TEST_SUITE_P(Models, GoldenGeneration, testing::ValuesIn(places(kGenerating)), name_of);

// modules_to_save: ["embed_tokens", "lm_head"], of a tied model with ensure_weight_tying.
class GoldenEmbeddings : public Golden {
 protected:
  const SafetensorsFile embeddings_{model_ / "golden_embeddings.safetensors"};
};

TEST_P(GoldenEmbeddings, DumpEqualsTransformersAndPeft) {
  Options options = parse("dump --docs 6 --seq-len 64 --train-embeddings --adapter " + (model_ / "adapter").string(),
                          model_ / "data.jsonl", "dump");
  ASSERT_EQ(command_dump(options), kExitDone);
  const SafetensorsFile dump(output_ / "dump");
  expect_dump(dump, embeddings_, 1e-5);
  EXPECT_EQ(dump.find("grad." + peft_name(std::string("lm_head.weight"))) != nullptr,
            std::string_view(GetParam().model) == "mha_biases");
}

TEST_P(GoldenEmbeddings, TenStepsEqualTransformersAndPeft) {
  const std::string recompute = cuda_ ? "none" : "full";
  const GoldenSteps steps =
      golden_steps("--train-embeddings --recompute " + recompute + " --init-adapter " + (model_ / "adapter").string(), model_,
                   model_ / "data.jsonl", output_ / "run", GetParam().device);
  expect_steps(steps, embeddings_, output_ / "run", 10);
  if (cuda_) return;
  // It goes on from where it was: the whole of it is in the file.
  const SafetensorsFile trained(output_ / "run/adapter_model.safetensors");
  const std::string embedding = peft_name(std::string("model.embed_tokens.weight"));
  ASSERT_NE(trained.find(embedding), nullptr);
  EXPECT_NE(trained.find(peft_name(std::string("lm_head.weight"))), nullptr);
  golden_steps("--train-embeddings --lr 0 --init-adapter " + (output_ / "run").string(), model_, model_ / "data.jsonl",
               output_ / "next", GetParam().device, 1);
  EXPECT_EQ(floats(SafetensorsFile(output_ / "next/adapter_model.safetensors"), embedding), floats(trained, embedding));
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenEmbeddings, testing::ValuesIn(places(kWithEmbeddings)), name_of);

}  // namespace
}  // namespace tll
