// Small ops: casts, copies, bias, row gather and scatter, dropout.
#pragma once

#include "kernels/device.h"
#include "kernels/row_stride.h"

namespace tll {

// out[i] = round(in[i]): the compute copy of the trained (master) weights, made once per step.
template <class Float>
struct CastFromMaster {
  using Scalar = Float;
  static constexpr const char* kName = "cast";
  Float* out;              // (n)
  const acc_t<Float>* in;  // (n)
  int64_t n;
  void check() const { TLL_CHECK(n >= 0 && (n == 0 || (out && in)), "n {}", n); }
  Cost cost() const { return {static_cast<double>(n) * (sizeof(Float) + sizeof(acc_t<Float>)), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct Copy {
  using Scalar = Float;
  static constexpr const char* kName = "copy";
  Float* out;       // (n)
  const Float* in;  // (n)
  int64_t n;
  void check() const { TLL_CHECK(n >= 0 && (n == 0 || (out && in)), "n {}", n); }
  Cost cost() const { return {2.0 * static_cast<double>(n) * sizeof(Float), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// The same of rows that lie apart.
template <class Float>
struct CopyRows {
  using Scalar = Float;
  static constexpr const char* kName = "copy_rows";
  Float* out;      // (N, C), rows out_stride apart
  const Float* x;  // (N, C), rows x_stride apart
  int N, C;
  int64_t out_stride = 0, x_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, C); }
  TLL_HOST_DEVICE int64_t x_row() const { return row_stride(x_stride, C); }
  void check() const {
    TLL_CHECK(out && x && N >= 0 && C > 0 && out_row() >= C && x_row() >= C, "N {} C {} strides {} {}", N, C, out_stride,
              x_stride);
  }
  Cost cost() const { return {2.0 * N * C * sizeof(Float), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// out[n,c] += bias[c]. Backward: dbias[c] += Σ_n dout[n,c].
template <class Float>
struct BiasForward {
  using Scalar = Float;
  static constexpr const char* kName = "bias_forward";
  Float* out;         // (N, C), rows out_stride apart  +=
  const Float* bias;  // (C)
  int N, C;
  int64_t out_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, C); }
  void check() const { TLL_CHECK(out && bias && N >= 0 && C > 0 && out_row() >= C, "N {} C {} stride {}", N, C, out_stride); }
  Cost cost() const { return {2.0 * N * C * sizeof(Float), 1.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};
template <class Float>
struct BiasBackward {
  using Scalar = Float;
  static constexpr const char* kName = "bias_backward";
  acc_t<Float>* dbias;  // (C)  +=
  const Float* dout;    // (N, C)
  int N, C;
  void check() const { TLL_CHECK(dbias && dout && N >= 0 && C > 0, "N {} C {}", N, C); }
  Cost cost() const { return {1.0 * N * C * sizeof(Float), 1.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Gather:  out[r,:] = x[rows[r],:], or zeros where rows[r] < 0.
// Scatter: out[rows[r],:] = x[r,:], or nothing where rows[r] < 0. The rows are distinct; other rows of out keep their values.
template <class Float>
struct GatherRows {
  using Scalar = Float;
  static constexpr const char* kName = "gather_rows";
  Float* out;           // (R, C), rows out_stride apart
  const Float* x;       // (N, C), rows x_stride apart
  const int32_t* rows;  // (R)  each < N
  int R, C;
  int64_t out_stride = 0, x_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, C); }
  TLL_HOST_DEVICE int64_t x_row() const { return row_stride(x_stride, C); }
  void check() const {
    TLL_CHECK(out && x && rows && R >= 0 && C > 0 && out_row() >= C && x_row() >= C, "R {} C {} strides {} {}", R, C, out_stride,
              x_stride);
  }
  Cost cost() const { return {2.0 * R * C * sizeof(Float), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};
template <class Float>
struct ScatterRows {
  using Scalar = Float;
  static constexpr const char* kName = "scatter_rows";
  Float* out;           // (N, C), rows out_stride apart
  const Float* x;       // (R, C), rows x_stride apart
  const int32_t* rows;  // (R)  each < N
  int R, C;
  int64_t out_stride = 0, x_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, C); }
  TLL_HOST_DEVICE int64_t x_row() const { return row_stride(x_stride, C); }
  void check() const {
    TLL_CHECK(out && x && rows && R >= 0 && C > 0 && out_row() >= C && x_row() >= C, "R {} C {} strides {} {}", R, C, out_stride,
              x_stride);
  }
  Cost cost() const { return {2.0 * R * C * sizeof(Float), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Inverted dropout (Srivastava et al. 2014): out = x ⊙ mask / (1-p), mask[n,c] = [u(key, n, c) ≥ p] with u uniform in [0,1). The
// mask depends only on (key, row, column), so backward and recomputation regenerate it and nothing is saved. u has 16 bits, so p
// is rounded to a multiple of 2^-16, everywhere in the formula: see dropout_rule().
//
// Backward: dx += dout ⊙ mask / (1-p), the same op with `accumulate`.
template <class Float>
struct Dropout {
  using Scalar = Float;
  static constexpr const char* kName = "dropout";
  Float* out;      // (N, C), rows out_stride apart  = or += (accumulate)
  const Float* x;  // (N, C), rows x_stride apart
  int N, C;
  double p;      // in [0, 1)
  uint64_t key;  // the layer's id
  bool accumulate;
  // (1)  device memory, or null. dropout_key() of the step and micro-batch: the mask's key is then mix64(*step_key + key).
  const uint64_t* step_key = nullptr;
  int64_t first_row = 0;                 // of the batch, where out and x are some of its rows
  int64_t out_stride = 0, x_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, C); }
  TLL_HOST_DEVICE int64_t x_row() const { return row_stride(x_stride, C); }
  void check() const {
    TLL_CHECK(out && x && N >= 0 && C > 0 && p >= 0 && p < 1 && out_row() >= C && x_row() >= C, "N {} C {} p {} strides {} {}", N,
              C, p, out_stride, x_stride);
  }
  Cost cost() const { return {(accumulate ? 3.0 : 2.0) * N * C * sizeof(Float), 2.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// SplitMix64 (Steele et al. 2014): word i of the stream of a seed is mix64(seed + i·kSplitMixStep). mix64 is a bijection on
// 64-bit words that maps near counters far apart.
inline constexpr uint64_t kSplitMixStep = 0x9e3779b97f4a7c15ull;
TLL_HOST_DEVICE TLL_INLINE uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
TLL_INLINE uint64_t dropout_key(uint64_t seed, uint64_t step, uint64_t micro, uint64_t layer, uint64_t input) {
  uint64_t key = mix64(seed + kSplitMixStep);
  for (uint64_t part : {step, micro, layer, input}) key = mix64(key + (part + 1) * kSplitMixStep);
  return key;
}

// Which elements dropout keeps. kDropoutColumns neighbouring columns of a row, the first a multiple of kDropoutColumns, share a
// word of the key's stream, 16 bits each; the words are numbered row by row. So the mask does not depend on which rows an op is
// given.
inline constexpr int kDropoutColumns = 4;
struct DropoutRule {
  uint32_t threshold;  // p in the upper 16 bits
  double keep_scale;   // 1/(1-p) of the rounded p
};
TLL_INLINE DropoutRule dropout_rule(double p) {
  const uint32_t rounded = static_cast<uint32_t>(p * 0x1p16 + 0.5), most = 0xffff;  // p < 1 must stay below 1
  const uint32_t threshold = (rounded < most ? rounded : most) << 16;
  return {threshold, 1.0 / (1.0 - threshold * 0x1p-32)};
}
TLL_HOST_DEVICE TLL_INLINE int64_t dropout_words(int C) { return (C + kDropoutColumns - 1) / kDropoutColumns; }
// number: row · dropout_words(C) + column / kDropoutColumns.
TLL_HOST_DEVICE TLL_INLINE uint64_t dropout_word(uint64_t key, int64_t number) {
  return mix64(key + static_cast<uint64_t>(number) * kSplitMixStep);
}
// i: column % kDropoutColumns.
TLL_HOST_DEVICE TLL_INLINE bool dropout_keeps(uint64_t word, int i, uint32_t threshold) {
  const uint32_t two = static_cast<uint32_t>(i < 2 ? word : word >> 32);
  return (i % 2 == 0 ? two << 16 : two) >= threshold;  // below the upper 16 bits anything may stand: those of threshold are 0
}

}  // namespace tll
