// Memory-bound. A thread handles eight (dropout: 16) consecutive elements, of the flat array or, where the column matters, of one
// row. Gather and scatter use one block per row; the bias gradient uses one block per 32 columns (column_sum.cuh).
#include "kernels/column_sum.cuh"
#include "kernels/elementwise.h"

namespace tll {
namespace {

constexpr int kThreads = 256, kOwn = 8, kDropoutOwn = 16;

template <class Float>
__global__ void __launch_bounds__(kThreads) cast_kernel(const __grid_constant__ CastFromMaster<Float> op, bool vector) {
  Float* __restrict__ out = op.out;
  const float* __restrict__ in = op.in;
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOwn;
  if (i >= op.n) return;
  float v[kOwn];
  load_floats(v, in + i, op.n - i, vector);
  store_floats(out + i, v, op.n - i, vector);
}

// Columns in x; a grid-stride loop over rows in y.
template <class Float>
__global__ void __launch_bounds__(kThreads) bias_forward_kernel(const __grid_constant__ BiasForward<Float> op, bool vector) {
  Float* out = op.out;
  const Float* __restrict__ bias = op.bias;
  const int c = (blockIdx.x * kThreads + threadIdx.x) * kOwn, valid = op.C - c;
  if (valid <= 0) return;
  float b[kOwn], v[kOwn];
  load_floats(b, bias + c, valid, vector);
  for (int n = blockIdx.y; n < op.N; n += gridDim.y) {
    Float* row = out + n * op.out_row() + c;
    load_floats(v, row, valid, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] += b[i];
    store_floats(row, v, valid, vector);
  }
}

template <class Float>
__global__ void __launch_bounds__(kColumnThreads) bias_backward_kernel(const __grid_constant__ BiasBackward<Float> op) {
  const Float* __restrict__ dout = op.dout;
  const int C = op.C;
  add_column_sums(op.dbias, op.N, C, [=](int64_t n, int c) { return to_float(dout[n * C + c]); });
}

// A thread copies kVec elements; items are numbered row by row.
template <class Float>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(const __grid_constant__ CopyRows<Float> op, bool vector) {
  const unsigned vectors = ceil_div(static_cast<unsigned>(op.C), static_cast<unsigned>(kVec<Float>));
  const unsigned item = blockIdx.x * kThreads + threadIdx.x, n = item / vectors;
  if (n >= static_cast<unsigned>(op.N)) return;
  const int c = static_cast<int>(item % vectors) * kVec<Float>;
  Float* to = op.out + n * op.out_row() + c;
  const Float* from = op.x + n * op.x_row() + c;
  if (vector) {  // C is a multiple of kVec
    store_vec(to, load_vec<kVec<Float>>(from));
  } else {
    for (int i = 0; i < kVec<Float> && c + i < op.C; i++) to[i] = from[i];
  }
}

// One block per row: row blockIdx.x of the packed matrix (R rows) and row rows[blockIdx.x] of the other.
template <class Op, bool kGather>
__global__ void __launch_bounds__(kThreads) move_rows_kernel(const __grid_constant__ Op op, bool vector) {
  using Float = typename Op::Scalar;
  const int C = op.C;
  const int64_t listed = op.rows[blockIdx.x], packed = blockIdx.x;
  Float* const to = op.out + (kGather ? packed : listed) * op.out_row();
  if (listed < 0) {
    for (int c = threadIdx.x; kGather && c < C; c += kThreads) to[c] = Float{};
    return;
  }
  const Float* const from = op.x + (kGather ? listed : packed) * op.x_row();
  for (int c = threadIdx.x * kVec<Float>; c < C; c += kThreads * kVec<Float>) {
    if (vector) {  // C is a multiple of kVec
      store_vec(to + c, load_vec<kVec<Float>>(from + c));
    } else {
      for (int i = c; i < c + kVec<Float> && i < C; i++) to[i] = from[i];
    }
  }
}

// Columns in x; a grid-stride loop over rows in y. The same mask as on the CPU. Two threads never share a word of it.
template <class Float>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const __grid_constant__ Dropout<Float> op, float keep_scale, uint32_t threshold, bool vector) {
  constexpr int kColumns = kDropoutColumns;
  static_assert(kDropoutOwn % kColumns == 0, "whole words");
  Float* out = op.out;
  const Float* __restrict__ x = op.x;
  const int c = (blockIdx.x * kThreads + threadIdx.x) * kDropoutOwn, valid = op.C - c;
  if (valid <= 0) return;
  const uint64_t key = op.step_key ? mix64(*op.step_key + op.key) : op.key;
  const int64_t words = dropout_words(op.C), out_row = op.out_row(), x_row = op.x_row();
  for (int64_t n = blockIdx.y; n < op.N; n += gridDim.y) {
    const int64_t first_word = (op.first_row + n) * words + c / kColumns;
    float v[kDropoutOwn], old[kDropoutOwn] = {};
    load_floats(v, x + n * x_row + c, valid, vector);
    if (op.accumulate) load_floats(old, out + n * out_row + c, valid, vector);
#pragma unroll
    for (int j = 0; j < kDropoutOwn; j += kColumns) {
      const uint64_t word = dropout_word(key, first_word + j / kColumns);
#pragma unroll
      for (int i = 0; i < kColumns; i++)
        v[j + i] = old[j + i] + (dropout_keeps(word, i, threshold) ? v[j + i] * keep_scale : 0.0f);
    }
    store_floats(out + n * out_row + c, v, valid, vector);
  }
}

// Columns in x, `own` a thread; rows in y.
dim3 grid_of(int N, int C, int own) {
  dim3 grid = blocks_for(C, kThreads * own);
  grid.y = static_cast<unsigned>(N < 2048 ? N : 2048);
  return grid;
}

template <class Op, bool kGather>
void move_rows(const Device& device, const Op& op) {
  constexpr int kWidth = kVec<typename Op::Scalar>;
  if (op.R == 0) return;
  launch<move_rows_kernel<Op, kGather>>(
      dim3(static_cast<unsigned>(op.R)), kThreads, 0, stream_of(device), op,
      op.C % kWidth == 0 && vec_aligned<kWidth>(op.out, op.out_row()) && vec_aligned<kWidth>(op.x, op.x_row()));
}

}  // namespace

template <class Float>
void CastFromMaster<Float>::cuda(const Device& device) const {
  if (n == 0) return;
  launch<cast_kernel<Float>>(blocks_for(n, kThreads * kOwn), kThreads, 0, stream_of(device), *this,
                             vec_aligned<kVec<Float>>(out, 0) && vec_aligned<kVec<float>>(in, 0));
}

template <class Float>
void Copy<Float>::cuda(const Device& device) const {
  if (n > 0)
    TLL_CUDA(cudaMemcpyAsync(out, in, static_cast<size_t>(n) * sizeof(Float), cudaMemcpyDeviceToDevice, stream_of(device)));
}

template <class Float>
void CopyRows<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  constexpr int kWidth = kVec<Float>;
  launch<copy_rows_kernel<Float>>(blocks_for(int64_t{N} * ceil_div(C, kWidth), kThreads), kThreads, 0, stream_of(device), *this,
                                  C % kWidth == 0 && vec_aligned<kWidth>(out, out_row()) && vec_aligned<kWidth>(x, x_row()));
}

template <class Float>
void BiasForward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  launch<bias_forward_kernel<Float>>(grid_of(N, C, kOwn), kThreads, 0, stream_of(device), *this,
                                     vec_aligned<kVec<Float>>(out, out_row()) && vec_aligned<kVec<Float>>(bias, 0));
}

template <class Float>
void BiasBackward<Float>::cuda(const Device& device) const {
  if (N > 0) launch<bias_backward_kernel<Float>>(blocks_for(C, kColumns), kColumnThreads, 0, stream_of(device), *this);
}

template <class Float>
void GatherRows<Float>::cuda(const Device& device) const {
  move_rows<GatherRows<Float>, true>(device, *this);
}
template <class Float>
void ScatterRows<Float>::cuda(const Device& device) const {
  move_rows<ScatterRows<Float>, false>(device, *this);
}

template <class Float>
void Dropout<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const DropoutRule rule = dropout_rule(p);
  launch<dropout_kernel<Float>>(grid_of(N, C, kDropoutOwn), kThreads, 0, stream_of(device), *this,
                                static_cast<float>(rule.keep_scale), rule.threshold,
                                vec_aligned<kVec<Float>>(out, out_row()) && vec_aligned<kVec<Float>>(x, x_row()));
}

TLL_INSTANTIATE_CUDA(CastFromMaster)
TLL_INSTANTIATE_CUDA(Copy)
TLL_INSTANTIATE_CUDA(CopyRows)
TLL_INSTANTIATE_CUDA(BiasForward)
TLL_INSTANTIATE_CUDA(BiasBackward)
TLL_INSTANTIATE_CUDA(GatherRows)
TLL_INSTANTIATE_CUDA(ScatterRows)
TLL_INSTANTIATE_CUDA(Dropout)

}  // namespace tll
