// Forward (FlashAttention-2): a block owns a tile of queries of one head, a warp 32 of them (float: 8), a thread parts of four
// rows (float: one); see attention_tiles.cuh. Tiles of keys and values stream by; the next keys are loaded while the values are
// used.
//
// Decoding: a block owns one query. For the scores eight lanes own a key; for the sum of values a warp owns every fourth key.
#include "kernels/attention.h"
#include "kernels/attention_tiles.cuh"
#include "kernels/attention_wgmma.h"

namespace tll {
namespace {

// Two slabs of 16 rows a warp: an ldmatrix of 16 x 16 keys or values then feeds four mma instead of two. Shared memory (128 bytes
// a clock, 4 clocks an ldmatrix) keeps up with the tensor cores (2 clocks an mma on sm_80): at D 128 and 48 keys a warp needs 64
// ldmatrix for 192 mma; with one slab 56 for 96, and the tensor cores would wait. More warps instead of rows would save nothing.
// 64 keys spill. Queries stay in shared memory, which costs 16 of the 64 ldmatrix; registers for them would be 64.
template <class Float, int kD>
using ForwardTile = Tile<Float, kD, std::is_same_v<Float, float> ? 1 : 2>;

// Blocks of an SM that registers and shared memory allow.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <int kD>
constexpr int kForwardBlocks = 2;
#else
template <int kD>
constexpr int kForwardBlocks = kD <= 64 ? 3 : 2;
#endif

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, kForwardBlocks<kD>)
    attention_forward_kernel(const __grid_constant__ AttentionForward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using T = ForwardTile<Float, kD>;
  constexpr int kKeys = T::kKeys, kScores = T::template kScores<kKeys>;
  Float* q_tile = dynamic_shared<Float>();
  Float* k_tile = q_tile + T::kOwn * T::kPitch;
  Float* v_tile = k_tile + kKeys * T::kPitch;
  const Documents documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window};
  const int N = op.sizes.N, D = op.sizes.D, h = blockIdx.x, g = h / (op.sizes.H / op.sizes.G);
  const int64_t stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const int i0 = static_cast<int>(gridDim.y - 1 - blockIdx.y) * T::kOwn;  // the last tile has the most keys
  const int rows = N - i0 < T::kOwn ? N - i0 : T::kOwn;
  const Float* __restrict__ k = op.k + g * D;
  const Float* __restrict__ v = op.v + g * D;
  const int begin = documents.first_key(i0), end = i0 + rows, first_of_last = documents.first_key(end - 1);
  const auto load_keys = [&](int j0) { T::template load<kKeys>(k_tile, k + j0 * qk_stride, qk_stride, end - j0, D, vector); };

  // The first key that each row sees. The last one is its own. Rows beyond the end are computed and not stored.
  __shared__ int first[T::kOwn];
  for (int i = static_cast<int>(threadIdx.x); i < T::kOwn; i += kAttentionThreads)
    first[i] = i < rows ? documents.first_key(i0 + i) : begin;
  float top[T::kMine], sum[T::kMine], out[T::kSums] = {};
#pragma unroll
  for (int r = 0; r < T::kMine; r++) top[r] = -INFINITY, sum[r] = 0;
  T::template load<T::kOwn>(q_tile, op.q + i0 * qk_stride + h * D, qk_stride, rows, D, vector);
  load_keys(begin);
  cp_async_commit();
  const float factor = scale * kLog2e;  // e^(scale·x) = 2^(factor·x)
  const typename T::template Own<false> queries(q_tile);
  for (int j0 = begin; j0 < end; j0 += kKeys) {
    T::template load<kKeys>(v_tile, v + j0 * stride, stride, end - j0, D, vector);
    cp_async_commit();
    cp_async_wait_group<1>();
    __syncthreads();  // the keys are there
    float s[kScores];
    T::template matmul_nt<kKeys>(s, queries, k_tile);
    __syncthreads();  // nobody reads the keys any more
    if (j0 + kKeys < end) load_keys(j0 + kKeys);
    cp_async_commit();

    if (j0 + kKeys - 1 > i0 || j0 < first_of_last) {
      int from[T::kMine];
#pragma unroll
      for (int r = 0; r < T::kMine; r++) from[r] = first[T::row(r)];
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int r = T::template score_row<kKeys>(e), j = j0 + T::template score_column<kKeys>(e);
        s[e] = j > i0 + T::row(r) || j < from[r] ? -INFINITY : s[e];
      }
    }
    float base[T::kMine], shrink[T::kMine];
#pragma unroll
    for (int r = 0; r < T::kMine; r++) {
      float highest = top[r];
#pragma unroll
      for (int e = 0; e < kScores; e++)
        if (T::template score_row<kKeys>(e) == r) highest = Max()(highest, s[e]);
      highest = warp_max<4>(highest);
      base[r] = highest == -INFINITY ? 0.0f : highest * factor;  // a row that has seen no key yet
      shrink[r] = exp2_approx(fmaf(top[r], factor, -base[r]));
      top[r] = highest;
      sum[r] *= shrink[r];
    }
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const int r = T::template score_row<kKeys>(e);
      s[e] = exp2_approx(fmaf(s[e], factor, -base[r]));
      sum[r] += s[e];
    }
    bool shrinks = false;  // later tiles seldom hold a new maximum
#pragma unroll
    for (int r = 0; r < T::kMine; r++) shrinks |= shrink[r] != 1.0f;
    if (__any_sync(kFullWarp, shrinks)) {
#pragma unroll
      for (int e = 0; e < T::kSums; e++) out[e] *= shrink[T::template score_row<kD>(e)];
    }
    cp_async_wait_group<1>();
    __syncthreads();  // the values are there
    T::template accumulate<kKeys>(out, s, v_tile);
    __syncthreads();  // nobody reads the values any more
  }
  float inverse[T::kMine];
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const float total = warp_sum<4>(sum[r]);
    inverse[r] = 1.0f / total;
    if (T::row(r) < rows && lane_id() % 4 == 0)
      op.lse[static_cast<int64_t>(h) * N + i0 + T::row(r)] = top[r] * scale + logf(total);
  }
  const int64_t out_stride = op.sizes.out_row();
  T::store(op.out + i0 * out_stride + h * D, out_stride, rows, D, out, q_tile, vector, [&](int r) { return inverse[r]; });
}

constexpr int kDecodeThreads = 128, kDecodeWarps = kDecodeThreads / kWarp;

template <class Float>
__global__ void __launch_bounds__(kDecodeThreads)
    attention_decode_kernel(const __grid_constant__ AttentionDecode<Float> op, float scale, bool vector) {
  constexpr int kColumns = 4 * kWarp;  // of the result, in one pass
  __shared__ float parts[kDecodeWarps][kColumns];
  const int h = blockIdx.x, b = blockIdx.y, D = op.D, g = h / (op.H / op.G), length = op.lengths[b];
  const int first = op.window > 0 && length > op.window ? length - op.window : 0;
  const int64_t step = static_cast<int64_t>(op.G) * D, base = static_cast<int64_t>(b) * op.capacity * step + g * D;
  const Float* __restrict__ q = op.q + static_cast<int64_t>(b) * op.stride + h * D;
  const Float* __restrict__ k = op.k + base;
  const Float* __restrict__ v = op.v + base;
  float* scores = op.scores + (static_cast<int64_t>(b) * op.H + h) * op.capacity;
  const int lane = static_cast<int>(lane_id()), warp = static_cast<int>(warp_id());

  constexpr int kLanes = 8, kAtOnce = kDecodeThreads / kLanes;
  float top = -INFINITY;
  for (int j0 = first; j0 < length; j0 += kAtOnce) {
    const int j = j0 + static_cast<int>(threadIdx.x) / kLanes;
    float s = 0, qv[8], kv[8];
    for (int d = lane % kLanes * 8; d < D && j < length; d += kLanes * 8) {
      load_floats(qv, q + d, D - d, vector);
      load_floats(kv, k + j * step + d, D - d, vector);
#pragma unroll
      for (int i = 0; i < 8; i++) s = fmaf(qv[i], kv[i], s);
    }
    s = warp_sum<kLanes>(s) * scale;
    if (j < length) {
      if (lane % kLanes == 0) scores[j] = s;
      top = Max()(top, s);
    }
  }
  top = block_max<kDecodeThreads>(top);  // its barriers also make the scores visible
  float sum = 0;
  for (int j = first + static_cast<int>(threadIdx.x); j < length; j += kDecodeThreads) {
    scores[j] = expf(scores[j] - top);
    sum += scores[j];
  }
  sum = block_sum<kDecodeThreads>(sum);
  for (int d0 = 0; d0 < D; d0 += kColumns) {
    float out[4] = {};
    for (int j = first + warp; j < length; j += kDecodeWarps) {
      const float p = scores[j];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int d = d0 + lane + i * kWarp;
        if (d < D) out[i] = fmaf(p, to_float(v[j * step + d]), out[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) parts[warp][lane + i * kWarp] = out[i];
    __syncthreads();
    const int d = d0 + static_cast<int>(threadIdx.x);
    if (d < D) {
      float total = 0;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; w++) total += parts[w][threadIdx.x];
      op.out[b * op.out_row() + h * D + d] = from_float<Float>(total / sum);
    }
    __syncthreads();
  }
}

}  // namespace

template <class Float>
void AttentionForward<Float>::cuda(const Device& device) const {
  if (sizes.N == 0) return;
  check_tensor_cores<Float>(device, kName);
  if (attention_with_wgmma(device, *this)) return;
  const int N = sizes.N, H = sizes.H, D = sizes.D, stride = sizes.stride, qk_stride = sizes.qk_stride;
  with_head_size(D, [&](auto d) {
    using T = ForwardTile<Float, decltype(d)::value>;
    const bool vector = vector_heads(q, qk_stride, D) && vector_heads(k, qk_stride, D) && vector_heads(v, stride, D) &&
                        vector_heads(out, sizes.out_row(), D);
    launch<attention_forward_kernel<Float, T::kD>>(attention_grid(H, N, T::kOwn), kAttentionThreads,
                                                   (T::kOwn + 2 * T::kKeys) * T::kPitch * sizeof(Float), stream_of(device), *this,
                                                   static_cast<float>(sizes.scale), vector);
  });
}

template <class Float>
void AttentionDecode<Float>::cuda(const Device& device) const {
  const int64_t cache = int64_t{G} * D;
  const bool vector = vec_aligned<kVec<Float>>(q, stride) && vec_aligned<kVec<Float>>(k, cache) && D % 8 == 0;
  launch<attention_decode_kernel<Float>>(dim3(static_cast<unsigned>(H), static_cast<unsigned>(B)), kDecodeThreads, 0,
                                         stream_of(device), *this, static_cast<float>(scale), vector);
}

TLL_INSTANTIATE_CUDA(AttentionForward)
TLL_INSTANTIATE_CUDA(AttentionDecode)

}  // namespace tll
