// export --format merged: what is in the files, by name and bit, and what happens where something is in the way.
#include <algorithm>
#include <fstream>
#include <set>

#include "src/base/phase.h"
#include "src/files/model_files.h"
#include "tests/export_files.h"

namespace tll {
namespace {

class ExportMerged : public ExportTest {
 protected:
  std::string arguments(const std::filesystem::path& model, const std::filesystem::path& adapter, const std::string& more) const {
    return fmt::format("--format merged --model {} {} --output {} {}", model.string(),
                       adapter.empty() ? "" : "--adapter " + adapter.string(), (directory_ / "out").string(), more);
  }
  // Every tensor of the files in `out`, in order of names.
  void check_values(FileDtype type) const {
    const LlamaConfig config = load_config(directory_ / "out");
    const ModelFiles files(directory_ / "out", config);
    EXPECT_TRUE(files.warnings().empty());
    for (const auto& [name, unused] : values_) {
      const TensorView t = files.tensor(name);
      ASSERT_EQ(t.dtype, type) << name;
      const std::vector<float> want = expected(name);
      for (size_t i = 0; i < want.size(); i++) {
        uint16_t bits = 0;
        float value = 0;
        if (type == FileDtype::BF16) {
          std::memcpy(&bits, t.data.data() + 2 * i, 2);
          ASSERT_EQ(bits, round_to_bf16(want[i]).bits) << name << " " << i;
        } else {
          std::memcpy(&value, t.data.data() + 4 * i, 4);
          ASSERT_EQ(value, want[i]) << name << " " << i;
        }
      }
    }
  }
};

const std::vector<std::string> kAll = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

TEST_F(ExportMerged, HoldsTheSumRoundedOnce) {
  for (const char* dtype : {"bfloat16", "float32"})
    for (const bool tied : {true, false}) {
      SCOPED_TRACE(dtype);
      const auto model = write_model("model", {{"dtype", dtype}, {"tie_word_embeddings", tied}, {"attention_bias", true}});
      const auto adapter = write_adapter_of("adapter", kAll);
      run_export(arguments(model, adapter, "--quiet --overwrite"));
      check_values(dtype == std::string("float32") ? FileDtype::F32 : FileDtype::BF16);
      const SafetensorsFile file(directory_ / "out/model.safetensors");
      EXPECT_EQ(file.tensors().size(), values_.size());
      EXPECT_EQ(file.find("lm_head.weight") == nullptr, tied);
      const Json config = parse_json(read_file(directory_ / "out/config.json"), "config.json");
      EXPECT_EQ(config.at("dtype"), dtype);
      EXPECT_EQ(config.at("tie_word_embeddings"), tied);
      for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
        EXPECT_EQ(read_file(directory_ / "out" / name), read_file(model / name));
    }
}

TEST_F(ExportMerged, WithoutAnAdapterIsTheModel) {
  const auto model = write_model("model");
  run_export(arguments(model, {}, "--quiet"));
  EXPECT_TRUE(read_tensors(directory_ / "out/model.safetensors").at("model.norm.weight").data ==
              read_tensors(model / "model.safetensors").at("model.norm.weight").data);
  check_values(FileDtype::BF16);
}

TEST_F(ExportMerged, ManyFilesAreOneModel) {
  const auto model = write_model("model");
  const auto adapter = write_adapter_of("adapter", {"q_proj", "down_proj"});
  const Json said = parse_json(run_export(arguments(model, adapter, "--json --max-shard-size 40KB")), "stdout");
  const Json index = parse_json(read_file(directory_ / "out/model.safetensors.index.json"), "index");
  std::set<std::string> names;
  for (const auto& [tensor, name] : index.at("weight_map").items()) names.insert(name.get<std::string>());
  ASSERT_GE(names.size(), 3u);
  EXPECT_EQ(*names.begin(), fmt::format("model-00001-of-{:05}.safetensors", names.size()));
  EXPECT_EQ(index.at("metadata").at("total_parameters"), parameter_count(config_));
  EXPECT_EQ(index.at("metadata").at("total_size"), 2 * parameter_count(config_));
  check_values(FileDtype::BF16);
  int64_t bytes = 0;
  for (const Json& name : said.at("files"))
    bytes += static_cast<int64_t>(std::filesystem::file_size(directory_ / "out" / name.get<std::string>()));
  EXPECT_EQ(said.at("bytes"), bytes);
  EXPECT_TRUE(says(said.at("load").at("transformers").get<std::string>(), "from_pretrained"));
  // One file in their place leaves none of them behind.
  run_export(arguments(model, adapter, "--quiet --overwrite"));
  for (const std::string& name : names) EXPECT_FALSE(std::filesystem::exists(directory_ / "out" / name));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out/model.safetensors.index.json"));
  check_values(FileDtype::BF16);
}

// A quantised model becomes a dense one: the values that its codes mean.
TEST_F(ExportMerged, DequantisesAQuantisedModel) {
  const auto model = write_model("model", {{"dtype", "float32"}});
  const auto adapter = write_adapter_of("adapter", {"up_proj"});
  run_export(fmt::format("--format bnb-4bit --quiet --model {} --output {}", model.string(), (directory_ / "four").string()));
  run_export(fmt::format("--format merged --quiet --model {} --adapter {} --output {}", (directory_ / "four").string(),
                         adapter.string(), (directory_ / "out").string()));
  const Json config = parse_json(read_file(directory_ / "out/config.json"), "config.json");
  EXPECT_FALSE(config.contains("quantization_config"));
  const ModelFiles four(directory_ / "four", load_config(directory_ / "four"));
  for (const auto& [name, unused] : values_) {
    values_[name].resize(values_[name].size());
    four.load(name, values_[name].data(), DType::f32, 0, static_cast<int64_t>(values_[name].size()));
  }
  const ModelFiles dense(directory_ / "out", load_config(directory_ / "out"));
  EXPECT_EQ(dense.quantized("model.layers.0.mlp.up_proj.weight"), nullptr);
  for (const auto& [name, unused] : values_) {
    const std::vector<float> want = expected(name);
    std::vector<float> made(want.size());
    dense.load(name, made.data(), DType::f32, 0, static_cast<int64_t>(made.size()));
    // Codes of nf4 are no multiples of powers of two: each of r products and r sums is rounded, r ≤ 4, and no partial sum is
    // above 8, so the two orders of summation differ by less than 2 · 8 · 2^-24 · 8.
    for (size_t i = 0; i < want.size(); i++) ASSERT_NEAR(made[i], want[i], 7.7e-6) << name;
  }
}

// A weight that the adapter brings as a whole (modules_to_save) takes the place of the model's.
TEST_F(ExportMerged, TakesWholeWeightsOfTheAdapter) {
  const auto model = write_model("model", {{"tie_word_embeddings", false}});
  const auto adapter = write_adapter_of("adapter", {"v_proj"});
  FileTensors tensors = read_tensors(adapter / "adapter_model.safetensors");
  std::vector<float>& head = values_.at("lm_head.weight");
  for (float& x : head) x = -x / 2;
  tensors["base_model.model.lm_head.weight"] = {FileDtype::F32, {300, 64}, bytes_of(head)};
  write_tensors(adapter / "adapter_model.safetensors", tensors);
  Json settings = parse_json(read_file(adapter / "adapter_config.json"), "adapter_config.json");
  settings["modules_to_save"] = {"lm_head"};
  write_file_atomic(adapter / "adapter_config.json", settings.dump());
  run_export(arguments(model, adapter, "--quiet"));
  check_values(FileDtype::BF16);
}

TEST_F(ExportMerged, LossesAreTakenOfDataBeforeAndAfter) {
  const auto model = write_model("model", {{"dtype", "float32"}});
  const auto adapter = write_adapter_of("adapter", {"q_proj"});
  std::ofstream data(directory_ / "data.jsonl");
  for (int i = 0; i < 10; i++) data << fmt::format(R"({{"input_ids": [{}, 5, 6, {}, 8]}})", i, i + 7) << "\n";
  data.close();
  const std::string more =
      fmt::format("--data {} --seq-len 16 --dtype fp32 --batch-size 4 ", (directory_ / "data.jsonl").string());
  const Json merged = parse_json(run_export(arguments(model, adapter, more + "--json")), "stdout").at("losses");
  const double before = merged.at("adapter"), after = merged.at("file");
  EXPECT_GT(before, 0);
  // The same sums W + scale · B · A, in another order of operations on activations: 1e-5 is 100 roundings of a loss near 6.
  EXPECT_NEAR(before, after, 6e-5);
  const Json bare = parse_json(run_export(arguments(model, {}, more + "--json --overwrite")), "stdout").at("losses");
  EXPECT_EQ(bare.at("adapter"), bare.at("file"));
  EXPECT_GT(std::abs(bare.at("adapter").get<double>() - before), 1e-4) << "the adapter changes the loss";
  const std::string said = run_export(arguments(model, adapter, more + "--quiet --overwrite"));
  EXPECT_TRUE(says(said, "with the adapter")) << said;
  EXPECT_TRUE(says(said, "on 1 document")) << said;
}

TEST_F(ExportMerged, WhatIsInTheWayStays) {
  const auto model = write_model("model");
  const auto adapter = write_adapter_of("adapter", {"q_proj"});
  run_export(arguments(model, adapter, "--quiet"));
  const std::string before = read_file(directory_ / "out/model.safetensors");
  const auto refused = [&](const std::string& line, ExitCode code = kExitUsage) {
    return refusal_of([&] { run_export(line); }, code);
  };
  EXPECT_TRUE(says(refused(arguments(model, {}, "")), "holds a model"));
  EXPECT_TRUE(says(refused(fmt::format("--format merged --overwrite --model {0} --output {0}", model.string())),
                   "is the directory of the model"));
  EXPECT_TRUE(
      says(refused(fmt::format("--format merged --model {} --output {}", model.string(), adapter.string())), "holds an adapter"));
  EXPECT_TRUE(says(refused(fmt::format("--format merged --model {0} --output {0}/config.json", model.string())), "is a file"));
  // An adapter of another model.
  const auto other = write_model("other", {{"intermediate_size", 128}});
  const auto wrong = write_adapter_of("wrong", {"up_proj"});
  EXPECT_TRUE(says(refused(arguments(model, wrong, "--overwrite"), kExitBadFile), "expected shape"));
  // An end in the middle.
  struct Ends : PhaseView {
    void show(const char*, int64_t done, int64_t) override {
      if (done > 0) throw Stopped("merging");
    }
    void end() override {}
  } ends;
  PhaseView* const view = set_phase_view(&ends);
  run_export(arguments(model, {}, "--overwrite"), kExitInterrupted);
  run_export(fmt::format("--format merged --model {} --output {}", model.string(), (directory_ / "fresh").string()),
             kExitInterrupted);
  set_phase_view(view);
  EXPECT_EQ(read_file(directory_ / "out/model.safetensors"), before);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out/.export"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "fresh"));
}

}  // namespace
}  // namespace tll
