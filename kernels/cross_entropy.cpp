#include "kernels/cross_entropy.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void CrossEntropy<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_for(rows, 8 * V, [&](int64_t r) {
    const Acc* z = logits + r * logits_stride;
    if (targets[r] < 0) {
      losses[r] = Acc{};
      for (int v = 0; dlogits && v < V; v++) dlogits[r * dlogits_stride + v] = Float{};
      return;
    }
    // The maximum only prevents overflow and cancels in the result. It takes real parts, so that the complex step works.
    auto top = real_part(z[0]);
    Acc sum{};
    if constexpr (is_oracle<Float>) {
      for (int v = 1; v < V; v++) top = real_part(z[v]) > top ? real_part(z[v]) : top;
      for (int v = 0; v < V; v++) sum += exp_acc(z[v] - top);
    } else {
#pragma omp simd reduction(max : top)
      for (int v = 1; v < V; v++) top = z[v] > top ? z[v] : top;
#pragma omp simd reduction(+ : sum)
      for (int v = 0; v < V; v++) sum += exp_acc(z[v] - top);
    }
    const Acc lse = top + std::log(sum);
    losses[r] = lse - z[targets[r]];
    if (!dlogits) return;
    const Acc s = Acc(*scale);
    // Subtract 1 before rounding to Float: p - 1 would lose its digits if p were rounded first.
    const Acc at_target = (exp_acc(z[targets[r]] - lse) - Acc(1)) * s;
    // In place, dz[v] overwrites only logits with index ≤ v, which have been read.
    Float* dz = dlogits + r * dlogits_stride;
#pragma omp simd
    for (int v = 0; v < V; v++) dz[v] = from_acc<Float>(exp_acc(z[v] - lse) * s);
    dz[targets[r]] = from_acc<Float>(at_target);
  });
}

template <class Float>
template <Isa>
void ListTargets<Float>::cpu() const {
  int count = 0;
  for (int n = 0; n < N; n++)
    if (targets[n] >= 0) rows[count] = n, row_targets[count++] = targets[n];
  for (; count < capacity; count++) rows[count] = row_targets[count] = -1;
}

TLL_INSTANTIATE(CrossEntropy)
TLL_INSTANTIATE(ListTargets)

}  // namespace tll
