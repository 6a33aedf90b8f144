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

// partial[b] = Σ x[i]² over block b of x. The blocks' sums are added by AddDoubles. An array that lies in parts, each a multiple
// of kBlock but the last, has the same blocks as the whole.
struct SumOfSquares {
  using Scalar = float;
  static constexpr const char* kName = "sum_of_squares";
  static constexpr int64_t kBlock = 1 << 11;
  double* partial;  // (blocks)
  const void* x;    // (n)       fp32, bf16 or fp16
  int64_t n;
  DType dtype = DType::f32;
  static int64_t blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }
  void check() const { TLL_CHECK(n >= 0 && (n == 0 || (partial && x)), "n {}", n); }
  Cost cost() const { return {static_cast<double>(dtype_bytes(dtype)) * n, 2.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// out[0] = Σ x[order[i]], in an order that depends only on n.
struct AddDoubles {
  using Scalar = float;
  static constexpr const char* kName = "add_doubles";
  double* out;           // (1)
  const double* x;       // (n)
  const int32_t* order;  // (n)  where the i-th term is; null: at i
  int64_t n;
  void check() const { TLL_CHECK(out && n >= 0 && n <= INT32_MAX && (n == 0 || x), "n {}", n); }
  Cost cost() const { return {static_cast<double>(n) * (order ? 12 : 8), 1.0 * n}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// sum[i] = (sum[i] + parts[0, i]) + parts[1, i] + …: a rounding to their type after each. So terms that are added in several
// calls have the bits of one call. Adds the gradients of micro-batches, and of ranks.
struct AddParts {
  using Scalar = float;
  static constexpr const char* kName = "add_parts";
  void* sum;          // (n)         in and out; fp32, bf16 or fp16
  const void* parts;  // (count, n)  of the same type
  int count;
  int64_t n;
  DType dtype = DType::f32;
  void check() const { TLL_CHECK(n >= 0 && count >= 0 && (n == 0 || count == 0 || (sum && parts)), "{} of {}", count, n); }
  Cost cost() const { return {static_cast<double>(dtype_bytes(dtype)) * n * (count + 2), 1.0 * n * count}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
