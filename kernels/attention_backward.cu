// Three launches. No two blocks write to one place:
//   delta_kernel    a warp owns one row of one head: dout·out
//   keys_kernel     a block owns a tile of keys of one key/value head and streams the queries of all heads of the group: dk, dv
//   queries_kernel  a block owns a tile of queries of one head and streams its keys: dq
// The last two recompute the scores. Tiles that stream are double-buffered; attention_tiles.cuh says which thread owns what.
#include "kernels/attention.h"
#include "kernels/attention_tiles.cuh"

namespace tll {
namespace {

constexpr int kDeltaThreads = 256;

template <class Float>
__global__ void __launch_bounds__(kDeltaThreads) delta_kernel(const __grid_constant__ AttentionBackward<Float> op) {
  const int64_t task = int64_t{blockIdx.x} * (kDeltaThreads / kWarp) + warp_id();  // n·H + h: rows of out as they lie
  if (task >= static_cast<int64_t>(op.sizes.N) * op.sizes.H) return;               // the whole warp
  const Float* __restrict__ out = op.out + task * op.sizes.D;
  const Float* __restrict__ dout = op.dout + task * op.sizes.D;
  float sum = 0;
  for (int d = static_cast<int>(lane_id()); d < op.sizes.D; d += kWarp) sum = fmaf(to_float(dout[d]), to_float(out[d]), sum);
  sum = warp_sum(sum);
  if (lane_id() == 0) op.scratch[task % op.sizes.H * op.sizes.N + task / op.sizes.H] = sum;  // (H, N), as lse
}

// What keys_kernel and queries_kernel have in common. A block owns rows row0 … row0+rows-1 of one side: the two tiles own(0) and
// own(1). The rows of the other side stream by in the tiles stream(0) and stream(1), each with two stages.
template <class Float, int kD>
struct BackwardBlock {
  using T = Tile<Float, kD>;
  static constexpr int kOwn = T::kOwn * T::kPitch, kStage = T::kStream * T::kPitch;  // elements of a tile
  static constexpr size_t kShared = (2 * kOwn + 4 * kStage) * sizeof(Float);         // dynamic shared memory
  const AttentionBackward<Float>& op;
  const bool vector;
  const int N, D, group, row0, rows;
  const int64_t stride, qk_stride, out_stride;
  const Documents documents;

  TLL_DEVICE BackwardBlock(const AttentionBackward<Float>& op_, unsigned tile, bool vector_)
      : op(op_),
        vector(vector_),
        N(op.sizes.N),
        D(op.sizes.D),
        group(op.sizes.H / op.sizes.G),
        row0(static_cast<int>(tile) * T::kOwn),
        rows(N - row0 < T::kOwn ? N - row0 : T::kOwn),
        stride(op.sizes.stride),
        qk_stride(op.sizes.qk_stride),
        out_stride(static_cast<int64_t>(op.sizes.H) * D),
        documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window} {}
  TLL_DEVICE static Float* own(int i) { return dynamic_shared<Float>() + i * kOwn; }
  TLL_DEVICE static Float* stream(int i) { return dynamic_shared<Float>() + 2 * kOwn + i * 2 * kStage; }

  // Rows from i0 on of q and dout of head h; rows from j0 on of k and v of head g. `count` of them exist.
  template <int kRows>
  TLL_DEVICE void load_queries(Float* q_tile, Float* dout_tile, int h, int i0, int count) const {
    T::template load<kRows>(q_tile, op.q + i0 * qk_stride + h * D, qk_stride, count, D, vector);
    T::template load<kRows>(dout_tile, op.dout + i0 * out_stride + h * D, out_stride, count, D, vector);
  }
  template <int kRows>
  TLL_DEVICE void load_keys(Float* k_tile, Float* v_tile, int g, int j0, int count) const {
    T::template load<kRows>(k_tile, op.k + j0 * qk_stride + g * D, qk_stride, count, D, vector);
    T::template load<kRows>(v_tile, op.v + j0 * stride + g * D, stride, count, D, vector);
  }
};

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    keys_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using Block = BackwardBlock<Float, kD>;
  using T = typename Block::T;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = Block::kStage;
  Float *k_tile = Block::own(0), *v_tile = Block::own(1), *q_tiles = Block::stream(0), *dout_tiles = Block::stream(1);
  __shared__ float lse_tiles[2][kStream], delta_tiles[2][kStream];
  const Block block(op, blockIdx.y, vector);  // the first tile has the most queries
  const int N = block.N, group = block.group, g = blockIdx.x, j0 = block.row0, rows = block.rows;
  const float* __restrict__ lse = op.lse;
  const float* __restrict__ delta = op.scratch;

  int first[T::kMine], end[T::kMine];  // queries that see a row
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const bool there = T::row(r) < rows;
    first[r] = j0 + T::row(r);
    end[r] = there ? block.documents.query_end(first[r]) : 0;
  }
  const int queries_end = block.documents.query_end(j0 + rows - 1);
  const int tiles = ceil_div(queries_end - j0, kStream), steps = tiles * group;
  const auto load = [&](int step, int stage) {
    const int h = g * group + step / tiles, i0 = j0 + step % tiles * kStream;
    block.template load_queries<kStream>(q_tiles + stage * kStage, dout_tiles + stage * kStage, h, i0, queries_end - i0);
    const int i = static_cast<int>(threadIdx.x);
    if (i < kStream) {
      const int64_t at = static_cast<int64_t>(h) * N + i0 + i;
      lse_tiles[stage][i] = i0 + i < queries_end ? lse[at] * kLog2e : 0.0f;
      delta_tiles[stage][i] = i0 + i < queries_end ? delta[at] : 0.0f;
    }
  };
  block.template load_keys<T::kOwn>(k_tile, v_tile, g, j0, rows);
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
    T::template matmul_nt<kStream>(p, k_tile, q_tile);
    T::template matmul_nt<kStream>(ds, v_tile, dout_tile);
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
  const int64_t stride = block.stride, at = j0 * stride + g * block.D;
  T::store(op.dk + at, stride, rows, block.D, dk, k_tile, vector, [&](int) { return scale; });
  T::store(op.dv + at, stride, rows, block.D, dv, v_tile, vector, [](int) { return 1.0f; });
}

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    queries_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using Block = BackwardBlock<Float, kD>;
  using T = typename Block::T;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = Block::kStage;
  Float *q_tile = Block::own(0), *dout_tile = Block::own(1), *k_tiles = Block::stream(0), *v_tiles = Block::stream(1);
  const Block block(op, gridDim.y - 1 - blockIdx.y, vector);  // the last tile has the most keys
  const int N = block.N, h = blockIdx.x, g = h / block.group, i0 = block.row0, rows = block.rows;

  int first[T::kMine], last[T::kMine];  // keys that a row sees
  float lse[T::kMine], delta[T::kMine];
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const bool there = T::row(r) < rows;
    const int64_t at = static_cast<int64_t>(h) * N + i0 + T::row(r);
    last[r] = there ? i0 + T::row(r) : -1;
    first[r] = there ? block.documents.first_key(last[r]) : 0;
    lse[r] = there ? op.lse[at] * kLog2e : 0.0f;
    delta[r] = there ? op.scratch[at] : 0.0f;
  }
  const int begin = block.documents.first_key(i0), end = i0 + rows;
  const auto load = [&](int j0, int stage) {
    block.template load_keys<kStream>(k_tiles + stage * kStage, v_tiles + stage * kStage, g, j0, end - j0);
  };
  block.template load_queries<T::kOwn>(q_tile, dout_tile, h, i0, rows);
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
    T::template matmul_nt<kStream>(p, q_tile, k_tiles + stage * kStage);
    T::template matmul_nt<kStream>(ds, dout_tile, v_tiles + stage * kStage);
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const int j = j0 + T::template score_column<kStream>(e), r = T::template score_row<kStream>(e);
      const bool visible = j >= first[r] && j <= last[r];
      ds[e] = visible ? exp2_approx(p[e] * factor - lse[r]) * (ds[e] - delta[r]) : 0.0f;
    }
    T::template accumulate<kStream>(dq, ds, k_tiles + stage * kStage);
  }
  T::store(op.dq + i0 * block.stride + h * block.D, block.stride, rows, block.D, dq, q_tile, vector, [&](int) { return scale; });
}

}  // namespace

template <class Float>
void AttentionBackward<Float>::cuda(const Device& device) const {
  if (sizes.N == 0) return;
  check_tensor_cores<Float>(device, kName);
  const int N = sizes.N, H = sizes.H, G = sizes.G, D = sizes.D, stride = sizes.stride, qk_stride = sizes.qk_stride;
  const cudaStream_t stream_used = stream_of(device);
  launch<delta_kernel<Float>>(blocks_for(int64_t{N} * H, kDeltaThreads / kWarp), kDeltaThreads, 0, stream_used, *this);
  with_head_size(D, [&](auto d) {
    using T = Tile<Float, decltype(d)::value>;
    const size_t shared = BackwardBlock<Float, T::kD>::kShared;
    const bool vector = vector_heads(q, qk_stride, D) && vector_heads(k, qk_stride, D) && vector_heads(v, stride, D) &&
                        vector_heads(dout, int64_t{H} * D, D) && vector_heads(dq, stride, D) && vector_heads(dk, stride, D) &&
                        vector_heads(dv, stride, D);
    const float s = static_cast<float>(sizes.scale);
    launch<keys_kernel<Float, T::kD>>(attention_grid(G, N, T::kOwn), kAttentionThreads, shared, stream_used, *this, s, vector);
    launch<queries_kernel<Float, T::kD>>(attention_grid(H, N, T::kOwn), kAttentionThreads, shared, stream_used, *this, s, vector);
  });
}

TLL_INSTANTIATE_CUDA(AttentionBackward)

}  // namespace tll
