#include "kernels/qk_norm.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void QkNormForward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  const int heads = H + G;
  parallel_for(N, 4 * heads * D, [&](int64_t n) {
    for (int h = 0; h < heads; h++) {
      const Float* head = x + static_cast<size_t>(n) * x_stride + static_cast<size_t>(h) * D;
      Float* y = out + static_cast<size_t>(n) * out_stride + static_cast<size_t>(h) * D;
      const Float* w = h < H ? w_q : w_k;
      Acc sum{};
      if constexpr (is_oracle<Float>) {
        for (int i = 0; i < D; i++) sum += to_acc(head[i]) * to_acc(head[i]);
      } else {
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < D; i++) sum += to_acc(head[i]) * to_acc(head[i]);
      }
      const Acc r = Acc(1) / std::sqrt(sum / Acc(D) + Acc(eps));
      if (rstd) rstd[static_cast<size_t>(n) * heads + h] = r;
      for (int i = 0; i < D; i++) y[i] = from_acc<Float>(to_acc(w[i]) * to_acc(from_acc<Float>(to_acc(head[i]) * r)));
    }
  });
}

template <class Float>
template <Isa>
void QkNormBackward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  const int heads = H + G;
  if (dw_q) {  // before dx replaces dout
    // Threads split the columns, so each sum over rows has the same order for any number of threads.
    constexpr int kColumns = 16;
    const int pieces = (D + kColumns - 1) / kColumns;
    parallel_for(2 * pieces, 2 * kColumns * N * (H / G), [&](int64_t task) {
      const bool of_q = task < pieces;
      const int first = static_cast<int>(task % pieces) * kColumns, last = first + kColumns < D ? first + kColumns : D;
      Acc* dw = of_q ? dw_q : dw_k;
      for (int n = 0; n < N; n++) {
        for (int h = of_q ? 0 : H; h < (of_q ? H : heads); h++) {
          const Float* head = x + static_cast<size_t>(n) * x_stride + static_cast<size_t>(h) * D;
          const Float* dy = d + static_cast<size_t>(n) * stride + static_cast<size_t>(h) * D;
          const Acc r = rstd[static_cast<size_t>(n) * heads + h];
          for (int i = first; i < last; i++) dw[i] += to_acc(dy[i]) * to_acc(head[i]) * r;
        }
      }
    });
  }
  parallel_for(N, 6 * heads * D, [&](int64_t n) {
    for (int h = 0; h < heads; h++) {
      const Float* head = x + static_cast<size_t>(n) * x_stride + static_cast<size_t>(h) * D;
      Float* dy = d + static_cast<size_t>(n) * stride + static_cast<size_t>(h) * D;
      const Float* w = h < H ? w_q : w_k;
      const Acc r = rstd[static_cast<size_t>(n) * heads + h];
      Acc dot{};
      if constexpr (is_oracle<Float>) {
        for (int i = 0; i < D; i++) dot += to_acc(dy[i]) * to_acc(w[i]) * to_acc(head[i]);
      } else {
#pragma omp simd reduction(+ : dot)
        for (int i = 0; i < D; i++) dot += to_acc(dy[i]) * to_acc(w[i]) * to_acc(head[i]);
      }
      const Acc k = r * r * r * dot / Acc(D);
      for (int i = 0; i < D; i++) dy[i] = from_acc<Float>(r * to_acc(dy[i]) * to_acc(w[i]) - k * to_acc(head[i]));
    }
  });
}

TLL_INSTANTIATE(QkNormForward)
TLL_INSTANTIATE(QkNormBackward)

}  // namespace tll
