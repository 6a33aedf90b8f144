// Large matmuls go to cuBLASLt where it is installed (cublas_lt.h). Which of the four kernels here runs depends on sizes and
// types alone, so the bits do not depend on where operands lie.
//
//   dot_rows_kernel     up to 8 rows (generation). A warp owns one column of the result, which is one row of the weight. It reads
//                       that row once, 8 elements a lane at a time.
//   matmul_mma_kernel   both operands bf16, or both fp16: tensor cores. A block owns a tile of the result, a warp 64 x 32 or
//                       32 x 32 of it, in the accumulators of m16n8k16. Tiles of 32 along inner are double-buffered by cp.async.
//   matmul_fma_kernel   all other types, and bf16 before sm_80. A block owns 64 x 64, a thread 4 x 4. Operands become float in
//                       shared memory.
//   add_splits_kernel   the reduction of split-K, which is used where tiles are few and inner is long. A thread adds the parts
//                       of four results, in order.
//
// A tile lies in shared memory as it lies in global memory; ldmatrix transposes it.
#include <algorithm>

#include "kernels/any_type.cuh"
#include "kernels/cublas_lt.h"

namespace tll {
namespace {

constexpr int kInnerTile = 32;

// A launch with split-K: blocks of blockIdx.z sum that part of inner, to `partial` (splits, rows, cols) if there are several.
struct Part {
  Matmul<float> op;
  int splits, inner_split;  // elements of inner in a part
  float* partial;
  bool vector_out, vector_partial;  // rows are aligned for 128-bit accesses
};

// Epilogue: out[row, col …] = or += alpha · sums, rounded once. Columns beyond the last are left out.
template <class Out, int kCount>
TLL_DEVICE void store_as(const Matmul<float>& op, int64_t row, int64_t col, const float (&sums)[kCount], bool vector) {
  const int64_t place = row * op.out.stride + col;
  Out* at = static_cast<Out*>(op.out.data) + place;
  const float alpha = static_cast<float>(op.alpha);
  float values[kCount] = {};
  if (op.accumulate)
    load_floats(values, static_cast<const Out*>(op.addend ? op.addend : op.out.data) + place, op.cols() - col, vector);
#pragma unroll
  for (int i = 0; i < kCount; i++) values[i] = alpha * sums[i] + values[i];
  store_floats(at, values, op.cols() - col, vector);
}
template <int kCount>
TLL_DEVICE void store_results(const Matmul<float>& op, int64_t row, int64_t col, const float (&sums)[kCount], bool vector) {
  switch (op.out.dtype) {
    case DType::f32:
      return store_as<float>(op, row, col, sums, vector);
    case DType::bf16:
      return store_as<bf16>(op, row, col, sums, vector);
    default:
      return store_as<half>(op, row, col, sums, vector);
  }
}
template <int kCount>
TLL_DEVICE void store_part(const Part& part, int64_t row, int64_t col, const float (&sums)[kCount]) {
  if (row >= part.op.rows() || col >= part.op.cols()) return;
  if (part.splits == 1)
    store_results(part.op, row, col, sums, part.vector_out);
  else
    store_floats(part.partial + (static_cast<int64_t>(blockIdx.z) * part.op.rows() + row) * part.op.cols() + col, sums,
                 part.op.cols() - col, part.vector_partial);
}

constexpr int kAddThreads = 256, kAddOwn = 4;

// A thread owns four neighbours of a row.
__global__ void __launch_bounds__(kAddThreads) add_splits_kernel(const __grid_constant__ Part part) {
  const int64_t rows = part.op.rows(), cols = part.op.cols(), chunks = ceil_div<int64_t>(cols, kAddOwn);
  const int64_t i = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  if (i >= rows * chunks) return;
  const int64_t row = i / chunks, col = i % chunks * kAddOwn;
  const float* __restrict__ partial = part.partial + row * cols + col;
  float sums[kAddOwn] = {}, more[kAddOwn];
  for (int s = 0; s < part.splits; s++) {
    load_floats(more, partial + s * rows * cols, cols - col, part.vector_partial);
#pragma unroll
    for (int j = 0; j < kAddOwn; j++) sums[j] += more[j];
  }
  store_results(part.op, row, col, sums, part.vector_out);
}

// ---- a few rows -----------------------------------------------------------------------------------------------------------

constexpr int kFewRows = 8, kDotWarps = 4;

template <class Float>
__global__ void __launch_bounds__(kDotWarps * 32) dot_rows_kernel(const __grid_constant__ Matmul<float> op, bool vector) {
  const int lane = threadIdx.x % 32, inner = op.inner();
  const int64_t n = int64_t{blockIdx.x} * kDotWarps + threadIdx.x / 32;
  if (n >= op.cols()) return;  // the whole warp
  const Float* __restrict__ w = static_cast<const Float*>(op.b.data) + n * op.b.stride;
  const Float* __restrict__ x = static_cast<const Float*>(op.a.data);
  float sum[kFewRows] = {};
  for (int k = lane * 8; k < inner; k += 32 * 8) {
    float wv[8], xv[8];
    load_floats<8>(wv, w + k, inner - k, vector);
#pragma unroll
    for (int m = 0; m < kFewRows; m++) {
      if (m >= op.rows()) break;
      load_floats<8>(xv, x + m * op.a.stride + k, inner - k, vector);
#pragma unroll
      for (int i = 0; i < 8; i++) sum[m] = fmaf(xv[i], wv[i], sum[m]);
    }
  }
#pragma unroll
  for (int m = 0; m < kFewRows; m++) {
    if (m >= op.rows()) break;
    const float total[1] = {warp_sum(sum[m])};
    if (lane == 0) store_results(op, m, n, total, true);
  }
}

// ---- tensor cores -----------------------------------------------------------------------------------------------------------

// A block's tile and how its warps share it: kWarpsM x kWarpsN warps, each kRows/kWarpsM x kCols/kWarpsN.
template <int kRows_, int kCols_, int kWarpsM_, int kWarpsN_>
struct Tiling {
  static constexpr int kRows = kRows_, kCols = kCols_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpRows = kRows / kWarpsM, kWarpCols = kCols / kWarpsN;
};
using Large = Tiling<128, 128, 2, 4>;
using Small = Tiling<64, 64, 2, 2>;
using Narrow = Tiling<128, 32, 4, 1>;  // LoRA: x·Aᵀ, dy·B, dB
using Flat = Tiling<32, 128, 1, 4>;    // LoRA: dA

// An operand's tile in shared memory: kLines stored rows of kWidth elements, padded against bank conflicts of ldmatrix.
template <int kSize, bool kAlongInner>
struct OperandTile {
  static constexpr int kLines = kAlongInner ? kSize : kInnerTile, kWidth = kAlongInner ? kInnerTile : kSize;
  static constexpr int kPitch = kWidth + 8;
};

// Elements (first … first+kSize-1) x (k … k+31) of an operand to shared memory. What lies outside of (size, inner) becomes 0.
template <class Float, int kSize, bool kAlongInner, int kThreads>
TLL_DEVICE void load_tile(Float* tile, const Float* __restrict__ data, int64_t stride, int first, int size, int k, int inner,
                          bool vector) {
  using Tile = OperandTile<kSize, kAlongInner>;
  constexpr int kChunks = Tile::kWidth / 8;
  const int line0 = kAlongInner ? first : k, lines = kAlongInner ? size : inner;
  const int col0 = kAlongInner ? k : first, cols = kAlongInner ? inner : size;
#pragma unroll
  for (int c = threadIdx.x; c < Tile::kLines * kChunks; c += kThreads) {
    const int line = c / kChunks, col = c % kChunks * 8;
    int valid = line0 + line < lines ? cols - col0 - col : 0;
    valid = valid < 0 ? 0 : (valid > 8 ? 8 : valid);
    const Float* from = valid > 0 ? data + (line0 + line) * stride + col0 + col : data;
    copy_vec_async(tile + line * Tile::kPitch + col, from, valid, vector);
  }
}

// The epilogue stages 16 rows of a warp's results in shared memory, as floats.
constexpr int kStoreCols = 32, kStorePitch = kStoreCols + 8;

template <class Float, class Shape, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(Shape::kThreads)
    matmul_mma_kernel(const __grid_constant__ Part part, bool vector_a, bool vector_b) {
  TLL_NEEDS_TENSOR_CORES(Float)
  using TileA = OperandTile<Shape::kRows, !kTransA>;
  using TileB = OperandTile<Shape::kCols, kTransB>;
  constexpr int kM = Shape::kWarpRows / 16, kN = Shape::kWarpCols / 8;
  constexpr int kA = TileA::kLines * TileA::kPitch, kB = TileB::kLines * TileB::kPitch, kWarps = Shape::kThreads / 32;
  static_assert(2 * (kA + kB) * sizeof(Float) >= kWarps * 16 * kStorePitch * sizeof(float) && Shape::kWarpCols == kStoreCols,
                "results leave through the same memory");
  __shared__ __align__(16) Float tiles[2 * (kA + kB)];
  const Matmul<float>& op = part.op;
  const Float* __restrict__ a = static_cast<const Float*>(op.a.data);
  const Float* __restrict__ b = static_cast<const Float*>(op.b.data);
  const int64_t a_stride = op.a.stride, b_stride = op.b.stride;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row0 = blockIdx.x * Shape::kRows, col0 = blockIdx.y * Shape::kCols;
  const int warp_row = warp / Shape::kWarpsN * Shape::kWarpRows, warp_col = warp % Shape::kWarpsN * Shape::kWarpCols;
  const int begin = blockIdx.z * part.inner_split;
  const int end = begin + part.inner_split < op.inner() ? begin + part.inner_split : op.inner();

  const auto load = [&](int stage, int k) {
    load_tile<Float, Shape::kRows, !kTransA, Shape::kThreads>(tiles + stage * kA, a, a_stride, row0, op.rows(), k, end, vector_a);
    load_tile<Float, Shape::kCols, kTransB, Shape::kThreads>(tiles + 2 * kA + stage * kB, b, b_stride, col0, op.cols(), k, end,
                                                             vector_b);
  };
  float sum[kM][kN][4] = {};
  if (begin < end) load(0, begin);
  cp_async_commit();
  for (int k = begin, stage = 0; k < end; k += kInnerTile, stage ^= 1) {
    cp_async_wait_group<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (k + kInnerTile < end) load(stage ^ 1, k + kInnerTile);
    cp_async_commit();
    const Float *a_tile = tiles + stage * kA, *b_tile = tiles + 2 * kA + stage * kB;
#pragma unroll
    for (int kk = 0; kk < kInnerTile; kk += 16) {
      uint32_t fa[kM][4], fb[kN / 2][4];
#pragma unroll
      for (int i = 0; i < kM; i++) {
        const int m = warp_row + 16 * i;
        if constexpr (kTransA)
          ldmatrix_trans(fa[i], &a_tile[(kk + (lane & 7) + 8 * (lane >> 4)) * TileA::kPitch + m + 8 * ((lane >> 3) & 1)]);
        else
          ldmatrix(fa[i], &a_tile[(m + (lane & 15)) * TileA::kPitch + kk + 8 * (lane >> 4)]);
      }
#pragma unroll
      for (int j = 0; j < kN / 2; j++) {
        const int n = warp_col + 16 * j;
        if constexpr (kTransB)
          ldmatrix(fb[j], &b_tile[(n + (lane & 7) + 8 * (lane >> 4)) * TileB::kPitch + kk + 8 * ((lane >> 3) & 1)]);
        else
          ldmatrix_trans(fb[j], &b_tile[(kk + (lane & 15)) * TileB::kPitch + n + 8 * (lane >> 4)]);
      }
#pragma unroll
      for (int i = 0; i < kM; i++)
#pragma unroll
        for (int j = 0; j < kN; j++) {
          const uint32_t b_pair[2] = {fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<Float>(sum[i][j], fa[i], b_pair);
        }
    }
  }
  __syncthreads();  // nobody reads the tiles any more; from here on each warp has its own part of them
  float* mine = reinterpret_cast<float*>(tiles) + warp * 16 * kStorePitch;
#pragma unroll
  for (int i = 0; i < kM; i++) {
#pragma unroll
    for (int j = 0; j < kN; j++)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        store_vec(mine + (lane / 4 + 4 * e) * kStorePitch + 8 * j + 2 * (lane % 4),
                  Vec<float, 2>{{sum[i][j][e], sum[i][j][e + 1]}});
    __syncwarp();
#pragma unroll 1
    for (int c = lane; c < 16 * kStoreCols / 8; c += 32) {  // a lane writes eight neighbours
      const int row = c / (kStoreCols / 8), col = c % (kStoreCols / 8) * 8;
      float sums[8];
      load_floats(sums, mine + row * kStorePitch + col, 8, true);
      store_part(part, row0 + warp_row + 16 * i + row, col0 + warp_col + col, sums);
    }
    __syncwarp();
  }
}

// ---- float arithmetic -------------------------------------------------------------------------------------------------------

constexpr int kFmaTile = 64, kFmaInner = 16, kFmaThreads = 256, kFmaPitch = kFmaTile + 4;

// tile[k][line] of m (lines, inner). Neighbouring threads read neighbouring elements.
TLL_DEVICE void load_fma_tile(float* tile, const ConstMatrix& m, int first, int k0, int end) {
  const bool along_inner = !m.transposed;
#pragma unroll
  for (int c = threadIdx.x; c < kFmaTile * kFmaInner; c += kFmaThreads) {
    const int line = along_inner ? c / kFmaInner : c % kFmaTile, k = along_inner ? c % kFmaInner : c / kFmaTile;
    const bool inside = first + line < m.row_count && k0 + k < end;
    const int64_t at = along_inner ? (first + line) * m.stride + k0 + k : (k0 + k) * m.stride + first + line;
    tile[k * kFmaPitch + line] = inside ? load_any(m.data, m.dtype, at) : 0.0f;
  }
}

__global__ void __launch_bounds__(kFmaThreads) matmul_fma_kernel(const __grid_constant__ Part part) {
  __shared__ __align__(16) float a_tile[kFmaInner * kFmaPitch];
  __shared__ __align__(16) float b_tile[kFmaInner * kFmaPitch];
  const Matmul<float>& op = part.op;
  const int row0 = blockIdx.x * kFmaTile, col0 = blockIdx.y * kFmaTile;
  const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
  const int begin = blockIdx.z * part.inner_split;
  const int end = begin + part.inner_split < op.inner() ? begin + part.inner_split : op.inner();
  float sum[4][4] = {};
  for (int k0 = begin; k0 < end; k0 += kFmaInner) {
    load_fma_tile(a_tile, op.a, row0, k0, end);
    load_fma_tile(b_tile, op.b.t(), col0, k0, end);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kFmaInner; k++) {
      const float4 av = *reinterpret_cast<const float4*>(a_tile + k * kFmaPitch + row);
      const float4 bv = *reinterpret_cast<const float4*>(b_tile + k * kFmaPitch + col);
      const float ar[4] = {av.x, av.y, av.z, av.w}, br[4] = {bv.x, bv.y, bv.z, bv.w};
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = fmaf(ar[i], br[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; i++) store_part(part, row0 + row + i, col0 + col, sum[i]);
}

// ---- the choice ---------------------------------------------------------------------------------------------------------------

template <class Float>
bool vector_rows(const ConstMatrix& m) {
  return vec_aligned<kVec<Float>>(static_cast<const Float*>(m.data), m.stride);
}
int tiles(int size, int tile) { return (size + tile - 1) / tile; }

bool vector_results(const Matmul<float>& op) {
  const int64_t stride = op.out.stride * static_cast<int64_t>(dtype_bytes(op.out.dtype));
  return vec_aligned<16>(static_cast<const char*>(op.out.data), stride) &&
         vec_aligned<16>(static_cast<const char*>(op.addend), 0);  // its stride is out's
}

// Split-K where a launch would have fewer than kEnoughBlocks blocks. The number does not follow the GPU, since the bits would.
constexpr int kEnoughBlocks = 128, kLeastInner = 256;
Part split_inner(const Matmul<float>& op, int blocks) {
  int splits = 1;
  const int64_t results = static_cast<int64_t>(op.rows()) * op.cols();
  if (blocks < kEnoughBlocks && op.inner() >= 2 * kLeastInner && op.scratch.data)
    splits = static_cast<int>(std::min<int64_t>(
        {tiles(kEnoughBlocks, blocks), op.inner() / kLeastInner, std::max<int64_t>(1, op.scratch.size / results)}));
  const int inner = tiles(tiles(op.inner(), splits), kInnerTile) * kInnerTile;
  return {op,
          std::max(1, tiles(op.inner(), std::max(inner, 1))),
          inner,
          op.scratch.data,
          vector_results(op),
          vec_aligned<4>(op.scratch.data, op.cols())};
}
void finish(const Device& device, const Part& part) {
  if (part.splits == 1) return;
  const int64_t chunks = static_cast<int64_t>(part.op.rows()) * tiles(part.op.cols(), kAddOwn);
  launch<add_splits_kernel>(blocks_for(chunks, kAddThreads), kAddThreads, 0, stream_of(device), part);
}

template <class Float, class Shape, bool kTransA, bool kTransB>
void launch_mma(const Device& device, const Matmul<float>& op) {
  const int m = tiles(op.rows(), Shape::kRows), n = tiles(op.cols(), Shape::kCols);
  const Part part = split_inner(op, m * n);
  const dim3 grid(static_cast<unsigned>(m), static_cast<unsigned>(n), static_cast<unsigned>(part.splits));
  launch<matmul_mma_kernel<Float, Shape, kTransA, kTransB>>(grid, Shape::kThreads, 0, stream_of(device), part,
                                                            vector_rows<Float>(op.a), vector_rows<Float>(op.b));
  finish(device, part);
}
template <class Float, class Shape>
void launch_transposed(const Device& device, const Matmul<float>& op) {
  if (op.a.transposed)
    return op.b.transposed ? launch_mma<Float, Shape, true, true>(device, op) : launch_mma<Float, Shape, true, false>(device, op);
  op.b.transposed ? launch_mma<Float, Shape, false, true>(device, op) : launch_mma<Float, Shape, false, false>(device, op);
}
template <class Float>
void tensor_core_matmul(const Device& device, const Matmul<float>& op) {
  if (op.cols() <= Narrow::kCols) return launch_transposed<Float, Narrow>(device, op);
  if (op.rows() <= Flat::kRows) return launch_transposed<Float, Flat>(device, op);
  if (tiles(op.rows(), Large::kRows) * tiles(op.cols(), Large::kCols) >= kEnoughBlocks / 2)
    return launch_transposed<Float, Large>(device, op);
  launch_transposed<Float, Small>(device, op);
}

template <class Float>
void dot_rows(const Device& device, const Matmul<float>& op) {
  launch<dot_rows_kernel<Float>>(blocks_for(op.cols(), kDotWarps), kDotWarps * 32, 0, stream_of(device), op,
                                 vector_rows<Float>(op.a) && vector_rows<Float>(op.b));
}

}  // namespace

template <class Acc>
void Matmul<Acc>::cuda(const Device& device) const {
  if (rows() == 0 || cols() == 0) return;
  const bool same = a.dtype == b.dtype;
  if (rows() <= kFewRows && same && !a.transposed && b.transposed) {
    if (a.dtype == DType::f32) return dot_rows<float>(device, *this);
    if (a.dtype == DType::bf16) return dot_rows<bf16>(device, *this);
    return dot_rows<half>(device, *this);
  }
  if (device.blas && cublas_matmul(device, *this)) return;
  if (same && a.dtype == DType::bf16 && tensor_cores_multiply<bf16>(device.arch)) return tensor_core_matmul<bf16>(device, *this);
  if (same && a.dtype == DType::f16) return tensor_core_matmul<half>(device, *this);
  const int m = tiles(rows(), kFmaTile), n = tiles(cols(), kFmaTile);
  const Part part = split_inner(*this, m * n);
  const dim3 grid(static_cast<unsigned>(m), static_cast<unsigned>(n), static_cast<unsigned>(part.splits));
  launch<matmul_fma_kernel>(grid, kFmaThreads, 0, stream_of(device), part);
  finish(device, part);
}

template void Matmul<float>::cuda(const Device&) const;

}  // namespace tll
