// One block per row of x, i.e. all heads of q and k of one token. A thread rotates eight consecutive pairs (i, i + R/2) of a
// head, in place. The table uses one thread per angle.
#include "kernels/rope.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 128, kPairs = 8;

template <class Float>
__global__ void __launch_bounds__(kThreads) rope_kernel(const __grid_constant__ Rope<Float> op, bool vector) {
  const int half = op.R / 2, chunks = ceil_div(half, kPairs);
  const int64_t n = blockIdx.x, angle = static_cast<int64_t>(op.positions[n]) * half;
  const float* __restrict__ cos = op.cos + angle;
  const float* __restrict__ sin = op.sin + angle;
  Float* row = op.x + n * op.stride;
  const float sign = op.backward ? -1.0f : 1.0f;
  for (int task = threadIdx.x; task < op.heads * chunks; task += kThreads) {
    const int i = task % chunks * kPairs, valid = half - i;
    Float *lo = row + static_cast<int64_t>(task / chunks) * op.D + i, *hi = lo + half;
    float a[kPairs], b[kPairs], c[kPairs], s[kPairs];
    load_floats(a, lo, valid, vector);
    load_floats(b, hi, valid, vector);
    load_floats(c, cos + i, valid, vector);
    load_floats(s, sin + i, valid, vector);
#pragma unroll
    for (int j = 0; j < kPairs; j++) {
      const float x = a[j], y = b[j], si = sign * s[j];
      a[j] = x * c[j] - y * si;
      b[j] = y * c[j] + x * si;
    }
    store_floats(lo, a, valid, vector);
    store_floats(hi, b, valid, vector);
  }
}

template <class Float>
__global__ void __launch_bounds__(kThreads) rope_table_kernel(const __grid_constant__ RopeTable<Float> op) {
  const int half = op.R / 2;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(op.P) * half) return;
  const float angle = __fmul_rn(static_cast<float>(i / half), op.inv_freq[i % half]);
  op.cos[i] = static_cast<float>(::cos(static_cast<double>(angle))) * op.scale;
  op.sin[i] = static_cast<float>(::sin(static_cast<double>(angle))) * op.scale;
}

}  // namespace

template <class Float>
void RopeTable<Float>::cuda(const Device& device) const {
  launch<rope_table_kernel<Float>>(blocks_for(static_cast<int64_t>(P) * (R / 2), kThreads), kThreads, 0, stream_of(device),
                                   *this);
}

template <class Float>
void Rope<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector = vec_aligned<kVec<Float>>(x, stride) && D % kPairs == 0 && R / 2 % kPairs == 0 && vec_aligned<4>(cos, 0) &&
                      vec_aligned<4>(sin, 0);
  launch<rope_kernel<Float>>(dim3(static_cast<unsigned>(N)), kThreads, 0, stream_of(device), *this, vector);
}

TLL_INSTANTIATE_CUDA(RopeTable)
TLL_INSTANTIATE_CUDA(Rope)

}  // namespace tll
