// The whole model: its gradients against the complex step of its loss, and the invariants of batches, packing and recomputation.
#include "src/model/llama.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "src/model/flops.h"
#include "src/train/optimizer.h"
#include "tests/tiny_llama.h"

namespace tll {
namespace {

// d/dh of loss(values + i·h·direction) is the imaginary part over h, without cancellation: exact to rounding. The gradient,
// dotted with the direction, must equal it. Errors are sums of some 10^4 roundings of 1e-16.
void expect_gradient_as_is(const LlamaConfig& config, const ModelOptions& options, uint64_t dropout_key) {
  const Documents docs;
  Tiny<double> real(config, options);
  Tiny<complex> shifted(config, options);
  const double loss = real.loss(docs, true, dropout_key);
  const double h = 1e-40;
  for (unsigned trial = 0; trial < 3; trial++) {
    std::mt19937 random(trial + 50);
    std::normal_distribution<double> normal;
    double expected = 0, size = 0;
    for (int64_t i = 0; i < real.model.trained().count; i++) {
      const double d = normal(random);
      shifted.model.trained().acc_values()[i] = complex(real.model.trained().acc_values()[i], h * d);
      expected += real.model.trained().acc_gradients()[i] * d;
      size += std::abs(real.model.trained().acc_gradients()[i] * d);
    }
    shifted.model.refresh_compute_copies(shifted.device);
    const complex result = shifted.loss(docs, false, dropout_key);
    EXPECT_NEAR(result.real(), loss, 1e-12 * loss);
    EXPECT_NEAR(result.imag() / h, expected, 1e-12 * size);
    EXPECT_GT(size, 1e-3);
  }
}
// With adapters apart, and joined to the weights' GEMMs.
void expect_gradient(const LlamaConfig& config, ModelOptions options, uint64_t dropout_key = 0) {
  expect_gradient_as_is(config, options, dropout_key);
  if (options.lora.empty()) return;
  options.join_adapters = true;
  SCOPED_TRACE("joined");
  expect_gradient_as_is(config, options, dropout_key);
}

// The formula counts what the products of a step count themselves.
TEST(Llama, FlopsOfAStepAreThoseOfItsProducts) {
  LlamaConfig windowed = tiny_config();
  windowed.windows = {0, 5, 5};
  for (const LlamaConfig& config : {tiny_config(), windowed})
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (const int trained : {0, 1, 2}) {  // adapters; adapters and embeddings; all
        ModelOptions options = tiny_options(config);
        options.recompute = recompute;
        options.train_embeddings = trained == 1, options.train_all = trained == 2;
        if (options.train_all) options.lora.clear();
        Tiny<float> tiny(config, options);
        const Documents docs;
        Batch batch = docs.batch();
        batch.target_rows = docs.target_count;
        batch.pairs = visible_pairs(batch.cu_seqlens, batch.docs, 0);
        batch.window_pairs = visible_pairs(batch.cu_seqlens, batch.docs, config.any_window());
        Profile profile;
        tiny.device.profile = &profile;
        tiny.loss(batch, 1, true);
        double products = 0;
        for (const ProfileLine& line : profile.lines)
          for (const char* kind : {"matmul", "lora", "head", "attention"})
            if (line.op && std::strncmp(line.op, kind, std::strlen(kind)) == 0) products += line.cost.flops;
        const StepFlops flops = step_flops(config, options);
        const double expected = flops.of(batch.N, docs.target_count) + flops.of_attention(batch.pairs, batch.window_pairs);
        EXPECT_NEAR(products, expected, 1e-9 * expected) << trained << static_cast<int>(recompute);
      }
}

TEST(Llama, AdapterGradientsEqualTheComplexStep) { expect_gradient(tiny_config(), tiny_options()); }

TEST(Llama, TiedBiasedRecomputedWithDropout) {
  LlamaConfig c = tiny_config();
  c.tie_embeddings = c.attention_bias = c.mlp_bias = true;
  ModelOptions o = tiny_options(c);
  o.recompute = Recompute::full, o.dropout = 0.25;
  expect_gradient(c, o, 12345);
}

TEST(Llama, SingleTargetsEqualTheComplexStep) {
  const LlamaConfig c = tiny_config();
  const std::vector<Module> modules = adaptable_modules(c);
  for (const Module& m : modules) {
    if (m.layer != 1) continue;
    ModelOptions o = tiny_options();
    o.lora = {{m, 4, 2.0}, {modules.back(), 1, 1.0}};  // the last is down of layer 2
    SCOPED_TRACE(m.name);
    expect_gradient(c, o);
  }
}

// A checkpoint that joins q, k, v and gate, up itself, as Phi-3's does: another table of modules, and nothing else.
constexpr auto hidden = [](const LlamaConfig& c) { return int64_t{c.hidden}; };
constexpr ModuleRow kFusedBlock[] = {
    {"input_layernorm", Joint::norm1, hidden},
    {"self_attn.qkv_proj", Joint::qkv, [](const LlamaConfig& c) { return int64_t{c.heads + 2 * c.kv_heads} * c.head_dim; },
     hidden, nullptr, true},
    {"self_attn.o_proj", Joint::o, hidden, [](const LlamaConfig& c) { return int64_t{c.heads} * c.head_dim; }, nullptr, true},
    {"post_attention_layernorm", Joint::norm2, hidden},
    {"mlp.gate_up_proj", Joint::gate_up, [](const LlamaConfig& c) { return int64_t{2} * c.intermediate; }, hidden, nullptr, true},
    {"mlp.down_proj", Joint::down, hidden, [](const LlamaConfig& c) { return int64_t{c.intermediate}; }, nullptr, true},
};
const Architecture kFused = {"fused", "FusedForCausalLM", kLlama.outside_first, kFusedBlock, kLlama.outside_last};

TEST(Llama, FusedProjectionsAreRowsOfTheTable) {
  const LlamaConfig plain = tiny_config();
  LlamaConfig fused = plain;
  fused.architecture = &kFused;
  const std::vector<WeightSpec> specs = weight_specs(fused);
  EXPECT_EQ(specs.size(), 3u + 3 * 6);
  EXPECT_EQ(specs[2].name, "model.layers.0.self_attn.qkv_proj.weight");
  EXPECT_EQ(specs[2].shape, (std::vector<int64_t>{40, 24}));
  EXPECT_EQ(parameter_count(fused), parameter_count(plain));
  // The same numbers in the same joint matrices: the same loss, to the bit.
  const Documents docs;
  ModelOptions no_adapters = tiny_options(plain);
  no_adapters.lora.clear();
  EXPECT_EQ(Tiny<float>(fused, no_adapters).loss(docs.batch(), 1, false),
            Tiny<float>(plain, no_adapters).loss(docs.batch(), 1, false));
  // An adapter on a fused projection spans all its rows.
  const ModelOptions options = tiny_options(fused);
  const TrainedRange<float> trained = Parameters<float>(fused, options).trained;
  EXPECT_EQ(trained.tensors.size(), 3u * 4 * 2);
  EXPECT_EQ(trained.tensors[1].name, "base_model.model.model.layers.0.self_attn.qkv_proj.lora_B.weight");
  EXPECT_EQ(trained.tensors[1].shape, (std::vector<int64_t>{40, 3}));
  expect_gradient(fused, options);
}

TEST(Llama, AllWeightsEqualTheComplexStep) {
  for (const bool tied : {false, true}) {
    LlamaConfig c = tiny_config();
    c.tie_embeddings = tied, c.attention_bias = c.mlp_bias = true;
    ModelOptions o = tiny_options(c);
    o.lora.clear(), o.train_all = true;
    expect_gradient(c, o);
  }
}

// Embedding and head beside adapters that begin in the last layer: the gradient reaches the embedding through all blocks.
TEST(Llama, EmbeddingsBesideAdaptersEqualTheComplexStep) {
  for (const bool tied : {false, true}) {
    LlamaConfig c = tiny_config();
    c.tie_embeddings = tied;
    ModelOptions o = tiny_options(c);
    o.lora.erase(o.lora.begin(), o.lora.end() - 3);
    o.train_embeddings = true, o.dropout = tied ? 0.25 : 0, o.recompute = tied ? Recompute::full : Recompute::none;
    expect_gradient(c, o, tied ? 12345 : 0);
    const Tiny<float> tiny(c, o);
    const std::vector<NamedTensor>& tensors = tiny.model.trained().tensors;
    EXPECT_EQ(tensors.size(), 6u + (tied ? 1 : 2));
    EXPECT_EQ(tensors[0].name, "base_model.model.model.embed_tokens.weight");
    for (const Weight& w : tiny.model.weights()) EXPECT_EQ(w.trained, w.joint == Joint::embed || w.joint == Joint::head);
  }
}

TEST(Llama, NormsOfQAndKEqualTheComplexStep) {
  const LlamaConfig c = normalised_config();
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    SCOPED_TRACE(static_cast<int>(recompute));
    ModelOptions o = tiny_options(c);
    o.recompute = recompute;
    expect_gradient(c, o);
    o.lora.clear(), o.train_all = true;
    expect_gradient(c, o);
  }
}

// What their backward pass needs: of each block without recomputation, of one block with it.
TEST(Llama, NormsOfQAndKInThePlan) {
  const LlamaConfig c = normalised_config();
  const int64_t N = 64, qk = N * 8 * 10, rstd = N * 8;
  const auto floats = [&](Recompute recompute, const std::string& ending) {
    ModelOptions o = tiny_options(c);
    o.recompute = recompute;
    Arena arena;
    Llama<float>(c, o).place(arena);
    int64_t count = 0;
    for (const TensorRecord& t : arena.tensors())
      if (t.name.ends_with(ending)) count += t.bytes / int64_t{sizeof(float)};
    return count;
  };
  EXPECT_EQ(floats(Recompute::none, ".qk"), c.layers * qk);
  EXPECT_EQ(floats(Recompute::none, ".rstd_qk"), c.layers * rstd);
  EXPECT_EQ(floats(Recompute::selective, ".qk"), 2 * qk);  // forward and backward
  EXPECT_EQ(floats(Recompute::selective, ".rstd_qk"), rstd);
  EXPECT_EQ(floats(Recompute::full, ".qk"), 2 * qk);  // again, and backward
  EXPECT_EQ(floats(Recompute::full, ".rstd_qk"), rstd);
}

// The same numbers in another order of summation: 1e-12 is some thousand roundings.
TEST(Llama, JoinedAdaptersEqualSeparateOnes) {
  const Documents docs;
  LlamaConfig biased = tiny_config();
  biased.attention_bias = biased.mlp_bias = true;
  for (const LlamaConfig& c : {tiny_config(), biased, normalised_config()})
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
      for (const int which : {0, 1, 2, 3}) {  // of the options below
        ModelOptions o = tiny_options(c);
        o.recompute = recompute;
        if (which == 1) o.dropout = 0.25;
        if (which == 2) o.mlp_chunk = 7, o.lora.erase(o.lora.begin() + 2, o.lora.begin() + 9);  // v of block 0 to q of block 1
        if (which == 3) o.train_embeddings = true;
        Tiny<double> separate(c, o);
        o.join_adapters = true;
        Tiny<double> joined(c, o);
        const double loss = separate.loss(docs, true, 99);
        EXPECT_NEAR(joined.loss(docs, true, 99), loss, 1e-12 * loss);
        const double *of_joined = joined.model.trained().acc_gradients(), *expected = separate.model.trained().acc_gradients();
        double largest = 0, worst = 0;
        for (int64_t i = 0; i < joined.model.trained().count; i++) {
          largest = std::max(largest, std::abs(expected[i]));
          worst = std::max(worst, std::abs(of_joined[i] - expected[i]));
        }
        EXPECT_LT(worst, 1e-12 * largest) << static_cast<int>(recompute) << " " << which;
      }
}

// What a joined adapter needs: room behind the tensors, and no u or z of its own where the input is kept.
TEST(Llama, JoinedAdaptersInThePlan) {
  const LlamaConfig c = tiny_config();
  ModelOptions o = tiny_options();
  const auto columns = [&](const std::string& name) -> int64_t {
    Arena arena;
    Llama<float>(c, o).place(arena);
    for (const TensorRecord& t : arena.tensors())
      if (t.name == name) return t.shape.back();
    return 0;
  };
  EXPECT_EQ(columns("z"), 10);  // q, k and v have ranks 3, 4 and 3
  EXPECT_EQ(columns("layers.1.u_qkv"), 10);
  EXPECT_EQ(columns("layers.1.ln1"), 24);
  o.join_adapters = true;
  EXPECT_EQ(columns("z"), 0);
  EXPECT_EQ(columns("layers.1.u_qkv"), 0);
  EXPECT_EQ(columns("layers.1.ln1"), 40);  // 24 + 10, whole 32 bytes
  EXPECT_EQ(columns("layers.1.qkv"), 40);
  EXPECT_EQ(columns("dresid"), 32);          // down's 3 or o's 4
  EXPECT_EQ(columns("layers.1.u_down"), 3);  // act is not kept
  o.recompute = Recompute::selective;
  EXPECT_EQ(columns("layers.1.u_qkv"), 10);
  EXPECT_EQ(columns("layers.1.u_o"), 0);
}

// Float against double: 3 layers of sums of at most 40 terms, each rounded to 2^-24; a few hundred roundings in a row.
TEST(Llama, FloatEqualsDouble) {
  const Documents docs;
  Tiny<double> exact;
  const double expected = exact.loss(docs);
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    ModelOptions o = tiny_options();
    o.recompute = recompute, o.join_adapters = recompute != Recompute::selective;
    Tiny<float> single(tiny_config(), o);
    EXPECT_NEAR(single.loss(docs), expected, 300 * 6e-8 * expected);
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < exact.model.trained().count; i++) {
      worst = std::max(worst, std::abs(exact.model.trained().acc_gradients()[i] - single.model.trained().acc_gradients()[i]));
      largest = std::max(largest, std::abs(exact.model.trained().acc_gradients()[i]));
    }
    EXPECT_LT(worst, 300 * 6e-8 * largest);
  }
}

// What is recomputed is the same computation on the same inputs. With dropout its masks must be the same too.
TEST(Llama, RecomputationGivesTheSameBits) {
  const Documents docs;
  for (const LlamaConfig& c : {tiny_config(), normalised_config()})
    for (const auto& [dropout, all] : {std::pair{0.0, false}, {0.25, false}, {0.0, true}}) {
      ModelOptions o = tiny_options(c);
      o.dropout = dropout, o.train_all = all, o.join_adapters = c.head_dim == 10;
      if (all) o.lora.clear();
      Tiny<float> kept(c, o);
      const double loss = kept.loss(docs, true, 99);
      for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
        o.recompute = recompute;
        Tiny<float> again(c, o);
        EXPECT_EQ(again.loss(docs, true, 99), loss);
        EXPECT_EQ(
            std::vector(again.model.trained().acc_gradients(),
                        again.model.trained().acc_gradients() + again.model.trained().count),
            std::vector(kept.model.trained().acc_gradients(), kept.model.trained().acc_gradients() + kept.model.trained().count))
            << static_cast<int>(recompute);
      }
    }
}

// The MLP over some rows at a time: the loss is the same bits. The gradients of its adapters are the same sums in another order,
// of at most 120 terms; those of attention, which come from dx, are the same bits. (A CPU multiplies two dozen rows and fewer in
// another order, so the chunks of the 120 rows, and of the 76 that the last block computes, are longer.)
TEST(Llama, TheMlpInChunks) {
  const Documents docs({60, 1, 59});
  ASSERT_EQ(docs.target_count, 76);
  ModelOptions o = tiny_options();
  o.max_tokens = 120;
  o.recompute = Recompute::full, o.dropout = 0.25;
  Tiny<float> whole(tiny_config(), o);
  const double loss = whole.loss(docs, true, 99);
  const auto& expected = whole.model.trained();
  float largest = 0;
  for (int64_t i = 0; i < expected.count; i++) largest = std::max(largest, std::abs(expected.acc_gradients()[i]));
  for (const int chunk : {40, 46, 76, 1000, ModelOptions::kAutomaticChunk}) {
    o.mlp_chunk = chunk;
    Tiny<float> chunks(tiny_config(), o);
    EXPECT_EQ(chunks.loss(docs, true, 99), loss) << chunk;
    for (const NamedTensor& t : expected.tensors)
      for (int64_t i = t.offset; i < t.offset + t.size(); i++) {
        const float a = chunks.model.trained().acc_gradients()[i], b = expected.acc_gradients()[i];
        if (t.name.find("mlp") == std::string::npos)
          ASSERT_EQ(a, b) << t.name << " in chunks of " << chunk;
        else
          ASSERT_NEAR(a, b, 120 * 6e-8 * largest) << t.name << " in chunks of " << chunk;
      }
  }
}

// bf16 keeps 8 bits: one rounding is 2^-9 of a value, and the chain from the loss to a gradient holds some 30 of them.
TEST(Llama, Bf16IsNearDouble) {
  const Documents docs;
  Tiny<double> exact;
  const double expected = exact.loss(docs);
  ModelOptions o = tiny_options();
  o.weights = DType::bf16;
  for (const bool logits_16 : {false, true}) {
    o.logits_16 = logits_16;
    Tiny<bf16> small(tiny_config(), o);
    EXPECT_NEAR(small.loss(docs), expected, 30 * 0.002 * expected);
    double dot = 0, norm_a = 0, norm_b = 0;
    for (int64_t i = 0; i < exact.model.trained().count; i++) {
      const double a = exact.model.trained().acc_gradients()[i], b = small.model.trained().acc_gradients()[i];
      dot += a * b, norm_a += a * a, norm_b += b * b;
    }
    EXPECT_GT(dot / std::sqrt(norm_a * norm_b), 1 - 30 * 0.002);
  }
}

void expect_packed_equals_separate(const LlamaConfig& c) {
  const Documents together;
  const double scale = 1.0 / together.target_count;
  Tiny<double> packed(c, tiny_options(c)), separate(c, tiny_options(c));
  const double loss = packed.loss(together);
  double sum = 0;
  for (int d = 0; d < together.batch().docs; d++) {
    const int begin = together.cu_seqlens[d], n = together.cu_seqlens[d + 1] - begin;
    const int32_t bounds[] = {0, n};
    const Batch one{.N = n,
                    .docs = 1,
                    .tokens = together.tokens.data() + begin,
                    .targets = together.targets.data() + begin,
                    .positions = together.positions.data() + begin,
                    .cu_seqlens = bounds};
    sum += separate.loss(one, scale, true);
  }
  EXPECT_NEAR(sum, loss, 1e-13 * loss);
  for (int64_t i = 0; i < packed.model.trained().count; i++)
    ASSERT_NEAR(packed.model.trained().acc_gradients()[i], separate.model.trained().acc_gradients()[i], 1e-13) << i;
}
TEST(Llama, PackedEqualsSeparate) {
  expect_packed_equals_separate(tiny_config());
  expect_packed_equals_separate(normalised_config());
}

// What is masked changes nothing: the logits of earlier positions, and so the loss, do not depend on a last token without target.
TEST(Llama, MaskedTokensChangeNothing) {
  Documents docs({12}, 5);
  docs.targets.back() = -1;
  Tiny<float> tiny;
  const double before = tiny.loss(docs.batch(), 1, false);
  docs.tokens.back() = (docs.tokens.back() + 1) % tiny_config().vocab_size;
  EXPECT_EQ(tiny.loss(docs.batch(), 1, false), before);
}

TEST(Llama, PlanGrowsFromLoraToFull) {
  const auto planned = [](const ModelOptions& o) {
    Arena arena;
    Llama<float> model(tiny_config(), o);
    Optimizer optimizer({});
    model.place_parameters(arena);
    if (o.gradients) optimizer.place(arena, nullptr, model.trained().name, model.trained().tensors);
    model.place_activations(arena);
    return arena.total();
  };
  ModelOptions lora = tiny_options(), recompute = lora, full = lora, inference = lora;
  recompute.recompute = Recompute::full, full.train_all = true, inference.gradients = false;
  EXPECT_LT(planned(recompute), planned(lora));
  EXPECT_LT(planned(lora), planned(full));
  EXPECT_LT(planned(inference), planned(recompute));
}

}  // namespace
}  // namespace tll
