#include "kernels/rope.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void RopeTable<Float>::cpu() const {
  const int half = R / 2;
  parallel_for(P, 32 * half, [&](int64_t p) {
    for (int i = 0; i < half; i++) {
      const float angle = static_cast<float>(p) * inv_freq[i];  // rounded to float, as in the reference implementation
      cos[static_cast<size_t>(p) * half + i] =
          static_cast<acc_t<Float>>(std::cos(static_cast<double>(angle))) * acc_t<Float>(scale);
      sin[static_cast<size_t>(p) * half + i] =
          static_cast<acc_t<Float>>(std::sin(static_cast<double>(angle))) * acc_t<Float>(scale);
    }
  });
}

template <class Float>
template <Isa>
void Rope<Float>::cpu() const {
  using Acc = acc_t<Float>;
  const int half = R / 2;
  const Acc sign = backward ? Acc(-1) : Acc(1);
  parallel_for(N, 4 * heads * half, [&](int64_t n) {
    const Acc* c = cos + static_cast<size_t>(positions[n]) * half;
    const Acc* s = sin + static_cast<size_t>(positions[n]) * half;
    for (int h = 0; h < heads; h++) {
      Float* lo = x + static_cast<size_t>(n) * stride + static_cast<size_t>(h) * D;
      Float* hi = lo + half;
#pragma omp simd
      for (int i = 0; i < half; i++) {
        const Acc a = to_acc(lo[i]), b = to_acc(hi[i]), si = sign * s[i];
        lo[i] = from_acc<Float>(a * c[i] - b * si);
        hi[i] = from_acc<Float>(b * c[i] + a * si);
      }
    }
  });
}

TLL_INSTANTIATE(RopeTable)
TLL_INSTANTIATE(Rope)

}  // namespace tll
