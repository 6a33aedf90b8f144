#include "src/model/weight.h"

#include <algorithm>

namespace tll {

void Weight::load(const Device& device, WeightStream& stream, const WeightPart& part, const TensorReader& read) const {
  stream.send(device, stored_part(part), part.count(), dtype_bytes(stored_dtype),
              [&](void* piece, int64_t first, int64_t n) { read(piece, stored_dtype, first, n); });
}

std::vector<Weight> list_weights(const LlamaConfig& config) {
  std::vector<Weight> weights;
  const auto add = [&](const Module& module, bool is_bias) {
    auto same = std::find_if(weights.rbegin(), weights.rend(), [&](const Weight& w) {
      return w.joint == module.joint && w.layer == module.layer && w.is_bias == is_bias;
    });
    if (same == weights.rend()) {
      const std::string block = module.layer < 0 ? "" : fmt::format("layers.{}.", module.layer);
      weights.push_back({module.joint, is_bias, module.layer, block + joint_name(module.joint) + (is_bias ? "_bias" : "")});
      same = weights.rbegin();
    }
    same->cols = is_bias ? 0 : module.cols;
    same->parts.push_back(
        {module.name + (is_bias ? ".bias" : ".weight"), is_bias ? std::vector{module.rows} : module.shape(), same->count()});
    same->rows += module.rows;
  };
  for (const Module& module : modules(config)) {
    add(module, false);
    if (module.bias) add(module, true);
  }
  return weights;
}

}  // namespace tll
