// A model's parameters in memory: the frozen weights, the flat range of what is trained, and the layers that point to both.
#pragma once

#include <array>
#include <vector>

#include "src/files/config.h"
#include "src/model/linear.h"
#include "src/model/model_options.h"
#include "src/model/norm.h"
#include "src/model/trained.h"

namespace tll {

template <class Float>
struct BlockParameters {
  Norm<Float> norm1, norm2, q_norm, k_norm;
  Linear<Float> qkv, o, gate_up, down;
  std::array<Linear<Float>*, 4> linears() { return {&qkv, &o, &gate_up, &down}; }
  std::array<const Linear<Float>*, 4> linears() const { return {&qkv, &o, &gate_up, &down}; }
};

template <class Float>
class Parameters {
 public:
  using Acc = acc_t<Float>;
  Parameters(const LlamaConfig& config, const ModelOptions& options);
  Parameters(const Parameters&) = delete;  // layers point to weights
  Parameters& operator=(const Parameters&) = delete;

  void place(Arena& arena);

  std::vector<Weight> weights;
  TrainedRange<Float> trained;
  const Weight *embed = nullptr, *head = nullptr;  // (V, C)  the same where they are tied
  Acc *dembed = nullptr, *dhead = nullptr;         // null: frozen
  Norm<Float> final_norm;
  std::vector<BlockParameters<Float>> blocks;
  int first_trained = 0;  // blocks below it need no backward pass

 private:
  DType dtype_of_weight(const Weight& weight) const;
  void list_weights_as_trained();
  void list_adapters();
  void point_weights();
  void point_adapters();
  Linear<Float>* linear_of(int layer, Joint joint);  // null: not a linear layer
  Norm<Float>* norm_of(const Weight& weight);        // null: not a norm

  ModelOptions options_;
};

}  // namespace tll
