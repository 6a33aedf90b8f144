// The Llama model: one forward and one backward pass over a batch of packed documents.
//
//   resid[0] = embed[tokens]                                                                      (N, C)
//   resid[l+1] = block l of resid[l]                                                              src/model/block.h
//   logits = Whead·rmsnorm(resid[L])                                                              a chunk of rows at a time
//
// With RowsRead::targets the last block, behind its attention, and the head compute only the R rows that have a target: resid[L]
// is (R, C), a row for each of them.
//
// Sizes: B·T = N tokens · C channels · H query heads · G key/value heads · D head size · F feed-forward size · V vocabulary ·
// L layers. Parameters and Activations plan all memory before anything is computed.
#pragma once

#include <vector>

#include "src/model/block.h"
#include "src/model/host_embedding.h"

namespace tll {

template <class Float>
class Llama {
 public:
  using Acc = acc_t<Float>;

  Llama(const LlamaConfig& config, const ModelOptions& options);

  // The list of tensors, called once to measure and once to set the pointers. The optimizer's state is placed between the two.
  // `staging`: pinned memory of the host beside a CUDA device, for what is offloaded.
  void place_parameters(Arena& arena, Arena* staging = nullptr) { parameters_.place(arena, staging); }
  void place_activations(Arena& arena, Arena* staging = nullptr);
  void place(Arena& arena, Arena* staging = nullptr) { place_parameters(arena, staging), place_activations(arena, staging); }
  // After the second place(): fills the tables of RoPE and of quantised weights.
  void initialize(const Device& device) { parameters_.initialize(device), activations_.initialize(device); }

  // Before each pass, where the host has the batch's tokens (N): sends it what an offloaded embedding makes of them. It is no
  // part of a graph.
  void send_embedding(const Device&, const int32_t* tokens, int N, PassKind = PassKind::training);

  // The three parts of a pass, in this order; all of one kind, without gradients always inference. forward() keeps what
  // backward() needs; of the last block's result it computes the rows that batch.read says. add_loss(): sum += Σ over targets of
  // the cross entropy; with `scale` also the gradient of scale · loss with respect to the final norm's result, where backward()
  // starts. Gradients of trained tensors accumulate (+=). sum and scale are in the device's memory. All three only enqueue, so
  // that a step can be captured as a CUDA graph.
  void forward(const Device&, const Batch&, PassKind = PassKind::training);
  void add_loss(const Device&, const Batch&, loss_t<Float>* sum, const double* scale, PassKind = PassKind::training);
  void backward(const Device&, const Batch&);
  // With frozen weights that are divided among ranks: before weights are loaded.
  void connect(Collectives* collectives) { parameters_.shards.connect(collectives); }
  BlockShards& block_shards() { return parameters_.shards; }
  // Is told of each bucket of TrainedRange while a pass fills it. Needed where the gradients are apart; null: nobody.
  void set_gradient_sink(GradientSink* sink) { sink_ = sink; }
  // After add_loss() of an inference pass: the loss of each row that is read (0: it has no target), in the order of the batch, in
  // the device's memory.
  const Acc* losses() const { return activations_.pass(PassKind::inference).losses; }
  // add_loss() with a sum of its own, which is returned: waits for the device.
  loss_t<Float> loss(const Device&, const Batch&, double scale, bool gradient);

  // After forward(): logits (count, V) of rows first … first + count - 1 of those that are read, at most logit_rows() of them,
  // each logit_stride() elements after the one before, in the device's memory. Not of a training pass whose logits have 16 bits.
  const Acc* logits_from(const Device&, int first, int count, PassKind = PassKind::training);
  // Copies the first V elements of each of `count` rows of logits to the host: (count, V) without gaps. Enqueued.
  void download_logits(const Device&, Acc* to, const Acc* logits, int count) const;
  int logit_rows(PassKind kind = PassKind::training) const { return activations_.pass(kind).chunks.most; }
  int64_t logit_stride() const { return activations_.logit_stride; }

  // forward() in parts, for generation: embed() writes resid(0), block() is one layer, final_norm() normalises R rows of
  // resid(L), which logits_from() reads. `read`: of the last block, the rows of its result that are.
  void embed(const Device&, const Batch&, PassKind);
  Block<Float> block(const Device&, const Batch&, int layer, PassKind, RowList read = {});
  void final_norm(const Device&, int R, PassKind);
  Float* resid(int layer, PassKind kind) const { return activations_.resid(layer, kind); }
  // Tells the arena which phase begins: for those outside a pass.
  void enter(const Device& device, StepPhase phase) const { activations_.enter(device, phase); }
  void passed(StepPhase phase) const { activations_.passed(phase); }  // by a launch of a graph

  const LlamaConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  const std::vector<Weight>& weights() const { return parameters_.weights; }
  const TrainedRange<Float>& trained() const { return parameters_.trained; }
  // Enqueued: what the passes read of the trained values. Needed once after they changed.
  void refresh_compute_copies(const Device& device) const { parameters_.refresh_compute_copies(device); }

 private:
  int rows_read(const Batch&) const;
  RowList rows_of_block(const Batch&, int layer, PassKind) const;
  void head(const Device&, const Float* normalised, int count, PassKind);
  void head_backward(const Device&, int first, int rows);
  void tell_sink(const Device&, int layer, void (GradientSink::*what)(const Device&, size_t)) const;

  LlamaConfig config_;
  ModelOptions options_;
  Parameters<Float> parameters_;
  Activations<Float> activations_;
  HostEmbedding<Float> host_embedding_;
  GradientSink* sink_ = nullptr;
};

}  // namespace tll
