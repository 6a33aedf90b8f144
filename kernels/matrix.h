// A view of a matrix in memory. Elements lie row by row, and the element type is a run-time value, so that one matmul serves
// every combination of types.
#pragma once

#include <cstddef>
#include <type_traits>

#include "kernels/numeric.h"

namespace tll {

template <class Void>
struct MatrixView {  // Void: void or const void
  Void* data = nullptr;
  DType dtype = DType::f32;
  int row_count = 0, col_count = 0;
  int64_t stride = 0;       // elements from one stored row to the next
  bool transposed = false;  // stored as (col_count, row_count)

  TLL_HOST_DEVICE MatrixView t() const { return {data, dtype, col_count, row_count, stride, !transposed}; }
  // Rows first … first+n-1, and columns first … first+n-1.
  MatrixView rows(int first, int n) const { return {at(first * row_step()), dtype, n, col_count, stride, transposed}; }
  MatrixView cols(int first, int n) const { return {at(first * col_step()), dtype, row_count, n, stride, transposed}; }
  int stored_cols() const { return transposed ? row_count : col_count; }
  int64_t row_step() const { return transposed ? 1 : stride; }  // elements from one row to the next
  int64_t col_step() const { return transposed ? stride : 1; }
  template <class To>
  requires std::is_const_v<To>
  operator MatrixView<To>() const { return {data, dtype, row_count, col_count, stride, transposed}; }

 private:
  Void* at(int64_t element) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;
    return static_cast<Byte*>(data) + element * static_cast<int64_t>(dtype_bytes(dtype));
  }
};
using Matrix = MatrixView<void>;
using ConstMatrix = MatrixView<const void>;

// The view of rows x cols elements at `data`: a Matrix, or a ConstMatrix of a const T*. stride -1: cols.
template <class T>
auto matrix(T* data, int rows, int cols, int64_t stride = -1) {
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  return MatrixView<Void>{data, dtype_of<std::remove_const_t<T>>, rows, cols, stride < 0 ? cols : stride};
}

}  // namespace tll
