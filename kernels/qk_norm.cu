// A group of 8, 16 or 32 lanes owns a head: the fewest that hold it, each with eight consecutive elements. So a warp holds one to
// four heads, a head stays in registers between the sum and the result, and no barrier is needed. Heads beyond the last one are
// zeros that nobody stores, because all lanes of a warp take part in its sums.
//
// The gradients of the two weights are sums over all heads of all rows. Blocks sum parts of them to scratch, each in its own
// order, and a second kernel adds the parts in theirs (column_sum.cuh).
#include "kernels/column_sum.cuh"
#include "kernels/qk_norm.h"

namespace tll {
namespace {

constexpr int kThreads = 256, kOwn = 8;

// Where a group of lanes finds its head, and a lane its elements: from `column` on, `valid` of them exist.
template <int kLanes>
struct Head {
  const int64_t n;
  const int h, column, valid;
  TLL_DEVICE Head(int64_t row, int index, int D, bool there)
      : n(row), h(index), column(static_cast<int>(lane_id()) % kLanes * kOwn), valid(there ? D - column : 0) {}
  TLL_DEVICE int64_t at(int stride, int D) const { return n * stride + static_cast<int64_t>(h) * D + column; }
};
template <int kLanes>
TLL_DEVICE Head<kLanes> my_head(int N, int heads, int D) {
  const int64_t task = int64_t{blockIdx.x} * (kThreads / kLanes) + threadIdx.x / kLanes;
  return {task / heads, static_cast<int>(task % heads), D, task < static_cast<int64_t>(N) * heads};
}

template <class Float, int kLanes>
__global__ void __launch_bounds__(kThreads)
    qk_norm_forward_kernel(const __grid_constant__ QkNormForward<Float> op, float eps, bool vector) {
  const int heads = op.H + op.G;
  const Head<kLanes> head = my_head<kLanes>(op.N, heads, op.D);
  float v[kOwn], weight[kOwn], sum = 0;
  load_floats(v, op.x + head.at(op.x_stride, op.D), head.valid, vector);
  load_floats(weight, (head.h < op.H ? op.w_q : op.w_k) + head.column, head.valid, vector);
#pragma unroll
  for (int i = 0; i < kOwn; i++) sum = fmaf(v[i], v[i], sum);
  const float r = 1.0f / sqrtf(warp_sum<kLanes>(sum) / static_cast<float>(op.D) + eps);
  if (op.rstd && head.column == 0 && head.valid > 0) op.rstd[head.n * heads + head.h] = r;
#pragma unroll
  for (int i = 0; i < kOwn; i++) v[i] = weight[i] * to_float(from_float<Float>(v[i] * r));
  store_floats(op.out + head.at(op.out_stride, op.D), v, head.valid, vector);
}

template <class Float, int kLanes>
__global__ void __launch_bounds__(kThreads)
    qk_norm_backward_kernel(const __grid_constant__ QkNormBackward<Float> op, bool vector) {
  const int heads = op.H + op.G;
  const Head<kLanes> head = my_head<kLanes>(op.N, heads, op.D);
  Float* d = op.d + head.at(op.stride, op.D);
  float x[kOwn], u[kOwn], weight[kOwn], dot = 0;
  load_floats(x, op.x + head.at(op.x_stride, op.D), head.valid, vector);
  load_floats(u, d, head.valid, vector);
  load_floats(weight, (head.h < op.H ? op.w_q : op.w_k) + head.column, head.valid, vector);
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    u[i] *= weight[i];
    dot = fmaf(u[i], x[i], dot);
  }
  const float r = head.valid > 0 ? op.rstd[head.n * heads + head.h] : 0.0f;
  const float k = r * r * r * warp_sum<kLanes>(dot) / static_cast<float>(op.D);
#pragma unroll
  for (int i = 0; i < kOwn; i++) u[i] = r * u[i] - k * x[i];
  store_floats(d, u, head.valid, vector);
}

// scratch[y][part][d]: y 0 for q, 1 for k. A group of lanes takes every gridDim.x · kGroups-th head.
template <class Float, int kLanes>
__global__ void __launch_bounds__(kThreads) qk_norm_weight_kernel(const __grid_constant__ QkNormBackward<Float> op, bool vector) {
  constexpr int kGroups = kThreads / kLanes;
  __shared__ float partial[kGroups][kLanes * kOwn];
  const int all = op.H + op.G, first = blockIdx.y == 0 ? 0 : op.H, heads = blockIdx.y == 0 ? op.H : op.G, D = op.D;
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t tasks = static_cast<int64_t>(op.N) * heads, step = int64_t{gridDim.x} * kGroups;
  float sum[kOwn] = {};
  for (int64_t task = int64_t{blockIdx.x} * kGroups + group; task < tasks; task += step) {
    const Head<kLanes> head(task / heads, first + static_cast<int>(task % heads), D, true);
    const float r = op.rstd[head.n * all + head.h];
    float x[kOwn], dout[kOwn];
    load_floats(x, op.x + head.at(op.x_stride, D), head.valid, vector);
    load_floats(dout, op.d + head.at(op.stride, D), head.valid, vector);
#pragma unroll
    for (int i = 0; i < kOwn; i++) sum[i] += dout[i] * x[i] * r;
  }
#pragma unroll
  for (int i = 0; i < kOwn; i++) partial[group][static_cast<int>(threadIdx.x) % kLanes * kOwn + i] = sum[i];
  __syncthreads();
  const int d = static_cast<int>(threadIdx.x);
  if (d >= D) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < kGroups; i++) total += partial[i][d];
  op.scratch[(int64_t{blockIdx.y} * gridDim.x + blockIdx.x) * D + d] = total;
}

template <class Float>
__global__ void __launch_bounds__(kColumnThreads)
    qk_norm_parts_kernel(const __grid_constant__ QkNormBackward<Float> op, int parts) {
  const int D = op.D;
  const float* __restrict__ sums = op.scratch + static_cast<int64_t>(blockIdx.y) * parts * D;
  add_column_sums(blockIdx.y == 0 ? op.dw_q : op.dw_k, parts, D, [=](int64_t n, int d) { return sums[n * D + d]; });
}

// Calls f(integral_constant<kLanes>) with the fewest lanes that hold a head.
template <class F>
void with_lanes(const char* op, int D, const F& f) {
  TLL_CHECK(D <= kWarp * kOwn, "{} on CUDA has head sizes up to {}, not {}", op, kWarp * kOwn, D);
  if (D <= 8 * kOwn) return f(std::integral_constant<int, 8>{});
  if (D <= 16 * kOwn) return f(std::integral_constant<int, 16>{});
  f(std::integral_constant<int, 32>{});
}
// Whether every head of rows (·, stride) is made of whole vectors.
template <class Float>
bool vector_heads(const Float* p, int stride, int D) {
  return vec_aligned<kVec<Float>>(p, stride) && D % kVec<Float> == 0;
}

}  // namespace

template <class Float>
void QkNormForward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector =
      vector_heads(x, x_stride, D) && vector_heads(out, out_stride, D) && vector_heads(w_q, 0, D) && vector_heads(w_k, 0, D);
  with_lanes(kName, D, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value;
    launch<qk_norm_forward_kernel<Float, kLanes>>(blocks_for(int64_t{N} * (H + G), kThreads / kLanes), kThreads, 0,
                                                  stream_of(device), *this, static_cast<float>(eps), vector);
  });
}

template <class Float>
void QkNormBackward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  const bool vector =
      vector_heads(x, x_stride, D) && vector_heads(d, stride, D) && vector_heads(w_q, 0, D) && vector_heads(w_k, 0, D);
  int parts = 0;
  with_lanes(kName, D, [&](auto lanes) {
    constexpr int kLanes = decltype(lanes)::value, kGroups = kThreads / kLanes;
    if (dw_q) {  // before dx replaces dout
      TLL_CHECK(scratch, "{} of trained weights without scratch", kName);
      parts = static_cast<int>(std::min<int64_t>(kMostParts, (int64_t{N} * std::max(H, G) + kGroups - 1) / kGroups));
      launch<qk_norm_weight_kernel<Float, kLanes>>(dim3(static_cast<unsigned>(parts), 2), kThreads, 0, stream_of(device), *this,
                                                   vector);
    }
    launch<qk_norm_backward_kernel<Float, kLanes>>(blocks_for(int64_t{N} * (H + G), kGroups), kThreads, 0, stream_of(device),
                                                   *this, vector);
  });
  if (dw_q)
    launch<qk_norm_parts_kernel<Float>>(dim3(blocks_for(D, kColumns).x, 2), kColumnThreads, 0, stream_of(device), *this, parts);
}

TLL_INSTANTIATE_CUDA(QkNormForward)
TLL_INSTANTIATE_CUDA(QkNormBackward)

}  // namespace tll
