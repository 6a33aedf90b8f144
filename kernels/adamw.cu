// Memory-bound. A thread updates four consecutive elements.
#include "kernels/adamw.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 256, kOwn = 4;

struct Constants {
  float eps, beta1, beta2, rest1, rest2;
};

template <class Float>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ AdamW op, const __grid_constant__ Constants k, bool vector) {
  const AdamWFactors f = *op.factors;
  if (f.apply == 0) return;
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOwn, valid = op.n - i;
  if (valid <= 0) return;
  Float* param = static_cast<Float*>(op.param) + i;
  float p[kOwn], m[kOwn], v[kOwn], g[kOwn];
  load_floats(p, param, valid, vector);
  load_floats(m, op.m + i, valid, vector);
  load_floats(v, op.v + i, valid, vector);
  load_floats(g, static_cast<const Float*>(op.grad) + i, valid, vector);
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    const float grad = g[j] * f.grad_scale;
    m[j] = k.beta1 * m[j] + k.rest1 * grad;
    v[j] = k.beta2 * v[j] + k.rest2 * grad * grad;
    p[j] = p[j] * f.decay - f.step * m[j] / (sqrtf(v[j]) * f.root + k.eps);
  }
  store_floats(param, p, valid, vector);
  store_floats(op.m + i, m, valid, vector);
  store_floats(op.v + i, v, valid, vector);
}

}  // namespace

void AdamW::cuda(const Device& device) const {
  if (n == 0) return;
  const Constants constants{static_cast<float>(eps), static_cast<float>(beta1), static_cast<float>(beta2),
                            static_cast<float>(1.0 - beta1), static_cast<float>(1.0 - beta2)};
  with_storage_type(dtype, [&](auto type) {
    using Float = decltype(type);
    const bool vector = vec_aligned<4>(static_cast<Float*>(param), 0) && vec_aligned<4>(m, 0) && vec_aligned<4>(v, 0) &&
                        vec_aligned<4>(static_cast<const Float*>(grad), 0);
    launch<adamw_kernel<Float>>(blocks_for(n, kThreads * kOwn), kThreads, 0, stream_of(device), *this, constants, vector);
  });
}

}  // namespace tll
