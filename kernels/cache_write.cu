// A block owns one token: its row of keys, then its row of values.
#include "kernels/attention.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 128;

template <class Float>
__global__ void __launch_bounds__(kThreads) cache_write_kernel(const __grid_constant__ CacheWrite<Float> op, bool vector) {
  const int n = blockIdx.x, slot = op.slots[n];
  if (slot < 0) return;  // the whole block
  const int64_t to = (static_cast<int64_t>(slot) * op.capacity + op.positions[n]) * op.W,
                from = static_cast<int64_t>(n) * op.stride;
#pragma unroll 1
  for (int c = threadIdx.x * kVec<Float>; c < op.W; c += kThreads * kVec<Float>) {
    if (vector) {  // W is a multiple of kVec
      store_vec(op.keys + to + c, load_vec<kVec<Float>>(op.k + from + c));
      store_vec(op.values + to + c, load_vec<kVec<Float>>(op.v + from + c));
    } else {
      for (int i = c; i < c + kVec<Float> && i < op.W; i++) op.keys[to + i] = op.k[from + i], op.values[to + i] = op.v[from + i];
    }
  }
}

}  // namespace

template <class Float>
void CacheWrite<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector = vec_aligned<kVec<Float>>(keys, W) && vec_aligned<kVec<Float>>(values, W) &&
                      vec_aligned<kVec<Float>>(k, stride) && vec_aligned<kVec<Float>>(v, stride);
  launch<cache_write_kernel<Float>>(dim3(static_cast<unsigned>(N)), kThreads, 0, stream_of(device), *this, vector);
}

TLL_INSTANTIATE_CUDA(CacheWrite)

}  // namespace tll
