#include "kernels/swiglu.h"

#include "src/base/parallel.h"

namespace tll {

template <class Float>
template <Isa>
void SwigluForward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_for(N, 8 * F, [&](int64_t n) {
    const Float *gate = gate_up + n * gate_up_row(), *up = gate + F;
    Float* out = act + n * act_row();
#pragma omp simd
    for (int f = 0; f < F; f++) {
      const Acc a = to_acc(gate[f]);
      out[f] = from_acc<Float>(a / (Acc(1) + exp_acc(-a)) * to_acc(up[f]));
    }
  });
}

template <class Float>
template <Isa>
void SwigluBackward<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_for(N, 16 * F, [&](int64_t n) {
    Float *gate = gate_up + n * gate_up_row(), *up = gate + F;
    Float* out = act + n * act_row();
    const Float* d = dact + n * act_row();
#pragma omp simd
    for (int f = 0; f < F; f++) {
      const Acc a = to_acc(gate[f]), b = to_acc(up[f]), dh = to_acc(d[f]);
      const Acc sigma = Acc(1) / (Acc(1) + exp_acc(-a));
      const Acc silu = a * sigma;
      out[f] = from_acc<Float>(silu * b);
      gate[f] = from_acc<Float>(dh * b * sigma * (Acc(1) + a * (Acc(1) - sigma)));
      up[f] = from_acc<Float>(dh * silu);
    }
  });
}

TLL_INSTANTIATE(SwigluForward)
TLL_INSTANTIATE(SwigluBackward)

}  // namespace tll
