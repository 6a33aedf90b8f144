#include "kernels/cross_entropy.h"

#include "src/base/parallel.h"

namespace tll {
namespace {

template <class Logit, class Float>
void from_logits(const CrossEntropy<Float>& op) {
  using Acc = acc_t<Float>;
  const int V = op.V;
  parallel_for(op.rows, 8 * V, [&](int64_t r) {
    const Logit* z = static_cast<const Logit*>(op.logits) + r * op.logits_stride;
    Float* const dz = op.dlogits ? op.dlogits + r * op.dlogits_stride : nullptr;
    const int target = op.targets[r];
    if (target < 0) {
      op.losses[r] = Acc{};
      for (int v = 0; dz && v < V; v++) dz[v] = Float{};
      return;
    }
    // The maximum only prevents overflow and cancels in the result. It takes real parts, so that the complex step works.
    auto top = real_part(to_acc(z[0]));
    Acc sum{};
    if constexpr (is_oracle<Float>) {
      for (int v = 1; v < V; v++) top = real_part(z[v]) > top ? real_part(z[v]) : top;
      for (int v = 0; v < V; v++) sum += exp_acc(z[v] - top);
    } else {
#pragma omp simd reduction(max : top)
      for (int v = 1; v < V; v++) top = to_acc(z[v]) > top ? to_acc(z[v]) : top;
#pragma omp simd reduction(+ : sum)
      for (int v = 0; v < V; v++) sum += exp_acc(to_acc(z[v]) - top);
    }
    const Acc lse = top + std::log(sum), of_target = to_acc(z[target]);
    op.losses[r] = lse - of_target;
    if (!dz) return;
    const Acc s = Acc(*op.scale);
    // Subtract 1 before rounding to Float: p - 1 would lose its digits if p were rounded first.
    const Acc at_target = (exp_acc(of_target - lse) - Acc(1)) * s;
    // In place, dz[v] overwrites only logits with index ≤ v, which have been read.
#pragma omp simd
    for (int v = 0; v < V; v++) dz[v] = from_acc<Float>(exp_acc(to_acc(z[v]) - lse) * s);
    dz[target] = from_acc<Float>(at_target);
  });
}

}  // namespace

template <class Float>
template <Isa>
void CrossEntropy<Float>::cpu() const {
  if (logits_dtype == dtype_of<Float>)
    from_logits<Float>(*this);
  else
    from_logits<acc_t<Float>>(*this);
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
