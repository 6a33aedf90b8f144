// Cross entropy over one chunk of rows whose logits fit in memory. Rows that train nothing are dropped by the caller, before the
// head.
//
// Per row:   m = max_v z[v],  lse = m + ln Σ_v e^(z[v]-m)
//            loss = lse - z[target]
//            dz[v] = (e^(z[v]-lse) - [v == target]) · scale        rounded to Float once
// `scale` is 1 / (target tokens of the whole optimizer step), times the loss scale of fp16. Logits are in the accumulation type
// whatever Float is; dz may lie in their memory, row r within row r of the logits and at its start.
// One read for max and sum would be bound by memory; on a CPU three passes over a row that stays in cache.
#pragma once

#include "kernels/device.h"

namespace tll {

// The rows that have a target, in ascending order: rows[i], and row_targets[i] = targets[rows[i]]. Behind them -1 up to `capacity`,
// in both.
template <class Float>
struct ListTargets {
  using Scalar = Float;
  static constexpr const char* kName = "list_targets";
  int32_t* rows;           // (capacity)
  int32_t* row_targets;    // (capacity)
  const int32_t* targets;  // (N)  -1: none
  int N, capacity;         // at least as many as there are targets
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
  const acc_t<Float>* logits;     // (rows, V)
  acc_t<Float>* losses;           // (rows)
  const int32_t* targets;         // (rows)  in [0, V); negative: the row does not count, its loss and gradient are 0
  Float* dlogits = nullptr;       // (rows, V)  null: losses alone
  int64_t dlogits_stride = 0;     // elements from one row of dlogits to the next
  const double* scale = nullptr;  // (1)  in memory of the device, since it changes from step to step; dlogits needs it
  int rows, V;
  void check() const {
    TLL_CHECK(logits && losses && targets && rows >= 0 && V > 0 && (!dlogits || (scale && dlogits_stride >= V)),
              "rows {} V {} stride {}", rows, V, dlogits_stride);
  }
  Cost cost() const {
    const double z = sizeof(acc_t<Float>);
    return {(dlogits ? 2 * z + sizeof(Float) : z) * rows * V, 6.0 * rows * V};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
