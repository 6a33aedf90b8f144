// Weights: which tensors of a checkpoint they are made of, how they are filled, and their types.
#include "src/model/weight.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/files/config.h"
#include "src/model/initialize.h"
#include "src/model/parameters.h"
#include "tests/refusal.h"

namespace tll {
namespace {

LlamaConfig tiny_config() {
  LlamaConfig c;
  c.vocab_size = 11, c.hidden = 8, c.intermediate = 6, c.layers = 2, c.heads = 4, c.kv_heads = 2, c.head_dim = 4;
  return c;
}

TEST(Weight, JoinsTheTensorsOfACheckpoint) {
  LlamaConfig c = tiny_config();
  c.attention_bias = true;
  const std::vector<Weight> weights = list_weights(c);
  std::vector<std::string> names;
  int64_t parameters = 0;
  size_t tensors = 0;
  for (const Weight& w : weights) {
    names.push_back(w.name);
    parameters += w.count();
    tensors += w.parts.size();
    int64_t first = 0;
    for (const WeightPart& part : w.parts) {
      EXPECT_EQ(part.first, first) << part.name;
      first += part.count();
    }
    EXPECT_EQ(first, w.count()) << w.name;
  }
  EXPECT_EQ(
      std::vector(names.begin(), names.begin() + 10),
      (std::vector<std::string>{"embed", "layers.0.norm1", "layers.0.qkv", "layers.0.qkv_bias", "layers.0.o", "layers.0.o_bias",
                                "layers.0.norm2", "layers.0.gate_up", "layers.0.down", "layers.1.norm1"}));
  EXPECT_EQ(parameters, parameter_count(c));
  EXPECT_EQ(tensors, weight_specs(c).size());
  const Weight& bias = weights[3];
  EXPECT_TRUE(bias.is_vector());
  ASSERT_EQ(bias.parts.size(), 3u);
  EXPECT_EQ(bias.parts[2].name, "model.layers.0.self_attn.v_proj.bias");
  EXPECT_EQ(bias.parts[2].first, 16 + 8);
}

// A tensor that is longer than a piece of the stream comes whole, and each part lands behind the one before it.
TEST(Weight, LoadsEachPartInItsPlace) {
  const LlamaConfig c = tiny_config();
  std::vector<Weight> weights = list_weights(c);
  Weight& qkv = weights[2];
  std::vector<float> memory(static_cast<size_t>(qkv.count()), -1);
  qkv.data = qkv.stored = memory.data();
  WeightStream stream;
  float next = 0;
  for (const WeightPart& part : qkv.parts) {
    int64_t seen = 0;
    const auto read = [&](void* to, DType as, int64_t first, int64_t n) {
      ASSERT_EQ(as, DType::f32);
      ASSERT_EQ(first, seen);
      seen += n;
      for (int64_t i = 0; i < n; i++) static_cast<float*>(to)[i] = next++;
    };
    qkv.load(Device{}, stream, part, {.dtype = DType::f32, .read = read});
    EXPECT_EQ(seen, part.count());
  }
  stream.finish(Device{});
  std::vector<float> expected(memory.size());
  std::iota(expected.begin(), expected.end(), 0.0f);
  EXPECT_EQ(memory, expected);
  EXPECT_EQ(qkv.matrix().row_count, 32);
  EXPECT_EQ(qkv.matrix().col_count, 8);
}

// A model's weights in one arena, filled with values that depend on the tensor and the element alone.
struct LoadedWeights {
  LoadedWeights(const LlamaConfig& config, const ModelOptions& options, DType source = DType::f32, float odd_one = 0.5f)
      : parameters(config, options) {
    for (const bool second : {false, true}) {
      parameters.place(arena, nullptr);
      stream.place_quantizing(arena, longest_quantized(parameters.weights));
      if (!second) arena.allocate();
    }
    arena.seal();
    parameters.initialize(Device{});
    for (const Weight& w : parameters.weights)
      for (const WeightPart& part : w.parts) {
        const auto read = [&](void* to, DType as, int64_t first, int64_t n) {
          for (int64_t i = first; i < first + n; i++)
            with_storage_type(as, [&](auto type) {
              using T = decltype(type);
              static_cast<T*>(to)[i - first] =
                  from_acc<T>(i == 17 && part.name.ends_with("o_proj.weight") ? odd_one : value(part, i));
            });
        };
        w.load(Device{}, stream, part, {.dtype = source, .read = read});
      }
  }
  static float value(const WeightPart& part, int64_t i) {
    return static_cast<float>((i * 37 + static_cast<int64_t>(part.name.size()) * 11) % 101 - 50) / 32;
  }

  Arena arena;
  WeightStream stream;
  Parameters<float> parameters;
};

LlamaConfig odd_config() {  // tensors whose last block is short, and of an odd number of elements
  LlamaConfig c;
  c.vocab_size = 11, c.hidden = 15, c.intermediate = 37, c.layers = 1, c.heads = 3, c.kv_heads = 1, c.head_dim = 6;
  return c;
}

// Rows of a dense weight with a joined adapter lie apart, and hold what those of one without hold; also what identifies the base
// model in a checkpoint is the same.
TEST(Weight, RowsBesideAJoinedAdapterAreLoaded) {
  ModelOptions o;
  for (const Module& module : adaptable_modules(odd_config())) o.lora.push_back({module, 3, 1.0});
  const LoadedWeights separate(odd_config(), o);
  o.join_adapters = true;
  const LoadedWeights joined(odd_config(), o);
  int apart = 0;
  for (size_t i = 0; i < joined.parameters.weights.size(); i++) {
    const Weight &w = joined.parameters.weights[i], &plain = separate.parameters.weights[i];
    apart += w.stride() > w.cols;
    for (size_t part = 0; part < w.parts.size(); part++)
      for (const int64_t n : {int64_t{1}, int64_t{61}, int64_t{4} * w.count()})
        EXPECT_EQ(w.stored_bytes(w.parts[part])[0].read({}, n), plain.stored_bytes(plain.parts[part])[0].read({}, n)) << w.name;
  }
  EXPECT_EQ(apart, 4);  // qkv, o, gate_up, down
  BlockShards whole;
  EXPECT_EQ(weights_fingerprint({}, joined.parameters.weights, whole),
            weights_fingerprint({}, separate.parameters.weights, whole));
}

void expect_quantized(const LlamaConfig& c, DType source, WeightCode code, bool nested) {
  ModelOptions o;
  o.code = code, o.double_quant = nested;
  const LoadedWeights loaded(c, o, source);
  const bool nf4 = code == WeightCode::nf4;
  int quantized = 0;
  for (const Weight& w : loaded.parameters.weights) {
    EXPECT_EQ(w.is_quantized(), w.layer >= 0 && !w.is_vector()) << w.name;
    for (const WeightPart& part : w.parts) {
      if (!w.is_quantized()) continue;
      quantized++;
      const int64_t count = part.count(), blocks = (count + 63) / 64;
      std::vector<float> in(static_cast<size_t>(count)), scales(static_cast<size_t>(blocks));
      for (int64_t i = 0; i < count; i++)
        in[static_cast<size_t>(i)] = i == 17 && part.name.ends_with("o_proj.weight") ? 0.5f : LoadedWeights::value(part, i);
      std::vector<uint8_t> codes(static_cast<size_t>(nf4 ? (count + 1) / 2 : count));
      int32_t not_finite = 0;
      run(Device{}, QuantizeBlocks{.codes = codes.data(),
                                   .scales = scales.data(),
                                   .in = in.data(),
                                   .not_finite = &not_finite,
                                   .count = count,
                                   .dtype = DType::f32,
                                   .code = code});
      const auto stored = w.stored_bytes(part);
      ASSERT_EQ(stored.size(), nf4 && nested ? 3u : 2u);
      EXPECT_TRUE(std::ranges::equal(stored[0].read({}, stored[0].size()), std::as_bytes(std::span(codes)))) << part.name;
      EXPECT_TRUE(stored.size() == 3 ||
                  std::ranges::equal(stored[1].read({}, stored[1].size()), std::as_bytes(std::span(scales))))
          << part.name;
      // The matrix that a GEMM gets has these values: half the widest gap of the book, or half a step, and nested scales
      // 1/127 or so of their largest deviation from the mean.
      std::vector<float> out(static_cast<size_t>(count));
      run(Device{}, Dequantize{.out = matrix(out.data(), static_cast<int>(part.shape[0]), static_cast<int>(w.cols)),
                               .w = w.quantized_matrix(),
                               .first_row = static_cast<int>(part.first / w.cols)});
      const float largest = 50.0f / 32, bound = largest * (nf4 ? 0.5f * (1 - 0.6961928f) + 0.02f : 0.5f / 127 + 1e-6f);
      for (size_t i = 0; i < out.size(); i++) ASSERT_NEAR(out[i], in[i], bound) << part.name << " " << i;
    }
  }
  EXPECT_EQ(quantized, 7);
}

// Each tensor of the checkpoint is quantised by itself, as if it came whole.
TEST(Weight, QuantisesEachTensorByItself) {
  for (const DType source : {DType::f32, DType::bf16, DType::f16})
    for (const WeightCode code : {WeightCode::nf4, WeightCode::int8})
      for (const bool nested : {false, true}) expect_quantized(odd_config(), source, code, nested);
}

TEST(Weight, QuantisesTensorsOfSeveralPieces) {
  LlamaConfig c = odd_config();
  c.hidden = 1035, c.intermediate = 1111;  // 1.15 million elements; a piece has 1.05 million fp32
  for (const WeightCode code : {WeightCode::nf4, WeightCode::int8}) expect_quantized(c, DType::f32, code, true);
}

TEST(Weight, WhatIsNotFiniteIsNotQuantised) {
  ModelOptions o;
  o.code = WeightCode::nf4;
  for (const float odd_one : {NAN, INFINITY, -INFINITY})
    EXPECT_TRUE(says(refusal_of([&] { LoadedWeights(odd_config(), o, DType::f32, odd_one); }),
                     "o_proj.weight: 1 of its 270 elements are not finite"));
}

// 4 bits, an 8-bit scale for 64, an fp32 scale for 256 of these, and an offset for each tensor.
TEST(Weight, BytesOfQuantisedWeights) {
  LlamaConfig c;
  c.vocab_size = 8, c.hidden = 2048, c.intermediate = 8192, c.layers = 1, c.heads = 32, c.kv_heads = 8, c.head_dim = 64;
  const auto bytes = [&](WeightCode code, bool nested) {
    ModelOptions o;
    o.code = code, o.double_quant = nested;
    Parameters<bf16> parameters(c, o);
    Arena arena;
    parameters.place(arena, nullptr);
    int64_t sum = 0;
    for (const TensorRecord& t : arena.tensors())
      if (t.name.starts_with("layers.0.") && t.name.find("norm") == t.name.npos) sum += t.bytes;
    return sum;
  };
  const int64_t elements = 2048 * (2048 + 2 * 512 + 2048 + 3 * 8192);
  EXPECT_EQ(bytes(WeightCode::nf4, true), elements / 2 + elements / 64 + elements / 64 / 256 * 4 + 7 * 4);
  EXPECT_EQ(bytes(WeightCode::nf4, false), elements / 2 + elements / 64 * 4);
  EXPECT_EQ(bytes(WeightCode::int8, true), elements + elements / 64 * 4);
  EXPECT_EQ(bytes(WeightCode::dense, true), elements * 4);
}

TEST(Weight, TheEmbeddingAndTheHeadHaveATypeOfTheirOwn) {
  ModelOptions o;
  o.weights = DType::bf16, o.embeddings = DType::f16;
  const Parameters<float> parameters(tiny_config(), o);
  for (const Weight& w : parameters.weights) {
    const bool outside = w.joint == Joint::embed || w.joint == Joint::head;
    EXPECT_EQ(w.dtype, w.is_vector() ? DType::f32 : outside ? DType::f16 : DType::bf16) << w.name;
  }
  o.embeddings.reset();
  EXPECT_EQ(Parameters<float>(tiny_config(), o).embed->dtype, DType::bf16);
}

}  // namespace
}  // namespace tll
