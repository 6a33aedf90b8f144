// The Llama model: its weights, its activations, and one forward and one backward pass over a batch of packed documents.
//
//   resid[0] = embed[tokens]                                                                      (N, C)
//   for each layer l:
//     ln1 = rmsnorm(resid[l]);  qkv = Wqkv·ln1;  q, k = rope(q, k);  att = attention(q, k, v)
//     mid = resid[l] + Wo·att
//     ln2 = rmsnorm(mid);  gate, up = Wgate_up·ln2;  resid[l+1] = mid + Wdown·(silu(gate) ⊙ up)
//   logits = Whead·rmsnorm(resid[L])          only for rows with a target, and only a chunk of rows at a time
//
// Sizes: B·T = N tokens · C channels · H query heads · G key/value heads · D head size · F feed-forward size · V vocabulary ·
// L layers. A linear layer may carry LoRA adapters (src/model/linear.h). What is trained, adapters or all weights, lies in one
// flat range of values, with gradients and optimizer state of the same length beside it.
#pragma once

#include <string>
#include <vector>

#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "src/files/config.h"
#include "src/model/arena.h"
#include "src/model/linear.h"

namespace tll {

inline constexpr int kTargets = 7;

struct LoraTarget {
  int layer;
  Target target;
  int rank;
  double scale;  // alpha/r or alpha/√r
};

struct ModelOptions {
  DeviceKind device = DeviceKind::cpu;
  int max_tokens = 1024;     // N: rows of the largest batch
  int max_positions = 1024;  // positions of the longest document
  bool train_all = false;    // all weights, instead of the adapters
  bool gradients = true;     // false: evaluation and generation only
  bool optimizer = true;     // AdamW's two moments; false: gradients alone are wanted
  bool recompute = false;    // keep one residual a layer, run each block again before its backward pass
  double dropout = 0;        // on the adapters' input
  int threads = 1;
  DType weights = DType::f32;    // of frozen matrices and the embedding
  std::vector<LoraTarget> lora;  // ascending by (layer, target); empty: none
};

// A batch of documents, one behind the other. All arrays belong to the caller and lie in memory of the device.
struct Batch {
  int N = 0, docs = 0;
  const int32_t* tokens = nullptr;        // (N)
  const int32_t* targets = nullptr;       // (N)  the token to predict, or -1
  const int32_t* positions = nullptr;     // (N)  inside the document
  const int32_t* cu_seqlens = nullptr;    // (docs + 1)
  int target_rows = -1;                   // room for so many targets; -1: they are counted, in memory of the host
  double pairs = 0;                       // visible_pairs(cu_seqlens, docs, 0), which only a profile needs
  const uint64_t* dropout_key = nullptr;  // (1)  of this step and micro-batch; null: no dropout
};

// A tensor of a checkpoint or an adapter inside the flat trained range, or inside a frozen matrix.
struct NamedTensor {
  std::string name;  // as in Hugging Face's files, or in PEFT's
  std::vector<int64_t> shape;
  int64_t offset;  // elements from the start of its range
  int64_t size() const { return element_count(shape); }
};

// Where a base weight is to be loaded: `data` holds elements of `dtype`.
struct WeightPlace {
  std::string name;
  std::vector<int64_t> shape;
  void* data;
  DType dtype;
};

// A matrix or vector as the engine holds it: the rows of one or more tensors of the checkpoint, one below the other.
enum class WeightKind : uint8_t {
  embed,
  norm1,
  qkv,
  qkv_bias,
  o,
  o_bias,
  norm2,
  gate_up,
  gate_up_bias,
  down,
  down_bias,
  final_norm,
  head
};
struct WeightSlot {
  WeightKind kind;
  int layer;                      // -1: outside the blocks
  std::string name;               // in the plan
  std::vector<WeightSpec> parts;  // in the order of their rows
  int64_t rows = 0, cols = 1;     // cols 1: a vector
  int64_t offset = 0;             // train_all: in the flat range
  void* data = nullptr;           // in weight_dtype for matrices, in Float for vectors
  bool matrix() const { return cols > 1 || kind == WeightKind::embed || kind == WeightKind::head; }
};
std::vector<WeightSlot> weight_slots(const LlamaConfig& config);

template <class Float>
struct Norm {
  const Float* w = nullptr;    // (C)
  acc_t<Float>* dw = nullptr;  // (C)  +=  null: frozen
};

template <class Float>
struct Layer {
  Norm<Float> norm1, norm2;
  Linear<Float> qkv, o, gate_up, down;
};

// What one block keeps for its backward pass.
template <class Float>
struct BlockActivations {
  Float *ln1, *qkv, *att, *mid, *ln2, *gate_up;  // (N, ·)
  acc_t<Float>*rstd1, *rstd2, *lse;              // (N), (N), (H, N)
  Float *u_qkv, *u_o, *u_gate_up, *u_down;       // (N, R) of each linear layer
};

template <class Float>
class Llama {
 public:
  using Acc = acc_t<Float>;

  Llama(const LlamaConfig& config, const ModelOptions& options);

  // The one list of tensors: called once to measure and once to set the pointers.
  void place(Arena& arena);
  // After the second place(): fills the rope tables.
  void initialize(const Device& device);

  // Forward over the batch; keeps what backward needs. Then add_loss(): sum += Σ over targets of the cross entropy; with `scale`,
  // also the gradient of scale · loss with respect to the last block's output, from which backward() goes on. Gradients
  // accumulate
  // (+=). sum and scale lie in memory of the device. All three only enqueue, so that a step can be captured.
  void forward(const Device&, const Batch&);
  void add_loss(const Device&, const Batch&, loss_t<Float>* sum, const double* scale);
  void backward(const Device&, const Batch&);
  // add_loss() of one batch, and its value: waits for the device.
  loss_t<Float> loss(const Device&, const Batch&, double scale, bool gradient);

  // Logits of the rows whose numbers are given in memory of the device, after forward(): at most logit_rows() at a time, in
  // memory of the device.                                                                                      (rows, V)
  const Acc* logits(const Device&, const int32_t* rows, int count);
  int logit_rows() const { return chunk_; }

  // Enqueued: gradients() become zero, before they are accumulated.
  void clear_gradients(const Device&);

  // Once after the trained values changed: makes the copy of them in the compute type.
  void refresh_compute_copy(const Device&);

  // forward() in parts, for generation. embed: resid(0) of N tokens. block_forward: one block, with attention given from outside
  // as attend(layer, qkv, att), where q and k are already rotated; packed_attention is that of forward(). final_norm: of
  // resid(L), which logits() reads.
  void embed(const Device&, const int32_t* tokens, int N, const uint64_t* dropout_key = nullptr);
  void packed_attention(const Device&, int layer, const Batch&, const Float* qkv, Float* att);
  void final_norm(const Device&, int N);
  template <class Attend>
  void block_forward(const Device&, int layer, const int32_t* positions, int N, const Float* in, Float* out, Attend&& attend);

  const LlamaConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  int64_t trained_count() const { return trained_count_; }
  Acc* values() const { return values_; }        // (n)  master copy of what is trained
  Acc* gradients() const { return gradients_; }  // (n)
  Acc* moment1() const { return moment1_; }      // (n)  AdamW's m
  Acc* moment2() const { return moment2_; }      // (n)  AdamW's v
  const std::vector<NamedTensor>& trained() const { return trained_; }
  // Base weights and where they go; with train_all they lie in values(), in the accumulation type.
  std::vector<WeightPlace> weight_places() const;

  Float* resid(int layer) const { return resid_[static_cast<size_t>(layer)]; }
  const Acc* rope_cos() const { return cos_; }
  const Acc* rope_sin() const { return sin_; }
  std::vector<Layer<Float>>& layers() { return layers_; }
  const void* embedding() const { return embed_; }
  DType embedding_dtype() const { return weight_dtype(); }

 private:
  DType weight_dtype() const { return options_.train_all || is_oracle<Float> ? dtype_of<Float> : options_.weights; }
  void place_weights(Arena&);
  void place_trained(Arena&);
  void point_weights();
  void point_lora();
  void list_trained();
  void place_activations(Arena&);
  void place_scratch(Arena&);
  const BlockActivations<Float>& acts(int layer) const { return acts_[acts_.size() == 1 ? 0 : static_cast<size_t>(layer)]; }
  void block(const Device&, int layer, const Batch&, Float* out);
  void block_backward(const Device&, int layer, const Batch&);
  LinearScratch<Float> linear_scratch() const;
  static uint64_t linear_id(int layer, int which) { return static_cast<uint64_t>(layer) * 4 + static_cast<uint64_t>(which); }

  LlamaConfig config_;
  ModelOptions options_;
  int chunk_ = 0;          // rows of logits held at once
  int first_trained_ = 0;  // blocks below need no backward pass
  const uint64_t* dropout_key_ = nullptr;

  // Weights.
  const void *embed_ = nullptr, *head_ = nullptr;  // (V, C)
  Acc *dembed_ = nullptr, *dhead_ = nullptr;
  Norm<Float> final_norm_;
  std::vector<Layer<Float>> layers_;
  std::vector<WeightPlace> weight_places_;
  std::vector<WeightSlot> slots_;

  // What is trained.
  std::vector<NamedTensor> trained_;
  int64_t trained_count_ = 0;
  Acc *values_ = nullptr, *gradients_ = nullptr, *moment1_ = nullptr, *moment2_ = nullptr;
  Float* compute_ = nullptr;  // values_ itself when the types are equal

  // Activations.
  std::vector<Float*> resid_;  // (L + 1) × (N, C)
  std::vector<BlockActivations<Float>> acts_;
  Float *act_ = nullptr, *final_ = nullptr;  // (N, F), (N, C)
  Acc* rstd_final_ = nullptr;                // (N)
  Float *dresid_ = nullptr, *dln_ = nullptr, *dqkv_ = nullptr, *datt_ = nullptr, *dact_ = nullptr;
  // Head.
  Float *head_in_ = nullptr, *dhead_in_ = nullptr;    // (chunk, C)
  Acc *logits_ = nullptr, *losses_ = nullptr;         // (chunk, V), (chunk)
  int32_t *rows_ = nullptr, *row_targets_ = nullptr;  // (N)
  loss_t<Float>* loss_ = nullptr;                     // (1)  loss()'s own sum and scale
  double* loss_scale_ = nullptr;                      // (1)
  // Scratch.
  Acc *cos_ = nullptr, *sin_ = nullptr;  // (P, D/2)
  float* inv_freq_ = nullptr;            // (D/2)
  float *matmul_scratch_ = nullptr, *attention_scratch_ = nullptr;
  int64_t matmul_scratch_size_ = 0;
  Float *z_ = nullptr, *dropped_ = nullptr;
};

template <class Float>
template <class Attend>
void Llama<Float>::block_forward(const Device& device, int layer, const int32_t* positions, int N, const Float* in, Float* out,
                                 Attend&& attend) {
  const Layer<Float>& l = layers_[static_cast<size_t>(layer)];
  const BlockActivations<Float>& a = acts(layer);
  const LinearScratch<Float> s = linear_scratch();
  const int C = config_.hidden, D = config_.head_dim, F = config_.intermediate;
  run(device,
      RmsnormForward<Float>{.out = a.ln1, .rstd = a.rstd1, .x = in, .w = l.norm1.w, .N = N, .C = C, .eps = config_.rms_eps});
  linear_forward<Float>(device, l.qkv, s, a.qkv, a.ln1, a.u_qkv, N, nullptr, linear_id(layer, 0));
  run(device, Rope<Float>{.x = a.qkv,
                          .cos = cos_,
                          .sin = sin_,
                          .positions = positions,
                          .N = N,
                          .heads = config_.heads + config_.kv_heads,
                          .D = D,
                          .stride = l.qkv.out,
                          .backward = false});
  attend(layer, a.qkv, a.att);
  linear_forward(device, l.o, s, a.mid, a.att, a.u_o, N, in, linear_id(layer, 1));
  run(device,
      RmsnormForward<Float>{.out = a.ln2, .rstd = a.rstd2, .x = a.mid, .w = l.norm2.w, .N = N, .C = C, .eps = config_.rms_eps});
  linear_forward<Float>(device, l.gate_up, s, a.gate_up, a.ln2, a.u_gate_up, N, nullptr, linear_id(layer, 2));
  run(device, SwigluForward<Float>{.act = act_, .gate_up = a.gate_up, .N = N, .F = F});
  // Recomputation needs the activations alone.
  if (!out) return linear_low_rank(device, l.down, s, act_, a.u_down, N, linear_id(layer, 3));
  linear_forward(device, l.down, s, out, act_, a.u_down, N, a.mid, linear_id(layer, 3));
}

}  // namespace tll
