// Three launches, none of which adds to what another block writes:
//   delta_kernel    a warp owns one row of one head: dout·out
//   keys_kernel     a block owns a tile of keys of one key/value head and walks the queries of all heads of the group: dk, dv
//   queries_kernel  a block owns a tile of queries of one head and walks its keys: dq
// Scores are formed again in both. Threads own rows as attention_tiles.cuh says; tiles come one ahead, in two stages.
#include "kernels/attention.h"
#include "kernels/attention_tiles.cuh"

namespace tll {
namespace {

constexpr int kDeltaThreads = 256;

template <class Float>
__global__ void __launch_bounds__(kDeltaThreads) delta_kernel(const __grid_constant__ AttentionBackward<Float> op) {
  const int64_t task = int64_t{blockIdx.x} * (kDeltaThreads / kWarp) + warp_id();  // n·H + h: rows of out as they lie
  if (task >= static_cast<int64_t>(op.N) * op.H) return;                           // the whole warp
  const Float* __restrict__ out = op.out + task * op.D;
  const Float* __restrict__ dout = op.dout + task * op.D;
  float sum = 0;
  for (int d = static_cast<int>(lane_id()); d < op.D; d += kWarp) sum = fmaf(to_float(dout[d]), to_float(out[d]), sum);
  sum = warp_sum(sum);
  if (lane_id() == 0) op.scratch[task % op.H * op.N + task / op.H] = sum;  // (H, N), as lse
}

// Dynamic shared memory: two tiles that stay, and two stages of two tiles that stream.
template <class T>
constexpr int kTileElements = (2 * T::kOwn + 4 * T::kStream) * T::kPitch;

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    keys_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using T = Tile<Float, kD>;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = kStream * T::kPitch;
  Float* k_tile = dynamic_shared<Float>();
  Float* v_tile = k_tile + T::kOwn * T::kPitch;
  Float* q_tiles = v_tile + T::kOwn * T::kPitch;
  Float* dout_tiles = q_tiles + 2 * kStage;
  __shared__ float lse_tiles[2][kStream], delta_tiles[2][kStream];
  const Documents documents{op.cu_seqlens, op.docs, op.window};
  const int N = op.N, D = op.D, H = op.H, group = H / op.G, g = blockIdx.y, j0 = blockIdx.x * T::kOwn;
  const int rows = N - j0 < T::kOwn ? N - j0 : T::kOwn;
  const int64_t stride = op.stride, out_stride = static_cast<int64_t>(H) * D;
  const Float* __restrict__ q = op.q;
  const Float* __restrict__ dout = op.dout;
  const float* __restrict__ lse = op.lse;
  const float* __restrict__ delta = op.scratch;

  int first[T::kMine], end[T::kMine];  // queries that see a row
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const bool there = T::row(r) < rows;
    first[r] = j0 + T::row(r);
    end[r] = there ? documents.query_end(first[r]) : 0;
  }
  const int queries_end = documents.query_end(j0 + rows - 1);
  const int tiles = ceil_div(queries_end - j0, kStream), steps = tiles * group;
  const auto load = [&](int step, int stage) {
    const int h = g * group + step / tiles, i0 = j0 + step % tiles * kStream;
    T::template load<kStream>(q_tiles + stage * kStage, q + i0 * stride + h * D, stride, queries_end - i0, D, vector);
    T::template load<kStream>(dout_tiles + stage * kStage, dout + i0 * out_stride + h * D, out_stride, queries_end - i0, D,
                              vector);
    const int i = static_cast<int>(threadIdx.x);
    if (i < kStream) {
      const int64_t at = static_cast<int64_t>(h) * N + i0 + i;
      lse_tiles[stage][i] = i0 + i < queries_end ? lse[at] * kLog2e : 0.0f;
      delta_tiles[stage][i] = i0 + i < queries_end ? delta[at] : 0.0f;
    }
  };
  T::template load<T::kOwn>(k_tile, op.k + j0 * stride + g * D, stride, rows, D, vector);
  T::template load<T::kOwn>(v_tile, op.v + j0 * stride + g * D, stride, rows, D, vector);
  load(0, 0);
  cp_async_commit();
  float dk[T::kSums] = {}, dv[T::kSums] = {};
  const float factor = scale * kLog2e;
  for (int step = 0; step < steps; step++) {
    const int stage = step % 2, i0 = j0 + step % tiles * kStream;
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (step + 1 < steps) load(step + 1, stage ^ 1);
    cp_async_commit();
    const Float *q_tile = q_tiles + stage * kStage, *dout_tile = dout_tiles + stage * kStage;
    float p[kScores], ds[kScores];
    T::template products<kStream>(p, k_tile, q_tile);
    T::template products<kStream>(ds, v_tile, dout_tile);
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const int column = T::template score_column<kStream>(e), i = i0 + column, r = T::template score_row<kStream>(e);
      const bool visible = i >= first[r] && i < end[r];
      p[e] = visible ? exp2_approx(p[e] * factor - lse_tiles[stage][column]) : 0.0f;
      ds[e] = visible ? p[e] * (ds[e] - delta_tiles[stage][column]) : 0.0f;
    }
    T::template accumulate<kStream>(dv, p, dout_tile);
    T::template accumulate<kStream>(dk, ds, q_tile);
  }
  T::store(op.dk + j0 * stride + g * D, stride, rows, D, dk, k_tile, vector, [&](int) { return scale; });
  T::store(op.dv + j0 * stride + g * D, stride, rows, D, dv, v_tile, vector, [](int) { return 1.0f; });
}

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    queries_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using T = Tile<Float, kD>;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = kStream * T::kPitch;
  Float* q_tile = dynamic_shared<Float>();
  Float* dout_tile = q_tile + T::kOwn * T::kPitch;
  Float* k_tiles = dout_tile + T::kOwn * T::kPitch;
  Float* v_tiles = k_tiles + 2 * kStage;
  const Documents documents{op.cu_seqlens, op.docs, op.window};
  const int N = op.N, D = op.D, H = op.H, h = blockIdx.y, g = h / (H / op.G);
  const int i0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) * T::kOwn, rows = N - i0 < T::kOwn ? N - i0 : T::kOwn;
  const int64_t stride = op.stride, out_stride = static_cast<int64_t>(H) * D;
  const Float* __restrict__ k = op.k + g * D;
  const Float* __restrict__ v = op.v + g * D;

  int first[T::kMine], last[T::kMine];  // keys that a row sees
  float lse[T::kMine], delta[T::kMine];
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const bool there = T::row(r) < rows;
    const int64_t at = static_cast<int64_t>(h) * N + i0 + T::row(r);
    last[r] = there ? i0 + T::row(r) : -1;
    first[r] = there ? documents.first_key(last[r]) : 0;
    lse[r] = there ? op.lse[at] * kLog2e : 0.0f;
    delta[r] = there ? op.scratch[at] : 0.0f;
  }
  const int begin = documents.first_key(i0), end = i0 + rows;
  const auto load = [&](int j0, int stage) {
    T::template load<kStream>(k_tiles + stage * kStage, k + j0 * stride, stride, end - j0, D, vector);
    T::template load<kStream>(v_tiles + stage * kStage, v + j0 * stride, stride, end - j0, D, vector);
  };
  T::template load<T::kOwn>(q_tile, op.q + i0 * stride + h * D, stride, rows, D, vector);
  T::template load<T::kOwn>(dout_tile, op.dout + i0 * out_stride + h * D, out_stride, rows, D, vector);
  load(begin, 0);
  cp_async_commit();
  float dq[T::kSums] = {};
  const float factor = scale * kLog2e;
  for (int j0 = begin, stage = 0; j0 < end; j0 += kStream, stage ^= 1) {
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (j0 + kStream < end) load(j0 + kStream, stage ^ 1);
    cp_async_commit();
    float p[kScores], ds[kScores];
    T::template products<kStream>(p, q_tile, k_tiles + stage * kStage);
    T::template products<kStream>(ds, dout_tile, v_tiles + stage * kStage);
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const int j = j0 + T::template score_column<kStream>(e), r = T::template score_row<kStream>(e);
      const bool visible = j >= first[r] && j <= last[r];
      ds[e] = visible ? exp2_approx(p[e] * factor - lse[r]) * (ds[e] - delta[r]) : 0.0f;
    }
    T::template accumulate<kStream>(dq, ds, k_tiles + stage * kStage);
  }
  T::store(op.dq + i0 * stride + h * D, stride, rows, D, dq, q_tile, vector, [&](int) { return scale; });
}

}  // namespace

template <class Float>
void AttentionBackward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  check_tensor_cores<Float>(device, kName);
  const cudaStream_t stream_used = stream_of(device);
  launch<delta_kernel<Float>>(blocks_for(int64_t{N} * H, kDeltaThreads / kWarp), kDeltaThreads, 0, stream_used, *this);
  with_head_size(D, [&](auto d) {
    using T = Tile<Float, decltype(d)::value>;
    const unsigned tiles = static_cast<unsigned>((N + T::kOwn - 1) / T::kOwn);
    const size_t shared = kTileElements<T> * sizeof(Float);
    const bool vector = vector_heads(q, stride, D) && vector_heads(k, stride, D) && vector_heads(v, stride, D) &&
                        vector_heads(dout, int64_t{H} * D, D) && vector_heads(dq, stride, D) && vector_heads(dk, stride, D) &&
                        vector_heads(dv, stride, D);
    const float s = static_cast<float>(scale);
    launch<keys_kernel<Float, T::kD>>(dim3(tiles, static_cast<unsigned>(G)), kAttentionThreads, shared, stream_used, *this, s,
                                      vector);
    launch<queries_kernel<Float, T::kD>>(dim3(tiles, static_cast<unsigned>(H)), kAttentionThreads, shared, stream_used, *this, s,
                                         vector);
  });
}

TLL_INSTANTIATE_CUDA(AttentionBackward)

}  // namespace tll
