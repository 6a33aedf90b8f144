// A linear layer: a frozen (or trained) weight, an optional bias, and LoRA adapters (Hu et al. 2021) on rows of it.
//
// q, k and v are rows of one weight, gate and up of another, so one GEMM computes them. Each of these row ranges may have an
// adapter of its own rank. The A matrices share the input x, so they are stacked: A is (R, in), R = Σ r_i.
//
//   u   = d(x) · Aᵀ                                   (N, R)    saved; d = dropout, the identity by default
//   y   = x · Wᵀ + bias;   y_i += s_i · u_i · B_iᵀ    (N, out)  i over the adapted row ranges; s = alpha/r or alpha/√r
// backward, dy given:
//   z_i = s_i · dy_i · B_i                            (N, R)    z: the gradient of u
//   dB_i += s_i · dy_iᵀ · u_i        dA += zᵀ · d(x)        dW += dyᵀ · x  and  dbias += Σ_n dy   only if the weight is trained
//   dx  = dy · W + d'(z · A)
//
// y is rounded after x · Wᵀ + bias and after each adapter's term, in every type of W. (PEFT over bitsandbytes rounds the term of
// a 4-bit layer once more, before it is added.)
//
// The derivation is in dev/notes/derivations.md.
#pragma once

#include <vector>

#include "src/model/weight.h"

namespace tll {

// The adapter on a range of the weight's rows, which are columns of the output. Its matrices have the types of TrainedRange.
struct LoraRange {
  int first_row, rows;   // of the weight
  int first_rank, rank;  // rows of the stacked A
  double scale;
  ConstMatrix b = {};  // (rows, rank)
  Matrix db = {};      // (rows, rank)  +=
};

// Memory for a part of a quantised weight in the type of the activations; null: there is none, or none is needed.
struct Piece {
  std::byte* data = nullptr;
  int64_t size = 0;  // bytes
};

// What the linear layers share during a pass over N rows.
template <class Float>
struct LinearPass {
  const Device& device;
  int N;          // rows of x and y
  int first_row;  // of the batch, where they are a part of it
  Scratch matmul;
  Float* z;                     // (N, widest R)
  Float* dropped;               // (N, in)          null: the run has no dropout
  double dropout;               // probability; 0: none in this pass
  const uint64_t* dropout_key;  // (1)  of this step and micro-batch; mixed with the layer's id
  Piece piece = {};             // of QuantizedMatmul
};

template <class Float>
struct Linear {
  using Pass = LinearPass<Float>;
  using Acc = acc_t<Float>;

  uint64_t id = 0;                 // distinguishes the layers' dropout masks
  const Weight* weight = nullptr;  // (out, in)
  const Weight* bias = nullptr;    // (out) or null
  Acc* dw = nullptr;               // (out, in)  +=  null: frozen
  Acc* dbias = nullptr;            // (out)      +=
  int rank = 0;                    // R; 0: no adapter
  ConstMatrix a = {};              // (R, in)
  Matrix da = {};                  // (R, in)    +=
  std::vector<LoraRange> ranges;

  int in() const { return static_cast<int>(weight->cols); }
  int out() const { return static_cast<int>(weight->rows); }

  // y (N, out) and u (N, R) from x (N, in). With a residual (N, out), y = residual + …
  void forward(const Pass&, Float* y, Float* u, const Float* x, const Float* residual = nullptr) const;
  // u alone, for recomputation: the backward pass needs u of this layer, but not its output.
  void low_rank(const Pass&, Float* u, const Float* x) const;

  // The backward pass is two calls, in this order. The first computes z and dB from dy (N, out), and dx (N, in) unless it is
  // null. The second computes dA, dW and dbias, which need x. In between, down_proj's input is recomputed.
  void backward_input(const Pass&, Float* dx, const Float* dy, const Float* u) const;
  void backward_weight(const Pass&, const Float* dy, const Float* x) const;

 private:
  // out = x · Wᵀ, or x · W, + the addend.
  void multiply(const Pass&, const Matrix& out, const ConstMatrix& x, bool transposed, const Float* addend) const;
  const Float* adapter_input(const Pass&, const Float* x) const;
  void add_adapter_dx(const Pass&, Float* dx) const;
  void drop(const Pass&, Float* to, const Float* from, bool accumulate) const;
};

}  // namespace tll
