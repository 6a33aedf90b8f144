// SumOfSquares: each block reduces kBlock elements in double. AddDoubles and AddUp: one block. A thread adds every 256th term,
// then the block reduces the threads' sums, always in the same order. AddParts: a thread owns eight consecutive elements.
#include "kernels/reduce.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 256;

TLL_DEVICE double block_sum_double(double x) {
  __shared__ double partial[kThreads / kWarp];
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kFullWarp, x, distance);
  if (lane_id() == 0) partial[warp_id()] = x;
  __syncthreads();
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kThreads / kWarp; i++) sum += partial[i];
  return sum;
}

template <class Float>
__global__ void __launch_bounds__(kThreads) square_blocks_kernel(const __grid_constant__ SumOfSquares op) {
  const Float* __restrict__ x = static_cast<const Float*>(op.x);
  const int64_t begin = blockIdx.x * SumOfSquares::kBlock;
  const int64_t end = begin + SumOfSquares::kBlock < op.n ? begin + SumOfSquares::kBlock : op.n;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const double value = static_cast<double>(to_float(x[i]));
    sum += value * value;
  }
  const double total = block_sum_double(sum);
  if (threadIdx.x == 0) op.partial[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads) add_doubles_kernel(const __grid_constant__ AddDoubles op) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < op.n; i += kThreads) sum += op.x[op.order ? op.order[i] : i];
  const double total = block_sum_double(sum);
  if (threadIdx.x == 0) *op.out = total;
}

constexpr int kOwn = 8;

template <class Float>
__global__ void __launch_bounds__(kThreads) add_parts_kernel(const __grid_constant__ AddParts op, bool vector) {
  Float* __restrict__ sum = static_cast<Float*>(op.sum);
  const Float* __restrict__ parts = static_cast<const Float*>(op.parts);
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOwn, valid = op.n - i;
  if (valid <= 0) return;
  float total[kOwn], part[kOwn];
  load_floats(total, sum + i, valid, vector);
  for (int p = 0; p < op.count; p++) {
    load_floats(part, parts + p * op.n + i, valid, vector);
#pragma unroll
    for (int j = 0; j < kOwn; j++) total[j] = to_float(from_float<Float>(total[j] + part[j]));
  }
  store_floats(sum + i, total, valid, vector);
}

__global__ void __launch_bounds__(kThreads) add_up_kernel(double* sum, const float* __restrict__ x, int n) {
  double mine = 0;
  for (int i = threadIdx.x; i < n; i += kThreads) mine += static_cast<double>(x[i]);
  const double total = block_sum_double(mine);
  if (threadIdx.x == 0) *sum += total;
}

}  // namespace

template <class Float>
void AddUp<Float>::cuda(const Device& device) const {
  launch<add_up_kernel>(dim3(1), kThreads, 0, stream_of(device), sum, x, n);
}
TLL_INSTANTIATE_CUDA(AddUp)

void SumOfSquares::cuda(const Device& device) const {
  if (n == 0) return;
  with_storage_type(dtype, [&](auto type) {
    launch<square_blocks_kernel<decltype(type)>>(blocks_for(n, kBlock), kThreads, 0, stream_of(device), *this);
  });
}

void AddDoubles::cuda(const Device& device) const { launch<add_doubles_kernel>(dim3(1), kThreads, 0, stream_of(device), *this); }

void AddParts::cuda(const Device& device) const {
  if (n == 0 || count == 0) return;
  with_storage_type(dtype, [&](auto type) {
    using Float = decltype(type);
    const bool vector = vec_aligned<kVec<Float>>(static_cast<const Float*>(sum), 0) &&
                        vec_aligned<kVec<Float>>(static_cast<const Float*>(parts), count > 1 ? n : 0);
    launch<add_parts_kernel<Float>>(blocks_for(n, int64_t{kThreads} * kOwn), kThreads, 0, stream_of(device), *this, vector);
  });
}

}  // namespace tll
