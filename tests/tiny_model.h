// Small models: sizes, weights of a test's choice in any type, and a generator over random ones, in one arena.
#pragma once

#include <random>

#include "src/model/generator.h"

namespace tll {

inline LlamaConfig tiny_config() {
  LlamaConfig c;
  c.vocab_size = 37, c.hidden = 24, c.intermediate = 40, c.layers = 3, c.heads = 6, c.kv_heads = 2, c.head_dim = 4;
  c.max_positions = 64, c.rms_eps = 1e-5;
  return c;
}

inline ModelOptions tiny_generator_options(int max_tokens = 64, int max_positions = 64) {
  ModelOptions o;
  o.max_tokens = max_tokens, o.max_positions = max_positions, o.gradients = false;
  return o;
}

// Element i of a base weight. The number is a float, the same in every type.
inline void set_element(void* data, DType dtype, int64_t i, float x) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[i] = x;
      break;
    case DType::bf16:
      static_cast<bf16*>(data)[i] = round_to_bf16(x);
      break;
    case DType::f16:
      static_cast<half*>(data)[i] = round_to_half(x);
      break;
    case DType::f64:
      static_cast<double*>(data)[i] = x;
      break;
    default:
      TLL_CHECK(dtype == DType::c128, "dtype {}", dtype_name(dtype));
      static_cast<complex*>(data)[i] = x;
  }
}

template <class Float>
struct TinyGenerator {
  Arena arena;
  Llama<Float> model;
  Generator<Float> generator;
  Device device;

  TinyGenerator(const LlamaConfig& config, const ModelOptions& options, int sequences, int capacity)
      : model(config, options), generator(model, sequences, capacity) {
    place();
    arena.allocate();
    place();
    arena.seal();
    model.initialize(device);
    std::mt19937 random(11);
    std::normal_distribution<double> normal;
    fill([&](const std::string& name, int64_t, int64_t) {
      return name.find("norm") != std::string::npos ? 1 + 0.1 * normal(random) : 0.5 * normal(random);
    });
    for (int64_t i = 0; i < model.trained().count; i++)
      model.trained().acc_values()[i] = static_cast<float>(0.2 * normal(random));
    model.refresh_compute_copies(device);
  }

  // value(name, row, column) of every base weight; a vector is one row.
  void fill(const std::function<double(const std::string&, int64_t, int64_t)>& value) {
    for (const Weight& w : model.weights())
      for (const WeightPart& part : w.parts) {
        const int64_t cols = part.shape.back();
        void* const data = w.stored_part(part);
        for (int64_t i = 0; i < part.count(); i++)
          set_element(data, w.stored_dtype, i, static_cast<float>(value(part.name, i / cols, i % cols)));
      }
  }

 private:
  void place() {
    model.place(arena);
    generator.place(arena);
  }
};

}  // namespace tll
