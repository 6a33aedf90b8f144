#include "src/model/flops.h"

namespace tll {

StepFlops step_flops(const LlamaConfig& config, const ModelOptions& options) {
  // Per element of a matrix: 2 flops forward, 2 for the gradient of the input, and 2 for its own gradient if it is trained.
  const double frozen = 4, trained = 6, recomputed = options.recompute == Recompute::full ? 2 : 0;
  const double passes = options.train_all ? trained : frozen;
  double matrices = 0, adapters = 0;
  for (const Module& m : modules(config))
    if (m.layer >= 0) matrices += static_cast<double>(m.rows * m.cols);
  for (const LoraTarget& t : options.lora) adapters += static_cast<double>(t.rank * (t.module.rows + t.module.cols));
  const double head = options.train_embeddings ? trained : passes;
  return {(passes + recomputed) * matrices + trained * adapters, head * config.hidden * config.vocab_size};
}

}  // namespace tll
