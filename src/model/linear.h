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
// That is the definition. Joined, the adapters' terms are a part of the weight's GEMM: a sum over R more elements instead of a
// product that reads y and writes it again. W and the adapters are one matrix J, u lies behind the columns of x, z behind those
// of dy:
//
//   J = | W  S |   (out + R, in + R)    S (out, R) has s_i · B_i in the rows and columns of range i, and 0 elsewhere.
//       | A    |
//   y  = [x u] · [W S]ᵀ + bias          z = dy · S          dx = [dy z] · [W; A]          (with dropout dx is as above)
//
// Then y and dx are rounded once, and S is s_i · B_i rounded once. JoinAdapters writes S and A after each step. Of a quantised W
// they lie apart, and QuantizedMatmul puts them behind each dequantised piece.
//
// The derivation is in dev/notes/derivations.md.
#pragma once

#include <vector>

#include "src/model/rows.h"
#include "src/model/weight.h"

namespace tll {

// The adapter on a range of the weight's rows, which are columns of the output. Its matrices have the types of TrainedRange.
struct LoraRange {
  int first_row, rows;   // of the weight
  int first_rank, rank;  // rows of the stacked A
  double scale;
  ConstMatrix b = {};  // (rows, rank)  joined: times the scale
  double b_scale = 1;  // what b must still be multiplied by: scale, or 1
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
  Float* z;                     // (N, widest R)  null where all layers are joined
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
  bool joined = false;             // with R > 0
  ConstMatrix a = {};              // (R, in)
  Matrix da = {};                  // (R, in)    +=
  std::vector<LoraRange> ranges;

  int in() const { return static_cast<int>(weight->cols); }
  int out() const { return static_cast<int>(weight->rows); }

  // Joined, rows of x (N, in) and dy (N, out) have room for R more columns, where u and z are written. u (N, R) is then a copy
  // for the backward pass, and null where x's rows live until then. Not joined, it is where u is written.

  // y (N, out) and u from x. With a residual (N, out), rows as y's, y = residual + …
  void forward(const Pass&, Rows<Float> y, Float* u, Rows<Float> x, const Float* residual = nullptr) const;
  // u alone, for recomputation: the backward pass needs u of this layer, but not its output.
  void low_rank(const Pass&, Float* u, Rows<Float> x) const;

  // The backward pass is two calls, in this order. The first computes z and dB from dy, and dx (N, in) unless it is null; of x it
  // reads u alone. The second computes dA, dW and dbias, which need x. In between, down_proj's input is recomputed.
  void backward_input(const Pass&, Rows<Float> dx, Rows<Float> dy, Float* u, Rows<Float> x) const;
  void backward_weight(const Pass&, Rows<Float> dy, Rows<Float> x) const;

 private:
  // out = x · Wᵀ, or x · W, + the addend. joint: x has R more columns, and W the adapter's.
  void multiply(const Pass&, const Matrix& out, const Rows<Float>& x, bool transposed, bool joint, const Float* addend) const;
  Matrix u_of(const Pass&, Float* u, const Rows<Float>& x) const;
  Matrix z_of(const Pass&, const Rows<Float>& dy) const;
  Rows<Float> adapter_input(const Pass&, Rows<Float> x) const;
  void add_adapter_dx(const Pass&, const Rows<Float>& dx, const ConstMatrix& z) const;
  void drop(const Pass&, const Rows<Float>& to, const Rows<Float>& from, bool accumulate) const;
};

}  // namespace tll
