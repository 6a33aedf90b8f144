#include "kernels/elementwise.h"

namespace tll {

template <class Float>
template <Isa>
void CastFromMaster<Float>::cpu() const {
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) out[i] = from_acc<Float>(in[i]);
}

template <class Float>
template <Isa>
void Copy<Float>::cpu() const {
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) out[i] = in[i];
}

template <class Float>
template <Isa>
void BiasForward<Float>::cpu() const {
#pragma omp parallel for schedule(static)
  for (int n = 0; n < N; n++) {
    Float* row = out + static_cast<size_t>(n) * C;
    for (int c = 0; c < C; c++) row[c] = from_acc<Float>(to_acc(row[c]) + to_acc(bias[c]));
  }
}

template <class Float>
template <Isa>
void BiasBackward<Float>::cpu() const {
  constexpr int kColumns = 64;
#pragma omp parallel for schedule(static)
  for (int c0 = 0; c0 < C; c0 += kColumns) {
    const int c1 = c0 + kColumns < C ? c0 + kColumns : C;
    for (int n = 0; n < N; n++)
      for (int c = c0; c < c1; c++) dbias[c] += to_acc(dout[static_cast<size_t>(n) * C + c]);
  }
}

template <class Float>
template <Isa>
void GatherRows<Float>::cpu() const {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++)
      out[static_cast<size_t>(r) * C + c] = rows[r] < 0 ? Float{} : x[static_cast<size_t>(rows[r]) * C + c];
}

template <class Float>
template <Isa>
void ScatterRows<Float>::cpu() const {
#pragma omp parallel for schedule(static)
  for (int r = 0; r < R; r++)
    for (int c = 0; rows[r] >= 0 && c < C; c++) out[static_cast<size_t>(rows[r]) * C + c] = x[static_cast<size_t>(r) * C + c];
}

template <class Float>
template <Isa>
void Dropout<Float>::cpu() const {
  using Acc = acc_t<Float>;
  const Acc keep_scale = Acc(1.0 / (1.0 - p));
  const uint64_t threshold = static_cast<uint64_t>(p * 0x1p32), base = step_key ? mix64(*step_key + key) : key,
                 before = static_cast<uint64_t>(first_row) * C;
#pragma omp parallel for schedule(static)
  for (int n = 0; n < N; n++) {
    const size_t row = static_cast<size_t>(n) * C;
    for (int c = 0; c < C; c++) {
      const bool keep = (mix64(base + before + row + c) >> 32) >= threshold;
      const Acc value = keep ? to_acc(x[row + c]) * keep_scale : Acc(0);
      out[row + c] = from_acc<Float>(accumulate ? to_acc(out[row + c]) + value : value);
    }
  }
}

TLL_INSTANTIATE(CastFromMaster)
TLL_INSTANTIATE(Copy)
TLL_INSTANTIATE(BiasForward)
TLL_INSTANTIATE(BiasBackward)
TLL_INSTANTIATE(GatherRows)
TLL_INSTANTIATE(ScatterRows)
TLL_INSTANTIATE(Dropout)

}  // namespace tll
