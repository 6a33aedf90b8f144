// Cross entropy over one chunk of rows whose logits fit in memory. Rows that train nothing are dropped by the caller, before the
// head.
//
// Per row:   m = max_v z[v],  lse = m + ln Σ_v e^(z[v]-m)
//            loss = lse - z[target]
//            dz[v] = (e^(z[v]-lse) - [v == target]) · scale        in place of z, if `gradient`
// `scale` is 1 / (target tokens of the whole optimizer step). Logits are in the accumulation type whatever Float is.
// One read for max and sum would be bound by memory; on a CPU three passes over a row that stays in cache.
#pragma once

#include "kernels/device.h"

namespace tll {

template <class Float>
struct CrossEntropy {
  using Scalar = Float;
  static constexpr const char* kName = "cross_entropy";
  acc_t<Float>* logits;    // (rows, V)  in: z, out: dz if gradient
  acc_t<Float>* losses;    // (rows)
  const int32_t* targets;  // (rows)  each in [0, V)
  int rows, V;
  double scale;
  bool gradient;
  void check() const { TLL_CHECK(logits && losses && targets && rows >= 0 && V > 0, "rows {} V {}", rows, V); }
  Cost cost() const { return {(gradient ? 2.0 : 1.0) * rows * V * sizeof(acc_t<Float>), 6.0 * rows * V}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
