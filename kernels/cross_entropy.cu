// Bound by memory. A block owns a row, a thread four neighbouring logits of each 2048. One read gives maximum and sum (each
// thread rescales its sum when its maximum grows); the gradient is a second read, and a write in place.
#include "kernels/cross_entropy.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 512, kOwn = 4;

template <class Float>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const __grid_constant__ CrossEntropy<Float> op, float scale, bool vector) {
  const int V = op.V, target = op.targets[blockIdx.x];
  float* z = op.logits + static_cast<int64_t>(blockIdx.x) * V;
  const float at_target = z[target];  // before anything is overwritten: the reductions below end with barriers
  float top = -INFINITY, sum = 0, v[kOwn];
  for (int c = threadIdx.x * kOwn; c < V; c += kThreads * kOwn) {
    load_floats(v, z + c, V - c, vector);
    float higher = top;
#pragma unroll
    for (int i = 0; i < kOwn; i++) higher = c + i < V && v[i] > higher ? v[i] : higher;
    if (higher > top) sum *= expf(top - higher), top = higher;
#pragma unroll
    for (int i = 0; i < kOwn; i++) sum += c + i < V ? expf(v[i] - top) : 0.0f;
  }
  const float row_top = block_max<kThreads>(top);
  const float lse = row_top + logf(block_sum<kThreads>(sum * expf(top - row_top)));
  if (threadIdx.x == 0) op.losses[blockIdx.x] = lse - at_target;
  if (!op.gradient) return;
  for (int c = threadIdx.x * kOwn; c < V; c += kThreads * kOwn) {
    load_floats(v, z + c, V - c, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] = (expf(v[i] - lse) - (c + i == target ? 1.0f : 0.0f)) * scale;
    store_floats(z + c, v, V - c, vector);
  }
}

}  // namespace

template <class Float>
void CrossEntropy<Float>::cuda(const Device& device) const {
  if (rows == 0) return;
  launch(cross_entropy_kernel<Float>, dim3(static_cast<unsigned>(rows)), kThreads, 0, stream_of(device), *this,
         static_cast<float>(scale), vec_aligned<kOwn>(logits, V));
}

TLL_INSTANTIATE_CUDA(CrossEntropy)

}  // namespace tll
