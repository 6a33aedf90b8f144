#include "kernels/reduce.h"

namespace tll {

template <Isa>
void SumOfSquares::cpu() const {
  const int64_t count = blocks(n);
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < count; b++) {
    const int64_t end = (b + 1) * kBlock < n ? (b + 1) * kBlock : n;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = b * kBlock; i < end; i++) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    partial[b] = sum;
  }
  double total = 0;
  for (int64_t b = 0; b < count; b++) total += partial[b];
  *out = total;
}

template <class Float>
template <Isa>
void AddUp<Float>::cpu() const {
  loss_t<Float> total = *sum;
  for (int i = 0; i < n; i++) total += x[i];
  *sum = total;
}

template void SumOfSquares::cpu<kIsa>() const;
TLL_INSTANTIATE(AddUp)

}  // namespace tll
