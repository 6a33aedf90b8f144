// The last block and the head on the rows that have a target (RowsRead::targets), against the same on all rows.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/tiny_llama.h"

namespace tll {
namespace {

struct Result {
  double loss;
  std::vector<double> gradients;
  double largest() const {
    double most = 0;
    for (const double g : gradients) most = std::max(most, std::abs(g));
    return most;
  }
};

// `more`: rows of padding behind those that have a target, as a GPU has.
template <class Float>
Result result_of(const LlamaConfig& c, const ModelOptions& o, const Documents& docs, RowsRead read, int more = 0) {
  Tiny<Float> tiny(c, o);
  Batch batch = docs.batch();
  batch.read = read, batch.target_rows = std::min(docs.target_count + more, batch.N);
  Result result{double(tiny.loss(batch, 1.0 / std::max(docs.target_count, 1), true)), {}};
  const auto& trained = tiny.model.trained();
  for (int64_t i = 0; i < trained.count; i++) result.gradients.push_back(double(trained.acc_gradients()[i]));
  return result;
}

void expect_equal(const Result& some, const Result& all, double error) {
  EXPECT_NEAR(some.loss, all.loss, error * all.loss);
  const double largest = all.largest();
  for (size_t i = 0; i < all.gradients.size(); i++) ASSERT_NEAR(some.gradients[i], all.gradients[i], error * largest) << i;
}

Documents with_targets(int32_t (*target)(size_t row)) {
  Documents docs;
  docs.target_count = 0;
  for (size_t i = 0; i < docs.targets.size(); i++) docs.target_count += (docs.targets[i] = target(i)) >= 0;
  return docs;
}
// Some rows have a target, all have one, one has.
std::vector<Documents> batches() {
  return {Documents(), with_targets([](size_t row) { return static_cast<int32_t>(row % 7); }),
          with_targets([](size_t row) { return row == 4 ? 6 : -1; })};
}

// Only these modules of a block are trained.
ModelOptions adapters_of(const LlamaConfig& c, int layer, std::initializer_list<Joint> joints) {
  ModelOptions o = tiny_options(c);
  std::erase_if(o.lora, [&](const LoraTarget& t) {
    return t.module.layer != layer || std::find(joints.begin(), joints.end(), t.module.joint) == joints.end();
  });
  return o;
}

std::vector<ModelOptions> trained_options(const LlamaConfig& c) {
  const int last = c.layers - 1;
  std::vector<ModelOptions> list = {tiny_options(c), tiny_options(c), tiny_options(c)};
  list[1].train_embeddings = true;
  list[2].train_all = true, list[2].lora.clear();
  // Of the last block: gradients of x, of att, of mid or of the MLP are the last that are needed.
  for (const Joint joint : {Joint::qkv, Joint::o, Joint::gate_up, Joint::down}) list.push_back(adapters_of(c, last, {joint}));
  list.push_back(adapters_of(c, 0, {Joint::qkv}));
  return list;
}

// The same numbers in other sums: 1e-12 is some thousand roundings of double.
TEST(RowsRead, LossAndGradientsAreThoseOfAllRows) {
  LlamaConfig biased = tiny_config();
  biased.attention_bias = biased.mlp_bias = biased.tie_embeddings = true;
  for (const LlamaConfig& c : {tiny_config(), biased, normalised_config()})
    for (const Documents& docs : batches()) {
      int number = 0;
      for (ModelOptions o : trained_options(c)) {
        SCOPED_TRACE(fmt::format("{} targets, options {}", docs.target_count, number++));
        const Result all = result_of<double>(c, o, docs, RowsRead::all);
        EXPECT_GT(all.largest(), 1e-3);
        for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full})
          for (const bool joined : {false, true}) {
            o.recompute = recompute, o.join_adapters = joined;
            o.mlp_chunk = joined ? 5 : 0;  // with full recomputation
            expect_equal(result_of<double>(c, o, docs, RowsRead::targets, joined ? 3 : 0), all, 1e-12);
          }
      }
    }
}

// Dropout has another mask where a row has another number. So the complex step of the loss in llama_test.cpp says that the
// gradients are right, and here all three recomputations and chunks have the same masks.
TEST(RowsRead, DropoutHasTheSameMasksInAnyChunks) {
  const Documents docs;
  ModelOptions o = tiny_options();
  o.dropout = 0.25;
  Tiny<double> kept(tiny_config(), o);
  const double loss = kept.loss(docs, true, 99);
  o.recompute = Recompute::full, o.join_adapters = true, o.mlp_chunk = 4;
  Tiny<double> chunks(tiny_config(), o);
  EXPECT_NEAR(chunks.loss(docs, true, 99), loss, 1e-12 * loss);
  for (int64_t i = 0; i < kept.model.trained().count; i++)
    ASSERT_NEAR(chunks.model.trained().acc_gradients()[i], kept.model.trained().acc_gradients()[i], 1e-12) << i;
}

// A micro-batch of one rank among several may have no target at all.
TEST(RowsRead, WithoutTargetsAllGradientsAreZero) {
  const Documents none = with_targets([](size_t) { return -1; });
  for (const Recompute recompute : {Recompute::none, Recompute::full})
    for (ModelOptions o : trained_options(tiny_config())) {
      o.recompute = recompute, o.join_adapters = recompute == Recompute::full;
      const Result result = result_of<float>(tiny_config(), o, none, RowsRead::targets);
      EXPECT_EQ(result.loss, 0);
      EXPECT_EQ(result.largest(), 0);  // not NaN
      for (const double g : result.gradients) ASSERT_EQ(g, 0);
    }
}

// A few hundred roundings of 2^-24 in a row, as in Llama.FloatEqualsDouble.
TEST(RowsRead, GradientsInFp32AreThoseOfAllRows) {
  for (const Documents& docs : batches())
    for (const bool joined : {false, true}) {
      ModelOptions o = tiny_options();
      o.join_adapters = joined;
      const Result all = result_of<float>(tiny_config(), o, docs, RowsRead::all);
      expect_equal(result_of<float>(tiny_config(), o, docs, RowsRead::targets), all, 300 * 6e-8);
    }
}

// A row of a product does not depend on the others: but for two dozen rows and fewer, for which a CPU has another kernel.
TEST(RowsRead, LossesHaveTheBitsOfAllRows) {
  const Documents docs({29, 1, 27});
  ASSERT_GT(docs.target_count, 24);
  for (const bool joined : {false, true}) {
    ModelOptions o = tiny_options();
    o.evaluates = true, o.join_adapters = joined;
    Tiny<float> tiny(tiny_config(), o);
    const auto losses = [&](RowsRead read, int count) {
      Batch batch = docs.batch();
      batch.read = read;
      double sum = 0;
      tiny.model.enter(tiny.device, StepPhase::evaluation);
      tiny.model.forward(tiny.device, batch, PassKind::inference);
      tiny.model.add_loss(tiny.device, batch, &sum, nullptr, PassKind::inference);
      const std::vector<float> each(tiny.model.losses(), tiny.model.losses() + count);
      EXPECT_NEAR(sum, std::accumulate(each.begin(), each.end(), 0.0), 1e-12 * sum);
      return each;
    };
    std::vector<float> all = losses(RowsRead::all, docs.batch().N), expected;
    for (size_t i = 0; i < all.size(); i++) {
      if (docs.targets[i] >= 0)
        expected.push_back(all[i]);
      else
        EXPECT_EQ(all[i], 0);
    }
    EXPECT_EQ(losses(RowsRead::targets, docs.target_count), expected);
  }
}

// The rows take no memory of their own: some rows of att lie where qkv or ln1 have been, or in a phase of which no plan's peak
// is.
TEST(RowsRead, ThePlanHasNoRoomForThem) {
  for (const LlamaConfig& c : {tiny_config(), normalised_config()})
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
      ModelOptions o = tiny_options(c);
      o.recompute = recompute, o.evaluates = true;
      Arena arena;
      Llama<float>(c, o).place(arena);
      EXPECT_NE(arena.peak(), StepPhase::forward_attention);
      for (const TensorRecord& t : arena.tensors())
        EXPECT_TRUE(t.name.find("of_rows") == std::string::npos || t.life == during(StepPhase::forward_attention)) << t.name;
    }
}

// ---- on a CUDA device, which in `make test` is the emulator -------------------------------------------------------------------

template <class Float>
struct OnDevice {
  OpenDevice device;
  Arena arena, staging;
  std::optional<Llama<Float>> model;
  int32_t *tokens = nullptr, *targets = nullptr, *positions = nullptr, *cu_seqlens = nullptr;

  explicit OnDevice(ModelOptions o) {
    device.open();
    o.device = DeviceKind::cuda;
    model.emplace(tiny_config(), o);
    place();
    arena.allocate(device);
    staging.allocate(device, true);
    place();
    arena.seal(), staging.seal();
    model->initialize(device);
    std::mt19937 random(5);
    send_random_weights(device, *model, random);
  }
  void place() {
    model->place(arena, &staging);
    for (int32_t** p : {&tokens, &targets, &positions, &cu_seqlens}) arena.place(*p, "batch", {64}, Category::activations);
  }
  Result run(const Documents& docs, RowsRead read) {
    const auto send = [&](int32_t* to, const std::vector<int32_t>& from) {
      upload(device, to, from.data(), from.size() * sizeof(int32_t));
    };
    send(tokens, docs.tokens), send(targets, docs.targets), send(positions, docs.positions), send(cu_seqlens, docs.cu_seqlens);
    Batch batch = docs.batch();
    batch.tokens = tokens, batch.targets = targets, batch.positions = positions, batch.cu_seqlens = cu_seqlens;
    batch.read = read, batch.target_rows = std::min(batch.N, docs.target_count + 6);
    model->enter(device, StepPhase::step);
    model->trained().clear_gradients(device);
    model->enter(device, StepPhase::batch);
    model->forward(device, batch);
    Result result{model->loss(device, batch, 1.0 / std::max(docs.target_count, 1), true), {}};
    model->backward(device, batch);
    const HostFloats gradients(device, model->trained().gradients, model->trained().dtype, model->trained().count);
    result.gradients.assign(gradients.data(), gradients.data() + model->trained().count);
    return result;
  }
};

TEST(RowsRead, OnADeviceLossAndGradientsAreThoseOfAllRows) {
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device";
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    ModelOptions o = tiny_options();
    o.recompute = recompute, o.join_adapters = recompute != Recompute::none;
    o.mlp_chunk = 7, o.offload_activations = true;  // with full recomputation
    OnDevice<float> device(o);
    for (const Documents& docs : batches()) {
      const Result all = device.run(docs, RowsRead::all);
      EXPECT_GT(all.largest(), 1e-3);
      expect_equal(device.run(docs, RowsRead::targets), all, 300 * 6e-8);
    }
    const Result nothing = device.run(with_targets([](size_t) { return -1; }), RowsRead::targets);
    EXPECT_EQ(nothing.loss, 0);
    for (const double g : nothing.gradients) ASSERT_EQ(g, 0);
  }
}

}  // namespace
}  // namespace tll
