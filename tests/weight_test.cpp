// Weights: which tensors of a checkpoint they are made of, how they are filled, and their types.
#include "src/model/weight.h"

#include <gtest/gtest.h>

#include <numeric>

#include "src/files/config.h"
#include "src/model/parameters.h"

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
    qkv.load(Device{}, stream, part, [&](void* to, DType as, int64_t first, int64_t n) {
      ASSERT_EQ(as, DType::f32);
      ASSERT_EQ(first, seen);
      seen += n;
      for (int64_t i = 0; i < n; i++) static_cast<float*>(to)[i] = next++;
    });
    EXPECT_EQ(seen, part.count());
  }
  stream.finish(Device{});
  std::vector<float> expected(memory.size());
  std::iota(expected.begin(), expected.end(), 0.0f);
  EXPECT_EQ(memory, expected);
  EXPECT_EQ(qkv.matrix().row_count, 32);
  EXPECT_EQ(qkv.matrix().col_count, 8);
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
