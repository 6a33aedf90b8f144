// A linear layer: a frozen (or trained) weight, an optional bias, and LoRA adapters (Hu et al. 2021) on rows of it.
//
// The engine keeps q, k, v as rows of one matrix, and gate, up of another, so that one product serves them; each row range may
// have an adapter of its own rank. Their A matrices share the input x, so they are stacked: A is (R, in), R = Σ r_i.
//
//   u   = d(x) · Aᵀ                                   (N, R)    saved; d = dropout, the identity by default
//   y   = x · Wᵀ + bias;   y_i += s_i · u_i · B_iᵀ    (N, out)  i over the adapted row ranges; s = alpha/r or alpha/√r
// backward, dy given:
//   z_i = s_i · dy_i · B_i                            (N, R)
//   dB_i += s_i · dy_iᵀ · u_i        dA += zᵀ · d(x)        dW += dyᵀ · x  and  dbias += Σ_n dy   only if the base is trained
//   dx  = dy · W + d'(z · A)
#pragma once

#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace tll {

template <class Float>
struct LoraRange {
  int first_row, rows;   // of the layer's output
  int first_rank, rank;  // rows of the stacked A
  double scale;
  const Float* b;    // (rows, rank)
  acc_t<Float>* db;  // (rows, rank)  +=
};

template <class Float>
struct Linear {
  int in = 0, out = 0;
  const void* w = nullptr;  // (out, in) of dtype
  DType dtype = dtype_of<Float>;
  const Float* bias = nullptr;    // (out) or null
  acc_t<Float>* dw = nullptr;     // (out, in)  +=  null: frozen
  acc_t<Float>* dbias = nullptr;  // (out)      +=
  int rank = 0;                   // R; 0: no adapter
  const Float* a = nullptr;       // (R, in)
  acc_t<Float>* da = nullptr;     // (R, in)    +=
  std::vector<LoraRange<Float>> ranges;
};

// Memory that all linear layers share, and what dropout needs to know.
template <class Float>
struct LinearScratch {
  float* matmul = nullptr;  // (matmul_size)
  int64_t matmul_size = 0;
  Float* z = nullptr;                     // (N, widest R)
  Float* dropped = nullptr;               // (N, widest in)   null: dropout is 0
  double dropout = 0;                     // probability; 0 in evaluation
  const uint64_t* dropout_key = nullptr;  // (1)  of this step and micro-batch; mixed with the layer's number below
};

// With a residual (N, out), y = residual + …; null: none.
template <class Float>
void linear_forward(const Device&, const Linear<Float>&, const LinearScratch<Float>&, Float* y, const Float* x, Float* u, int N,
                    const Float* residual, uint64_t layer_id);

// u alone: what recomputation needs of a layer whose output it does not.
template <class Float>
void linear_low_rank(const Device&, const Linear<Float>&, const LinearScratch<Float>&, const Float* x, Float* u, int N,
                     uint64_t layer_id);

// z and dB and, unless dx is null, dx. Then, with x at hand, dA (and dW): apart, because down_proj's input is formed in between.
template <class Float>
void linear_backward_input(const Device&, const Linear<Float>&, const LinearScratch<Float>&, Float* dx, const Float* dy,
                           const Float* u, int N, uint64_t layer_id);
template <class Float>
void linear_backward_weight(const Device&, const Linear<Float>&, const LinearScratch<Float>&, const Float* dy, const Float* x,
                            int N, uint64_t layer_id);

}  // namespace tll
