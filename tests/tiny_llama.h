// A small model whose loss and gradients a test computes, and a batch for it.
#pragma once

#include <random>
#include <vector>

#include "tests/tiny_model.h"

namespace tll {

// Heads of q and k with norms, and heads · head_dim other than hidden, as in Qwen3.
inline LlamaConfig normalised_config() {
  LlamaConfig c = tiny_config();
  c.architecture = &kQwen3, c.head_dim = 10;
  return c;
}

// Adapters on every linear layer.
inline ModelOptions tiny_options(const LlamaConfig& c = tiny_config()) {
  ModelOptions o;
  o.max_tokens = 64, o.max_positions = 64;
  const std::vector<Module> modules = adaptable_modules(c);
  const int a_layer = static_cast<int>(modules.size()) / c.layers;
  for (const Module& m : modules) {
    const int t = static_cast<int>(o.lora.size()) % a_layer;
    o.lora.push_back({m, 3 + t % 2, 0.5 + 0.25 * t});
  }
  return o;
}

// A batch of three documents, one of a single token; some targets are left out.
struct Documents {
  std::vector<int32_t> tokens, targets, positions, cu_seqlens;
  int target_count = 0;
  explicit Documents(const std::vector<int>& lengths = {9, 1, 17}, unsigned seed = 3) {
    const auto vocabulary = static_cast<unsigned>(tiny_config().vocab_size);
    std::mt19937 random(seed);
    cu_seqlens.push_back(0);
    for (const int length : lengths) {
      for (int i = 0; i < length; i++) {
        tokens.push_back(static_cast<int32_t>(random() % vocabulary));
        const bool target = i + 1 < length && random() % 4 != 0;
        targets.push_back(target ? static_cast<int32_t>(random() % vocabulary) : -1);
        target_count += target;
        positions.push_back(i);
      }
      cu_seqlens.push_back(static_cast<int32_t>(tokens.size()));
    }
  }
  Batch batch() const {
    return {.N = static_cast<int>(tokens.size()),
            .docs = static_cast<int>(cu_seqlens.size()) - 1,
            .tokens = tokens.data(),
            .targets = targets.data(),
            .positions = positions.data(),
            .cu_seqlens = cu_seqlens.data(),
            .read = RowsRead::targets};
  }
};

// Weights and trained values of a model on a device: norms about 1, the others about 0.
template <class Float>
void send_random_weights(const Device& device, const Llama<Float>& model, std::mt19937& random) {
  std::normal_distribution<float> normal;
  const auto send = [&](void* to, DType dtype, int64_t count, float mean) {
    std::vector<std::byte> values(static_cast<size_t>(count) * dtype_bytes(dtype));
    for (int64_t i = 0; i < count; i++) set_element(values.data(), dtype, i, mean + 0.2f * normal(random));
    upload(device, to, values.data(), values.size());
    synchronize(device);
  };
  for (const Weight& w : model.weights())
    send(w.stored, w.stored_dtype, w.is_vector() ? w.count() : w.rows * w.stride(), w.is_vector() ? 1.0f : 0.0f);
  send(model.trained().values, model.trained().dtype, model.trained().count, 0);
  model.refresh_compute_copies(device);
}

// Weights and adapters from one seed, the same numbers whatever the type; B is not zero.
template <class Float>
struct Tiny {
  Arena arena;
  Llama<Float> model;
  Device device;
  explicit Tiny(const LlamaConfig& config = tiny_config(), const ModelOptions& options = tiny_options())
      : model(config, options) {
    arena.poison = true;
    model.place(arena);
    arena.allocate();
    model.place(arena);
    arena.seal();
    model.initialize(device);
    fill(7);
    model.enter(device, StepPhase::step);
    if (options.gradients) model.trained().clear_gradients(device);
  }
  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (const Weight& w : model.weights()) {
      const bool norm = w.is_vector() && !w.is_bias;
      for (int64_t i = 0; i < w.count(); i++) {
        const double x = norm ? 1 + 0.1 * normal(random) : 0.3 * normal(random);
        const int64_t at = w.is_vector() ? i : i / w.cols * w.stride() + i % w.cols;
        set_element(w.stored, w.stored_dtype, at, static_cast<float>(x));
      }
    }
    if (!model.options().train_all)
      for (int64_t i = 0; i < model.trained().count; i++)
        model.trained().acc_values()[i] = static_cast<float>(0.2 * normal(random));
    model.refresh_compute_copies(device);
  }
  // The mean over the targets.
  loss_t<Float> loss(const Documents& docs, bool gradient = true, uint64_t dropout_key = 0) {
    return loss(docs.batch(), 1.0 / docs.target_count, gradient, dropout_key);
  }
  loss_t<Float> loss(Batch batch, double scale, bool gradient, uint64_t dropout_key = 0) {
    if (dropout_key != 0) batch.dropout_key = &dropout_key;
    model.forward(device, batch);
    const loss_t<Float> sum = model.loss(device, batch, scale, gradient);
    if (gradient) model.backward(device, batch);
    return sum * scale;
  }
};

}  // namespace tll
