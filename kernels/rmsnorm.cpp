#include "kernels/rmsnorm.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void RmsnormForward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_for(N, 4 * C, [&](int64_t n) {
    const Float* row = x + static_cast<size_t>(n) * C;
    Float* y = out + n * row_stride(out_stride, C);
    Acc sum{};
    if constexpr (is_oracle<Float>) {
      for (int c = 0; c < C; c++) sum += to_acc(row[c]) * to_acc(row[c]);
    } else {
#pragma omp simd reduction(+ : sum)
      for (int c = 0; c < C; c++) sum += to_acc(row[c]) * to_acc(row[c]);
    }
    const Acc r = Acc(1) / std::sqrt(sum / Acc(C) + Acc(eps));
    rstd[n] = r;
    for (int c = 0; c < C; c++) y[c] = from_acc<Float>(to_acc(w[c]) * to_acc(from_acc<Float>(to_acc(row[c]) * r)));
  });
}

template <class Float>
template <Isa>
void RmsnormBackward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_for(N, 6 * C, [&](int64_t n) {
    const Float* row = x + static_cast<size_t>(n) * C;
    const Float* dy = dout + static_cast<size_t>(n) * C;
    const Float* weight = w;  // a local pointer: a loop that reads a member's elements is not vectorised
    Float* d = dx + n * row_stride(dx_stride, C);
    const Acc r = rstd[n];
    Acc dot{};
    if constexpr (is_oracle<Float>) {
      for (int c = 0; c < C; c++) dot += to_acc(dy[c]) * to_acc(weight[c]) * to_acc(row[c]);
    } else {
#pragma omp simd reduction(+ : dot)
      for (int c = 0; c < C; c++) dot += to_acc(dy[c]) * to_acc(weight[c]) * to_acc(row[c]);
    }
    const Acc k = r * r * r * dot / Acc(C);
    for (int c = 0; c < C; c++) d[c] = from_acc<Float>(to_acc(d[c]) + r * to_acc(dy[c]) * to_acc(weight[c]) - k * to_acc(row[c]));
  });
  if (!dw) return;
  // Threads split the columns, so each sum over rows has the same order for any number of threads.
  constexpr int kColumns = 64;
  parallel_for((C + kColumns - 1) / kColumns, 2 * kColumns * N, [&](int64_t task) {
    const int c0 = static_cast<int>(task) * kColumns, c1 = c0 + kColumns < C ? c0 + kColumns : C;
    for (int n = 0; n < N; n++) {
      const Float* row = x + static_cast<size_t>(n) * C;
      const Float* dy = dout + static_cast<size_t>(n) * C;
      for (int c = c0; c < c1; c++) dw[c] += to_acc(dy[c]) * to_acc(row[c]) * rstd[n];
    }
  });
}

TLL_INSTANTIATE(RmsnormForward)
TLL_INSTANTIATE(RmsnormBackward)

}  // namespace tll
