// Memory-bound. One block per row and, by its threads and registers, one per SM: few rows are worked on at a time, so that the
// second pass over a row finds much of it in the caches. The first pass computes maximum and sum (online softmax: a thread
// rescales its sum when its maximum grows), the second pass the gradient. The gradient may overwrite the logits: a tile is
// written where this or an earlier tile was read, so one barrier between read and write suffices. The next tile is read before
// that barrier, so that loads are in flight while a tile is computed.
#include "kernels/cross_entropy.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 1024, kVectors = 4, kVecLogits = kVec<float>;
constexpr int kOwn = kVectors * kVecLogits, kStep = kThreads * kVecLogits, kTile = kVectors * kStep;  // of a thread, of all

// The thread's vectors of the tile that begins at column c0 begin at columns first, first + kStep, …
TLL_DEVICE int first_column(int c0) { return c0 + static_cast<int>(threadIdx.x) * kVecLogits; }

// The thread's logits of a tile; -infinity beyond the row's end, which adds nothing to maximum and sum.
TLL_DEVICE void load_tile(float (&v)[kOwn], const float* z, int c0, int V, bool vector) {
  const int first = first_column(c0);
  const bool whole = vector && c0 + kTile <= V;
  if (whole) {
#pragma unroll
    for (int k = 0; k < kVectors; k++) {
      const Vec<float, kVecLogits> x = load_vec<kVecLogits>(z + first + k * kStep);
#pragma unroll
      for (int i = 0; i < kVecLogits; i++) v[k * kVecLogits + i] = x[i];
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kVectors; k++) {
    const int c = first + k * kStep;
    float x[kVecLogits];
    load_floats(x, z + c, V - c, vector);
#pragma unroll
    for (int i = 0; i < kVecLogits; i++) v[k * kVecLogits + i] = c + i < V ? x[i] : -INFINITY;
  }
}

template <class Float>
TLL_DEVICE void store_tile(Float* dz, const float (&v)[kOwn], int c0, int V, bool vector) {
  const int first = first_column(c0);
  const bool whole = c0 + kTile <= V;
#pragma unroll
  for (int k = 0; k < kVectors; k++) {
    const int c = first + k * kStep;
    float x[kVecLogits];
#pragma unroll
    for (int i = 0; i < kVecLogits; i++) x[i] = v[k * kVecLogits + i];
    store_floats(dz + c, x, whole ? kVecLogits : V - c, vector);
  }
}

// e^(z - shift), where negative_shift2 is -shift·kLog2e: one fused multiply-add and one exponential.
TLL_DEVICE float exp_of_difference(float z, float negative_shift2) { return exp2_approx(fmaf(z, kLog2e, negative_shift2)); }

template <class Float>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const __grid_constant__ CrossEntropy<Float> op, bool vector, bool vector_out) {
  const int V = op.V, target = op.targets[blockIdx.x];
  const float* z = op.logits + blockIdx.x * op.logits_stride;
  Float* dz = op.dlogits ? op.dlogits + blockIdx.x * op.dlogits_stride : nullptr;
  if (target < 0) {  // uniform across the block
    if (threadIdx.x == 0) op.losses[blockIdx.x] = 0;
    for (int c = threadIdx.x; dz && c < V; c += kThreads) dz[c] = from_float<Float>(0);
    return;
  }
  const float at_target = z[target];        // read before it is overwritten: the reductions below end with barriers
  float top = -0x1p127f, sum = 0, v[kOwn];  // not -infinity, which minus itself is NaN; top·kLog2e is finite
  for (int c0 = 0; c0 < V; c0 += kTile) {
    load_tile(v, z, c0, V, vector);
    float higher = top;
#pragma unroll
    for (int i = 0; i < kOwn; i++) higher = fmaxf(higher, v[i]);  // passes over NaN, which the sum then keeps
    if (higher > top) sum *= exp_of_difference(top, -higher * kLog2e), top = higher;
    const float negative_shift2 = -top * kLog2e;
#pragma unroll
    for (int i = 0; i < kOwn; i++) sum += exp_of_difference(v[i], negative_shift2);
  }
  const float row_top = block_max<kThreads>(top);
  const float lse = row_top + logf(block_sum<kThreads>(sum * exp_of_difference(top, -row_top * kLog2e)));
  if (threadIdx.x == 0) op.losses[blockIdx.x] = lse - at_target;
  if (!dz) return;
  const float scale = static_cast<float>(*op.scale), negative_lse2 = -lse * kLog2e;
  float next[kOwn];
  load_tile(v, z, 0, V, vector);
  for (int c0 = 0; c0 < V; c0 += kTile) {
    if (c0 + kTile < V) load_tile(next, z, c0 + kTile, V, vector);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] = exp_of_difference(v[i], negative_lse2) * scale;
    store_tile(dz, v, c0, V, vector_out);
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] = next[i];
  }
  // By the thread that has written this element above. 1 is subtracted before rounding to Float, which p - 1 would lose.
  if (target / kVecLogits % kThreads == static_cast<int>(threadIdx.x))
    dz[target] = from_float<Float>((exp_of_difference(at_target, negative_lse2) - 1.0f) * scale);
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
                                      vec_aligned<kVecLogits>(logits, logits_stride),
                                      vec_aligned<kVecLogits>(dlogits, dlogits_stride));
}

TLL_INSTANTIATE_CUDA(CrossEntropy)
TLL_INSTANTIATE_CUDA(ListTargets)

}  // namespace tll
