// Memory-bound. One block per row and, by its threads and registers, one per SM: few rows are worked on at a time, so that the
// second pass over a row finds much of it in the caches. The first pass computes maximum and sum (online softmax: a thread
// rescales its sum when its maximum grows), the second pass the gradient. The gradient may overwrite the logits. In a type as
// wide as theirs, a thread writes what it has read itself. In a narrower one, a tile is written where this or an earlier tile was
// read, so one barrier between read and write suffices. The next tile is read before that, so that loads are in flight while a
// tile is computed.
#include "kernels/cross_entropy.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 1024, kVectors = 4;

// What a block has at once of a row of logits: each thread kVectors vectors, as they lie in memory. As words, since nvcc takes a
// register for each element of 16 bits.
template <class Logit>
struct Tile {
  static constexpr int kOfVector = kVec<Logit>, kStep = kThreads * kOfVector, kColumns = kVectors * kStep;
  static constexpr int kOfWord = sizeof(uint32_t) / sizeof(Logit);
  Vec<uint32_t, 4> vectors[kVectors];

  // Of the tile that begins at column c0.
  static TLL_DEVICE int first_column(int c0, int k) { return c0 + k * kStep + static_cast<int>(threadIdx.x) * kOfVector; }
  // -infinity beyond the row's end, which adds nothing to maximum and sum.
  TLL_DEVICE void load(const Logit* z, int c0, int V, bool vector) {
#pragma unroll
    for (int k = 0; k < kVectors; k++) {
      const int c = first_column(c0, k);
      if (vector && c + kOfVector <= V) {
        vectors[k] = load_vec<4>(reinterpret_cast<const uint32_t*>(z + c));
      } else {
        Vec<Logit, kOfVector> x;
#pragma unroll
        for (int i = 0; i < kOfVector; i++) x[i] = c + i < V ? z[c + i] : from_float<Logit>(-INFINITY);
        vectors[k] = device_bit_cast<Vec<uint32_t, 4>>(x);
      }
    }
  }
  TLL_DEVICE float operator()(int k, int i) const {
    return to_float(device_bit_cast<Vec<Logit, kOfWord>>(vectors[k][i / kOfWord])[i % kOfWord]);
  }
};

// e^(z - shift), where negative_shift2 is -shift·kLog2e: one fused multiply-add and one exponential.
TLL_DEVICE float exp_of_difference(float z, float negative_shift2) { return exp2_approx(fmaf(z, kLog2e, negative_shift2)); }

template <class Float, bool k16Bits>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const __grid_constant__ CrossEntropy<Float> op, bool vector, bool vector_out) {
  using Logit = std::conditional_t<k16Bits, Float, float>;
  using Row = Tile<Logit>;
  const int V = op.V, target = op.targets[blockIdx.x];
  const Logit* z = static_cast<const Logit*>(op.logits) + blockIdx.x * op.logits_stride;
  Float* dz = op.dlogits ? op.dlogits + blockIdx.x * op.dlogits_stride : nullptr;
  if (target < 0) {  // uniform across the block
    if (threadIdx.x == 0) op.losses[blockIdx.x] = 0;
    for (int c = threadIdx.x; dz && c < V; c += kThreads) dz[c] = from_float<Float>(0);
    return;
  }
  const float at_target = to_float(z[target]);  // read before it is overwritten: the reductions below end with barriers
  float top = -0x1p127f, sum = 0;               // not -infinity, which minus itself is NaN; top·kLog2e is finite
  Row tile, next;
  for (int c0 = 0; c0 < V; c0 += Row::kColumns) {
    tile.load(z, c0, V, vector);
    float higher = top;
#pragma unroll
    for (int k = 0; k < kVectors; k++)
#pragma unroll
      for (int i = 0; i < Row::kOfVector; i++) higher = fmaxf(higher, tile(k, i));  // passes over NaN, which the sum then keeps
    if (higher > top) sum *= exp_of_difference(top, -higher * kLog2e), top = higher;
    const float negative_shift2 = -top * kLog2e;
#pragma unroll
    for (int k = 0; k < kVectors; k++)
#pragma unroll
      for (int i = 0; i < Row::kOfVector; i++) sum += exp_of_difference(tile(k, i), negative_shift2);
  }
  const float row_top = block_max<kThreads>(top);
  const float lse = row_top + logf(block_sum<kThreads>(sum * exp_of_difference(top, -row_top * kLog2e)));
  if (threadIdx.x == 0) op.losses[blockIdx.x] = lse - at_target;
  if (!dz) return;
  const float scale = static_cast<float>(*op.scale), negative_lse2 = -lse * kLog2e;
  tile.load(z, 0, V, vector);
  for (int c0 = 0; c0 < V; c0 += Row::kColumns) {
    if (c0 + Row::kColumns < V) next.load(z, c0 + Row::kColumns, V, vector);
    if constexpr (sizeof(Float) < sizeof(Logit)) __syncthreads();  // else a thread writes where it alone has read
#pragma unroll
    for (int k = 0; k < kVectors; k++) {
      float x[Row::kOfVector];
#pragma unroll
      for (int i = 0; i < Row::kOfVector; i++) x[i] = exp_of_difference(tile(k, i), negative_lse2) * scale;
      const int c = Row::first_column(c0, k);
      store_floats(dz + c, x, V - c, vector_out);
    }
    tile = next;
  }
  // By the thread that has written this element above. 1 is subtracted before rounding to Float, which p - 1 would lose.
  if (target / Row::kOfVector % kThreads == static_cast<int>(threadIdx.x))
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
  const auto of_type = [&]<class Logit>(Logit) {
    constexpr bool k16Bits = sizeof(Logit) < sizeof(float);
    constexpr int kOfVector = Tile<Logit>::kOfVector;
    launch<cross_entropy_kernel<Float, k16Bits>>(dim3(static_cast<unsigned>(rows)), kThreads, 0, stream_of(device), *this,
                                                 vec_aligned<kOfVector>(static_cast<const Logit*>(logits), logits_stride),
                                                 vec_aligned<kOfVector>(dlogits, dlogits_stride));
  };
  logits_dtype == dtype_of<Float> ? of_type(Float{}) : of_type(float{});
}

TLL_INSTANTIATE_CUDA(CrossEntropy)
TLL_INSTANTIATE_CUDA(ListTargets)

}  // namespace tll
