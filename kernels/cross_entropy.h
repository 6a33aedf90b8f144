// Cross entropy of one chunk of rows, so that only the logits of a chunk are in memory at a time. The caller drops rows without a
// target before the LM head.
//
// Per row:   m = max_v z[v],  lse = m + ln Σ_v e^(z[v]-m)
//            loss = lse - z[target]
//            dz[v] = (e^(z[v]-lse) - [v == target]) · scale        rounded to Float once
//
// `scale` is the loss scale (1 unless fp16) divided by the target tokens of the whole optimizer step. Logits are acc_t<Float> or
// Float, and all is computed in acc_t<Float>. dz may overwrite them if row r of dz starts where row r of the logits starts.
// Memory-bound: on CUDA one pass for maximum and sum and one for dz; on the CPU three passes over a row that stays in cache.
// The derivation is in dev/notes/derivations.md.
//
// Logits in 16 bits are z[v] + ε[v] with |ε[v]| ≤ u·|z[v]|: u = 2^-8 of bf16 and 2^-11 of fp16, half the distance of neighbours
// over the value. By the mean value theorem, where q is the softmax somewhere between the two rows of logits,
//
//   loss' - loss = Σ_v q[v]·ε[v] - ε[target]         of size 2·u·max|z| at most
//   p'[v] / p[v] = e^(ε[v] - Σ_w q[w]·ε[w])          between e^-(2·u·max|z|) and e^(2·u·max|z|)
//
// Rounding to nearest prefers no sign: the mean over n targets is off by √n less. It does not grow from step to step, since
// logits are computed anew. A logit of fp16 from 65520 on is infinite, and the loss then NaN. transformers computes the same with
// a model in 16 bits or under autocast: the product of the head is of 16 bits, and cross entropy widens it.
#pragma once

#include "kernels/device.h"

namespace tll {

// Compacts the rows that have a target: rows[i] in ascending order, row_targets[i] = targets[rows[i]]. Both are padded with -1 up
// to `capacity`.
template <class Float>
struct ListTargets {
  using Scalar = Float;
  static constexpr const char* kName = "list_targets";
  int32_t* rows;           // (capacity)
  int32_t* row_targets;    // (capacity)
  const int32_t* targets;  // (N)  -1: none
  int N, capacity;         // capacity: at least the number of targets
  void check() const { TLL_CHECK(N >= 0 && capacity >= 0 && (N == 0 || (rows && row_targets && targets)), "N {}", N); }
  Cost cost() const { return {4.0 * N + 8.0 * capacity, 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct CrossEntropy {
  using Scalar = Float;
  static constexpr const char* kName = "cross_entropy";
  const void* logits;             // (rows, V) of logits_dtype
  DType logits_dtype;             // that of acc_t<Float> or of Float
  int64_t logits_stride;          // elements from one row of logits to the next
  acc_t<Float>* losses;           // (rows)
  const int32_t* targets;         // (rows)  in [0, V); negative: no target, loss and gradient are 0
  Float* dlogits = nullptr;       // (rows, V)  null: only the losses
  int64_t dlogits_stride = 0;     // elements from one row of dlogits to the next
  const double* scale = nullptr;  // (1)  device memory, because it changes every step; required with dlogits
  int rows, V;
  void check() const {
    TLL_CHECK(logits_dtype == dtype_of<acc_t<Float>> || logits_dtype == dtype_of<Float>, "logits in {}",
              dtype_name(logits_dtype));
    TLL_CHECK(
        logits && losses && targets && rows >= 0 && V > 0 && logits_stride >= V && (!dlogits || (scale && dlogits_stride >= V)),
        "rows {} V {} strides {} {}", rows, V, logits_stride, dlogits_stride);
  }
  Cost cost() const {
    const double z = static_cast<double>(dtype_bytes(logits_dtype));
    return {(dlogits ? 2 * z + sizeof(Float) : z) * rows * V, 6.0 * rows * V};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
