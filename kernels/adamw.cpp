#include "kernels/adamw.h"

#include "src/base/parallel.h"

namespace tll {

namespace {

template <class Float>
void update(const AdamW& op) {
  const float decay = op.factors->decay, step = op.factors->step, root = op.factors->root, gs = op.factors->grad_scale;
  const float e = static_cast<float>(op.eps);
  const float b1 = static_cast<float>(op.beta1), b2 = static_cast<float>(op.beta2);
  const float n1 = static_cast<float>(1.0 - op.beta1), n2 = static_cast<float>(1.0 - op.beta2);
  Float* param = static_cast<Float*>(op.param);
  const Float* grad = static_cast<const Float*>(op.grad);
  float *m = op.m, *v = op.v;
  parallel_ranges(op.n, 16, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
      const float g = to_acc(grad[i]) * gs;
      m[i] = b1 * m[i] + n1 * g;
      v[i] = b2 * v[i] + n2 * g * g;
      param[i] = from_acc<Float>(to_acc(param[i]) * decay - step * m[i] / (std::sqrt(v[i]) * root + e));
    }
  });
}

}  // namespace

template <Isa>
void AdamW::cpu() const {
  if (factors->apply == 0) return;
  with_storage_type(dtype, [&](auto type) { update<decltype(type)>(*this); });
}

template void AdamW::cpu<kIsa>() const;

}  // namespace tll
