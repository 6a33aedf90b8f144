// Deterministic reductions. The array is split into blocks of a fixed size, each block is summed in double, and the block sums
// are added in a fixed order. The result does not depend on the number of threads.
#pragma once

#include <type_traits>

#include "kernels/device.h"

namespace tll {

// Losses are summed in double. The complex oracle keeps the imaginary part, which is the derivative.
template <class Float>
using loss_t = std::conditional_t<std::is_same_v<Float, complex>, complex, double>;

// sum[0] += Σ x[i], in an order that depends only on n. Adds up the losses of a chunk of rows.
template <class Float>
struct AddUp {
  using Scalar = Float;
  static constexpr const char* kName = "add_up";
  loss_t<Float>* sum;     // (1)  +=
  const acc_t<Float>* x;  // (n)
  int n;
  void check() const { TLL_CHECK(sum && n >= 0 && (n == 0 || x), "n {}", n); }
  Cost cost() const { return {static_cast<double>(n) * sizeof(acc_t<Float>), 1.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

struct SumOfSquares {
  using Scalar = float;
  static constexpr const char* kName = "sum_of_squares";
  static constexpr int64_t kBlock = 1 << 14;
  double* out;      // (1)       out[0] = Σ x[i]²
  double* partial;  // (blocks)  scratch
  const void* x;    // (n)       fp32, bf16 or fp16
  int64_t n;
  DType dtype = DType::f32;
  static int64_t blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }
  void check() const { TLL_CHECK(out && n >= 0 && (n == 0 || (partial && x)), "n {}", n); }
  Cost cost() const { return {static_cast<double>(dtype_bytes(dtype)) * n, 2.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
