// How a model is held and used: sizes to plan memory for, types, what is trained.
#pragma once

#include <optional>
#include <vector>

#include "kernels/quantized.h"
#include "src/files/modules.h"
#include "src/model/shards.h"

namespace tll {

// An adapter on a module.
struct LoraTarget {
  Module module;
  int rank;
  double scale;  // alpha/r or alpha/√r
};

// What a block recomputes in the backward pass instead of keeping it from the forward pass (gradient checkpointing: Chen et al.
// 2016). The gradients are the same bits. All recompute SwiGLU's product, which costs nothing there.
//   none       nothing else
//   selective  the norms' results; what GEMMs and attention compute is kept
//   full       all but the residual stream: each block runs again
enum class Recompute : uint8_t { none, selective, full };

struct ModelOptions {
  DeviceKind device = DeviceKind::cpu;
  int max_tokens = 1024;          // N: rows of the largest batch
  int max_positions = 1024;       // positions of the longest document
  bool train_all = false;         // all weights, instead of the adapters
  bool train_embeddings = false;  // embedding and head, beside the adapters (PEFT's modules_to_save)
  bool gradients = true;          // false: evaluation and generation only
  bool sums_gradients = false;    // a step adds up those of several micro-batches, here or on other ranks: see trained.h
  RankOptions ranks;
  bool evaluates = false;  // beside gradients: passes of PassKind::inference are possible as well
  Recompute recompute = Recompute::none;
  // Rows of a block's MLP at once; 0: all; kAutomaticChunk: as many as make it no larger than attention. With gradients only
  // where the recomputation is full, else it counts as 0.
  static constexpr int kAutomaticChunk = -1;
  int mlp_chunk = 0;
  bool offload_embedding = false;    // the token embedding lies there: CUDA, frozen, and where the head is another matrix
  bool offload_activations = false;  // the residual stream lies in memory of the host: CUDA with full recomputation only
  double dropout = 0;                // on the adapters' input
  int threads = 1;
  DType weights = DType::f32;       // of frozen matrices that are not quantised
  std::optional<DType> embeddings;  // of the frozen embedding and head; unset: as the matrices
  // Frozen linear layers of the blocks: dense, nf4 or int8. nf4 with double quantisation or not.
  WeightCode code = WeightCode::dense;
  bool double_quant = true;
  bool keep_quantized = true;  // what a checkpoint has quantised is held as it is there, whatever `code` says
  bool logits_16 = false;      // logits of a training pass have the type of activations, not of sums: see kernels/cross_entropy.h
  DType lora_states = DType::f32;  // of the adapters' values and gradients: fp32, or bf16 without a master copy
  bool join_adapters = false;      // to the weights' GEMMs, where that is possible: see src/model/linear.h
  std::vector<LoraTarget> lora;    // in the order of adaptable_modules(); empty: none
};

// training: keeps what the backward pass needs. inference: evaluation and generation.
enum class PassKind : uint8_t { training, inference };

// Which rows of the last block's result are read after forward(): all, or only those with a target. The last block computes no
// others beyond its attention (src/model/block.h).
enum class RowsRead : uint8_t { all, targets };

// Some rows of a batch: their numbers in ascending order, and behind them -1 for rows of padding, which hold zeros.
struct RowList {
  const int32_t* rows = nullptr;  // (count)  in the device's memory; null: all rows of the batch
  int count = 0;
  explicit operator bool() const { return rows != nullptr; }
};

// A batch of packed documents, one after another. The arrays belong to the caller and are in the device's memory.
struct Batch {
  int N = 0, docs = 0;
  const int32_t* tokens = nullptr;      // (N)
  const int32_t* targets = nullptr;     // (N)  the token to predict, or -1
  const int32_t* positions = nullptr;   // (N)  rows of the table of RoPE (RopeRows): the position inside the document
  const int32_t* cu_seqlens = nullptr;  // (docs + 1)
  RowsRead read = RowsRead::all;
  int target_rows = -1;  // at least the number of targets; -1: they are counted, on the host
  // visible_pairs() without a window, and with that of the layers that have one; for the flops.
  double pairs = 0, window_pairs = 0;
  const uint64_t* dropout_key = nullptr;  // (1)  of this step and micro-batch; null: no dropout
};

}  // namespace tll
