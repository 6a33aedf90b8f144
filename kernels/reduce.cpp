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
}

template <Isa>
void AddDoubles::cpu() const {
  double total = 0;
  for (int64_t i = 0; i < n; i++) total += x[order ? order[i] : i];
  *out = total;
}

template <class Float>
static void add_parts(const AddParts& op) {
  Float* const sum = static_cast<Float*>(op.sum);
  const Float* const parts = static_cast<const Float*>(op.parts);
  parallel_ranges(op.n, op.count + 1, [&](int64_t begin, int64_t end) {
    for (int part = 0; part < op.count; part++) {
      const Float* x = parts + part * op.n;
#pragma omp simd
      for (int64_t i = begin; i < end; i++) sum[i] = from_acc<Float>(to_acc(sum[i]) + to_acc(x[i]));
    }
  });
}

template <Isa>
void AddParts::cpu() const {
  with_storage_type(dtype, [&](auto type) { add_parts<decltype(type)>(*this); });
}

template <class Float>
template <Isa>
void AddUp<Float>::cpu() const {
  loss_t<Float> total = *sum;
  for (int i = 0; i < n; i++) total += x[i];
  *sum = total;
}

template void SumOfSquares::cpu<kIsa>() const;
template void AddDoubles::cpu<kIsa>() const;
template void AddParts::cpu<kIsa>() const;
TLL_INSTANTIATE(AddUp)

}  // namespace tll
