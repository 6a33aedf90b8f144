#include "src/model/linear.h"

#include "kernels/elementwise.h"

namespace tll {

template <class Float>
void Linear<Float>::multiply(const Pass& p, const Matrix& out, const Rows<Float>& x, bool transposed, bool joint,
                             const Float* addend) const {
  const ConstMatrix a = matrix(x.data, p.N, (transposed ? in() : this->out()) + (joint ? rank : 0), x.stride);
  const char* role = transposed ? "matmul x Wt" : "matmul dy W";
  if constexpr (!is_oracle<Float>) {
    if (weight->is_quantized())
      return run(p.device, QuantizedMatmul{.out = out,
                                           .a = a,
                                           .w = weight->quantized_matrix(),
                                           .transposed = transposed,
                                           .extra = !joint       ? ConstMatrix()
                                                    : transposed ? weight->joined_b()
                                                                 : weight->joined_a(),
                                           .accumulate = addend != nullptr,
                                           .scratch = p.matmul,
                                           .addend = addend,
                                           .piece = p.piece.data,
                                           .piece_size = p.piece.size,
                                           .role = role});
  }
  ConstMatrix w = weight->matrix();
  if (joint) (transposed ? w.col_count : w.row_count) += rank;
  run(p.device, Matmul<Acc>{.out = out,
                            .a = a,
                            .b = transposed ? w.t() : w,
                            .accumulate = addend != nullptr,
                            .scratch = p.matmul,
                            .addend = addend,
                            .role = role});
}

template <class Float>
void Linear<Float>::forward(const Pass& p, Rows<Float> y, Float* u, Rows<Float> x, const Float* residual) const {
  low_rank(p, u, x);
  // A few rows are multiplied straight from the codes, which the adapter's columns have none of.
  const bool joint = joined && !(weight->is_quantized() && p.N <= QuantizedMatmul::kFewRows);
  const Matrix y_matrix = matrix(y.data, p.N, out(), y.stride);
  multiply(p, y_matrix, x, true, joint, residual);
  if (bias)
    run(p.device,
        BiasForward<Float>{
            .out = y.data, .bias = static_cast<const Float*>(bias->data), .N = p.N, .C = out(), .out_stride = y.stride});
  if (joint || rank == 0) return;
  const ConstMatrix u_matrix = u_of(p, joined ? nullptr : u, x);
  for (const LoraRange& r : ranges)
    run(p.device, Matmul<Acc>{.out = y_matrix.cols(r.first_row, r.rows),
                              .a = u_matrix.cols(r.first_rank, r.rank),
                              .b = r.b.t(),
                              .alpha = r.b_scale,
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora u Bt"});
}

template <class Float>
void Linear<Float>::low_rank(const Pass& p, Float* u, Rows<Float> x) const {
  if (rank == 0) return;
  const Rows<Float> from = adapter_input(p, x);
  run(p.device, Matmul<Acc>{.out = u_of(p, joined ? nullptr : u, x),
                            .a = matrix(from.data, p.N, in(), from.stride),
                            .b = a.t(),
                            .scratch = p.matmul,
                            .role = "lora x At"});
  if (joined && u) run(p.device, CopyRows<Float>{.out = u, .x = x.behind(in()).data, .N = p.N, .C = rank, .x_stride = x.stride});
}

// Where u is: in memory of its own, or, where that is null, behind the columns of x.
template <class Float>
Matrix Linear<Float>::u_of(const Pass& p, Float* u, const Rows<Float>& x) const {
  return u ? matrix(u, p.N, rank) : matrix(x.data + in(), p.N, rank, x.stride);
}
template <class Float>
Matrix Linear<Float>::z_of(const Pass& p, const Rows<Float>& dy) const {
  return joined ? matrix(dy.data + out(), p.N, rank, dy.stride) : matrix(p.z, p.N, rank);
}

template <class Float>
void Linear<Float>::backward_input(const Pass& p, Rows<Float> dx, Rows<Float> dy, Float* u, Rows<Float> x) const {
  const ConstMatrix dout = matrix(dy.data, p.N, out(), dy.stride);
  if (joined)
    run(p.device, Matmul<Acc>{.out = z_of(p, dy), .a = dout, .b = weight->joined_b(), .scratch = p.matmul, .role = "lora dy B"});
  for (const LoraRange& r : ranges) {
    const ConstMatrix dy_i = dout.cols(r.first_row, r.rows);
    if (!joined)
      run(p.device, Matmul<Acc>{.out = z_of(p, dy).cols(r.first_rank, r.rank),
                                .a = dy_i,
                                .b = r.b,
                                .alpha = r.b_scale,
                                .scratch = p.matmul,
                                .role = "lora dy B"});
    run(p.device, Matmul<Acc>{.out = r.db,
                              .a = dy_i.t(),
                              .b = u_of(p, u, x).cols(r.first_rank, r.rank),
                              .alpha = r.scale,
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora dB"});
  }
  if (!dx) return;
  const bool joint = joined && p.dropout == 0;
  multiply(p, matrix(dx.data, p.N, in(), dx.stride), dy, false, joint, nullptr);
  if (rank > 0 && !joint) add_adapter_dx(p, dx, z_of(p, dy));
}

// dx += d'(z · A)
template <class Float>
void Linear<Float>::add_adapter_dx(const Pass& p, const Rows<Float>& dx, const ConstMatrix& z) const {
  const bool dropout = p.dropout > 0;
  const Rows<Float> to = dropout ? Rows<Float>{p.dropped, in()} : dx;
  run(p.device, Matmul<Acc>{.out = matrix(to.data, p.N, in(), to.stride),
                            .a = z,
                            .b = a,
                            .accumulate = !dropout,
                            .scratch = p.matmul,
                            .role = "lora z A"});
  if (dropout) drop(p, dx, to, true);
}

template <class Float>
void Linear<Float>::backward_weight(const Pass& p, Rows<Float> dy, Rows<Float> x) const {
  if (rank > 0) {
    const Rows<Float> from = adapter_input(p, x);
    run(p.device, Matmul<Acc>{.out = da,
                              .a = z_of(p, dy).t(),
                              .b = matrix(from.data, p.N, in(), from.stride),
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "lora dA"});
  }
  if (dw)
    run(p.device, Matmul<Acc>{.out = matrix(dw, out(), in()),
                              .a = matrix(dy.data, p.N, out(), dy.stride).t(),
                              .b = matrix(x.data, p.N, in(), x.stride),
                              .accumulate = true,
                              .scratch = p.matmul,
                              .role = "matmul dW"});
  if (dbias) {
    TLL_CHECK(dy.stride == out(), "rows of {} columns, {} apart", out(), dy.stride);
    run(p.device, BiasBackward<Float>{.dbias = dbias, .dout = dy.data, .N = p.N, .C = out()});
  }
}

// d(x): x itself, or with dropout the shared buffer `dropped`.
template <class Float>
Rows<Float> Linear<Float>::adapter_input(const Pass& p, Rows<Float> x) const {
  if (p.dropout == 0) return x;
  const Rows<Float> dropped{p.dropped, in()};
  drop(p, dropped, x, false);
  return dropped;
}

// to = or += the adapter's mask, scaled, times from. The mask is the same in the forward and the backward pass.
template <class Float>
void Linear<Float>::drop(const Pass& p, const Rows<Float>& to, const Rows<Float>& from, bool accumulate) const {
  run(p.device, Dropout<Float>{.out = to.data,
                               .x = from.data,
                               .N = p.N,
                               .C = in(),
                               .p = p.dropout,
                               .key = id,
                               .accumulate = accumulate,
                               .step_key = p.dropout_key,
                               .first_row = p.first_row,
                               .out_stride = to.stride,
                               .x_stride = from.stride});
}

template struct Linear<float>;
template struct Linear<bf16>;
template struct Linear<half>;
template struct Linear<double>;
template struct Linear<complex>;

}  // namespace tll
