// Tensors whose rows have room behind their columns.
#pragma once

#include "kernels/numeric.h"

namespace tll {

// Elements from one row of `cols` columns to the next: `stride`, or `cols` where it is 0.
TLL_HOST_DEVICE constexpr int64_t row_stride(int64_t stride, int64_t cols) { return stride > 0 ? stride : cols; }

// The least number of elements, at least `cols`, after which rows begin at a multiple of 32 bytes: a sector of a GPU's memory,
// and more than its widest load and bulk copies need.
inline int64_t aligned_row(int64_t cols, DType type) {
  const int64_t unit = 32 / static_cast<int64_t>(dtype_bytes(type));
  return (cols + unit - 1) / unit * unit;
}

}  // namespace tll
