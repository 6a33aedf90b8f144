// The fp32 GEMM of a CPU. bf16 runs here where the processor does not multiply bf16.
//
// The loops are those of Goto & van de Geijn 2008 (BLIS: Van Zee & van de Geijn 2015): a block of B is packed into column panels,
// a block of A into row panels, and a micro-kernel that holds a tile of the result in registers runs over both. Packing reads
// operands of any training type, transposed or not, so widening bf16 and fp16 costs no extra pass. It applies alpha too. How B is
// packed is an argument, so that a quantised B is decoded there. All memory is the caller's.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/gemm_parts.h"
#include "kernels/matmul.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

#if defined(__AVX512F__)
constexpr int kVector = 16, kPanelRows = 12;
#else
constexpr int kVector = 8, kPanelRows = 6;
#endif
constexpr int kPanelColumns = 2 * kVector;
typedef float Vector __attribute__((vector_size(kVector * sizeof(float)), aligned(sizeof(float)), may_alias));

// out tile (kPanelRows, kPanelColumns) = A panel (inner, kPanelRows) · B panel (inner, kPanelColumns) + the addend, which may be
// out. null: none. `stride` is that of both.
inline __attribute__((always_inline)) void micro_kernel(int inner, const float* a, const float* b, float* out, ptrdiff_t stride,
                                                        const float* addend) {
  Vector sum[kPanelRows][2];
#pragma GCC unroll 12
  for (int i = 0; i < kPanelRows; i++) {
    sum[i][0] = sum[i][1] = Vector{};
    __builtin_prefetch(out + i * stride, 1), __builtin_prefetch(out + i * stride + kVector, 1);
  }
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
    for (int j = 0; j < 2; j++) {
      const ptrdiff_t at = i * stride + j * kVector;
      if (addend) sum[i][j] += *reinterpret_cast<const Vector*>(addend + at);
      *reinterpret_cast<Vector*>(out + at) = sum[i][j];
    }
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
// transposed in registers. What a store writes behind a step of k, the next step overwrites; the last one writes its lines alone.
// Memory is asked for ahead of its use: the processor itself does not foresee steps from line to line.
template <int kPanel, class In>
void pack(float* out, const In* in, int64_t stride, bool along, int first_line, int lines, int first, int inner, float alpha) {
  constexpr int kGroups = (kPanel + 7) / 8, kBytesAhead = 256, kStepsAhead = 16;
  for (int panel = 0; panel < lines; panel += kPanel, out += static_cast<int64_t>(inner) * kPanel) {
    const int width = std::min(kPanel, lines - panel);
    int k = 0;
    if (along) {
      const In* from = in + static_cast<int64_t>(first_line + panel) * stride + first;
      for (; k + 8 <= inner; k += 8) {
        if (k % (64 / sizeof(In)) == 0)
          for (int line = 0; line < width; line++) __builtin_prefetch(from + line * stride + k + kBytesAhead / sizeof(In));
        Eight turned[kGroups][8];
        for (int g = 0; g < kGroups; g++) {
          for (int i = 0; i < 8; i++) {
            turned[g][i] = Eight{};
            if (g * 8 + i < width)
              for (int e = 0; e < 8; e++) turned[g][i][e] = to_acc(from[(g * 8 + i) * stride + k + e]) * alpha;
          }
          transpose_eight(turned[g]);
        }
        for (int e = 0; e < 8; e++) {
          float* step = out + (k + e) * kPanel;
          for (int g = 0; g < kGroups; g++) {
            if (kPanel % 8 == 0 || k + e + 1 < inner)
              *reinterpret_cast<Eight*>(step + g * 8) = turned[g][e];
            else
              std::memcpy(step + g * 8, &turned[g][e], sizeof(float) * static_cast<size_t>(std::min(8, kPanel - g * 8)));
          }
        }
      }
      for (; k < inner; k++)
        for (int line = 0; line < kPanel; line++)
          out[k * kPanel + line] = line < width ? to_acc(from[line * stride + k]) * alpha : 0.0f;
    } else {
      const In* from = in + static_cast<int64_t>(first) * stride + first_line + panel;
      for (; k < inner; k++) {
        for (size_t byte = 0; byte < kPanel * sizeof(In); byte += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(from + (k + kStepsAhead) * stride) + byte);
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

int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// How a GEMM is cut. A block of A is packed once, by all threads, to memory that they share. Then a piece is a group of columns
// of B times some rows of the block. Its thread packs kInner rows of B for it at a time and multiplies kCacheRows rows of A with
// them: both lie in its second level of cache, and a panel of B in the first. Nothing but this sharing out depends on the
// threads.
constexpr int kInner = 256, kCacheRows = 144, kMostRows = 516, kGroupColumns = 128;
static_assert(kCacheRows % kPanelRows == 0 && kMostRows % kPanelRows == 0 && kGroupColumns % kPanelColumns == 0);

struct Blocking {
  int threads, rows, inner;  // a block of A; threads that have memory of their own
  Sharing pieces;

  // of_sums: results are summed in fp32 over all of inner before they are rounded once to bf16.
  Blocking(const Matmul<float>& op, bool of_sums) {
    constexpr int64_t kOwn = Matmul<float>::kOwn;
    threads = static_cast<int>(std::clamp<int64_t>((op.scratch.size - Matmul<float>::kShared) / kOwn, 1, cpu_threads()));
    const int64_t shared = op.scratch.size - threads * kOwn;
    const int panel_rows = (op.rows() + kPanelRows - 1) / kPanelRows, panels = (op.cols() + kPanelColumns - 1) / kPanelColumns;
    int most = kMostRows / kPanelRows;
    if (of_sums) most = static_cast<int>(std::clamp<int64_t>(shared / op.inner() / kPanelRows, 1, most));
    const int blocks = (panel_rows + most - 1) / most;
    rows = (panel_rows + blocks - 1) / blocks * kPanelRows;
    const int inner_most = of_sums ? op.inner() : static_cast<int>(shared / rows) / kInner * kInner;
    const int inner_blocks = (op.inner() + inner_most - 1) / inner_most;
    inner = inner_blocks == 1 ? op.inner() : round_up((op.inner() + inner_blocks - 1) / inner_blocks, kInner);
    const int most_panels = (of_sums ? kGroupColumns / 2 : kGroupColumns) / kPanelColumns;
    pieces = share_out(panels, most_panels, rows / kPanelRows, threads);
    TLL_CHECK(shared >= static_cast<int64_t>(rows) * inner, "{} floats of scratch for blocks of {} x {}", op.scratch.size, rows,
              inner);
  }
};
static_assert(kInner * kGroupColumns <= Matmul<float>::kOwn);
static_assert(kInner * kGroupColumns / 2 + kMostRows * kGroupColumns / 2 <= Matmul<float>::kOwn);

// Panels of a packed block of A, each a_inner long, times panels of B, each `inner` long. out and addend, in fp32, are of this
// part.
void block_gemm(const float* a, int a_inner, const float* b, int rows, int cols, int inner, float* out, int64_t stride,
                const float* addend) {
  alignas(64) float tile[kPanelRows * kPanelColumns];
  for (int j = 0; j < cols; j += kPanelColumns) {
    for (int i = 0; i < rows; i += kPanelRows) {
      const float *a_panel = a + static_cast<int64_t>(i) * a_inner, *b_panel = b + static_cast<int64_t>(j) * inner;
      const int64_t at = i * stride + j;
      const float* added = addend ? addend + at : nullptr;
      if (i + kPanelRows <= rows && j + kPanelColumns <= cols) {
        micro_kernel(inner, a_panel, b_panel, out + at, stride, added);
        continue;
      }
      micro_kernel(inner, a_panel, b_panel, tile, kPanelColumns, nullptr);
      for (int r = 0; r < std::min(kPanelRows, rows - i); r++)
        for (int c = 0; c < std::min(kPanelColumns, cols - j); c++)
          out[at + r * stride + c] = tile[r * kPanelColumns + c] + (added ? added[r * stride + c] : 0.0f);
    }
  }
}

// out = sums of as many rows + the addend, in bf16.
void round_sums(const Matrix& out, const float* sums, int64_t stride, const void* addend) {
  for (int r = 0; r < out.row_count; r++) {
    bf16* to = static_cast<bf16*>(out.data) + r * out.stride;
    const bf16* added = static_cast<const bf16*>(addend) + r * out.stride;
    const float* from = sums + r * stride;
    for (int c = 0; c < out.col_count; c++) to[c] = round_to_bf16(addend ? to_acc(added[c]) + from[c] : from[c]);
  }
}

// pack_b(to, first column, columns, first of inner, inner) packs one panel of B.
template <class PackB>
void packed_gemm(const Matmul<float>& op, const PackB& pack_b) {
  const bool of_sums = op.out.dtype != DType::f32;
  const Blocking cut(op, of_sums);
  float *const own = op.scratch.data, *const a = own + cut.threads * Matmul<float>::kOwn;
  const int panels = (op.cols() + kPanelColumns - 1) / kPanelColumns;
  for (int r0 = 0; r0 < op.rows(); r0 += cut.rows) {
    const int rows = std::min(cut.rows, op.rows() - r0), row_panels = (rows + kPanelRows - 1) / kPanelRows;
    for (int k0 = 0; k0 < op.inner(); k0 += cut.inner) {
      const int inner = std::min(cut.inner, op.inner() - k0);
      parallel_ranges(row_panels, 2 * kPanelRows * inner, [&](int64_t begin, int64_t end) {
        const int first = static_cast<int>(begin) * kPanelRows;
        pack_any<kPanelRows>(a + static_cast<int64_t>(first) * inner, op.a, r0 + first,
                             std::min(rows, static_cast<int>(end) * kPanelRows) - first, k0, inner, static_cast<float>(op.alpha));
      });
      parallel_pieces(cut.pieces.groups * cut.pieces.row_parts, cut.threads, [&](int64_t piece, int worker) {
        const int group = static_cast<int>(piece) / cut.pieces.row_parts, part = static_cast<int>(piece) % cut.pieces.row_parts;
        const int col = panels * group / cut.pieces.groups * kPanelColumns;
        const int cols = std::min(op.cols(), panels * (group + 1) / cut.pieces.groups * kPanelColumns) - col;
        const int row = row_panels * part / cut.pieces.row_parts * kPanelRows;
        const int end = std::min(rows, row_panels * (part + 1) / cut.pieces.row_parts * kPanelRows);
        float *b = own + worker * Matmul<float>::kOwn, *sums = b + kInner * kGroupColumns / 2;
        const Matrix out = op.out.rows(r0 + row, end - row).cols(col, cols);
        const int64_t stride = of_sums ? round_up(cols, kPanelColumns) : out.stride;
        float* to = of_sums ? sums : static_cast<float*>(out.data);
        const void* addend = op.addend_of(out);
        for (int k = 0; k < inner; k += kInner) {
          const int length = std::min(kInner, inner - k);
          for (int c = 0; c < cols; c += kPanelColumns)
            pack_b(b + static_cast<int64_t>(c) * length, col + c, std::min(kPanelColumns, cols - c), k0 + k, length);
          const float* before = k0 + k > 0 ? to : of_sums ? nullptr : static_cast<const float*>(addend);
          for (int r = row; r < end; r += kCacheRows) {
            const int64_t at = (r - row) * stride;
            block_gemm(a + static_cast<int64_t>(r) * inner + k * kPanelRows, inner, b, std::min(kCacheRows, end - r), cols,
                       length, to + at, stride, before ? before + at : nullptr);
          }
        }
        if (of_sums) round_sums(out, sums, stride, addend);
      });
    }
  }
}

// The GEMM of any result. bf16 results of a long sum are summed some rows at a time in float first: more rows then share what is
// packed of B.
template <class PackB>
void packed_matmul(const Matmul<float>& op, const PackB& pack_b) {
  constexpr int kLongInner = 4096;
  TLL_CHECK(op.scratch.data && op.scratch.size >= Matmul<float>::scratch_floats(1), "{} floats of scratch", op.scratch.size);
  if (op.out.dtype == DType::f32 || op.inner() <= kLongInner) return packed_gemm(op, pack_b);
  Matmul<float> part = op;
  part.accumulate = false, part.addend = nullptr, part.scratch.size -= Matmul<float>::kSums;
  float* sums = op.scratch.data + part.scratch.size;
  const int64_t most_rows = Matmul<float>::kSums / op.cols();
  TLL_CHECK(most_rows > 0, "{} columns", op.cols());
  for (int64_t r0 = 0; r0 < op.rows(); r0 += most_rows) {
    const int rows = static_cast<int>(std::min(most_rows, op.rows() - r0));
    part.out = matrix(sums, rows, op.cols());
    part.a = op.a.rows(static_cast<int>(r0), rows);
    packed_gemm(part, pack_b);
    parallel_ranges(rows, 3 * op.cols(), [&](int64_t begin, int64_t end) {
      const int first = static_cast<int>(begin);
      round_sums(op.out.rows(static_cast<int>(r0) + first, static_cast<int>(end) - first), sums + begin * op.cols(), op.cols(),
                 op.addend_of(op.out.rows(static_cast<int>(r0) + first, 0)));
    });
  }
}

// kVector elements as float. By reference: the base instruction set returns no such vector.
template <class T>
inline __attribute__((always_inline)) void load_vector(Vector& to, const T* from) {
  if constexpr (dtype_of<T> == DType::f32) {
    to = *reinterpret_cast<const Vector*>(from);
  } else if constexpr (dtype_of<T> == DType::bf16) {
    typedef uint16_t Words __attribute__((vector_size(kVector * sizeof(uint16_t)), aligned(sizeof(uint16_t)), may_alias));
    typedef uint32_t Wide __attribute__((vector_size(kVector * sizeof(uint32_t))));
    to = reinterpret_cast<Vector>(__builtin_convertvector(*reinterpret_cast<const Words*>(from), Wide) << 16);
  } else {
    for (int e = 0; e < kVector; e++) to[e] = to_acc(from[e]);
  }
}

// The sum of the lanes: halves are added until one is left.
inline __attribute__((always_inline)) float add_lanes(const Vector& v) {
  Eight s;
  if constexpr (kVector == 16) {
    Eight halves[2];
    std::memcpy(halves, &v, sizeof(halves));
    s = halves[0] + halves[1];
  } else {
    std::memcpy(&s, &v, sizeof(s));
  }
  s += __builtin_shufflevector(s, s, 4, 5, 6, 7, 0, 1, 2, 3);
  s += __builtin_shufflevector(s, s, 2, 3, 0, 1, 6, 7, 4, 5);
  return s[0] + s[1];
}

// to[i] = Σ x[k] · w[i][k], each in kSumLanes partial sums, which are added pairwise: one order for every type of weights, which
// are then the same values in 16 bits and in 32.
template <int kRows, class A, class B>
void dots(const A* x, const B* const* w, int inner, float* to) {
  constexpr int kSumVectors = 4, kSumLanes = kSumVectors * kVector;
  Vector sum[kRows][kSumVectors] = {};
  int k = 0;
  for (; k + kSumLanes <= inner; k += kSumLanes) {
    // The processor itself looks too little ahead to read memory at its full rate. Rows follow each other.
    constexpr size_t kLine = 64, kAhead = 4096 * kRows;
    for (int i = 0; i < kRows && kRows > 1; i++)
      for (size_t line = 0; line < kSumLanes * sizeof(B); line += kLine)
        __builtin_prefetch(reinterpret_cast<const char*>(w[i] + k) + kAhead + line);
#pragma GCC unroll 4
    for (int v = 0; v < kSumVectors; v++) {
      Vector xv, wv;
      load_vector(xv, x + k + v * kVector);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; i++) {
        load_vector(wv, w[i] + k + v * kVector);
        sum[i][v] += xv * wv;
      }
    }
  }
  for (int i = 0; i < kRows; i++) {
    if (k < inner) {
      float lanes[kSumLanes];
      std::memcpy(lanes, sum[i], sizeof(lanes));
      for (int lane = 0; k + lane < inner; lane++) lanes[lane] += to_acc(x[k + lane]) * to_acc(w[i][k + lane]);
      std::memcpy(sum[i], lanes, sizeof(lanes));
    }
    to[i] = add_lanes((sum[i][0] + sum[i][2]) + (sum[i][1] + sum[i][3]));
  }
}

// A few rows: each weight is read once, and none is packed. With long vectors that pays for more rows of fp32.
constexpr int few_rows_of(DType a) { return a == DType::f32 && kVector == 16 ? 24 : 8; }
// row(n, worker) is where row n of Bᵀ lies; kAtOnce: so many of them lie there together.
template <int kAtOnce, class A, class B, class Out, class Row>
void dot_rows(const Matmul<float>& op, int threads, const Row& row) {
  const A* a = static_cast<const A*>(op.a.data);
  Out* out = static_cast<Out*>(op.out.data);
  const int64_t columns = std::max<int64_t>(1, kPieceCost / std::max(1, op.inner())),
                pieces = (op.cols() + columns - 1) / columns;
  const auto dots_of = [&]<int kRows>(std::integral_constant<int, kRows>, int n, int worker) {
    const B* w[kRows];
    for (int i = 0; i < kRows; i++) w[i] = row(n + i, worker);
    for (int m = 0; m < op.rows(); m++) {
      float sums[kRows];
      dots<kRows>(a + m * op.a.stride, w, op.inner(), sums);
      for (int i = 0; i < kRows; i++) {
        Out& y = out[m * op.out.stride + n + i];
        y = from_acc<Out>(static_cast<float>(op.alpha) * sums[i] + (op.accumulate ? to_acc(y) : 0.0f));
      }
    }
  };
  parallel_pieces(pieces, threads, [&](int64_t piece, int worker) {
    int n = static_cast<int>(op.cols() * piece / pieces);
    const int end = static_cast<int>(op.cols() * (piece + 1) / pieces);
    for (; n + kAtOnce <= end; n += kAtOnce) dots_of(std::integral_constant<int, kAtOnce>(), n, worker);
    for (; n < end; n++) dots_of(std::integral_constant<int, 1>(), n, worker);
  });
}

// to = from, row by row; from null: zeros.
void set_rows(const Matrix& to, const void* from) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(to.dtype));
  parallel_for(to.row_count, to.col_count, [&](int64_t r) {
    const int64_t at = r * to.stride * bytes;
    void* row = static_cast<std::byte*>(to.data) + at;
    const size_t size = static_cast<size_t>(to.col_count * bytes);
    from ? std::memcpy(row, static_cast<const std::byte*>(from) + at, size) : std::memset(row, 0, size);
  });
}

// For what adds to out itself: out becomes the addend.
template <class Acc>
void copy_addend(const Matmul<Acc>& op) {
  if (op.accumulate && op.addend && op.addend != op.out.data) set_rows(op.out, op.addend);
}
// Whether there is no sum: out is then done.
bool is_empty(const Matmul<float>& op) {
  TLL_CHECK(op.out.dtype != DType::f16, "matmul to {} runs on CUDA only", dtype_name(op.out.dtype));
  if (op.rows() == 0 || op.cols() == 0) return true;
  if (op.inner() > 0) return false;
  op.accumulate ? copy_addend(op) : set_rows(op.out, nullptr);
  return true;
}

}  // namespace
}  // namespace tll
