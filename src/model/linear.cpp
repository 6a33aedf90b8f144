#include "src/model/linear.h"

#include "kernels/elementwise.h"

namespace tll {

template <class Float>
void Linear<Float>::multiply(const Pass& p, const Matrix& out, const ConstMatrix& x, bool transposed, const Float* addend) const {
  if constexpr (!is_oracle<Float>) {
    if (weight->is_quantized())
      return run(p.device, QuantizedMatmul{.out = out,
                                           .a = x,
                                           .w = weight->quantized_matrix(),
                                           .transposed = transposed,
                                           .accumulate = addend != nullptr,
                                           .scratch = p.matmul,
                                           .addend = addend,
                                           .piece = p.piece.data,
                                           .piece_size = p.piece.size,
                                           .role = transposed ? "matmul x Wt" : "matmul dy W"});
  }
  const ConstMatrix w = weight->matrix();
  run(p.device, Matmul<Acc>{.out = out,
                            .a = x,
                            .b = transposed ? w.t() : w,
                            .accumulate = addend != nullptr,
                            .scratch = p.matmul,
                            .addend = addend,
                            .role = transposed ? "matmul x Wt" : "matmul dy W"});
}

template <class Float>
void Linear<Float>::forward(const Pass& p, Float* y, Float* u, const Float* x, const Float* residual) const {
  const Matrix y_matrix = matrix(y, p.N, out());
  multiply(p, y_matrix, matrix(x, p.N, in()), true, residual);
  if (bias) run(p.device, BiasForward<Float>{.out = y, .bias = static_cast<const Float*>(bias->data), .N = p.N, .C = out()});
  low_rank(p, u, x);
  for (const LoraRange& r : ranges)
    run(p.device, Matmul<Acc>{.out = y_matrix.cols(r.first_row, r.rows),
                              .a = matrix(u, p.N, rank).cols(r.first_rank, r.rank),
                              .b = r.b.t(),
                              .alpha = r.scale,
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora u Bt"});
}

template <class Float>
void Linear<Float>::low_rank(const Pass& p, Float* u, const Float* x) const {
  if (rank == 0) return;
  run(p.device, Matmul<Acc>{.out = matrix(u, p.N, rank),
                            .a = matrix(adapter_input(p, x), p.N, in()),
                            .b = a.t(),
                            .scratch = p.matmul,
                            .role = "lora x At"});
}

template <class Float>
void Linear<Float>::backward_input(const Pass& p, Float* dx, const Float* dy, const Float* u) const {
  const ConstMatrix dout = matrix(dy, p.N, out());
  for (const LoraRange& r : ranges) {
    const ConstMatrix dy_i = dout.cols(r.first_row, r.rows);
    run(p.device, Matmul<Acc>{.out = matrix(p.z, p.N, rank).cols(r.first_rank, r.rank),
                              .a = dy_i,
                              .b = r.b,
                              .alpha = r.scale,
                              .scratch = p.matmul,
                              .role = "lora dy B"});
    run(p.device, Matmul<Acc>{.out = r.db,
                              .a = dy_i.t(),
                              .b = matrix(u, p.N, rank).cols(r.first_rank, r.rank),
                              .alpha = r.scale,
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora dB"});
  }
  if (!dx) return;
  multiply(p, matrix(dx, p.N, in()), dout, false, nullptr);
  if (rank > 0) add_adapter_dx(p, dx);
}

// dx += d'(z · A)
template <class Float>
void Linear<Float>::add_adapter_dx(const Pass& p, Float* dx) const {
  const bool dropout = p.dropout > 0;
  run(p.device, Matmul<Acc>{.out = matrix(dropout ? p.dropped : dx, p.N, in()),
                            .a = matrix(p.z, p.N, rank),
                            .b = a,
                            .accumulate = !dropout,
                            .scratch = p.matmul,
                            .role = "lora z A"});
  if (dropout) drop(p, dx, p.dropped, true);
}

template <class Float>
void Linear<Float>::backward_weight(const Pass& p, const Float* dy, const Float* x) const {
  const ConstMatrix dout = matrix(dy, p.N, out());
  if (rank > 0)
    run(p.device, Matmul<Acc>{.out = da,
                              .a = matrix(p.z, p.N, rank).t(),
                              .b = matrix(adapter_input(p, x), p.N, in()),
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora dA"});
  if (dw)
    run(p.device, Matmul<Acc>{.out = matrix(dw, out(), in()),
                              .a = dout.t(),
                              .b = matrix(x, p.N, in()),
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "matmul dW"});
  if (dbias) run(p.device, BiasBackward<Float>{.dbias = dbias, .dout = dy, .N = p.N, .C = out()});
}

// d(x): x itself, or with dropout the shared buffer `dropped`.
template <class Float>
const Float* Linear<Float>::adapter_input(const Pass& p, const Float* x) const {
  if (p.dropout == 0) return x;
  drop(p, p.dropped, x, false);
  return p.dropped;
}

// to = or += the adapter's mask, scaled, times from. The mask is the same in the forward and the backward pass.
template <class Float>
void Linear<Float>::drop(const Pass& p, Float* to, const Float* from, bool accumulate) const {
  run(p.device, Dropout<Float>{.out = to,
                               .x = from,
                               .N = p.N,
                               .C = in(),
                               .p = p.dropout,
                               .key = id,
                               .accumulate = accumulate,
                               .step_key = p.dropout_key,
                               .first_row = p.first_row});
}

template struct Linear<float>;
template struct Linear<bf16>;
template struct Linear<half>;
template struct Linear<double>;
template struct Linear<complex>;

}  // namespace tll
