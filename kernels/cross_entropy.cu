// Memory-bound. One block per row; a thread handles four consecutive logits of every 2048. The first pass computes maximum and
// sum (online softmax: a thread rescales its sum when its maximum grows), the second pass the gradient. The gradient may
// overwrite the logits: a tile is written where this or an earlier tile was read, so one barrier between read and write suffices.
#include "kernels/cross_entropy.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 512, kOwn = 4;

template <class Float>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const __grid_constant__ CrossEntropy<Float> op, bool vector, bool vector_out) {
  const int V = op.V, target = op.targets[blockIdx.x];
  const float* z = op.logits + static_cast<int64_t>(blockIdx.x) * V;
  Float* dz = op.dlogits ? op.dlogits + blockIdx.x * op.dlogits_stride : nullptr;
  if (target < 0) {  // uniform across the block
    if (threadIdx.x == 0) op.losses[blockIdx.x] = 0;
    for (int c = threadIdx.x; dz && c < V; c += kThreads) dz[c] = from_float<Float>(0);
    return;
  }
  const float at_target = z[target];  // read before it is overwritten: the reductions below end with barriers
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
  if (!dz) return;
  const float scale = static_cast<float>(*op.scale);
  for (int c0 = 0; c0 < V; c0 += kThreads * kOwn) {
    const int c = c0 + static_cast<int>(threadIdx.x) * kOwn;
    load_floats(v, z + c, V - c, vector);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] = (expf(v[i] - lse) - (c + i == target ? 1.0f : 0.0f)) * scale;
    store_floats(dz + c, v, V - c, vector_out);
  }
}

// One block. A warp counts its targets by ballot. The counts of the warps before it give the place of its first target.
constexpr int kListThreads = 1024;

__global__ void __launch_bounds__(kListThreads)
    list_targets_kernel(int32_t* rows, int32_t* row_targets, const int32_t* __restrict__ targets, int N, int capacity) {
  __shared__ int counts[kListThreads / kWarp];
  int before = 0;  // targets in earlier tiles
  for (int n0 = 0; n0 < N; n0 += kListThreads) {
    const int n = n0 + static_cast<int>(threadIdx.x), target = n < N ? targets[n] : -1;
    const unsigned found = __ballot_sync(kFullWarp, target >= 0);
    if (lane_id() == 0) counts[warp_id()] = __popc(found);
    __syncthreads();
    int at = before + __popc(found & ((1u << lane_id()) - 1));
    for (unsigned w = 0; w < kListThreads / kWarp; w++) {
      if (w < warp_id()) at += counts[w];
      before += counts[w];
    }
    if (target >= 0) rows[at] = n, row_targets[at] = target;
    __syncthreads();  // before counts are written again
  }
  for (int i = before + static_cast<int>(threadIdx.x); i < capacity; i += kListThreads) rows[i] = row_targets[i] = -1;
}

}  // namespace

template <class Float>
void ListTargets<Float>::cuda(const Device& device) const {
  if (capacity > 0)
    launch<list_targets_kernel>(dim3(1), kListThreads, 0, stream_of(device), rows, row_targets, targets, N, capacity);
}

template <class Float>
void CrossEntropy<Float>::cuda(const Device& device) const {
  if (rows == 0) return;
  launch<cross_entropy_kernel<Float>>(dim3(static_cast<unsigned>(rows)), kThreads, 0, stream_of(device), *this,
                                      vec_aligned<kOwn>(logits, V), vec_aligned<kOwn>(dlogits, dlogits_stride));
}

TLL_INSTANTIATE_CUDA(CrossEntropy)
TLL_INSTANTIATE_CUDA(ListTargets)

}  // namespace tll
