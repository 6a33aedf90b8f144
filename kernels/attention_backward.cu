// Three launches, or four. No two blocks write to one place:
//   delta_kernel      a warp owns one row of one head: delta = dout·out, to scratch with the row's lse
//   keys_kernel       a block owns a tile of keys of one key/value head and streams the queries of the heads of its group: dk, dv
//   add_parts_kernel  where the heads of a group are in parts (GroupParts), with blocks of their own, which leave their sums in
//                     scratch: a block adds those of a tile of dk or dv, in order
//   queries_kernel    a block owns a tile of queries of one head and streams its keys: dq
// Keys and queries each recompute the scores. Tiles that stream are double-buffered; attention_tiles.cuh says which thread owns
// what.
#include "kernels/attention.h"
#include "kernels/attention_tiles.cuh"
#include "kernels/attention_wgmma.h"

namespace tll {
namespace {

constexpr int kDeltaThreads = 256;

// scratch (H, N, 2): lse·log2(e) and delta of each row.
template <class Float>
__global__ void __launch_bounds__(kDeltaThreads) delta_kernel(const __grid_constant__ AttentionBackward<Float> op) {
  const int64_t task = int64_t{blockIdx.x} * (kDeltaThreads / kWarp) + warp_id();  // n·H + h: rows of dout as they lie
  if (task >= static_cast<int64_t>(op.sizes.N) * op.sizes.H) return;               // the whole warp
  const int64_t n = task / op.sizes.H, h = task % op.sizes.H;
  const Float* __restrict__ out = op.out + n * op.sizes.out_row() + h * op.sizes.D;
  const Float* __restrict__ dout = op.dout + task * op.sizes.D;
  float sum = 0;
  for (int d = static_cast<int>(lane_id()); d < op.sizes.D; d += kWarp) sum = fmaf(to_float(dout[d]), to_float(out[d]), sum);
  sum = warp_sum(sum);
  if (lane_id() == 0) {
    const int64_t at = h * op.sizes.N + n;
    op.scratch[2 * at] = op.lse[at] * kLog2e;
    op.scratch[2 * at + 1] = sum;
  }
}

// Whether the block's own rows stay in registers (Tile::Own). That saves between a fifth (keys_kernel, kStream 32) and two fifths
// (queries_kernel, kStream 16) of the loops' ldmatrix, which they wait for. On sm_75 the keys and values of head size 128 spill.
template <class Float>
constexpr bool kHoldQueries = !std::is_same_v<Float, float>;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class Float, int kD>
constexpr bool kHoldKeys = kHoldQueries<Float> && (kD <= 96);
#else
template <class Float, int kD>
constexpr bool kHoldKeys = kHoldQueries<Float>;
#endif

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
  const int64_t stride, qk_stride, dout_stride;
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
        dout_stride(static_cast<int64_t>(op.sizes.H) * D),
        documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window} {}
  TLL_DEVICE static Float* own(int i) { return dynamic_shared<Float>() + i * kOwn; }
  TLL_DEVICE static Float* stream(int i) { return dynamic_shared<Float>() + 2 * kOwn + i * 2 * kStage; }

  // Rows from i0 on of q and dout of head h; rows from j0 on of k and v of head g. `count` of them exist.
  template <int kRows>
  TLL_DEVICE void load_queries(Float* q_tile, Float* dout_tile, int h, int i0, int count) const {
    T::template load<kRows>(q_tile, op.q + i0 * qk_stride + h * D, qk_stride, count, D, vector);
    T::template load<kRows>(dout_tile, op.dout + i0 * dout_stride + h * D, dout_stride, count, D, vector);
  }
  template <int kRows>
  TLL_DEVICE void load_keys(Float* k_tile, Float* v_tile, int g, int j0, int count) const {
    T::template load<kRows>(k_tile, op.k + j0 * qk_stride + g * D, qk_stride, count, D, vector);
    T::template load<kRows>(v_tile, op.v + j0 * stride + g * D, stride, count, D, vector);
  }
};

// The grid: groups, their parts, tiles.
template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    keys_kernel(const __grid_constant__ AttentionBackward<Float> op, int part_heads, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using Block = BackwardBlock<Float, kD>;
  using T = typename Block::T;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = Block::kStage;
  Float *k_tile = Block::own(0), *v_tile = Block::own(1), *q_tiles = Block::stream(0), *dout_tiles = Block::stream(1);
  __shared__ __align__(16) float row_tiles[2][2 * kStream];  // of the queries, as in scratch
  const Block block(op, blockIdx.z, vector);                 // the first tile has the most queries
  const int N = block.N, g = blockIdx.x, j0 = block.row0, rows = block.rows;
  int end[T::kMine];  // queries j … end-1 see row j
#pragma unroll
  for (int r = 0; r < T::kMine; r++) end[r] = T::row(r) < rows ? block.documents.query_end(j0 + T::row(r)) : 0;
  const int end_of_first = block.documents.query_end(j0), queries_end = block.documents.query_end(j0 + rows - 1);
  const auto load = [&](int h, int i0, int stage) {
    block.template load_queries<kStream>(q_tiles + stage * kStage, dout_tiles + stage * kStage, h, i0, queries_end - i0);
    const int i = static_cast<int>(threadIdx.x);
    if (i < 2 * kStream)
      cp_async_4(row_tiles[stage] + i, op.scratch + 2 * (static_cast<int64_t>(h) * N + i0) + i, i0 + i / 2 < queries_end ? 4 : 0);
  };
  int h = g * block.group + static_cast<int>(blockIdx.y) * part_heads, i0 = j0;
  const int group_end = (g + 1) * block.group, heads_end = h + part_heads < group_end ? h + part_heads : group_end;
  block.template load_keys<T::kOwn>(k_tile, v_tile, g, j0, rows);
  cp_async_commit();
  load(h, i0, 0);
  cp_async_commit();
  cp_async_wait_group<1>();
  __syncthreads();  // the keys and values are there
  const typename T::template Own<kHoldKeys<Float, kD>> keys(k_tile), values(v_tile);
  float dk[T::kSums] = {}, dv[T::kSums] = {};
  const float factor = scale * kLog2e;
  for (int stage = 0; h < heads_end; stage ^= 1) {
    const bool last_of_head = i0 + kStream >= queries_end;
    const int next_h = h + last_of_head, next_i0 = last_of_head ? j0 : i0 + kStream;
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (next_h < heads_end) load(next_h, next_i0, stage ^ 1);
    cp_async_commit();
    const Float *q_tile = q_tiles + stage * kStage, *dout_tile = dout_tiles + stage * kStage;
    float p[kScores], ds[kScores];
    T::template matmul_nt<kStream>(p, keys, q_tile);
    T::template matmul_nt<kStream>(ds, values, dout_tile);
    if (i0 < j0 + T::kOwn - 1 || i0 + kStream > end_of_first) {
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int i = i0 + T::template score_column<kStream>(e), r = T::template score_row<kStream>(e);
        p[e] = i < j0 + T::row(r) || i >= end[r] ? -INFINITY : p[e];
      }
    }
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const Vec<float, 2> row = load_vec<2>(row_tiles[stage] + 2 * T::template score_column<kStream>(e));
      p[e] = exp2_approx(fmaf(p[e], factor, -row[0]));
      ds[e] = p[e] * (ds[e] - row[1]);
    }
    T::template accumulate<kStream>(dv, p, dout_tile);
    T::template accumulate<kStream>(dk, ds, q_tile);
    h = next_h, i0 = next_i0;
  }
  if (gridDim.y > 1) {  // parts
    leave_part(op, dk, dv);
    return;
  }
  const int64_t stride = op.sizes.d_row(), at = j0 * stride + g * block.D;
  T::store(op.dk + at, stride, rows, block.D, dk, k_tile, vector, [&](int) { return scale; });
  T::store(op.dv + at, stride, rows, block.D, dv, v_tile, vector, [](int) { return 1.0f; });
}

// The grid: groups, dk and dv, tiles.
template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads)
    add_parts_kernel(const __grid_constant__ AttentionBackward<Float> op, int parts, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using T = Tile<Float, kD>;
  __shared__ __align__(16) Float tile[T::kOwn * T::kPitch];
  float sums[T::kSums] = {};
  for (int part = 0; part < parts; part++) {
    const float* from = part_sums<T::kSums>(op, part, parts, blockIdx.y);
#pragma unroll
    for (int e = 0; e < T::kSums; e++) sums[e] += from[e * kAttentionThreads];
  }
  const int j0 = static_cast<int>(blockIdx.z) * T::kOwn, left = op.sizes.N - j0, D = op.sizes.D;
  const int64_t stride = op.sizes.d_row(), at = j0 * stride + static_cast<int64_t>(blockIdx.x) * D;
  const bool values = blockIdx.y > 0;
  T::store((values ? op.dv : op.dk) + at, stride, left < T::kOwn ? left : T::kOwn, D, sums, tile, vector,
           [&](int) { return values ? 1.0f : scale; });
}

template <class Float, int kD>
__global__ void __launch_bounds__(kAttentionThreads, kD <= 64 ? 3 : 2)
    queries_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using Block = BackwardBlock<Float, kD>;
  using T = typename Block::T;
  constexpr int kStream = T::kStream, kScores = T::template kScores<kStream>, kStage = Block::kStage;
  Float *q_tile = Block::own(0), *dout_tile = Block::own(1), *k_tiles = Block::stream(0), *v_tiles = Block::stream(1);
  const Block block(op, gridDim.y - 1 - blockIdx.y, vector);  // the last tile has the most keys
  const int N = block.N, h = blockIdx.x, g = h / block.group, i0 = block.row0, rows = block.rows;

  int first[T::kMine];  // row i sees the keys first … i
  float lse[T::kMine], delta[T::kMine];
#pragma unroll
  for (int r = 0; r < T::kMine; r++) {
    const bool there = T::row(r) < rows;
    const float* row = op.scratch + 2 * (static_cast<int64_t>(h) * N + i0 + T::row(r));
    first[r] = there ? block.documents.first_key(i0 + T::row(r)) : 0;
    lse[r] = there ? row[0] : 0.0f;
    delta[r] = there ? row[1] : 0.0f;
  }
  const int begin = block.documents.first_key(i0), end = i0 + rows, first_of_last = block.documents.first_key(end - 1);
  const auto load = [&](int j0, int stage) {
    block.template load_keys<kStream>(k_tiles + stage * kStage, v_tiles + stage * kStage, g, j0, end - j0);
  };
  block.template load_queries<T::kOwn>(q_tile, dout_tile, h, i0, rows);
  cp_async_commit();
  load(begin, 0);
  cp_async_commit();
  cp_async_wait_group<1>();
  __syncthreads();  // the queries and their dout are there
  const typename T::template Own<kHoldQueries<Float>> queries(q_tile), douts(dout_tile);
  float dq[T::kSums] = {};
  const float factor = scale * kLog2e;
  for (int j0 = begin, stage = 0; j0 < end; j0 += kStream, stage ^= 1) {
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (j0 + kStream < end) load(j0 + kStream, stage ^ 1);
    cp_async_commit();
    float p[kScores], ds[kScores];
    T::template matmul_nt<kStream>(p, queries, k_tiles + stage * kStage);
    T::template matmul_nt<kStream>(ds, douts, v_tiles + stage * kStage);
    if (j0 + kStream - 1 > i0 || j0 < first_of_last) {
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int j = j0 + T::template score_column<kStream>(e), r = T::template score_row<kStream>(e);
        p[e] = j > i0 + T::row(r) || j < first[r] ? -INFINITY : p[e];
      }
    }
#pragma unroll
    for (int e = 0; e < kScores; e++) {
      const int r = T::template score_row<kStream>(e);
      ds[e] = exp2_approx(fmaf(p[e], factor, -lse[r])) * (ds[e] - delta[r]);
    }
    T::template accumulate<kStream>(dq, ds, k_tiles + stage * kStage);
  }
  const int64_t stride = op.sizes.d_row();
  T::store(op.dq + i0 * stride + h * block.D, stride, rows, block.D, dq, q_tile, vector, [&](int) { return scale; });
}

}  // namespace

template <class Float, int kD>
void add_parts(const Device& device, const AttentionBackward<Float>& op, int parts, bool vector) {
  const AttentionSizes& s = op.sizes;
  const dim3 grid(static_cast<unsigned>(s.G), 2, attention_grid(s.G, s.N, Tile<Float, kD>::kOwn).y);
  launch<add_parts_kernel<Float, kD>>(grid, kAttentionThreads, 0, stream_of(device), op, parts, static_cast<float>(s.scale),
                                      vector);
}
template void add_parts<bf16, 64>(const Device&, const AttentionBackward<bf16>&, int, bool);
template void add_parts<bf16, 128>(const Device&, const AttentionBackward<bf16>&, int, bool);
template void add_parts<half, 64>(const Device&, const AttentionBackward<half>&, int, bool);
template void add_parts<half, 128>(const Device&, const AttentionBackward<half>&, int, bool);

template <class Float>
void AttentionBackward<Float>::cuda(const Device& device) const {
  if (sizes.N == 0) return;
  check_tensor_cores<Float>(device, kName);
  const int N = sizes.N, H = sizes.H, G = sizes.G, D = sizes.D, stride = sizes.stride, qk_stride = sizes.qk_stride;
  const cudaStream_t stream_used = stream_of(device);
  launch<delta_kernel<Float>>(blocks_for(int64_t{N} * H, kDeltaThreads / kWarp), kDeltaThreads, 0, stream_used, *this);
  if (attention_with_wgmma(device, *this)) return;
  with_head_size(D, [&](auto d) {
    using T = Tile<Float, decltype(d)::value>;
    const size_t shared = BackwardBlock<Float, T::kD>::kShared;
    const bool vector = vector_heads(q, qk_stride, D) && vector_heads(k, qk_stride, D) && vector_heads(v, stride, D) &&
                        vector_heads(dout, int64_t{H} * D, D) && vector_heads(dq, sizes.d_row(), D) &&
                        vector_heads(dk, sizes.d_row(), D) && vector_heads(dv, sizes.d_row(), D);
    const float s = static_cast<float>(sizes.scale);
    const unsigned tiles = attention_grid(G, N, T::kOwn).y, groups = static_cast<unsigned>(G);
    const GroupParts split = group_parts(N, H, G);
    launch<keys_kernel<Float, T::kD>>(dim3(groups, static_cast<unsigned>(split.parts), tiles), kAttentionThreads, shared,
                                      stream_used, *this, split.heads, s, vector);
    if (split.parts > 1) add_parts<Float, T::kD>(device, *this, split.parts, vector);
    launch<queries_kernel<Float, T::kD>>(attention_grid(H, N, T::kOwn), kAttentionThreads, shared, stream_used, *this, s, vector);
  });
}

TLL_INSTANTIATE_CUDA(AttentionBackward)

}  // namespace tll
