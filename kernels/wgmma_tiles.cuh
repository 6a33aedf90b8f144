// Tiles of rows in shared memory as wgmma reads them: panels of 64 columns with the 128-byte swizzle (wgmma.cuh).
#pragma once

#include "kernels/row_access.cuh"
#include "kernels/wgmma.cuh"

namespace tll {

// threadIdx.x, which the compiler takes for a new value: what is computed from it is computed again and keeps no register.
TLL_DEVICE int thread_again() {
#ifdef TLL_EMULATED
  return static_cast<int>(threadIdx.x);
#else
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#endif
}

// kRows rows (a multiple of 8) of kD columns (64 or 128). A block of kThreads threads fills it.
template <class Float, int kRows, int kD, int kThreads>
struct PanelTile {
  static constexpr int kPanel = kRows * kPanelColumns, kElements = kPanel * kD / kPanelColumns;
  // Element (row, column). Eight columns from a multiple of eight on are neighbours.
  TLL_DEVICE static int at(int row, int column) {
    return column / kPanelColumns * kPanel + swizzled(row, column % kPanelColumns);
  }

  // Rows from global to shared memory by cp.async; missing rows and columns become 0.
  static constexpr int kUnits = kD / 8, kStep = kThreads / kUnits;
  TLL_DEVICE static void load(Float* tile, const Float* from, int64_t stride, int rows, int D, bool vector) {
    static_assert(kStep % 8 == 0 && kRows % kStep == 0, "a thread stays in its column, and in its place of the swizzle");
    const int thread = thread_again(), row0 = thread / kUnits, column = thread % kUnits * 8;
    const int left = D - column, valid = left < 0 ? 0 : left > 8 ? 8 : left;
    tile += at(row0, column);
    from += row0 * stride + column;
    if (vector) {
#pragma unroll
      for (int row = 0; row < kRows; row += kStep) {
        copy_vec_async(tile + row * kPanelColumns, from, row + row0 < rows ? valid : 0, true);
        from += kStep * stride;
      }
    } else {
#pragma unroll 1
      for (int row = 0; row < kRows; row += kStep) {
        copy_vec_async(tile + row * kPanelColumns, from, row + row0 < rows ? valid : 0, false);
        from += kStep * stride;
      }
    }
  }

#ifdef TLL_WGMMA
  // A and B as [m][k] and [n][k], from row 0 on: the columns k … k+15 (k_step) are K, or the rows of B from k on, as [k][n].
  // Row r of A, a multiple of 8, is r_step further.
  TLL_DEVICE static uint64_t k_major(const Float* tile) { return wgmma_descriptor(tile); }
  TLL_DEVICE static uint64_t mn_major(const Float* tile) {
    return wgmma_descriptor(tile, kPanel * static_cast<int>(sizeof(Float)));
  }
  // What to add to a descriptor for another first element: 16-byte units.
  TLL_DEVICE static constexpr int columns_on(int column) {
    return (column / kPanelColumns * kPanel + column % kPanelColumns) / 8;
  }
  TLL_DEVICE static constexpr int rows_on(int row) { return row * kPanelColumns / 8; }
#endif

  // Accumulators of wgmma of N = kD times factor(r), r: row within the thread, to global memory. Each warp stages its own 16 rows
  // of a tile that no other warp uses, so that a lane writes 16 bytes at a time. `tile` begins at the warp's rows.
  template <int kCount, class Factor>
  TLL_DEVICE static void store(Float* to, int64_t stride, int rows, int D, const float (&sums)[kCount], Float* tile, bool vector,
                               const Factor& factor) {
    static_assert(kCount == kD / 2, "the accumulators of kD columns");
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, first = thread / kWarp * 16;
    __syncwarp();
#pragma unroll
    for (int e = 0; e < kCount; e += 2) {
      const int r = e / 2 % 2;
      const uint32_t pair = pack2<Float>(sums[e] * factor(r), sums[e + 1] * factor(r));
      memcpy(tile + at(accumulator_row(thread, r), accumulator_column(thread, e)), &pair, sizeof(pair));
    }
    __syncwarp();
#pragma unroll 1
    for (int c = lane; c < 16 * kUnits; c += kWarp) {
      const int row = first + c / kUnits, column = c % kUnits * 8;
      if (row >= rows || column >= D) continue;
      const Float* from = tile + at(row, column);
      Float* here = to + row * stride + column;
      if (vector) {  // D is a multiple of 8; as raw bits, of which nvcc makes one load and one store
        *reinterpret_cast<raw_bits<16>*>(here) = *reinterpret_cast<const raw_bits<16>*>(from);
      } else {
        for (int i = 0; i < 8 && column + i < D; i++) here[i] = from[i];
      }
    }
  }
};

// Calls f(integral_constant<kD>) with the least kD, of whole panels, that D fits.
template <class F>
void with_panels(int D, const F& f) {
  TLL_CHECK(D <= 128, "attention on CUDA has head sizes up to 128, not {}", D);
  if (D <= 64) return f(std::integral_constant<int, 64>{});
  f(std::integral_constant<int, 128>{});
}

}  // namespace tll
