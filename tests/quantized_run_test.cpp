// Runs over quantised weights: they train as over the same values held dense, on either device, resume, and are exported.
#include <algorithm>

#include "src/commands/commands.h"
#include "src/commands/export.h"
#include "tests/json_lines.h"
#include "tests/quantized_files.h"
#include "tests/refusal.h"
#include "tests/tiny_run.h"

namespace tll {
namespace {

class QuantizedRun : public Run {
 protected:
  // The session that a run with these options has, with its weights loaded.
  std::unique_ptr<Session<float>> loaded(Options options) const {
    const ModelSource source = open_model(options, TokenizerNeed::none);
    SessionNeeds needs;
    needs.tokens = needs.positions = 32;
    auto session = std::make_unique<Session<float>>(options, source.config, std::vector<LoraTarget>(),
                                                    [needs](const Options&) { return needs; });
    session->start(source, {});
    return session;
  }
  // What all weights are in memory.
  static std::vector<std::string> stored(const Session<float>& session) {
    std::vector<std::string> all;
    for (const Weight& w : session.model.weights())
      for (const WeightPart& part : w.parts)
        for (const auto& range : w.stored_bytes(part)) {
          const std::vector<std::byte> copy = range.read(session.device, range.size());
          all.emplace_back(reinterpret_cast<const char*>(copy.data()), copy.size());
        }
    return all;
  }
  // A model whose weights are what those of this session, on the CPU, mean.
  std::filesystem::path write_dequantized(const Session<float>& session, const std::string& name) const {
    FileTensors tensors;
    for (const Weight& w : session.model.weights())
      for (const WeightPart& part : w.parts) {
        std::vector<float> values(static_cast<size_t>(part.count()));
        if (w.is_quantized())
          run(Device{}, Dequantize{.out = matrix(values.data(), static_cast<int>(part.shape[0]), static_cast<int>(w.cols)),
                                   .w = w.quantized_matrix(),
                                   .first_row = static_cast<int>(part.first / w.cols)});
        else
          with_storage_type(w.dtype, [&](auto type) {
            const auto* from = static_cast<const decltype(type)*>(w.stored_part(part));
            for (size_t i = 0; i < values.size(); i++) values[i] = to_acc(from[i]);
          });
        tensors[part.name] = {FileDtype::F32, part.shape, bytes_of(values)};
      }
    const std::filesystem::path directory = directory_ / name;
    std::filesystem::create_directories(directory);
    write_tensors(directory / "model.safetensors", tensors);
    write_file_atomic(directory / "config.json", read_file(kModel + "/config.json"));
    return directory;
  }
  std::filesystem::path exported(const std::string& name, const std::string& more = "") const {
    const std::filesystem::path directory = directory_ / name;
    Options options = parse_options(
        words(fmt::format("export --quiet --format bnb-4bit --model {} --output {} {}", kModel, directory.string(), more)));
    EXPECT_EQ(command_export(options), kExitDone);
    return directory;
  }
  static std::string model(const std::filesystem::path& directory) { return " --model " + directory.string(); }
};

constexpr const char* kFormats[] = {"--weights nf4", "--weights nf4 --double-quant off", "--weights int8"};

// Nothing tells the layers over codes from those over the values that the codes mean.
TEST_F(QuantizedRun, TrainsAsOverTheSameValuesHeldDense) {
  const std::string settings = " --max-steps 2 --grad-accum 1 --eval-samples 0 --valid-split 0";
  for (const char* device : {" --device cpu", " --device cuda"}) {
    if (device == std::string(" --device cuda") && cuda_device_count() == 0) continue;
    for (const std::string format : kFormats) {
      SCOPED_TRACE(format + device);
      const auto values = write_dequantized(*loaded(parse("x", format + " --device cpu")), "values");
      train(parse("quantized", format + settings + device + " --overwrite"));
      train(parse("dense", "--weights fp32" + settings + device + model(values) + " --overwrite"));
      EXPECT_EQ(bytes("quantized", "adapter_model.safetensors"), bytes("dense", "adapter_model.safetensors"));
    }
  }
}

TEST_F(QuantizedRun, BothDevicesQuantiseToTheSameBytes) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  const std::string prequantized = model(exported("exported"));
  for (const std::string& format : {std::string("--weights nf4"), std::string("--weights nf4 --double-quant off"),
                                    std::string("--weights int8"), std::string("--weights nf4 --init random"), prequantized}) {
    SCOPED_TRACE(format);
    const auto cpu = stored(*loaded(parse("x", format + " --device cpu")));
    EXPECT_TRUE(cpu == stored(*loaded(parse("x", format + " --device cuda"))));
  }
}

TEST_F(QuantizedRun, ResumedRunHasTheBytesOfAnUninterruptedOne) {
  for (const std::string format : kFormats) {
    train(parse("whole", format + " --max-steps 6 --overwrite"));
    train(parse("parts", format + " --max-steps 6 --overwrite"), 3);
    train(parse("parts", format + " --max-steps 6 --resume"));
    EXPECT_EQ(bytes("whole", "adapter_model.safetensors"), bytes("parts", "adapter_model.safetensors"));
    std::filesystem::remove_all(directory_ / "parts");
  }
}

TEST_F(QuantizedRun, ResumeRefusesOtherCodes) {
  train(parse("run", "--weights nf4"), 2);
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--weights int8 --resume")); }), "weights was"));
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--weights nf4 --double-quant off --resume")); }), "double_quant was"));
  // Other weights of the same shapes; and codes of which all but the scales are the same.
  EXPECT_TRUE(says(refusal_of([&] { train(parse("run", "--weights nf4 --resume --init random")); }), "base_weights"));
  FileTensors tensors = read_tensors(kModel + "/model.safetensors");
  std::string& o = tensors.at("model.layers.1.self_attn.o_proj.weight").data;
  for (size_t i = 0; i < o.size(); i += 2) o[i + 1] = static_cast<char>(o[i + 1] + 1);  // four times each, in bf16
  std::filesystem::create_directories(directory_ / "scaled");
  write_tensors(directory_ / "scaled/model.safetensors", tensors);
  write_file_atomic(directory_ / "scaled/config.json", read_file(kModel + "/config.json"));
  EXPECT_TRUE(
      says(refusal_of([&] { train(parse("run", "--weights nf4 --resume" + model(directory_ / "scaled"))); }), "base_weights"));
}

TEST_F(QuantizedRun, WhatCannotBeIsRefused) {
  for (const char* weights : {"nf4", "int8"})
    EXPECT_TRUE(says(refusal_of([&] { parse("full", std::string("--train full --weights ") + weights); }, kExitUsage),
                     "--train full trains all weights"));
  const std::string quantized = model(exported("exported"));
  EXPECT_TRUE(says(refusal_of([&] { train(parse("full", "--train full" + quantized)); }, kExitUsage), "dequantises them"));
}

// A checkpoint of bitsandbytes is what this program makes of the weights that it was made from.
TEST_F(QuantizedRun, AnExportedModelIsTheModelHeldSo) {
  for (const std::string nested : {"", " --double-quant off"}) {
    const std::string four_bit = model(exported(nested.empty() ? "nested" : "plain", nested));
    const auto held = stored(*loaded(parse("x", "--weights nf4" + nested)));
    EXPECT_TRUE(held == stored(*loaded(parse("x", four_bit)))) << nested;
    EXPECT_TRUE(held == stored(*loaded(parse("x", "--weights int8" + four_bit)))) << "it stays as it is";
    const auto dense = loaded(parse("x", "--weights fp32" + four_bit));
    EXPECT_FALSE(dense->model.weights()[2].is_quantized());
    const auto values = write_dequantized(*loaded(parse("x", "--weights nf4" + nested)), "values");
    EXPECT_TRUE(stored(*dense) == stored(*loaded(parse("x", "--weights fp32" + model(values)))));
  }
}

// The file's plan is its own, whatever config.json says: here one layer is dense, as in "dynamic" checkpoints.
TEST_F(QuantizedRun, SingleLayersMayBeDense) {
  const std::filesystem::path directory = exported("exported");
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  FileTensors tensors = read_tensors(directory / "model.safetensors");
  std::erase_if(tensors, [&](const auto& t) { return t.first.starts_with(up); });
  const FileTensor dense = tensors[up] = read_tensors(kModel + "/model.safetensors").at(up);
  write_tensors(directory / "model.safetensors", tensors);
  for (const char* device : {" --device cpu", " --device cuda"}) {
    if (device == std::string(" --device cuda") && cuda_device_count() == 0) continue;
    const auto session = loaded(parse("x", device + model(directory)));
    const auto plan = session->arena.tensors();
    const auto find = [&](const char* name) {
      return std::find_if(plan.begin(), plan.end(), [&](const TensorRecord& t) { return t.name == name; });
    };
    ASSERT_NE(find("layers.1.gate_up.dense"), plan.end());
    EXPECT_EQ(find("layers.1.gate_up.dense")->bytes, dense.shape[0] * dense.shape[1] * 2);
    EXPECT_EQ(find("layers.0.gate_up.dense"), plan.end());
    const auto values = write_dequantized(*loaded(parse("x", "--device cpu" + model(directory))), "values");
    const std::string settings =
        std::string(" --max-steps 2 --grad-accum 1 --eval-samples 0 --valid-split 0 --overwrite") + device;
    train(parse("mixed", settings + model(directory)));
    train(parse("dense", "--weights fp32" + settings + model(values)));
    EXPECT_EQ(bytes("mixed", "adapter_model.safetensors"), bytes("dense", "adapter_model.safetensors"));
  }
}

// W + s·B·A in fp32, rounded once to the model's type, then quantised.
TEST_F(QuantizedRun, ExportMergesTheAdapter) {
  const std::string adapter = kModel + "/adapter";
  const LlamaConfig config = load_config(kModel);
  const ModelFiles plain(kModel, config);
  const Adapter lora = read_adapter(adapter, config);
  const LlamaConfig merged_config = load_config(exported("merged", "--double-quant off --adapter " + adapter));
  const ModelFiles merged(directory_ / "merged", merged_config);
  ASSERT_FALSE(lora.modules.empty());
  for (const AdapterModule& m : lora.modules) {
    const std::string name = m.module.name + ".weight";
    const int64_t count = m.module.rows * m.module.cols, cols = m.module.cols;
    std::vector<float> w(static_cast<size_t>(count)), found(w.size());
    plain.load(name, w.data(), DType::f32, 0, count);
    std::vector<bf16> sum(w.size());
    for (int64_t i = 0; i < count; i++) {
      double x = w[static_cast<size_t>(i)];
      for (int r = 0; r < m.rank; r++)
        x += m.scale * static_cast<double>(m.b[static_cast<size_t>(i / cols * m.rank + r)]) *
             static_cast<double>(m.a[static_cast<size_t>(r * cols + i % cols)]);
      sum[static_cast<size_t>(i)] = round_to_bf16(static_cast<float>(x));
    }
    std::vector<uint8_t> codes((w.size() + 1) / 2);
    std::vector<float> scales((w.size() + 63) / 64);
    int32_t not_finite = 0;
    run(Device{}, QuantizeBlocks{.codes = codes.data(),
                                 .scales = scales.data(),
                                 .in = sum.data(),
                                 .not_finite = &not_finite,
                                 .count = count,
                                 .dtype = DType::bf16,
                                 .code = WeightCode::nf4});
    const std::span<const std::byte> written = merged.quantized(name)->codes;
    // A sum in fp32 may round to a neighbouring bf16 where the one in double lies within 1e-7 of the middle: a few in a million.
    int64_t differing = 0;
    for (size_t i = 0; i < codes.size(); i++) differing += written[i] != std::byte{codes[i]};
    EXPECT_LE(differing, 1) << name;
    merged.load(name, found.data(), DType::f32, 0, count);
    EXPECT_NE(found, w);
  }
}

// The config.json of a quantised model, whose weights are drawn: as nf4 where the files would have fp4.
TEST_F(QuantizedRun, DrawnWeightsAreQuantisedAsConfigSays) {
  Json config = parse_json(read_file(exported("exported") / "config.json"), "config.json");
  const auto held = [&](const std::string& more) {
    write_file_atomic(directory_ / "drawn/config.json", config.dump());
    return stored(*loaded(parse("x", more + model(directory_ / "drawn"))));
  };
  std::filesystem::create_directories(directory_ / "drawn");
  const auto nf4 = held("--init random");
  EXPECT_TRUE(nf4 == held("--init random --weights nf4"));
  config["quantization_config"]["bnb_4bit_quant_type"] = "fp4";
  EXPECT_TRUE(nf4 == held("--init random"));
  config["quantization_config"] = {{"load_in_8bit", true}};
  EXPECT_TRUE(held("--init random --weights int8") == held("--init random"));
  EXPECT_TRUE(held("--init random --weights fp32") == stored(*loaded(parse("x", "--init random --weights fp32"))));
}

// Also in run.json, and for a run to resume.
TEST_F(QuantizedRun, OptionsSayHowTheWeightsAreHeld) {
  const auto held = [&](Options options) {
    open_model(options, TokenizerNeed::none);
    const Json json = options_json(options);
    return json.at("weights").get<std::string>() + (json.at("double_quant").get<bool>() ? " on" : " off");
  };
  const std::string nested = model(exported("nested")), plain = model(exported("plain", "--double-quant off"));
  EXPECT_EQ(held(parse("x", nested)), "nf4 on");
  EXPECT_EQ(held(parse("x", plain)), "nf4 off");
  EXPECT_EQ(held(parse("x", "--weights auto" + plain)), "nf4 off");
  EXPECT_EQ(held(parse("x", "--weights int8" + plain)), "nf4 off");
  EXPECT_EQ(held(parse("x", "--weights bf16" + plain)), "bf16 on");
  EXPECT_EQ(held(parse("x", "--init random" + plain)), "nf4 off");
  Options bare = parse_options(words(fmt::format("plan --config {}", (directory_ / "plain/config.json").string())));
  resolve_options(bare);
  EXPECT_EQ(held(bare), "nf4 off");
  train(parse("run", "--max-steps 2" + plain), 1);
  train(parse("run", "--max-steps 2 --resume" + plain));
  const Json options = parse_json(bytes("run", "run.json"), "run.json").at("options");
  EXPECT_EQ(options.at("weights"), "nf4");
  EXPECT_EQ(options.at("double_quant"), false);
}

// Several files, as the Hub has large models, are the same model.
TEST_F(QuantizedRun, ExportOfALargeModel) {
  const auto whole = stored(*loaded(parse("x", model(exported("whole")))));
  Options options = parse_options(words("export --quiet --format bnb-4bit --max-shard-size 10KB --model " + kModel +
                                        " --output " + (directory_ / "many").string()));
  resolve_options(options);
  const ModelSource source = open_model(options, TokenizerNeed::none);
  std::vector<std::string> files = export_bnb_4bit(options, source, {}).files;
  ASSERT_EQ(files.back(), "config.json");
  files.pop_back();
  ASSERT_GE(files.size(), 4u);
  EXPECT_EQ(files[0], fmt::format("model-00001-of-{:05}.safetensors", files.size() - 1));
  EXPECT_EQ(files.back(), "model.safetensors.index.json");
  const Json index = parse_json(read_file(directory_ / "many" / files.back()), "index");
  uint64_t total = 0;
  for (size_t i = 0; i + 1 < files.size(); i++) {
    const SafetensorsFile file(directory_ / "many" / files[i]);
    total += file.tensors().back().end;
    EXPECT_LE(file.tensors().back().end, 10'000u);
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
  EXPECT_TRUE(whole == stored(*loaded(parse("x", model(directory_ / "many")))));
}

TEST_F(QuantizedRun, ExportKeepsWhatIsThere) {
  const std::filesystem::path output = exported("exported");
  const auto refused = [&](const std::filesystem::path& directory) {
    return refusal_of([&] { exported(directory.lexically_relative(directory_.path()).string()); }, kExitUsage);
  };
  EXPECT_TRUE(says(refused(output), "holds a model"));
  const std::string before = read_file(output / "model.safetensors");
  write_file_atomic(output / "notes.txt", "mine");
  exported("exported", "--overwrite --double-quant off");
  EXPECT_NE(read_file(output / "model.safetensors"), before);
  EXPECT_EQ(read_file(output / "notes.txt"), "mine");
  std::filesystem::create_directories(directory_ / "adapter");
  write_file_atomic(directory_ / "adapter/adapter_config.json", "{}");
  EXPECT_TRUE(says(refused(directory_ / "adapter"), "holds an adapter"));
  Options onto_itself =
      parse_options(words(fmt::format("export --format bnb-4bit --overwrite --model {0} --output {0}", output.string())));
  EXPECT_TRUE(says(refusal_of([&] { command_export(onto_itself); }, kExitUsage), "is the directory of the model"));
}

// A weight that cannot be quantised leaves what was there.
TEST_F(QuantizedRun, ExportRefusesWhatIsNotFinite) {
  const std::filesystem::path output = exported("exported");
  const std::string before = read_file(output / "model.safetensors");
  FileTensors tensors = read_tensors(kModel + "/model.safetensors");
  tensors.at("model.layers.1.mlp.up_proj.weight").data.replace(10, 2, "\xc0\x7f");  // a NaN in bf16
  std::filesystem::create_directories(directory_ / "broken");
  write_tensors(directory_ / "broken/model.safetensors", tensors);
  write_file_atomic(directory_ / "broken/config.json", read_file(kModel + "/config.json"));
  const std::string why = "model.layers.1.mlp.up_proj.weight: 1";
  for (const std::string scales : {"--double-quant on", "--double-quant off"}) {
    EXPECT_TRUE(says(refusal_of([&] { exported("exported", scales + " --overwrite" + model(directory_ / "broken")); }), why));
    EXPECT_EQ(read_file(output / "model.safetensors"), before);
  }
  for (const char* device : {"cpu", "cuda"})
    if (device == std::string("cpu") || cuda_device_count() > 0) {
      EXPECT_TRUE(says(refusal_of([&] {
                         train(parse("run", "--weights nf4 --device " + std::string(device) + model(directory_ / "broken")));
                       }),
                       why));
    }
}

// Nor does one that has no place in the type that config.json names.
TEST_F(QuantizedRun, ExportRefusesWhatIsTooLarge) {
  const std::filesystem::path output = exported("exported");
  FileTensors tensors = read_tensors(kModel + "/model.safetensors");
  tensors.at("model.embed_tokens.weight").data.replace(10, 2, std::string("\x00\x7f", 2));  // 2^127 in bf16
  std::filesystem::create_directories(directory_ / "large");
  write_tensors(directory_ / "large/model.safetensors", tensors);
  Json config = parse_json(read_file(kModel + "/config.json"), "config.json");
  config.erase("torch_dtype");
  config["dtype"] = "float16";
  write_file_atomic(directory_ / "large/config.json", config.dump());
  EXPECT_TRUE(says(refusal_of([&] { exported("exported", "--overwrite" + model(directory_ / "large")); }), "too large for fp16"));
  EXPECT_TRUE(std::filesystem::exists(output / "config.json"));
  EXPECT_TRUE(std::filesystem::exists(output / "model.safetensors"));
}

// Whatever ends it: the old model stays, and nothing lies beside it.
TEST_F(QuantizedRun, AnExportThatEndsEarlyLeavesWhatWasThere) {
  struct Ends : PhaseView {
    void show(const char* activity, int64_t done, int64_t) override {
      if (activity == std::string_view("quantising") && done > 0) fail(kExitFault, "the disk is full");
    }
    void end() override {}
  } ends;
  const std::filesystem::path output = exported("exported");
  const std::string before = read_file(output / "model.safetensors");
  const auto names = [&] {
    std::set<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(output)) all.insert(entry.path().filename().string());
    return all;
  };
  const std::set<std::string> there = names();
  PhaseView* const view = set_phase_view(&ends);
  EXPECT_TRUE(says(refusal_of([&] { exported("exported", "--overwrite"); }, kExitFault), "full"));
  EXPECT_TRUE(says(refusal_of([&] { exported("fresh"); }, kExitFault), "full"));
  set_phase_view(view);
  EXPECT_EQ(names(), there);
  EXPECT_EQ(read_file(output / "model.safetensors"), before);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "fresh"));
  // Of one that was killed: no process has this number, the largest that one can have being 4194304.
  std::filesystem::create_directories(output / ".export-2147483647");
  std::ofstream(output / ".export-2147483647/model.safetensors") << "half";
  exported("exported", "--overwrite");
  EXPECT_EQ(names(), there);
}

TEST_F(QuantizedRun, ExportSaysWhatItWrote) {
  Options options = parse_options(
      words(fmt::format("export --json --format bnb-4bit --model {} --output {}", kModel, (directory_ / "exported").string())));
  testing::internal::CaptureStdout();
  command_export(options);
  const Json said = parse_json(testing::internal::GetCapturedStdout(), "stdout");
  int64_t bytes = 0;
  for (const Json& name : said.at("files"))
    bytes += static_cast<int64_t>(std::filesystem::file_size(directory_ / "exported" / name.get<std::string>()));
  EXPECT_EQ(said.at("bytes"), bytes);
  EXPECT_EQ(said.at("losses"), Json::object());
}

// Every way to hold the weights needs less than the one before it, whatever the model and the batch.
TEST(QuantizedPlan, FewerBitsNeedLess) {
  struct Shape {
    int64_t vocab, hidden, intermediate, layers, heads, kv_heads;
  };
  const TemporaryDirectory directory;
  for (const Shape& s : {Shape{32000, 4096, 11008, 32, 32, 32}, Shape{128256, 2048, 8192, 16, 32, 8},
                         Shape{128256, 4096, 14336, 32, 32, 8}, Shape{49152, 576, 1536, 30, 9, 3}, Shape{64, 36, 56, 2, 6, 2}})
    for (const bool tied : {false, true})
      for (const char* batch : {"--batch-size 1 --seq-len 256", "--batch-size 4 --seq-len 512 --recompute full"}) {
        write_file_atomic(directory / "config.json", json_text({{"model_type", "llama"},
                                                                {"vocab_size", s.vocab},
                                                                {"hidden_size", s.hidden},
                                                                {"intermediate_size", s.intermediate},
                                                                {"num_hidden_layers", s.layers},
                                                                {"num_attention_heads", s.heads},
                                                                {"num_key_value_heads", s.kv_heads},
                                                                {"tie_word_embeddings", tied},
                                                                {"dtype", "bfloat16"}}));
        const auto total = [&](const std::string& more, auto type) {
          Options options = parse_options(
              words(fmt::format("plan --config {} --device cpu {} {}", (directory / "config.json").string(), batch, more)));
          options.threads = 2;
          resolve_options(options);
          const ModelSource source = open_model(options, TokenizerNeed::none);
          const AdapterSource adapter = open_adapter(options, source.config, {});
          return Session<decltype(type)>(options, source.config, adapter.targets, training_needs).arena.total();
        };
        const int64_t nf4 = total("--dtype bf16 --weights nf4", bf16{}),
                      plain_nf4 = total("--dtype bf16 --weights nf4 --double-quant off", bf16{}),
                      int8 = total("--dtype bf16 --weights int8", bf16{}), lora = total("--dtype bf16 --weights bf16", bf16{}),
                      full = total("--dtype bf16 --train full", bf16{});
        const auto loading = 4 << 20;  // of loading a model that is smaller than a piece
        EXPECT_LT(nf4, plain_nf4 + (s.vocab > 64 ? 0 : loading));
        EXPECT_LT(plain_nf4, int8);
        EXPECT_LT(int8, lora + (s.vocab > 64 ? 0 : loading));
        EXPECT_LT(lora, s.vocab > 64 ? full : 2 * full) << "rank 16 is much in a tiny model";
      }
}

}  // namespace
}  // namespace tll
