#include "kernels/elementwise.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void CastFromMaster<Float>::cpu() const {
  parallel_ranges(n, 2, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) out[i] = from_acc<Float>(in[i]);
  });
}

template <class Float>
template <Isa>
void Copy<Float>::cpu() const {
  parallel_ranges(n, 2, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) out[i] = in[i];
  });
}

template <class Float>
template <Isa>
void CopyRows<Float>::cpu() const {
  parallel_for(N, 2 * C, [&](int64_t n) {
    for (int c = 0; c < C; c++) out[n * out_row() + c] = x[n * x_row() + c];
  });
}

template <class Float>
template <Isa>
void BiasForward<Float>::cpu() const {
  parallel_for(N, 2 * C, [&](int64_t n) {
    Float* row = out + n * out_row();
    for (int c = 0; c < C; c++) row[c] = from_acc<Float>(to_acc(row[c]) + to_acc(bias[c]));
  });
}

template <class Float>
template <Isa>
void BiasBackward<Float>::cpu() const {
  constexpr int kColumns = 64;
  parallel_for((C + kColumns - 1) / kColumns, kColumns * N, [&](int64_t task) {
    const int c0 = static_cast<int>(task) * kColumns, c1 = c0 + kColumns < C ? c0 + kColumns : C;
    for (int n = 0; n < N; n++)
      for (int c = c0; c < c1; c++) dbias[c] += to_acc(dout[static_cast<size_t>(n) * C + c]);
  });
}

template <class Float>
template <Isa>
void GatherRows<Float>::cpu() const {
  parallel_for(R, 2 * C, [&](int64_t r) {
    for (int c = 0; c < C; c++) out[r * out_row() + c] = rows[r] < 0 ? Float{} : x[rows[r] * x_row() + c];
  });
}

template <class Float>
template <Isa>
void ScatterRows<Float>::cpu() const {
  parallel_for(R, 2 * C, [&](int64_t r) {
    for (int c = 0; rows[r] >= 0 && c < C; c++) out[rows[r] * out_row() + c] = x[r * x_row() + c];
  });
}

template <class Float>
template <Isa>
void Dropout<Float>::cpu() const {
  using Acc = acc_t<Float>;
  constexpr int kColumns = kDropoutColumns;
  const DropoutRule rule = dropout_rule(p);
  const Acc keep_scale = Acc(rule.keep_scale);
  const uint64_t base = step_key ? mix64(*step_key + key) : key;
  parallel_for(N, 8 * C, [&](int64_t n) {
    const Float* from = x + n * x_row();
    Float* to = out + n * out_row();
    const int64_t before = (first_row + n) * dropout_words(C);
    for (int first = 0; first < C; first += kColumns) {
      const uint64_t word = dropout_word(base, before + first / kColumns);
      for (int i = 0; i < kColumns && first + i < C; i++) {
        const int c = first + i;
        const Acc value = dropout_keeps(word, i, rule.threshold) ? to_acc(from[c]) * keep_scale : Acc(0);
        to[c] = from_acc<Float>(accumulate ? to_acc(to[c]) + value : value);
      }
    }
  });
}

TLL_INSTANTIATE(CastFromMaster)
TLL_INSTANTIATE(Copy)
TLL_INSTANTIATE(CopyRows)
TLL_INSTANTIATE(BiasForward)
TLL_INSTANTIATE(BiasBackward)
TLL_INSTANTIATE(GatherRows)
TLL_INSTANTIATE(ScatterRows)
TLL_INSTANTIATE(Dropout)

}  // namespace tll
