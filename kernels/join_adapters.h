// Writes a linear layer's adapters where they are operands of the same GEMM as its weight: A below W, B beside it (see
// src/model/linear.h). Once a step, from the master values.
//
//   a[r, c] = A[r, c]                                                                        (R, in)
//   b[n, r] = s_i · B_i[n - first_row, r - first_rank]   in the rows and columns of range i; 0 elsewhere       (out, R)
//
// The scale and the product are rounded to fp32, then to the type of b. Memory-bound. On a CPU also in the oracle types.
#pragma once

#include "kernels/device.h"
#include "kernels/matrix.h"

namespace tll {

struct JoinAdapters {
  using Scalar = float;
  static constexpr const char* kName = "join_adapters";
  static constexpr int kMostRanges = 3;
  struct Range {
    ConstMatrix b;              // (rows, rank)
    int first_row, first_rank;  // in the result
    double scale;
  };
  Matrix a, b;          // not transposed, of one type
  ConstMatrix a_value;  // (R, in)
  Range ranges[kMostRanges] = {};
  int range_count = 0;

  // Element (n, r) of b.
  template <class Acc, class Load>
  TLL_HOST_DEVICE Acc scaled(int n, int r, const Load& load) const {
    for (int i = 0; i < range_count; i++) {
      const Range& range = ranges[i];
      const int row = n - range.first_row, rank = r - range.first_rank;
      if (row >= 0 && row < range.b.row_count && rank >= 0 && rank < range.b.col_count)
        return Acc(range.scale) * load(range.b, row * range.b.stride + rank);
    }
    return Acc(0);
  }
  void check() const {
    TLL_CHECK(a.data && b.data && a_value.data && a.dtype == b.dtype && !a.transposed && !b.transposed &&
                  a.row_count == b.col_count && a_value.row_count == a.row_count && a_value.col_count == a.col_count &&
                  a.stride >= a.col_count && b.stride >= b.col_count && range_count <= kMostRanges,
              "A ({}, {}), its values ({}, {}), B ({}, {}), {} ranges", a.row_count, a.col_count, a_value.row_count,
              a_value.col_count, b.row_count, b.col_count, range_count);
    for (int i = 0; i < range_count; i++) {
      const Range& range = ranges[i];
      TLL_CHECK(range.b.data && range.b.dtype == a_value.dtype && !range.b.transposed && range.first_row >= 0 &&
                    range.first_rank >= 0 && range.first_row + range.b.row_count <= b.row_count &&
                    range.first_rank + range.b.col_count <= b.col_count,
                "range {}: ({}, {}) from {}, {}", i, range.b.row_count, range.b.col_count, range.first_row, range.first_rank);
    }
  }
  Cost cost() const {
    const double elements = static_cast<double>(a.row_count) * a.col_count + static_cast<double>(b.row_count) * b.col_count;
    double read = static_cast<double>(a.row_count) * a.col_count;
    for (int i = 0; i < range_count; i++) read += static_cast<double>(ranges[i].b.row_count) * ranges[i].b.col_count;
    return {elements * static_cast<double>(dtype_bytes(a.dtype)) + read * static_cast<double>(dtype_bytes(a_value.dtype)), read};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
