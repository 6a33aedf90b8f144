// Three problems, and for each a ladder of kernels from naive to fast, one idea per rung (README.md). Each rung is a file,
// rmsnorm/1_thread_a_row.cuh and so on; rmsnorm.cu, matmul.cu and attention.cu list them in order.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "kernels/numeric.h"

namespace tll::ladder {

// out[n,c] = x[n,c] · w[c] / sqrt(1/C · Σ_j x[n,j]² + eps), all in float and rounded once.
struct Rmsnorm {
  bf16* out = nullptr;      // (N, C)
  const bf16* x = nullptr;  // (N, C)
  const bf16* w = nullptr;  // (C)
  int N = 0, C = 0;
  static constexpr float kEps = 1e-5f;
};

// c[m,n] = Σ_k a[m,k] · b[n,k], i.e. C = A·Bᵀ: a linear layer with its weight as it is stored.
struct Matmul {
  float* c = nullptr;       // (M, N)
  const bf16* a = nullptr;  // (M, K)
  const bf16* b = nullptr;  // (N, K)
  int M = 0, N = 0, K = 0;
};

// out[h,i] = Σ_{j<=i} p[j] · v[h,j],  p = softmax over j <= i of q[h,i]·k[h,j] / sqrt(D).
struct Attention {
  bf16* out = nullptr;                                  // (H, N, D)
  const bf16 *q = nullptr, *k = nullptr, *v = nullptr;  // (H, N, D) each
  float* scores = nullptr;                              // (H, N, N) for the rung that keeps them
  int H = 0, N = 0, D = 0;                              // D is 64 or 128
};

template <class Problem>
struct Rung {
  const char *name, *idea;                    // the name of its file, and its new idea
  int arch;                                   // the first one with its instructions; for earlier ones the kernel is empty
  void (*run)(const Problem&, cudaStream_t);  // enqueues
  double (*bytes)(const Problem&);  // that its threads request from global memory, reads and writes; caches may serve them
};

// From the lowest rung to the highest.
template <class Problem>
const std::vector<Rung<Problem>>& rungs();
template <>
const std::vector<Rung<Rmsnorm>>& rungs();
template <>
const std::vector<Rung<Matmul>>& rungs();
template <>
const std::vector<Rung<Attention>>& rungs();

}  // namespace tll::ladder
