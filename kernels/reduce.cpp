#include "kernels/reduce.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
static void sum_blocks(const SumOfSquares& op, int64_t count) {
  constexpr int64_t kBlock = SumOfSquares::kBlock;
  const Float* x = static_cast<const Float*>(op.x);
  parallel_for(count, kBlock, [&](int64_t b) {
    const int64_t end = (b + 1) * kBlock < op.n ? (b + 1) * kBlock : op.n;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = b * kBlock; i < end; i++) {
      const double value = static_cast<double>(to_acc(x[i]));
      sum += value * value;
    }
    op.partial[b] = sum;
  });
}

template <Isa>
void SumOfSquares::cpu() const {
  const int64_t count = blocks(n);
  with_storage_type(dtype, [&](auto type) { sum_blocks<decltype(type)>(*this, count); });
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
