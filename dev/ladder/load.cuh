// Shared by the rungs: loads of eight consecutive bf16, as one 128-bit access where the rows are aligned (`vector`).
#pragma once

#include "dev/ladder/ladder.h"
#include "kernels/row_access.cuh"

namespace tll::ladder {

using Bf16x8 = Vec<bf16, 8>;

// How many of eight elements exist where `left` remain in a row.
TLL_DEVICE int valid_of_8(int left) { return left < 0 ? 0 : left < 8 ? left : 8; }

// p[0 … 7]; zeros from `valid` on.
TLL_DEVICE Bf16x8 load_8(const bf16* p, int valid, bool vector) {
  if (vector && valid == 8) return load_vec<8>(p);
  Bf16x8 x;
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] = i < valid ? p[i] : bf16{};
  return x;
}

}  // namespace tll::ladder
