#include "kernels/adamw.h"

namespace tll {

template <Isa>
void AdamW::cpu() const {
  if (factors->apply == 0) return;
  const auto [apply, decay, step, root, gs] = *factors;
  const float e = static_cast<float>(eps);
  const float b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
  const float n1 = static_cast<float>(1.0 - beta1), n2 = static_cast<float>(1.0 - beta2);
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) {
    const float g = grad[i] * gs;
    m[i] = b1 * m[i] + n1 * g;
    v[i] = b2 * v[i] + n2 * g * g;
    param[i] = param[i] * decay - step * m[i] / (std::sqrt(v[i]) * root + e);
  }
}

template void AdamW::cpu<kIsa>() const;

}  // namespace tll
