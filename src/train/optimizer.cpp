#include "src/train/optimizer.h"

#include "kernels/adamw.h"
#include "src/model/device_memory.h"

namespace tll {

void Optimizer::place(Arena& arena, const std::string& range, int64_t count) {
  count_ = count;
  if (count == 0) return;
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      arena.place(m_, range + ".m", {count}, Category::optimizer);
      arena.place(v_, range + ".v", {count}, Category::optimizer);
  }
}

void Optimizer::clear(const Device& device) const {
  for (const StateTensor& t : tensors()) set_zero(device, t.data, t.bytes());
}

void Optimizer::enqueue(const Device& device, float* values, const float* gradients, const AdamWFactors* factors) const {
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      run(device, AdamW{.param = values,
                        .m = m_,
                        .v = v_,
                        .grad = gradients,
                        .factors = factors,
                        .n = count_,
                        .beta1 = options_.beta1,
                        .beta2 = options_.beta2,
                        .eps = options_.eps});
  }
}

std::vector<StateTensor> Optimizer::tensors() const {
  switch (options_.kind) {
    case OptimizerKind::kAdamw:
      return {{"m", DType::f32, count_, m_}, {"v", DType::f32, count_, v_}};
  }
  return {};
}

}  // namespace tll
