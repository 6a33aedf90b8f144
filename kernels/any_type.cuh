// Elements whose type is known at run time.
#pragma once

#include "kernels/row_access.cuh"

namespace tll {

TLL_DEVICE float load_any(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[i];
    case DType::bf16:
      return to_float(static_cast<const bf16*>(data)[i]);
    default:
      return to_float(static_cast<const half*>(data)[i]);
  }
}
TLL_DEVICE void store_any(void* data, DType dtype, int64_t i, float x) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[i] = x;
      return;
    case DType::bf16:
      static_cast<bf16*>(data)[i] = from_float<bf16>(x);
      return;
    default:
      static_cast<half*>(data)[i] = from_float<half>(x);
  }
}

}  // namespace tll
