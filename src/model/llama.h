// The Llama model: one forward and one backward pass over a batch of packed documents.
//
//   resid[0] = embed[tokens]                                                                      (N, C)
//   resid[l+1] = block l of resid[l]                                                              src/model/block.h
//   logits = Whead·rmsnorm(resid[L])          only for rows with a target, and only a chunk of rows at a time
//
// Sizes: B·T = N tokens · C channels · H query heads · G key/value heads · D head size · F feed-forward size · V vocabulary ·
// L layers. Where everything lies is planned by Parameters and Activations, before anything is computed.
#pragma once

#include <vector>

#include "src/model/block.h"

namespace tll {

template <class Float>
class Llama {
 public:
  using Acc = acc_t<Float>;

  Llama(const LlamaConfig& config, const ModelOptions& options);

  // The list of tensors: called once to measure and once to set the pointers. An optimizer's state lies between the two.
  void place_parameters(Arena& arena) { parameters_.place(arena); }
  void place_activations(Arena& arena) { activations_.place(arena, parameters_); }
  void place(Arena& arena) { place_parameters(arena), place_activations(arena); }
  // After the second place(): fills the RoPE tables.
  void initialize(const Device& device) { activations_.initialize(device); }

  // Forward over the batch; keeps what backward needs. Then add_loss(): sum += Σ over targets of the cross entropy; with `scale`,
  // also the gradient of scale · loss with respect to the last block's output, from which backward() goes on. Gradients
  // accumulate (+=). sum and scale lie in memory of the device. All three only enqueue, so that a step can be captured.
  void forward(const Device&, const Batch&);
  void add_loss(const Device&, const Batch&, loss_t<Float>* sum, const double* scale);
  void backward(const Device&, const Batch&);
  // add_loss() of one batch, and its value: waits for the device.
  loss_t<Float> loss(const Device&, const Batch&, double scale, bool gradient);

  // Logits of the rows whose numbers are given in memory of the device, after forward(): at most logit_rows() at a time, in
  // memory of the device.                                                                                      (rows, V)
  const Acc* logits(const Device&, const int32_t* rows, int count);
  int logit_rows() const { return activations_.chunk; }

  // forward() in parts, for generation: resid(0) of the batch's tokens, each block, and the norm of resid(L), which logits()
  // reads.
  void embed(const Device&, const Batch&);
  Block<Float> block(const Device&, const Batch&, int layer) const;
  void final_norm(const Device&, int N);
  Float* resid(int layer) const { return activations_.resid[static_cast<size_t>(layer)]; }

  const LlamaConfig& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  const std::vector<Weight>& weights() const { return parameters_.weights; }
  const TrainedRange<Float>& trained() const { return parameters_.trained; }

 private:
  void head_backward(const Device&, int first, int rows);

  LlamaConfig config_;
  ModelOptions options_;
  Parameters<Float> parameters_;
  Activations<Float> activations_;
};

}  // namespace tll
