// The whole program against transformers + peft: logits, loss, every adapter gradient, and ten steps of training, on the tiny
// models of tests/goldens (made by dev/golden/make_golden.py, in double precision).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/cuda_device.h"
#include "src/base/file.h"
#include "src/commands/commands.h"
#include "src/commands/training_run.h"
#include "src/files/safetensors.h"
#include "src/options/resolve.h"
#include "tests/json_lines.h"
#include "tests/temporary_directory.h"
#include "tests/words.h"

namespace tll {
namespace {

const char* const kModels[] = {"gqa_tied", "mha_biases", "llama3_rope", "fp16_sharded", "old_config"};

std::vector<float> floats(const SafetensorsFile& file, const std::string& name) {
  const auto bytes = file.bytes(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// |a - b| / |b| in the 2-norm.
double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); i++) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / std::max(size, 1e-60));
}

struct Where {
  const char *model, *device;
};
void PrintTo(const Where& where, std::ostream* out) { *out << where.model << " on " << where.device; }
std::vector<Where> all_places() {
  std::vector<Where> places;
  for (const char* model : kModels) places.push_back({model, "cpu"});
  if (cuda_device_count() > 0)
    for (const char* model : kModels) places.push_back({model, "cuda"});
  return places;
}
std::string name_of(const testing::TestParamInfo<Where>& info) {
  return fmt::format("{}_{}", info.param.model, info.param.device);
}

class Golden : public testing::TestWithParam<Where> {
 protected:
  const bool cuda_ = std::string_view(GetParam().device) == "cuda";
  const std::filesystem::path model_ = std::filesystem::path("tests/goldens") / GetParam().model;
  const TemporaryDirectory output_;
  const SafetensorsFile golden_{model_ / "golden.safetensors"};

  Options parse(const std::string& command, const std::filesystem::path& data, const std::string& output) const {
    return parse_options(words(fmt::format("{} --dtype fp32 --quiet --data {} --output {} --model {} --device {}", command,
                                           data.string(), (output_ / output).string(), model_.string(), GetParam().device)));
  }
};

// In float the sums of at most 64 terms through 2 layers are some 10 ulp off (1 ulp = 6e-8); transformers itself, in float, is
// up to 3e-6 away from these values in a gradient. 1e-5 is what the comparison promises.
TEST_P(Golden, DumpEqualsTransformersAndPeft) {
  Options options = parse("dump --docs 6 --seq-len 64 --adapter " + (model_ / "adapter").string(), model_ / "data.jsonl", "dump");
  ASSERT_EQ(command_dump(options), kExitDone);
  const SafetensorsFile dump(output_ / "dump");
  int gradients = 0;
  for (const TensorInfo& t : golden_.tensors()) {
    if (!t.name.starts_with("logits.") && !t.name.starts_with("grad.") && t.name != "loss") continue;
    ASSERT_NE(dump.find(t.name), nullptr) << t.name;
    EXPECT_EQ(dump.find(t.name)->shape, t.shape) << t.name;
    EXPECT_LT(relative_error(floats(dump, t.name), floats(golden_, t.name)), 1e-5) << t.name;
    gradients += t.name.starts_with("grad.");
  }
  EXPECT_GE(gradients, 4);
  for (const TensorInfo& t : dump.tensors()) EXPECT_NE(golden_.find(t.name), nullptr) << t.name << " is not in the golden file";
}

// A document is dumped whole unless --seq-len is given, and a document without targets (of one token, or all masked) as well.
TEST_P(Golden, DumpTakesEveryDocumentWhole) {
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

TEST_P(Golden, TenStepsEqualTransformersAndPeft) {
  // Once with each on the CPU; on the emulator one of them for each model.
  const std::vector<std::string> both = {"none", "full"}, one = {GetParam().model[0] % 2 ? "none" : "full"};
  for (const std::string& recompute : cuda_ ? one : both) {
    const std::string settings =
        "train --seq-len 64 --batch-size 6 --packing off --shuffle off --lr 1e-2 --schedule constant --warmup-ratio 0 "
        "--max-steps 10 --valid-split 0 --recompute " +
        recompute + " --init-adapter " + (model_ / "adapter").string();
    Options options = parse(settings, model_ / "data.jsonl", recompute);
    resolve_options(options);
    TrainingRun<float> run(options);
    run.start();
    while (!run.finished()) run.step();
    run.save();
    const std::vector<float> losses = floats(golden_, "losses"), norms = floats(golden_, "grad_norms");
    const std::vector<Json> metrics = json_lines(output_ / recompute / "metrics.jsonl");
    ASSERT_GE(metrics.size(), losses.size());
    for (size_t step = 0; step < losses.size(); step++) {
      const Json& json = metrics[step];
      EXPECT_EQ(json.at("step"), step + 1);
      EXPECT_NEAR(json.at("loss").get<double>(), losses[step], 1e-5 * losses[step]);
      EXPECT_NEAR(json.at("grad_norm").get<double>(), norms[step], 1e-4 * norms[step]);
    }
    // AdamW divides by the root of v, so an entry whose gradient is near zero moves by a step of 1e-2 in a direction that
    // rounding decides; the goldens were chosen so that transformers in float stays within 2e-6.
    const SafetensorsFile trained(output_ / recompute / "adapter_model.safetensors");
    for (const TensorInfo& t : trained.tensors())
      EXPECT_LT(relative_error(floats(trained, t.name), floats(golden_, "adapter_after." + t.name)), 1e-4) << t.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(all_places()), name_of);

}  // namespace
}  // namespace tll
