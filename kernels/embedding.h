// Token embedding.
//
// Forward:   out[n,:] = table[ids[n],:]
// Backward:  dtable[ids[n],:] += dout[n,:]   in the order of n, only if the table is trained. Positions with
//                                            ids[n] == padding_id are skipped, as with torch's padding_idx.
#pragma once

#include "kernels/device.h"
#include "kernels/row_stride.h"

namespace tll {

template <class Float>
struct EmbeddingForward {
  using Scalar = Float;
  static constexpr const char* kName = "embedding_forward";
  Float* out;         // (N, C)
  const void* table;  // (V, C) of table_dtype
  DType table_dtype;
  const int32_t* ids;  // (N)  each in [0, V)
  int N, C, V;
  void check() const { TLL_CHECK(out && table && ids && N >= 0 && C > 0 && V > 0, "N {} C {} V {}", N, C, V); }
  Cost cost() const { return {static_cast<double>(N) * C * (sizeof(Float) + dtype_bytes(table_dtype)), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct EmbeddingBackward {
  using Scalar = Float;
  static constexpr const char* kName = "embedding_backward";
  acc_t<Float>* dtable;  // (V, C)  +=
  const Float* dout;     // (N, C), rows dout_stride apart
  const int32_t* ids;    // (N)
  int N, C, V;
  int padding_id;           // -1: none
  int64_t dout_stride = 0;  // 0: C
  TLL_HOST_DEVICE int64_t dout_row() const { return row_stride(dout_stride, C); }
  void check() const {
    TLL_CHECK(dtable && dout && ids && N >= 0 && C > 0 && V > 0 && dout_row() >= C, "N {} C {} V {} stride {}", N, C, V,
              dout_stride);
  }
  Cost cost() const { return {static_cast<double>(N) * C * (sizeof(Float) + 2 * sizeof(acc_t<Float>)), 1.0 * N * C}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
