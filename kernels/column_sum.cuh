// Column sums in a fixed order: the gradient of a vector that is broadcast over rows.
#pragma once

#include "kernels/row_access.cuh"

namespace tll {

inline constexpr int kColumns = 32, kRowGroups = 8, kColumnThreads = kColumns * kRowGroups;

// sums[c] += Σ_n term(n, c). A block handles kColumns columns, one lane each; warp w takes rows w, w + kRowGroups, …. The partial
// sums are added in the order of the warps.
template <class Term>
TLL_DEVICE void add_column_sums(float* sums, int N, int C, const Term& term) {
  __shared__ float partial[kRowGroups][kColumns];
  const int lane = static_cast<int>(lane_id()), group = static_cast<int>(warp_id()), c = blockIdx.x * kColumns + lane;
  float sum = 0;
  if (c < C)
    for (int64_t n = group; n < N; n += kRowGroups) sum += term(n, c);
  partial[group][lane] = sum;
  __syncthreads();
  if (group == 0 && c < C) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < kRowGroups; i++) total += partial[i][lane];
    sums[c] += total;
  }
}

}  // namespace tll
