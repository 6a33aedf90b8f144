// Backward for sm_90: keys_wgmma_kernel and queries_wgmma_kernel do what keys_kernel and queries_kernel of attention_backward.cu
// do. A block is one warpgroup and owns 64 rows of one side; tiles of 64 rows of the other stream by, with two stages. S and dP
// read both sides from shared memory. P and dS, in registers, are the left operand of what is summed up. While the tensor cores
// compute dP, the warps compute P of S.
#include "kernels/attention_tiles.cuh"
#include "kernels/attention_wgmma.h"
#include "kernels/wgmma_tiles.cuh"

namespace tll {
namespace {

template <class Float, int kD_>
struct BackwardTiles {
  static constexpr int kD = kD_, kOwn = 64;  // rows of a tile, the block's own and those that stream by
  using Tile = PanelTile<Float, kOwn, kD, kWarpgroup>;
  static constexpr int kElements = Tile::kElements;
  static constexpr size_t kShared = kPanelAlign - 16 + 6 * kElements * sizeof(Float);  // own(0), own(1), two stages of two tiles
};

#ifdef TLL_WGMMA
// The left operand of sixteen columns from k on, of accumulators that are rounded.
template <class Float, int kCount>
TLL_DEVICE void left_operand(uint32_t (&a)[4], const float (&s)[kCount], int k) {
#pragma unroll
  for (int r = 0; r < 4; r++) a[r] = pack2<Float>(s[k / 2 + 2 * r], s[k / 2 + 2 * r + 1]);
}
// s = X·Yᵀ of two tiles by their descriptors, as a batch of its own.
template <class Float, class T>
TLL_DEVICE void issue_nt(float (&s)[T::kOwn / 2], uint64_t x, uint64_t y) {
  wgmma_fence();
#pragma unroll
  for (int c = 0; c < T::kD; c += 16) wgmma_ss<Float>(s, x + T::Tile::columns_on(c), y + T::Tile::columns_on(c), c > 0);
  wgmma_commit();
}
// sums += s·Y
template <class Float, class T>
TLL_DEVICE void issue_accumulate(float (&sums)[T::kD / 2], const float (&s)[T::kOwn / 2], uint64_t y) {
  uint32_t a[T::kOwn / 16][4];
#pragma unroll
  for (int k = 0; k < T::kOwn; k += 16) left_operand<Float>(a[k / 16], s, k);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < T::kOwn; k += 16) wgmma_rs<Float>(sums, a[k / 16], y + T::Tile::rows_on(k));
  wgmma_commit();
}
#endif

// The grid: groups, their parts, tiles.
template <class Float, int kD>
__global__ void __launch_bounds__(kWarpgroup, 2)
    keys_wgmma_kernel(const __grid_constant__ AttentionBackward<Float> op, int part_heads, float scale, bool vector) {
#ifdef TLL_WGMMA
  using T = BackwardTiles<Float, kD>;
  using Tile = typename T::Tile;
  constexpr int kOwn = T::kOwn, kScores = kOwn / 2, kElements = T::kElements;
  Float *k_tile = panel_begin(dynamic_shared<Float>()), *v_tile = k_tile + kElements, *stages = v_tile + kElements;  // q, dout
  __shared__ __align__(16) float row_tiles[2][2 * kOwn];  // of the queries, as in scratch
  const int N = op.sizes.N, D = op.sizes.D, group = op.sizes.H / op.sizes.G, g = blockIdx.x;
  const int j0 = static_cast<int>(blockIdx.z) * kOwn,
            rows = N - j0 < kOwn ? N - j0 : kOwn;  // the first tile has the most queries
  const int64_t stride = op.sizes.stride, qk_stride = op.sizes.qk_stride, dout_stride = static_cast<int64_t>(op.sizes.H) * D;
  const Documents documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window};
  __shared__ int end[kOwn];  // queries j … end-1 see row j
  if (const int i = static_cast<int>(threadIdx.x); i < kOwn) end[i] = i < rows ? documents.query_end(j0 + i) : 0;
  const int queries_end = documents.query_end(j0 + rows - 1);
  const auto load = [&](int h, int i0, int stage) {
    Float* tile = stages + stage * 2 * kElements;
    Tile::load(tile, op.q + i0 * qk_stride + h * D, qk_stride, queries_end - i0, D, vector);
    Tile::load(tile + kElements, op.dout + i0 * dout_stride + h * D, dout_stride, queries_end - i0, D, vector);
    static_assert(2 * kOwn == kWarpgroup, "a thread copies one value of the rows");
    const int i = static_cast<int>(threadIdx.x);
    cp_async_4(row_tiles[stage] + i, op.scratch + 2 * (static_cast<int64_t>(h) * N + i0) + i, i0 + i / 2 < queries_end ? 4 : 0);
  };
  int h = g * group + static_cast<int>(blockIdx.y) * part_heads, i0 = j0;
  const int group_end = (g + 1) * group, heads_end = h + part_heads < group_end ? h + part_heads : group_end;
  Tile::load(k_tile, op.k + j0 * qk_stride + g * D, qk_stride, rows, D, vector);
  Tile::load(v_tile, op.v + j0 * stride + g * D, stride, rows, D, vector);
  load(h, i0, 0);
  cp_async_commit();
  float dk[kD / 2] = {}, dv[kD / 2] = {};
  const float factor = scale * kLog2e;
  for (int stage = 0; h < heads_end; stage ^= 1) {
    const bool last_of_head = i0 + kOwn >= queries_end;
    const int next_h = h + last_of_head, next_i0 = last_of_head ? j0 : i0 + kOwn;
    cp_async_wait_group<0>();
    proxy_fence();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (next_h < heads_end) load(next_h, next_i0, stage ^ 1);
    cp_async_commit();
    const Float *q_tile = stages + stage * 2 * kElements, *dout_tile = q_tile + kElements;
    const float* rows_of_stage = row_tiles[stage];
    const int thread = static_cast<int>(threadIdx.x);
    float p[kScores], ds[kScores];
    issue_nt<Float, T>(p, Tile::k_major(k_tile), Tile::k_major(q_tile));
    issue_nt<Float, T>(ds, Tile::k_major(v_tile), Tile::k_major(dout_tile));
    wgmma_wait<1>();
    wgmma_results(p);
    if (i0 < j0 + kOwn - 1 || i0 + kOwn > end[0]) {
      const int row = accumulator_row(thread, 0), ends[2] = {end[row], end[row + 8]};
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int i = i0 + accumulator_column(thread, e), r = e / 2 % 2;
        p[e] = i < j0 + row + 8 * r || i >= ends[r] ? -INFINITY : p[e];
      }
    }
#pragma unroll
    for (int e = 0; e < kScores; e++) p[e] = exp2_approx(fmaf(p[e], factor, -rows_of_stage[2 * accumulator_column(thread, e)]));
    wgmma_wait<0>();
    wgmma_results(ds);
#pragma unroll
    for (int e = 0; e < kScores; e++) ds[e] = p[e] * (ds[e] - rows_of_stage[2 * accumulator_column(thread, e) + 1]);
    issue_accumulate<Float, T>(dv, p, Tile::mn_major(dout_tile));
    issue_accumulate<Float, T>(dk, ds, Tile::mn_major(q_tile));
    wgmma_wait<0>();
    wgmma_results(dv);
    wgmma_results(dk);
    h = next_h, i0 = next_i0;
  }
  if (gridDim.y > 1) return leave_part(op, dk, dv);
  __syncthreads();  // nobody reads the keys and values any more
  const int64_t d_stride = op.sizes.d_row(), at = j0 * d_stride + g * D;
  Tile::store(op.dk + at, d_stride, rows, D, dk, k_tile, vector, [&](int) { return scale; });
  Tile::store(op.dv + at, d_stride, rows, D, dv, v_tile, vector, [](int) { return 1.0f; });
#endif
}

template <class Float, int kD>
__global__ void __launch_bounds__(kWarpgroup, kD <= 64 ? 3 : 2)
    queries_wgmma_kernel(const __grid_constant__ AttentionBackward<Float> op, float scale, bool vector) {
#ifdef TLL_WGMMA
  using T = BackwardTiles<Float, kD>;
  using Tile = typename T::Tile;
  constexpr int kOwn = T::kOwn, kScores = kOwn / 2, kElements = T::kElements;
  Float *q_tile = panel_begin(dynamic_shared<Float>()), *dout_tile = q_tile + kElements, *stages = dout_tile + kElements;  // k, v
  const int N = op.sizes.N, D = op.sizes.D, h = blockIdx.x, g = h / (op.sizes.H / op.sizes.G);
  const int i0 = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kOwn,
            rows = N - i0 < kOwn ? N - i0 : kOwn;  // the last tile has the most keys
  const int64_t stride = op.sizes.stride, qk_stride = op.sizes.qk_stride, dout_stride = static_cast<int64_t>(op.sizes.H) * D;
  const Documents documents{op.sizes.cu_seqlens, op.sizes.docs, op.sizes.window};
  const int thread = static_cast<int>(threadIdx.x);
  int first[2];  // row i sees the keys first … i
  float lse[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const bool there = accumulator_row(thread, r) < rows;
    const float* row = op.scratch + 2 * (static_cast<int64_t>(h) * N + i0 + accumulator_row(thread, r));
    first[r] = there ? documents.first_key(i0 + accumulator_row(thread, r)) : 0;
    lse[r] = there ? row[0] : 0.0f;
    delta[r] = there ? row[1] : 0.0f;
  }
  const int begin = documents.first_key(i0), end = i0 + rows, first_of_last = documents.first_key(end - 1);
  const auto load = [&](int j0, int stage) {
    Float* tile = stages + stage * 2 * kElements;
    Tile::load(tile, op.k + j0 * qk_stride + g * D, qk_stride, end - j0, D, vector);
    Tile::load(tile + kElements, op.v + j0 * stride + g * D, stride, end - j0, D, vector);
  };
  Tile::load(q_tile, op.q + i0 * qk_stride + h * D, qk_stride, rows, D, vector);
  Tile::load(dout_tile, op.dout + i0 * dout_stride + h * D, dout_stride, rows, D, vector);
  load(begin, 0);
  cp_async_commit();
  float dq[kD / 2] = {};
  const float factor = scale * kLog2e;
  for (int j0 = begin, stage = 0; j0 < end; j0 += kOwn, stage ^= 1) {
    cp_async_wait_group<0>();
    proxy_fence();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (j0 + kOwn < end) load(j0 + kOwn, stage ^ 1);
    cp_async_commit();
    const Float *k_tile = stages + stage * 2 * kElements, *v_tile = k_tile + kElements;
    float p[kScores], ds[kScores];
    issue_nt<Float, T>(p, Tile::k_major(q_tile), Tile::k_major(k_tile));
    issue_nt<Float, T>(ds, Tile::k_major(dout_tile), Tile::k_major(v_tile));
    wgmma_wait<1>();
    wgmma_results(p);
    if (j0 + kOwn - 1 > i0 || j0 < first_of_last) {
#pragma unroll
      for (int e = 0; e < kScores; e++) {
        const int r = e / 2 % 2, j = j0 + accumulator_column(thread, e);
        p[e] = j > i0 + accumulator_row(thread, r) || j < first[r] ? -INFINITY : p[e];
      }
    }
#pragma unroll
    for (int e = 0; e < kScores; e++) p[e] = exp2_approx(fmaf(p[e], factor, -lse[e / 2 % 2]));
    wgmma_wait<0>();
    wgmma_results(ds);
#pragma unroll
    for (int e = 0; e < kScores; e++) ds[e] = p[e] * (ds[e] - delta[e / 2 % 2]);
    issue_accumulate<Float, T>(dq, ds, Tile::mn_major(k_tile));
    wgmma_wait<0>();
    wgmma_results(dq);
  }
  __syncthreads();  // nobody reads the queries any more
  const int64_t d_stride = op.sizes.d_row();
  Tile::store(op.dq + i0 * d_stride + h * D, d_stride, rows, D, dq, q_tile, vector, [&](int) { return scale; });
#endif
}

}  // namespace

template <class Float>
bool attention_with_wgmma(const Device& device, const AttentionBackward<Float>& op) {
  if constexpr (std::is_same_v<Float, float>) {
    return false;
  } else {
    if (!wgmma_allowed(device)) return false;
    const AttentionSizes& s = op.sizes;
    with_panels(s.D, [&](auto d) {
      using T = BackwardTiles<Float, decltype(d)::value>;
      const bool vector = vector_heads(op.q, s.qk_stride, s.D) && vector_heads(op.k, s.qk_stride, s.D) &&
                          vector_heads(op.v, s.stride, s.D) && vector_heads(op.dout, int64_t{s.H} * s.D, s.D) &&
                          vector_heads(op.dq, s.d_row(), s.D) && vector_heads(op.dk, s.d_row(), s.D) &&
                          vector_heads(op.dv, s.d_row(), s.D);
      const auto scale = static_cast<float>(s.scale);
      const cudaStream_t stream = stream_of(device);
      static_assert(T::kOwn == kPartKeys && kWarpgroup == kAttentionThreads, "the parts are those of keys_kernel");
      const GroupParts split = group_parts(s.N, s.H, s.G);
      const dim3 grid(static_cast<unsigned>(s.G), static_cast<unsigned>(split.parts), attention_grid(s.G, s.N, T::kOwn).y);
      launch<keys_wgmma_kernel<Float, T::kD>>(grid, kWarpgroup, T::kShared, stream, op, split.heads, scale, vector);
      if (split.parts > 1) add_parts<Float, T::kD>(device, op, split.parts, vector);
      launch<queries_wgmma_kernel<Float, T::kD>>(attention_grid(s.H, s.N, T::kOwn), kWarpgroup, T::kShared, stream, op, scale,
                                                 vector);
    });
    return true;
  }
}
template bool attention_with_wgmma(const Device&, const AttentionBackward<float>&);
template bool attention_with_wgmma(const Device&, const AttentionBackward<bf16>&);
template bool attention_with_wgmma(const Device&, const AttentionBackward<half>&);

}  // namespace tll
