// A model's parameters in memory: the frozen weights, the flat range of what is trained, and the layers that point to both.
#pragma once

#include <array>
#include <vector>

#include "kernels/join_adapters.h"
#include "src/files/config.h"
#include "src/model/block_shards.h"
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

  // `staging`: memory of the host beside a CUDA device, for a weight that lies there.
  void place(Arena& arena, Arena* staging);
  // After the second place(): fills the tables of quantised weights.
  void initialize(const Device& device) const;
  // Enqueued: what the passes read of the trained values, the compute copy and the joined adapters. Needed once after they
  // changed.
  void refresh_compute_copies(const Device& device) const;
  // Enqueued: the weights of a block can be read from here on; those of `next` are brought meanwhile (-1: none). See
  // block_shards.h.
  void need_block(const Device& device, int layer, int next);
  // The largest number of rows and of columns of a quantised matrix, those of a joined adapter counted; 0, 0 without one.
  std::pair<int64_t, int64_t> largest_quantized() const;

  std::vector<Weight> weights;
  TrainedRange<Float> trained;
  const Weight *embed = nullptr, *head = nullptr;  // (V, C)  the same where they are tied
  Acc *dembed = nullptr, *dhead = nullptr;         // null: frozen
  Norm<Float> final_norm;
  std::vector<BlockParameters<Float>> blocks;
  int first_trained = 0;  // blocks below it need no backward pass
  BlockShards shards;     // of frozen weights

 private:
  DType dtype_of_weight(const Weight& weight) const;
  void choose_formats(const LlamaConfig& config);
  void list_weights_as_trained();
  void list_adapters();
  void join_adapters();
  void point_weights();
  void point_adapters();
  void point_joined(Linear<Float>& linear, int64_t offset);
  Linear<Float>* linear_of(int layer, Joint joint);  // null: not a linear layer
  Norm<Float>* norm_of(const Weight& weight);        // null: not a norm

  ModelOptions options_;
  Quantization quantization_;  // its tables; the formats are in the weights
  QuantizationTables tables_;
  struct Joined {
    int layer;
    bool in_slot;  // A and S lie in the weight, and the weight in a slot
    JoinAdapters op;
  };
  std::vector<Joined> joined_;  // one for each joined linear layer
};

}  // namespace tll
