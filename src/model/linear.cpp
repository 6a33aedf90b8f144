#include "src/model/linear.h"

namespace tll {
namespace {

template <class Float>
Matrix matrix(const Float* data, int64_t stride, bool transposed = false) {
  return {data, dtype_of<Float>, stride, transposed};
}

// One product, with the scratch that it may need.
template <class Float>
void multiply(const Device& device, const LinearScratch<Float>& s, auto* out, int64_t out_stride, Matrix a, Matrix b, int rows,
              int cols, int inner, double alpha, bool accumulate, const void* addend = nullptr) {
  run(device, Matmul<Float>{.out = out,
                            .out_dtype = dtype_of<std::remove_pointer_t<decltype(out)>>,
                            .out_stride = out_stride,
                            .a = a,
                            .b = b,
                            .rows = rows,
                            .cols = cols,
                            .inner = inner,
                            .alpha = alpha,
                            .accumulate = accumulate,
                            .scratch = s.matmul,
                            .scratch_size = s.matmul_size,
                            .addend = addend});
}

// The input of the adapter's branch: x, or x with dropout in the shared buffer.
template <class Float>
const Float* adapter_input(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, const Float* x, int N,
                           uint64_t layer_id) {
  if (s.dropout == 0) return x;
  run(device, Dropout<Float>{.out = s.dropped,
                             .x = x,
                             .N = N,
                             .C = l.in,
                             .p = s.dropout,
                             .key = layer_id,
                             .accumulate = false,
                             .step_key = s.dropout_key});
  return s.dropped;
}

}  // namespace

template <class Float>
void linear_low_rank(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, const Float* x, Float* u, int N,
                     uint64_t layer_id) {
  if (l.rank == 0) return;
  multiply(device, s, u, l.rank, matrix(adapter_input(device, l, s, x, N, layer_id), l.in), matrix(l.a, l.in, true), N, l.rank,
           l.in, 1.0, false);
}

template <class Float>
void linear_forward(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, Float* y, const Float* x,
                    Float* u, int N, const Float* residual, uint64_t layer_id) {
  multiply(device, s, y, l.out, matrix(x, l.in), Matrix{l.w, l.dtype, l.in, true}, N, l.out, l.in, 1.0, residual != nullptr,
           residual);
  if (l.bias) run(device, BiasForward<Float>{.out = y, .bias = l.bias, .N = N, .C = l.out});
  linear_low_rank(device, l, s, x, u, N, layer_id);
  for (const LoraRange<Float>& r : l.ranges)
    multiply(device, s, y + r.first_row, l.out, matrix(u + r.first_rank, l.rank), matrix(r.b, r.rank, true), N, r.rows, r.rank,
             r.scale, true);
}

template <class Float>
void linear_backward_input(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, Float* dx,
                           const Float* dy, const Float* u, int N, uint64_t layer_id) {
  for (const LoraRange<Float>& r : l.ranges) {
    multiply(device, s, s.z + r.first_rank, l.rank, matrix(dy + r.first_row, l.out), matrix(r.b, r.rank), N, r.rank, r.rows,
             r.scale, false);
    multiply(device, s, r.db, r.rank, matrix(dy + r.first_row, l.out, true), matrix(u + r.first_rank, l.rank), r.rows, r.rank, N,
             r.scale, true);
  }
  if (!dx) return;
  multiply(device, s, dx, l.in, matrix(dy, l.out), Matrix{l.w, l.dtype, l.in, false}, N, l.in, l.out, 1.0, false);
  if (l.rank == 0) return;
  if (s.dropout == 0) {
    multiply(device, s, dx, l.in, matrix(s.z, l.rank), matrix(l.a, l.in), N, l.in, l.rank, 1.0, true);
  } else {
    multiply(device, s, s.dropped, l.in, matrix(s.z, l.rank), matrix(l.a, l.in), N, l.in, l.rank, 1.0, false);
    run(device, Dropout<Float>{.out = dx,
                               .x = s.dropped,
                               .N = N,
                               .C = l.in,
                               .p = s.dropout,
                               .key = layer_id,
                               .accumulate = true,
                               .step_key = s.dropout_key});
  }
}

template <class Float>
void linear_backward_weight(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, const Float* dy,
                            const Float* x, int N, uint64_t layer_id) {
  if (l.rank > 0)
    multiply(device, s, l.da, l.in, matrix(s.z, l.rank, true), matrix(adapter_input(device, l, s, x, N, layer_id), l.in), l.rank,
             l.in, N, 1.0, true);
  if (l.dw) multiply(device, s, l.dw, l.in, matrix(dy, l.out, true), matrix(x, l.in), l.out, l.in, N, 1.0, true);
  if (l.dbias) run(device, BiasBackward<Float>{.dbias = l.dbias, .dout = dy, .N = N, .C = l.out});
}

#define TLL_LINEAR(Float)                                                                                                      \
  template void linear_low_rank(const Device&, const Linear<Float>&, const LinearScratch<Float>&, const Float*, Float*, int,   \
                                uint64_t);                                                                                     \
  template void linear_forward(const Device&, const Linear<Float>&, const LinearScratch<Float>&, Float*, const Float*, Float*, \
                               int, const Float*, uint64_t);                                                                   \
  template void linear_backward_input(const Device&, const Linear<Float>&, const LinearScratch<Float>&, Float*, const Float*,  \
                                      const Float*, int, uint64_t);                                                            \
  template void linear_backward_weight(const Device&, const Linear<Float>&, const LinearScratch<Float>&, const Float*,         \
                                       const Float*, int, uint64_t);
TLL_LINEAR(float)
TLL_LINEAR(bf16)
TLL_LINEAR(half)
TLL_LINEAR(double)
TLL_LINEAR(complex)

}  // namespace tll
