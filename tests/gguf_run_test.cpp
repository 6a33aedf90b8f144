// A GGUF file as --model: what is computed with it is what is computed with the directory that it was made of.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "src/base/process.h"
#include "src/commands/commands.h"
#include "src/commands/save.h"
#include "tests/gguf_bytes.h"
#include "tests/golden_run.h"
#include "tests/temporary_directory.h"

namespace tll {
namespace {

class GgufRun : public testing::TestWithParam<const char*> {
 protected:
  GgufRun() {
    const LlamaConfig config = load_config(golden_);
    GgufBytes g = gguf_of(golden_, config, config.dtype == "float32" ? GgufType::F32 : GgufType::BF16);
    if (std::string_view(GetParam()) == "llama3_rope") {
      // Factor 8, of 32 positions, theta 10000, heads of 20 values.
      std::vector<float> divisors;
      for (int i = 0; i < 10; i++) {
        const double turns = 32 * std::pow(10000, -i / 10.0) / (2 * std::numbers::pi), t = (turns - 1) / 3;
        divisors.push_back(static_cast<float>(1 / ((1 - std::clamp(t, 0.0, 1.0)) / 8 + std::clamp(t, 0.0, 1.0))));
      }
      g.tensor("rope_freqs.weight", {10}, GgufType::F32, raw_of(divisors));
    }
    gguf_ = output_.write("model.gguf", g.bytes()) / "model.gguf";
  }
  std::string dump(const std::filesystem::path& model, const std::string& more) const {
    Options options = golden_options("dump --docs 6 --seq-len 64 --adapter " + (golden_ / "adapter").string() + " " + more, model,
                                     golden_ / "data.jsonl", output_ / "dump", "cpu");
    EXPECT_EQ(command_dump(options), kExitDone);
    return read_file(output_ / "dump");
  }

  const std::filesystem::path golden_ = std::filesystem::path("tests/goldens") / GetParam();
  const TemporaryDirectory output_;
  std::filesystem::path gguf_;
};

// Tolerance: tests/golden_test.cpp. The gradients are those of all seven layers, or of those that the golden's adapter has.
TEST_P(GgufRun, DumpEqualsTransformersAndPeft) {
  dump(gguf_, "");
  expect_dump(SafetensorsFile(output_ / "dump"), SafetensorsFile(golden_ / "golden.safetensors"), 1e-5);
}

class GgufTraining : public GgufRun {};

TEST_P(GgufTraining, EveryWeightTypeIsMadeOfTheSameValues) {
  for (const char* weights : {"", "--weights nf4", "--weights int8", "--dtype bf16"}) {
    const std::string of = dump(golden_, weights);
    EXPECT_TRUE(dump(gguf_, weights) == of) << weights;
  }
}

TEST_P(GgufTraining, TrainsAndNamesTheFileAsItsBase) {
  const GoldenSteps steps = golden_steps("--init-adapter " + (golden_ / "adapter").string(), gguf_, golden_ / "data.jsonl",
                                         output_ / "from_gguf", "cpu", 3);
  const GoldenSteps of = golden_steps("--init-adapter " + (golden_ / "adapter").string(), golden_, golden_ / "data.jsonl",
                                      output_ / "from_directory", "cpu", 3);
  EXPECT_EQ(steps.losses, of.losses);
  EXPECT_EQ(steps.norms, of.norms);
  EXPECT_TRUE(read_file(output_ / "from_gguf/adapter_model.safetensors") ==
              read_file(output_ / "from_directory/adapter_model.safetensors"));
  const Json config = parse_json(read_file(output_ / "from_gguf/adapter_config.json"), "");
  EXPECT_EQ(config.at("base_model_name_or_path"), gguf_.string());
}

// What export and --train full write of a GGUF file's config: a directory that this program, and transformers, read as the same
// model.
TEST_P(GgufRun, ItsConfigForTransformers) {
  write_json(output_ / "config.json", config_for_transformers(gguf_, "float32"));
  const LlamaConfig c = load_config(output_.path()), of = load_config(golden_);
  EXPECT_EQ(std::tie(c.hidden, c.layers, c.head_dim, c.vocab_size, c.rope.theta, c.rope.factor, c.rms_eps),
            std::tie(of.hidden, of.layers, of.head_dim, of.vocab_size, of.rope.theta, of.rope.factor, of.rms_eps));
  EXPECT_EQ(c.dtype, "float32");  // as it was asked for
  copy_tokenizer(gguf_, output_.path());
  EXPECT_TRUE(std::filesystem::exists(output_ / "generation_config.json"));
  EXPECT_FALSE(std::filesystem::exists(output_ / "tokenizer.json"));  // the file has none
}

std::string name_of(const testing::TestParamInfo<const char*>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(Models, GgufRun,
                         testing::Values("gqa_tied", "llama3_rope", "mha_biases", "mistral_window", "phi3_fused", "phi3_longrope",
                                         "phi3_partial", "qwen2_biases", "qwen3_tied", "qwen3_untied"),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Models, GgufTraining, testing::Values("gqa_tied", "phi3_fused"), name_of);

}  // namespace
}  // namespace tll
