#include "src/model/linear.h"

namespace tll {
namespace {

// Without its sizes, which multiply() knows.
struct Operand {
  const void* data;
  DType dtype;
  int64_t stride;
  bool transposed = false;
};
template <class Float>
Operand operand(const Float* data, int64_t stride, bool transposed = false) {
  return {data, dtype_of<Float>, stride, transposed};
}

// One product, with the scratch that it may need.
template <class Float>
void multiply(const Device& device, const LinearScratch<Float>& s, auto* out, int64_t out_stride, Operand a, Operand b, int rows,
              int cols, int inner, double alpha, bool accumulate, const void* addend = nullptr) {
  run(device, Matmul<acc_t<Float>>{.out = matrix(out, rows, cols, out_stride),
                                   .a = {a.data, a.dtype, rows, inner, a.stride, a.transposed},
                                   .b = {b.data, b.dtype, inner, cols, b.stride, b.transposed},
                                   .alpha = alpha,
                                   .accumulate = accumulate,
                                   .scratch = {s.matmul, s.matmul_size},
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
  multiply(device, s, u, l.rank, operand(adapter_input(device, l, s, x, N, layer_id), l.in), operand(l.a, l.in, true), N, l.rank,
           l.in, 1.0, false);
}

template <class Float>
void linear_forward(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, Float* y, const Float* x,
                    Float* u, int N, const Float* residual, uint64_t layer_id) {
  multiply(device, s, y, l.out, operand(x, l.in), Operand{l.w, l.dtype, l.in, true}, N, l.out, l.in, 1.0, residual != nullptr,
           residual);
  if (l.bias) run(device, BiasForward<Float>{.out = y, .bias = l.bias, .N = N, .C = l.out});
  linear_low_rank(device, l, s, x, u, N, layer_id);
  for (const LoraRange<Float>& r : l.ranges)
    multiply(device, s, y + r.first_row, l.out, operand(u + r.first_rank, l.rank), operand(r.b, r.rank, true), N, r.rows, r.rank,
             r.scale, true);
}

template <class Float>
void linear_backward_input(const Device& device, const Linear<Float>& l, const LinearScratch<Float>& s, Float* dx,
                           const Float* dy, const Float* u, int N, uint64_t layer_id) {
  for (const LoraRange<Float>& r : l.ranges) {
    multiply(device, s, s.z + r.first_rank, l.rank, operand(dy + r.first_row, l.out), operand(r.b, r.rank), N, r.rank, r.rows,
             r.scale, false);
    multiply(device, s, r.db, r.rank, operand(dy + r.first_row, l.out, true), operand(u + r.first_rank, l.rank), r.rows, r.rank,
             N, r.scale, true);
  }
  if (!dx) return;
  multiply(device, s, dx, l.in, operand(dy, l.out), Operand{l.w, l.dtype, l.in, false}, N, l.in, l.out, 1.0, false);
  if (l.rank == 0) return;
  if (s.dropout == 0) {
    multiply(device, s, dx, l.in, operand(s.z, l.rank), operand(l.a, l.in), N, l.in, l.rank, 1.0, true);
  } else {
    multiply(device, s, s.dropped, l.in, operand(s.z, l.rank), operand(l.a, l.in), N, l.in, l.rank, 1.0, false);
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
    multiply(device, s, l.da, l.in, operand(s.z, l.rank, true), operand(adapter_input(device, l, s, x, N, layer_id), l.in),
             l.rank, l.in, N, 1.0, true);
  if (l.dw) multiply(device, s, l.dw, l.in, operand(dy, l.out, true), operand(x, l.in), l.out, l.in, N, 1.0, true);
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
