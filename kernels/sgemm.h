// The fp32 GEMM of a CPU, which runs where oneDNN has no bf16 matmul for the processor.
//
// The loops are those of Goto & van de Geijn 2008 (BLIS: Van Zee & van de Geijn 2015): a block of B is packed into column panels,
// a block of A into row panels, and a micro-kernel that holds a tile of the result in registers runs over both. Packing reads
// operands of any training type, transposed or not, so widening bf16 and fp16 costs no extra pass. It applies alpha too. How B is
// packed is an argument, so that a quantised B is decoded there. All memory is the caller's.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/matmul.h"

namespace tll {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16, kPanelRows = 12;
#else
constexpr int kVector = 8, kPanelRows = 6;
#endif
constexpr int kPanelColumns = 2 * kVector;
constexpr int kInnerOnce = 4096;  // a bf16 result has one block of inner, at most this long
typedef float Vector __attribute__((vector_size(kVector * sizeof(float)), aligned(sizeof(float)), may_alias));

// out tile (kPanelRows, kPanelColumns) = or += A panel (inner, kPanelRows) · B panel (inner, kPanelColumns).
inline __attribute__((always_inline)) void micro_kernel(int inner, const float* a, const float* b, float* out, ptrdiff_t stride,
                                                        bool accumulate) {
  Vector sum[kPanelRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kPanelRows; i++) sum[i][0] = sum[i][1] = Vector{};
  for (int k = 0; k < inner; k++) {
    const Vector b0 = *reinterpret_cast<const Vector*>(b + k * kPanelColumns);
    const Vector b1 = *reinterpret_cast<const Vector*>(b + k * kPanelColumns + kVector);
#pragma GCC unroll 12
    for (int i = 0; i < kPanelRows; i++) {
      const float scalar = a[k * kPanelRows + i];
      sum[i][0] += scalar * b0;
      sum[i][1] += scalar * b1;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kPanelRows; i++) {
    Vector* row = reinterpret_cast<Vector*>(out + i * stride);
    Vector* next = reinterpret_cast<Vector*>(out + i * stride + kVector);
    *row = accumulate ? *row + sum[i][0] : sum[i][0];
    *next = accumulate ? *next + sum[i][1] : sum[i][1];
  }
}

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

// Eight rows become eight columns.
inline __attribute__((always_inline)) void transpose_eight(Eight r[8]) {
  Eight t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = __builtin_shufflevector(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = __builtin_shufflevector(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; i++) r[i] = t[i];
}

// Packs lines of `inner` elements into panels of kPanel lines: panel[k][line], missing lines as zeros. Lines are rows of A or
// columns of B. `along`: a line's elements are neighbours in memory (A as stored, B stored transposed). Then blocks of 8 x 8 are
// transposed in registers, and a panel may spill up to seven floats behind its end, which the next one overwrites.
template <int kPanel, class In>
void pack(float* out, const In* in, int64_t stride, bool along, int first_line, int lines, int first, int inner, float alpha) {
  constexpr int kGroups = (kPanel + 7) / 8;
  for (int panel = 0; panel < lines; panel += kPanel, out += static_cast<int64_t>(inner) * kPanel) {
    const int width = std::min(kPanel, lines - panel);
    int k = 0;
    if (along) {
      const In* from = in + static_cast<int64_t>(first_line + panel) * stride + first;
      for (; k + 8 <= inner; k += 8) {
        Eight turned[kGroups][8];
        for (int g = 0; g < kGroups; g++) {
          for (int i = 0; i < 8; i++) {
            turned[g][i] = Eight{};
            if (g * 8 + i < width)
              for (int e = 0; e < 8; e++) turned[g][i][e] = to_acc(from[(g * 8 + i) * stride + k + e]) * alpha;
          }
          transpose_eight(turned[g]);
        }
        for (int e = 0; e < 8; e++)
          for (int g = 0; g < kGroups; g++) *reinterpret_cast<Eight*>(out + (k + e) * kPanel + g * 8) = turned[g][e];
      }
      for (; k < inner; k++)
        for (int line = 0; line < kPanel; line++)
          out[k * kPanel + line] = line < width ? to_acc(from[line * stride + k]) * alpha : 0.0f;
    } else {
      const In* from = in + static_cast<int64_t>(first) * stride + first_line + panel;
      for (; k < inner; k++) {
        if (width == kPanel) {
          for (int line = 0; line < kPanel; line++) out[k * kPanel + line] = to_acc(from[k * stride + line]) * alpha;
        } else {
          for (int line = 0; line < kPanel; line++)
            out[k * kPanel + line] = line < width ? to_acc(from[k * stride + line]) * alpha : 0.0f;
        }
      }
    }
  }
}

// The lines are rows of m.
template <int kPanel>
void pack_any(float* out, const ConstMatrix& m, int first_line, int lines, int first, int inner, float alpha) {
  with_storage_type(m.dtype, [&](auto type) {
    pack<kPanel>(out, static_cast<const decltype(type)*>(m.data), m.stride, !m.transposed, first_line, lines, first, inner,
                 alpha);
  });
}

// out = or += a finished tile, in fp32 or bf16.
void store_tile(const Matmul<float>& op, const float* tile, int row, int col, int rows, int cols, bool accumulate) {
  for (int i = 0; i < rows; i++) {
    const float* from = tile + i * kPanelColumns;
    const int64_t at = static_cast<int64_t>(row + i) * op.out.stride + col;
    if (op.out.dtype == DType::f32) {
      float* to = static_cast<float*>(op.out.data) + at;
      for (int j = 0; j < cols; j++) to[j] = accumulate ? to[j] + from[j] : from[j];
    } else {
      bf16* to = static_cast<bf16*>(op.out.data) + at;
      for (int j = 0; j < cols; j++) to[j] = from_acc<bf16>(accumulate ? to_acc(to[j]) + from[j] : from[j]);
    }
  }
}

// One packed block of rows times one packed block of columns.
void block_gemm(const Matmul<float>& op, const float* a, const float* b, int row, int rows, int col, int cols, int inner,
                bool accumulate) {
  alignas(64) float tile[kPanelRows * kPanelColumns];
  for (int j = 0; j < cols; j += kPanelColumns) {
    for (int i = 0; i < rows; i += kPanelRows) {
      const float *a_panel = a + static_cast<int64_t>(i) * inner, *b_panel = b + static_cast<int64_t>(j) * inner;
      if (op.out.dtype == DType::f32 && i + kPanelRows <= rows && j + kPanelColumns <= cols) {
        float* out = static_cast<float*>(op.out.data) + static_cast<int64_t>(row + i) * op.out.stride + col + j;
        micro_kernel(inner, a_panel, b_panel, out, op.out.stride, accumulate);
      } else {
        micro_kernel(inner, a_panel, b_panel, tile, kPanelColumns, false);
        store_tile(op, tile, row + i, col + j, std::min(kPanelRows, rows - i), std::min(kPanelColumns, cols - j), accumulate);
      }
    }
  }
}

int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Needs kPackedB + kPackedA floats of scratch. A bf16 result is not summed over blocks of `inner`, so that it is rounded once:
// there inner must be at most kInnerOnce. pack_b(to, first column, columns, first of inner, inner) packs one panel of B.
template <class PackB>
void packed_gemm(const Matmul<float>& op, const PackB& pack_b) {
  const int threads = std::max(1, std::min(omp_get_max_threads(), static_cast<int>((op.scratch.size - Matmul<float>::kPackedB) /
                                                                                   Matmul<float>::kPackedA)));
  const int inner_block = std::max(1, op.out.dtype == DType::f32 ? std::min(op.inner(), 512) : op.inner());
  TLL_CHECK(op.scratch.size >= Matmul<float>::kPackedB + Matmul<float>::kPackedA && inner_block <= kInnerOnce,
            "{} floats of scratch, inner {}", op.scratch.size, op.inner());
  const int col_block =
      std::max(kPanelColumns, std::min(round_up(op.cols(), kPanelColumns),
                                       static_cast<int>(Matmul<float>::kPackedB / inner_block) / kPanelColumns * kPanelColumns));
  // Blocks of rows that fit the second level of cache, of equal size, a multiple of the threads if there are enough.
  const int most_rows = std::max(
      kPanelRows, std::min(static_cast<int>((Matmul<float>::kPackedA - 8) / inner_block), 144) / kPanelRows * kPanelRows);
  int row_blocks = (op.rows() + most_rows - 1) / most_rows;
  if (op.rows() >= threads * 4 * kPanelRows) row_blocks = round_up(row_blocks, threads);
  const int row_block = round_up((op.rows() + row_blocks - 1) / row_blocks, kPanelRows);
  row_blocks = (op.rows() + row_block - 1) / row_block;

#pragma omp parallel num_threads(threads)
  {
    float* a = op.scratch.data + Matmul<float>::kPackedB + Matmul<float>::kPackedA * omp_get_thread_num();
    float* b = op.scratch.data;
    for (int c0 = 0; c0 < op.cols(); c0 += col_block) {
      const int cols = std::min(col_block, op.cols() - c0), panels = (cols + kPanelColumns - 1) / kPanelColumns;
      // With few blocks of rows the columns are shared out as well.
      const int col_tasks = row_blocks >= threads ? 1 : std::min(panels, (2 * threads + row_blocks - 1) / row_blocks);
      for (int k0 = 0; k0 == 0 || k0 < op.inner(); k0 += inner_block) {  // once even for an empty sum, which is 0
        const int inner = std::min(inner_block, op.inner() - k0);
#pragma omp for schedule(static)
        for (int p = 0; p < panels; p++)
          pack_b(b + static_cast<int64_t>(p) * kPanelColumns * inner, c0 + p * kPanelColumns,
                 std::min(kPanelColumns, cols - p * kPanelColumns), k0, inner);
#pragma omp for schedule(static)
        for (int task = 0; task < row_blocks * col_tasks; task++) {
          const int r0 = task / col_tasks * row_block, rows = std::min(row_block, op.rows() - r0), part = task % col_tasks;
          const int p0 = panels * part / col_tasks, p1 = panels * (part + 1) / col_tasks;
          pack_any<kPanelRows>(a, op.a, r0, rows, k0, inner, static_cast<float>(op.alpha));
          block_gemm(op, a, b + static_cast<int64_t>(p0) * kPanelColumns * inner, r0, rows, c0 + p0 * kPanelColumns,
                     std::min(cols, p1 * kPanelColumns) - p0 * kPanelColumns, inner, op.accumulate || k0 > 0);
        }
      }
    }
  }
}

// The GEMM of any result. bf16 results of a long sum, which must be rounded once, are summed some rows at a time in float first.
template <class PackB>
void packed_matmul(const Matmul<float>& op, const PackB& pack_b) {
  TLL_CHECK(op.scratch.data && op.scratch.size >= Matmul<float>::scratch_floats(1), "{} floats of scratch", op.scratch.size);
  if (op.out.dtype == DType::f32 || op.inner() <= kInnerOnce) return packed_gemm(op, pack_b);
  Matmul<float> part = op;
  part.accumulate = false, part.scratch.size -= Matmul<float>::kSums;
  float* sums = op.scratch.data + part.scratch.size;
  const int64_t most_rows = Matmul<float>::kSums / op.cols();
  TLL_CHECK(most_rows > 0, "{} columns", op.cols());
  for (int64_t r0 = 0; r0 < op.rows(); r0 += most_rows) {
    const int rows = static_cast<int>(std::min(most_rows, op.rows() - r0));
    part.out = matrix(sums, rows, op.cols());
    part.a = op.a.rows(static_cast<int>(r0), rows);
    packed_gemm(part, pack_b);
    bf16* out = static_cast<bf16*>(op.out.data) + r0 * op.out.stride;
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < op.cols(); c++) {
        bf16& to = out[r * op.out.stride + c];
        const float sum = sums[static_cast<int64_t>(r) * op.cols() + c];
        to = round_to_bf16(op.accumulate ? to_acc(to) + sum : sum);
      }
    }
  }
}

// A few rows: each weight is read once. row(n) is where row n of Bᵀ lies.
constexpr int kFewRows = 8;
template <class A, class B, class Out, class Row>
void dot_rows(const Matmul<float>& op, int threads, const Row& row) {
  const A* a = static_cast<const A*>(op.a.data);
  Out* out = static_cast<Out*>(op.out.data);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int n = 0; n < op.cols(); n++) {
    const B* w = row(n);
    for (int m = 0; m < op.rows(); m++) {
      const A* x = a + m * op.a.stride;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int k = 0; k < op.inner(); k++) sum += to_acc(x[k]) * to_acc(w[k]);
      Out& y = out[m * op.out.stride + n];
      y = from_acc<Out>(static_cast<float>(op.alpha) * sum + (op.accumulate ? to_acc(y) : 0.0f));
    }
  }
}

// to = from, row by row; from null: zeros.
void set_rows(const Matrix& to, const void* from) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(to.dtype));
  for (int64_t r = 0; r < to.row_count; r++) {
    const int64_t at = r * to.stride * bytes;
    void* row = static_cast<std::byte*>(to.data) + at;
    const size_t size = static_cast<size_t>(to.col_count * bytes);
    from ? std::memcpy(row, static_cast<const std::byte*>(from) + at, size) : std::memset(row, 0, size);
  }
}

// What is done before any sum: out becomes the addend.
template <class Acc>
void copy_addend(const Matmul<Acc>& op) {
  if (op.accumulate && op.addend && op.addend != op.out.data) set_rows(op.out, op.addend);
}
// Whether there is no sum: out is then done.
bool is_empty(const Matmul<float>& op) {
  TLL_CHECK(op.out.dtype != DType::f16, "matmul to {} runs on CUDA only", dtype_name(op.out.dtype));
  if (op.rows() == 0 || op.cols() == 0) return true;
  if (op.inner() > 0) return false;
  if (!op.accumulate) set_rows(op.out, nullptr);  // oneDNN refuses an empty sum
  return true;
}

}  // namespace
}  // namespace tll
