#include "kernels/cross_entropy.h"

namespace tll {

template <class Float>
template <Isa>
void CrossEntropy<Float>::cpu() const {
  using Acc = acc_t<Float>;
#pragma omp parallel for schedule(static)
  for (int r = 0; r < rows; r++) {
    Acc* z = logits + static_cast<size_t>(r) * V;
    // The maximum only steadies the exponential and cancels in the result: it uses real parts, so that the complex step works.
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
    if (!gradient) continue;
    const Acc s = Acc(scale);
    // softmax - onehot at the target before anything is rounded: 1 - p would lose its digits otherwise.
    const Acc at_target = (exp_acc(z[targets[r]] - lse) - Acc(1)) * s;
#pragma omp simd
    for (int v = 0; v < V; v++) z[v] = exp_acc(z[v] - lse) * s;
    z[targets[r]] = at_target;
  }
}

TLL_INSTANTIATE(CrossEntropy)

}  // namespace tll
