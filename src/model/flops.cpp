#include "src/model/flops.h"

namespace tll {

StepFlops step_flops(const LlamaConfig& config, const ModelOptions& options) {
  constexpr double kProduct = 2;  // flops of one product, per element of a matrix
  const bool again = options.recompute == Recompute::full;
  const double matrix = (options.train_all ? 3 : 2) * kProduct, low_rank = 3 * kProduct, recomputed = again ? kProduct : 0;
  // Nothing that is trained lies before these, so no gradient of their input is computed.
  const auto first = [&](const Module& m) {
    return m.layer == 0 && m.joint == Joint::qkv && !options.train_all && !options.train_embeddings;
  };
  const auto of_targets = [&](const Module& m) { return m.layer == config.layers - 1 && m.joint != Joint::qkv; };
  StepFlops flops;
  for (const Module& m : modules(config)) {
    if (m.layer < 0) continue;
    const double size = static_cast<double>(m.rows * m.cols);
    (of_targets(m) ? flops.per_target : flops.per_token) +=
        size * (matrix - (first(m) ? kProduct : 0) + (m.joint == Joint::down ? 0 : recomputed));
  }
  for (const LoraTarget& t : options.lora) {
    const Module& m = t.module;
    (of_targets(m) ? flops.per_target : flops.per_token) +=
        t.rank * (low_rank * static_cast<double>(m.rows + m.cols) - (first(m) ? kProduct * static_cast<double>(m.cols) : 0) +
                  recomputed * static_cast<double>(m.cols + (m.joint == Joint::down ? 0 : m.rows)));
  }
  flops.per_target += (options.train_all || options.train_embeddings ? 3 : 2) * kProduct * config.hidden * config.vocab_size;
  for (int l = 0; l < config.layers; l++)
    (config.window(l) > 0 ? flops.per_window_pair : flops.per_pair) +=
        (again ? 9 : 7) * kProduct * config.heads * config.head_dim;
  return flops;
}

}  // namespace tll
