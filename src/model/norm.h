// RMSNorm with a weight that is frozen or trained (kernels/rmsnorm.h has the formulae).
#pragma once

#include "kernels/rmsnorm.h"
#include "src/model/rows.h"

namespace tll {

template <class Float>
struct Norm {
  int C = 0;
  double eps = 0;
  const Float* w = nullptr;    // (C)
  acc_t<Float>* dw = nullptr;  // (C)  +=  null: frozen

  // out (N, C), rstd (N) from x (N, C).
  void forward(const Device& device, Rows<Float> out, acc_t<Float>* rstd, const Float* x, int N) const {
    run(device, RmsnormForward<Float>{
                    .out = out.data, .rstd = rstd, .x = x, .w = w, .N = N, .C = C, .eps = eps, .out_stride = out.stride});
  }
  // dx (N, C) += and dw += from dout (N, C).
  void backward(const Device& device, Rows<Float> dx, const Float* dout, const Float* x, const acc_t<Float>* rstd, int N) const {
    run(device, RmsnormBackward<Float>{
                    .dx = dx.data, .dw = dw, .dout = dout, .x = x, .w = w, .rstd = rstd, .N = N, .C = C, .dx_stride = dx.stride});
  }
};

}  // namespace tll
