// One block per row; a thread handles eight consecutive elements of every 2048. A row of up to 4096 elements stays in registers
// between the reduction and the output, so it is read once. Keeping longer rows would cost too much occupancy: they are read
// twice (kPasses 0), the second time from cache. The weight gradient is a separate kernel (column_sum.cuh).
#include "kernels/column_sum.cuh"
#include "kernels/rmsnorm.h"

namespace tll {
namespace {

constexpr int kThreads = 256, kOwn = 8, kSpan = kThreads * kOwn;

template <class Float, int kPasses>
__global__ void __launch_bounds__(kThreads)
    rmsnorm_forward_kernel(const __grid_constant__ RmsnormForward<Float> op, float eps, bool vector) {
  const int C = op.C, mine = static_cast<int>(threadIdx.x) * kOwn;
  const Float* __restrict__ x = op.x + static_cast<int64_t>(blockIdx.x) * C;
  const Float* __restrict__ w = op.w;
  Float* __restrict__ out = op.out + blockIdx.x * row_stride(op.out_stride, C);
  float kept[kPasses ? kPasses : 1][kOwn], sum = 0;
  const auto square = [&](float(&v)[kOwn], int c) {
    load_floats(v, x + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) sum = fmaf(v[i], v[i], sum);
  };
  const auto scale = [&](float(&v)[kOwn], int c, float r) {
    float weight[kOwn];
    load_floats(weight, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) v[i] = weight[i] * to_float(from_float<Float>(v[i] * r));
    store_floats(out + c, v, C - c, vector);
  };
  if constexpr (kPasses > 0) {
#pragma unroll
    for (int p = 0; p < kPasses; p++)
      if (mine + p * kSpan < C) square(kept[p], mine + p * kSpan);
  } else {
    for (int c = mine; c < C; c += kSpan) square(kept[0], c);
  }
  const float r = 1.0f / sqrtf(block_sum<kThreads>(sum) / static_cast<float>(C) + eps);
  if (threadIdx.x == 0) op.rstd[blockIdx.x] = r;
  if constexpr (kPasses > 0) {
#pragma unroll
    for (int p = 0; p < kPasses; p++)
      if (mine + p * kSpan < C) scale(kept[p], mine + p * kSpan, r);
  } else {
    for (int c = mine; c < C; c += kSpan) {
      load_floats(kept[0], x + c, C - c, vector);
      scale(kept[0], c, r);
    }
  }
}

template <class Float, int kPasses>
__global__ void __launch_bounds__(kThreads)
    rmsnorm_backward_kernel(const __grid_constant__ RmsnormBackward<Float> op, bool vector) {
  const int C = op.C, mine = static_cast<int>(threadIdx.x) * kOwn;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * C;
  const Float* __restrict__ x = op.x + row;
  const Float* __restrict__ dout = op.dout + row;
  const Float* __restrict__ w = op.w;
  Float* dx = op.dx + blockIdx.x * row_stride(op.dx_stride, C);
  float kept_x[kPasses ? kPasses : 1][kOwn], kept_u[kPasses ? kPasses : 1][kOwn], dot = 0;
  const auto load = [&](float(&xv)[kOwn], float(&u)[kOwn], int c) {
    float weight[kOwn];
    load_floats(xv, x + c, C - c, vector);
    load_floats(u, dout + c, C - c, vector);
    load_floats(weight, w + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) u[i] *= weight[i];
  };
  const auto add_dot = [&](const float(&xv)[kOwn], const float(&u)[kOwn]) {
#pragma unroll
    for (int i = 0; i < kOwn; i++) dot = fmaf(u[i], xv[i], dot);
  };
  const auto result = [&](const float(&xv)[kOwn], const float(&u)[kOwn], int c, float r, float k) {
    float d[kOwn];
    load_floats(d, dx + c, C - c, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) d[i] = d[i] + r * u[i] - k * xv[i];
    store_floats(dx + c, d, C - c, vector);
  };
  if constexpr (kPasses > 0) {
#pragma unroll
    for (int p = 0; p < kPasses; p++)
      if (mine + p * kSpan < C) load(kept_x[p], kept_u[p], mine + p * kSpan), add_dot(kept_x[p], kept_u[p]);
  } else {
    for (int c = mine; c < C; c += kSpan) load(kept_x[0], kept_u[0], c), add_dot(kept_x[0], kept_u[0]);
  }
  const float r = op.rstd[blockIdx.x], k = r * r * r * block_sum<kThreads>(dot) / static_cast<float>(C);
  if constexpr (kPasses > 0) {
#pragma unroll
    for (int p = 0; p < kPasses; p++)
      if (mine + p * kSpan < C) result(kept_x[p], kept_u[p], mine + p * kSpan, r, k);
  } else {
    for (int c = mine; c < C; c += kSpan) load(kept_x[0], kept_u[0], c), result(kept_x[0], kept_u[0], c, r, k);
  }
}

template <class Float>
__global__ void __launch_bounds__(kColumnThreads) rmsnorm_weight_kernel(const __grid_constant__ RmsnormBackward<Float> op) {
  const Float* __restrict__ x = op.x;
  const Float* __restrict__ dout = op.dout;
  const float* __restrict__ rstd = op.rstd;
  const int C = op.C;
  add_column_sums(op.dw, op.N, C, [=](int64_t n, int c) { return to_float(dout[n * C + c]) * to_float(x[n * C + c]) * rstd[n]; });
}

}  // namespace

template <class Float>
void RmsnormForward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector = vec_aligned<kVec<Float>>(x, C) && vec_aligned<kVec<Float>>(out, row_stride(out_stride, C)) &&
                      vec_aligned<kVec<Float>>(w, C);
  const auto with_rows = [&](auto rows) {  // passes kept in registers; 0: the row is read twice
    launch<rmsnorm_forward_kernel<Float, decltype(rows)::value>>(dim3(static_cast<unsigned>(N)), kThreads, 0, stream_of(device),
                                                                 *this, static_cast<float>(eps), vector);
  };
  if (C <= kSpan)
    with_rows(std::integral_constant<int, 1>());
  else if (C <= 2 * kSpan)
    with_rows(std::integral_constant<int, 2>());
  else
    with_rows(std::integral_constant<int, 0>());
}

template <class Float>
void RmsnormBackward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector = vec_aligned<kVec<Float>>(x, C) && vec_aligned<kVec<Float>>(dx, row_stride(dx_stride, C)) &&
                      vec_aligned<kVec<Float>>(dout, C) && vec_aligned<kVec<Float>>(w, C);
  const auto with_rows = [&](auto rows) {  // passes kept in registers; 0: the row is read twice
    launch<rmsnorm_backward_kernel<Float, decltype(rows)::value>>(dim3(static_cast<unsigned>(N)), kThreads, 0, stream_of(device),
                                                                  *this, vector);
  };
  if (C <= kSpan)
    with_rows(std::integral_constant<int, 1>());
  else if (C <= 2 * kSpan)
    with_rows(std::integral_constant<int, 2>());
  else
    with_rows(std::integral_constant<int, 0>());
  if (dw) launch<rmsnorm_weight_kernel<Float>>(blocks_for(C, kColumns), kColumnThreads, 0, stream_of(device), *this);
}

TLL_INSTANTIATE_CUDA(RmsnormForward)
TLL_INSTANTIATE_CUDA(RmsnormBackward)

}  // namespace tll
