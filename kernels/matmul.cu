// Large matmuls go to cuBLASLt where it is installed (cublas_lt.h). Which of the four kernels here runs depends on sizes and
// types alone, so the bits do not depend on where operands lie.
//
//   dot_rows_kernel     up to 8 rows (generation). A warp owns one column of the result, which is one row of the weight. It reads
//                       that row once, 8 elements a lane at a time.
//   matmul_mma_kernel   both operands bf16, or both fp16, and not both transposed: tensor cores. A block owns a tile of the
//                       result, a warp 64 x 64 or 32 x 32 of it, in the accumulators of m16n8k16. Tiles of 32 or 64 along inner
//                       pass through shared memory, to which cp.async copies them two steps ahead.
//   matmul_fma_kernel   all others, and bf16 before sm_80. A block owns 64 x 64, a thread 4 x 4. Operands become float in shared
//                       memory.
//   add_splits_kernel   the reduction of split-K, which is used where tiles are few and inner is long. A thread adds the parts
//                       of four results, in order.
//
// The lines of a tile in shared memory are those of global memory; ldmatrix transposes them.
#include <algorithm>

#include "kernels/any_type.cuh"
#include "kernels/cublas_lt.h"

namespace tll {
namespace {

// A launch with split-K: blocks of blockIdx.z sum that part of inner, to `partial` (splits, rows, cols) if there are several.
struct Part {
  Matmul<float> op;
  int splits, inner_split;  // elements of inner in a part
  float* partial;
  bool vector_out, vector_partial;  // rows are aligned for 128-bit accesses
  TLL_DEVICE bool vector() const { return splits == 1 ? vector_out : vector_partial; }
};

// Epilogue: out[row, col …] = or += alpha · sums, rounded once, for kBatch rows kStep apart. Columns from `valid` on are left
// out. All of the batch is read before any of it is written, so that the reads are in flight together.
template <class Out, int kStep, int kBatch, int kCount>
TLL_DEVICE void store_as(const Matmul<float>& op, int64_t row, int64_t col, int64_t valid, const float (&sums)[kBatch][kCount],
                         bool vector) {
  const int64_t place = row * op.out.stride + col, step = kStep * op.out.stride;
  Out* at = static_cast<Out*>(op.out.data) + place;
  const Out* from = static_cast<const Out*>(op.addend ? op.addend : op.out.data) + place;
  const float alpha = static_cast<float>(op.alpha);
  float values[kBatch][kCount] = {};
  if (op.accumulate) {
#pragma unroll
    for (int j = 0; j < kBatch; j++) load_floats(values[j], from + j * step, valid, vector);
  }
#pragma unroll
  for (int j = 0; j < kBatch; j++) {
#pragma unroll
    for (int i = 0; i < kCount; i++) values[j][i] = alpha * sums[j][i] + values[j][i];
    store_floats(at + j * step, values[j], valid, vector);
  }
}
template <int kStep, int kBatch, int kCount>
TLL_DEVICE void store_results(const Matmul<float>& op, int64_t row, int64_t col, int64_t valid,
                              const float (&sums)[kBatch][kCount], bool vector) {
  switch (op.out.dtype) {
    case DType::f32:
      return store_as<float, kStep>(op, row, col, valid, sums, vector);
    case DType::bf16:
      return store_as<bf16, kStep>(op, row, col, valid, sums, vector);
    default:
      return store_as<half, kStep>(op, row, col, valid, sums, vector);
  }
}
template <int kStep, int kBatch, int kCount>
TLL_DEVICE void store_sums(const Part& part, int64_t row, int64_t col, int64_t valid, const float (&sums)[kBatch][kCount],
                           bool vector) {
  if (part.splits == 1) return store_results<kStep>(part.op, row, col, valid, sums, vector);
  float* at = part.partial + (static_cast<int64_t>(blockIdx.z) * part.op.rows() + row) * part.op.cols() + col;
#pragma unroll
  for (int j = 0; j < kBatch; j++) store_floats(at + j * kStep * part.op.cols(), sums[j], valid, vector);
}
// One row, of which nothing may be inside.
template <int kCount>
TLL_DEVICE void store_part(const Part& part, int64_t row, int64_t col, const float (&sums)[kCount]) {
  if (row >= part.op.rows() || col >= part.op.cols()) return;
  float batch[1][kCount];
#pragma unroll
  for (int i = 0; i < kCount; i++) batch[0][i] = sums[i];
  store_sums<1>(part, row, col, part.op.cols() - col, batch, part.vector());
}

constexpr int kAddThreads = 256, kAddOwn = 4;

// A thread owns four neighbours of a row.
__global__ void __launch_bounds__(kAddThreads) add_splits_kernel(const __grid_constant__ Part part) {
  const int64_t rows = part.op.rows(), cols = part.op.cols(), chunks = ceil_div<int64_t>(cols, kAddOwn);
  const int64_t i = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  if (i >= rows * chunks) return;
  const int64_t row = i / chunks, col = i % chunks * kAddOwn;
  const float* __restrict__ partial = part.partial + row * cols + col;
  float sums[1][kAddOwn] = {}, more[kAddOwn];
  for (int s = 0; s < part.splits; s++) {
    load_floats(more, partial + s * rows * cols, cols - col, part.vector_partial);
#pragma unroll
    for (int j = 0; j < kAddOwn; j++) sums[0][j] += more[j];
  }
  store_results<1>(part.op, row, col, cols - col, sums, part.vector_out);
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
    const float total[1][1] = {{warp_sum(sum[m])}};
    if (lane == 0) store_results<1>(op, m, n, 1, total, true);
  }
}

// ---- tensor cores -----------------------------------------------------------------------------------------------------------

// A block's tile and how its warps share it: kWarpsM x kWarpsN warps, each kRows/kWarpsM x kCols/kWarpsN. Tiles of kInner along
// inner pass through a ring of kStages in shared memory.
template <int kRows_, int kCols_, int kWarpsM_, int kWarpsN_, int kInner_>
struct Tiling {
  static constexpr int kRows = kRows_, kCols = kCols_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kInner = kInner_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpRows = kRows / kWarpsM, kWarpCols = kCols / kWarpsN;
  static constexpr int kStages = 3;
  // sm_75 has no asynchronous copies, which a third stage would be for.
  TLL_HOST_DEVICE static constexpr int stages(int arch) { return arch < 800 ? 2 : kStages; }
  TLL_HOST_DEVICE static constexpr size_t shared_bytes(int arch) {
    return size_t{2} * static_cast<size_t>(stages(arch) * (kRows + kCols) * kInner);
  }
};
// At most 48 KiB, so that sm_86 holds two blocks; Narrow and Flat 60 KiB, for more bytes in flight.
using Large = Tiling<128, 128, 2, 2, 32>;
using Small = Tiling<64, 64, 2, 2, 64>;
template <int kInner>
using Narrow = Tiling<128, 32, 4, 1, kInner>;  // LoRA: x·Aᵀ, dy·B, dB
template <int kInner>
using Flat = Tiling<32, 128, 1, 4, kInner>;  // LoRA: dA
// With tiles of 64 along inner an SM of sm_75, which has 64 KiB, would hold one block, and nothing would cover its loads.
TLL_HOST_DEVICE constexpr int lora_inner(int arch) { return arch < 800 ? 32 : 64; }
template <class Shape>
constexpr bool kOfLora = Shape::kRows == 32 || Shape::kCols == 32;

// An operand's tile in shared memory: kLines stored rows of kWidth elements, in chunks of eight. The chunks of a line are
// permuted so that eight lanes that copy, or eight rows that ldmatrix reads, are in different banks.
template <int kSize, int kInner, bool kAlongInner>
struct OperandTile {
  static constexpr int kLines = kAlongInner ? kSize : kInner, kWidth = kAlongInner ? kInner : kSize;
  TLL_DEVICE static int place(int line, int chunk) {
    return line * kWidth + 8 * (chunk ^ (kWidth == 32 ? line >> 1 & 3 : line & 7));
  }
};

// A thread's part in the copies of an operand's tiles: kCopies chunks in the same columns, kStep lines apart. Elements outside of
// (size, inner) become 0.
template <class Float, class Shape, int kSize, bool kAlongInner>
struct TileCopies {
  using Tile = OperandTile<kSize, Shape::kInner, kAlongInner>;
  static constexpr int kChunks = Tile::kWidth / 8, kStep = Shape::kThreads / kChunks, kCopies = Tile::kLines / kStep;
  static_assert(kStep % 8 == 0 && kCopies * kStep == Tile::kLines, "all copies of a thread lie alike in their lines");

  const Float* from;  // of the first copy, in the next tile
  Float* to;
  int64_t stride;   // elements between lines of `from`
  int lines, cols;  // from the first copy's line and column on are inside
  bool vector;      // chunks are aligned, and inside as a whole or not at all
  Vec<Float, 8> held[kCopies];

  // For tiles from row (of B column) `first` and element `begin` of inner on, of which `size` and `inner` are inside.
  TLL_DEVICE TileCopies(Float* tile, const ConstMatrix& m, int first, int size, int begin, int inner, bool m_vector)
      : stride(m.stride), vector(m_vector) {
    const int line = static_cast<int>(threadIdx.x) / kChunks, col = static_cast<int>(threadIdx.x) % kChunks * 8;
    from =
        static_cast<const Float*>(m.data) + ((kAlongInner ? first : begin) + line) * stride + (kAlongInner ? begin : first) + col;
    to = tile + Tile::place(line, col / 8);
    lines = (kAlongInner ? size : inner) - line, cols = (kAlongInner ? inner : size) - col;
  }
  // Begins to copy the next tile.
  TLL_DEVICE void load() {
    if (vector) [[likely]] {
      const int inside = cols > 0 ? lines : 0;
      if (TLL_ARCH >= 800) {
#pragma unroll
        for (int i = 0; i < kCopies; i++)
          cp_async_16(to + i * kStep * Tile::kWidth, from + i * kStep * stride, i * kStep < inside ? 16 : 0);
      } else {
#pragma unroll
        for (int i = 0; i < kCopies; i++) held[i] = i * kStep < inside ? load_vec<8>(from + i * kStep * stride) : Vec<Float, 8>{};
      }
    } else {
      const int valid = cols < 0 ? 0 : (cols > 8 ? 8 : cols);
      const Float* at = from;
#pragma unroll 1
      for (int i = 0; i < kCopies; i++, at += kStep * stride)
        copy_vec_async(to + i * kStep * Tile::kWidth, at, i * kStep < lines ? valid : 0, false);
    }
    from += kAlongInner ? Shape::kInner : Shape::kInner * stride;
    (kAlongInner ? cols : lines) -= Shape::kInner;
  }
  // What sm_75 has loaded to registers goes to shared memory. The rest is there after a wait.
  TLL_DEVICE void settle() const {
    if (TLL_ARCH < 800 && vector) {
#pragma unroll
      for (int i = 0; i < kCopies; i++) store_vec(to + i * kStep * Tile::kWidth, held[i]);
    }
  }
};

// Epilogue: results of a warp, which lie in shared memory as floats, to rows from `row` on and columns from `col` on. A lane
// writes eight neighbours in each of kBatch rows.
template <int kCols>
struct Staging {
  static constexpr int kBatch = 4, kChunks = kCols / 8, kStep = 32 / kChunks, kRows = kBatch * kStep;
  static constexpr int kPitch = kCols + 8;  // no bank conflicts of the accumulators' layout
  TLL_DEVICE static void store(const Part& part, int64_t row, int64_t col, const float* staged) {
    const bool whole = part.vector() && row + kRows <= part.op.rows() && col + kCols <= part.op.cols();
    const int lane = threadIdx.x % 32;
    row += lane / kChunks, col += lane % kChunks * 8, staged += lane / kChunks * kPitch + lane % kChunks * 8;
    if (whole) {
      float sums[kBatch][8];
#pragma unroll
      for (int i = 0; i < kBatch; i++) load_floats(sums[i], staged + i * kStep * kPitch, 8, true);
      store_sums<kStep>(part, row, col, 8, sums, true);
    } else {
#pragma unroll 1
      for (int i = 0; i < kRows; i += kStep) {
        float sums[8];
        load_floats(sums, staged + i * kPitch, 8, true);
        store_part(part, row + i, col, sums);
      }
    }
  }
};

template <class Float, class Shape, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(Shape::kThreads)
    matmul_mma_kernel(const __grid_constant__ Part part, bool vector_a, bool vector_b) {
  TLL_NEEDS_TENSOR_CORES(Float)
#ifdef __CUDA_ARCH__
  if constexpr (kOfLora<Shape> && Shape::kInner != lora_inner(__CUDA_ARCH__)) {  // it is for other architectures
    __trap();
    return;
  }
#endif
  using CopiesA = TileCopies<Float, Shape, Shape::kRows, !kTransA>;
  using CopiesB = TileCopies<Float, Shape, Shape::kCols, kTransB>;
  using TileA = typename CopiesA::Tile;
  using TileB = typename CopiesB::Tile;
  constexpr int kInner = Shape::kInner, kM = Shape::kWarpRows / 16, kN = Shape::kWarpCols / 8, kSteps = kInner / 16;
  constexpr int kA = Shape::kRows * kInner, kStage = kA + Shape::kCols * kInner;
  Float* tiles = dynamic_shared<Float>();
  const Matmul<float>& op = part.op;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int row0 = blockIdx.x * Shape::kRows, col0 = blockIdx.y * Shape::kCols;
  const int warp_row = warp / Shape::kWarpsN * Shape::kWarpRows, warp_col = warp % Shape::kWarpsN * Shape::kWarpCols;
  const int begin = blockIdx.z * part.inner_split;
  const int end = begin + part.inner_split < op.inner() ? begin + part.inner_split : op.inner();

  // The rows that this lane names to ldmatrix: one for each step of 16 along inner or, where ldmatrix transposes, for each 16
  // rows or columns of the result.
  constexpr int kRowsA = kTransA ? kM : kSteps, kRowsB = kTransB ? kSteps : kN / 2;
  const Float *rows_a[kRowsA], *rows_b[kRowsB];
#pragma unroll
  for (int i = 0; i < kRowsA; i++)
    rows_a[i] = tiles + (kTransA ? TileA::place((lane & 7) + 8 * (lane >> 4), warp_row / 8 + 2 * i + ((lane >> 3) & 1))
                                 : TileA::place(warp_row + (lane & 15), 2 * i + (lane >> 4)));
#pragma unroll
  for (int i = 0; i < kRowsB; i++)
    rows_b[i] = tiles + kA +
                (kTransB ? TileB::place(warp_col + (lane & 7) + 8 * (lane >> 4), 2 * i + ((lane >> 3) & 1))
                         : TileB::place(lane & 15, warp_col / 8 + 2 * i + (lane >> 4)));

  int left = end - begin;  // of inner, to copy
  CopiesA copies_a(tiles, op.a, row0, op.rows() - row0, begin, left, vector_a);
  CopiesB copies_b(tiles + kA, op.b, col0, op.cols() - col0, begin, left, vector_b);
  const auto load = [&] {
    if (left > 0) {
      copies_a.load();
      copies_b.load();
    }
    cp_async_commit();
  };
  const auto settle = [&](int step) {  // elements to the next stage
    if (left > 0) {
      copies_a.settle();
      copies_b.settle();
    }
    left -= kInner;
    copies_a.to += step, copies_b.to += step;
  };
  const int stages = Shape::stages(TLL_ARCH), rewind = (1 - stages) * kStage;
  float sum[kM][kN][4] = {};
  for (int ahead = 0; ahead < stages - 1; ahead++) {
    load();
    settle(kStage);
  }
  int stage = 0;
#pragma unroll 1
  for (int tile = ceil_div(end - begin, kInner); tile > 0; tile--) {
    cp_async_wait_group<Shape::kStages - 2>();
    __syncthreads();  // this stage has arrived, and nobody reads the one before any more
#pragma unroll
    for (int s = 0; s < kSteps; s++) {
      uint32_t fa[kM][4], fb[kN / 2][4];
#pragma unroll
      for (int i = 0; i < kM; i++) {
        if constexpr (kTransA)
          ldmatrix_trans(fa[i], rows_a[i] + 16 * s * TileA::kWidth);
        else
          ldmatrix(fa[i], rows_a[s] + 16 * i * TileA::kWidth);
      }
#pragma unroll
      for (int j = 0; j < kN / 2; j++) {
        if constexpr (kTransB)
          ldmatrix(fb[j], rows_b[s] + 16 * j * TileB::kWidth);
        else
          ldmatrix_trans(fb[j], rows_b[j] + 16 * s * TileB::kWidth);
      }
      if (s == 0) load();  // to the stage before, while ldmatrix is under way
#pragma unroll
      for (int i = 0; i < kM; i++)
#pragma unroll
        for (int j = 0; j < kN; j++) {
          const uint32_t b_pair[2] = {fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]};
          mma_m16n8k16<Float>(sum[i][j], fa[i], b_pair);
        }
    }
    settle(stage == 0 ? rewind : kStage);
    const int step = stage == stages - 1 ? rewind : kStage;
    stage = stage == stages - 1 ? 0 : stage + 1;
#pragma unroll
    for (int i = 0; i < kRowsA; i++) rows_a[i] += step;
#pragma unroll
    for (int i = 0; i < kRowsB; i++) rows_b[i] += step;
  }
  __syncthreads();  // nobody reads the tiles any more; from here on each warp has its own part of them

  using Results = Staging<Shape::kWarpCols>;
  static_assert(Shape::kThreads / 32 * Results::kRows * Results::kPitch * sizeof(float) <= Shape::shared_bytes(750) &&
                    Shape::kWarpRows % Results::kRows == 0,
                "results leave through the same memory");
  float* mine = reinterpret_cast<float*>(tiles) + warp * Results::kRows * Results::kPitch;
#pragma unroll 1
  for (int row = 0; row < Shape::kWarpRows; row += Results::kRows) {
#pragma unroll
    for (int i = 0; i < kM; i++)
      if (16 * i / Results::kRows * Results::kRows == row) {
#pragma unroll
        for (int j = 0; j < kN; j++)
#pragma unroll
          for (int e = 0; e < 4; e += 2)
            store_vec(mine + (16 * i % Results::kRows + lane / 4 + 4 * e) * Results::kPitch + 8 * j + 2 * (lane % 4),
                      Vec<float, 2>{{sum[i][j][e], sum[i][j][e + 1]}});
      }
    __syncwarp();
    Results::store(part, row0 + warp_row + row, col0 + warp_col, mine);
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
// Chunks of eight along a stored row are aligned, and inside of the matrix as a whole or not at all.
template <class Float>
bool vector_chunks(const ConstMatrix& m) {
  return vector_rows<Float>(m) && m.stored_cols() % kVec<Float> == 0;
}
int tiles(int size, int tile) { return (size + tile - 1) / tile; }

bool vector_results(const Matmul<float>& op) {
  const int64_t stride = op.out.stride * static_cast<int64_t>(dtype_bytes(op.out.dtype));
  return vec_aligned<16>(static_cast<const char*>(op.out.data), stride) &&
         vec_aligned<16>(static_cast<const char*>(op.addend), 0);  // its stride is out's
}

// Split-K where a launch would have fewer than kEnoughBlocks blocks. The number does not follow the GPU, since the bits would.
// A part is a multiple of every tiling's kInner.
constexpr int kEnoughBlocks = 128, kLeastInner = 256, kPartUnit = 64;
Part split_inner(const Matmul<float>& op, int blocks) {
  int splits = 1;
  const int64_t results = static_cast<int64_t>(op.rows()) * op.cols();
  if (blocks < kEnoughBlocks && op.inner() >= 2 * kLeastInner && op.scratch.data)
    splits = static_cast<int>(std::min<int64_t>(
        {tiles(kEnoughBlocks, blocks), op.inner() / kLeastInner, std::max<int64_t>(1, op.scratch.size / results)}));
  const int inner = tiles(tiles(op.inner(), splits), kPartUnit) * kPartUnit;
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
  launch<matmul_mma_kernel<Float, Shape, kTransA, kTransB>>(grid, Shape::kThreads, Shape::shared_bytes(device.arch),
                                                            stream_of(device), part, vector_chunks<Float>(op.a),
                                                            vector_chunks<Float>(op.b));
  finish(device, part);
}
template <class Float, class Shape>
void launch_transposed(const Device& device, const Matmul<float>& op) {
  if (op.a.transposed) return launch_mma<Float, Shape, true, false>(device, op);
  op.b.transposed ? launch_mma<Float, Shape, false, true>(device, op) : launch_mma<Float, Shape, false, false>(device, op);
}
// Whether it was one of LoRA's.
template <class Float, int kInner>
bool lora_matmul(const Device& device, const Matmul<float>& op) {
  const bool narrow = op.cols() <= Narrow<kInner>::kCols, flat = op.rows() <= Flat<kInner>::kRows && op.a.transposed;
  if (narrow)
    launch_transposed<Float, Narrow<kInner>>(device, op);
  else if (flat)
    launch_mma<Float, Flat<kInner>, true, false>(device, op);
  return narrow || flat;
}
template <class Float>
void tensor_core_matmul(const Device& device, const Matmul<float>& op) {
  if constexpr (std::is_same_v<Float, half>)  // sm_75 multiplies no bf16
    if (device.arch < 800 && lora_matmul<Float, lora_inner(750)>(device, op)) return;
  if (device.arch >= 800 && lora_matmul<Float, lora_inner(800)>(device, op)) return;
  if (op.cols() > Small::kCols && op.rows() > Small::kRows &&
      tiles(op.rows(), Large::kRows) * tiles(op.cols(), Large::kCols) >= kEnoughBlocks / 2)
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
  if (same && !(a.transposed && b.transposed)) {
    if (a.dtype == DType::bf16 && tensor_cores_multiply<bf16>(device.arch)) return tensor_core_matmul<bf16>(device, *this);
    if (a.dtype == DType::f16) return tensor_core_matmul<half>(device, *this);
  }
  const int m = tiles(rows(), kFmaTile), n = tiles(cols(), kFmaTile);
  const Part part = split_inner(*this, m * n);
  const dim3 grid(static_cast<unsigned>(m), static_cast<unsigned>(n), static_cast<unsigned>(part.splits));
  launch<matmul_fma_kernel>(grid, kFmaThreads, 0, stream_of(device), part);
  finish(device, part);
}

template void Matmul<float>::cuda(const Device&) const;

}  // namespace tll
