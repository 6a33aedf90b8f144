// What tests of goldens share: reading golden values, comparing, and running ten steps as the goldens' training did.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "src/commands/training_run.h"
#include "src/files/safetensors.h"
#include "src/options/resolve.h"
#include "tests/json_lines.h"
#include "tests/words.h"

namespace tll {

inline std::vector<float> floats(const SafetensorsFile& file, const std::string& name) {
  const auto bytes = file.bytes(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// |a - b| / |b| in the 2-norm.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); i++) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / std::max(size, 1e-60));
}

// --model, --data and the rest of a golden's directory `model`.
inline Options golden_options(const std::string& command, const std::filesystem::path& model, const std::filesystem::path& data,
                              const std::filesystem::path& output, const std::string& device) {
  return parse_options(words(fmt::format("{} --dtype fp32 --quiet --data {} --output {} --model {} --device {}", command,
                                         data.string(), output.string(), model.string(), device)));
}

// The result of `dump`: every logit, loss and gradient of the golden file is there, close in the 2-norm, and nothing else.
inline void expect_dump(const SafetensorsFile& dump, const SafetensorsFile& golden, double tolerance) {
  int gradients = 0;
  for (const TensorInfo& t : golden.tensors()) {
    if (!t.name.starts_with("logits.") && !t.name.starts_with("grad.") && t.name != "loss") continue;
    ASSERT_NE(dump.find(t.name), nullptr) << t.name;
    EXPECT_EQ(dump.find(t.name)->shape, t.shape) << t.name;
    EXPECT_LT(relative_error(floats(dump, t.name), floats(golden, t.name)), tolerance) << t.name;
    gradients += t.name.starts_with("grad.");
  }
  EXPECT_GE(gradients, 4);
  for (const TensorInfo& t : dump.tensors()) EXPECT_NE(golden.find(t.name), nullptr) << t.name << " is not in the golden file";
}

struct GoldenSteps {
  std::vector<float> losses, norms;
};
// Steps on all six documents of a golden, from its adapter; the options are what differs.
inline GoldenSteps golden_steps(const std::string& more, const std::filesystem::path& model, const std::filesystem::path& data,
                                const std::filesystem::path& output, const std::string& device, int count = 10) {
  Options options = golden_options(
      "train --seq-len 64 --batch-size 6 --packing off --shuffle off --lr 1e-2 --schedule constant --warmup-ratio 0 "
      "--valid-split 0 --max-steps " +
          std::to_string(count) + " " + more,
      model, data, output, device);
  resolve_options(options);
  TrainingRun<float> run(options);
  run.start();
  while (!run.finished()) run.step();
  run.save();
  GoldenSteps steps;
  for (const Json& line : json_lines(output / "metrics.jsonl")) {
    if (!line.contains("loss")) continue;
    EXPECT_EQ(line.at("step"), steps.losses.size() + 1);
    steps.losses.push_back(line.at("loss").get<float>());
    steps.norms.push_back(line.at("grad_norm").get<float>());
  }
  return steps;
}

}  // namespace tll
