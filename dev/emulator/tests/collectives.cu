#include "dev/emulator/tests/collectives.h"
#include "kernels/cuda_utils.cuh"

namespace collectives {

using tll::launch;

__global__ void shuffle_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  for (int log = 0; log < 6; log++)
    for (int operand = 0; operand < 64; operand++) {
      int* o = out + (log * 64 + operand) * 32 + lane;
      const int width = 1 << log;
      o[0] = __shfl_sync(tll::kFullWarp, lane, operand, width);
      o[kShuffles / 4] = __shfl_up_sync(tll::kFullWarp, lane, static_cast<unsigned>(operand), width);
      o[kShuffles / 2] = __shfl_down_sync(tll::kFullWarp, lane, static_cast<unsigned>(operand), width);
      o[kShuffles / 4 * 3] = __shfl_xor_sync(tll::kFullWarp, lane, operand, width);
    }
}
void shuffles(int* out) { launch(shuffle_kernel, 1, 32, 0, nullptr, out); }

__global__ void vote_kernel(unsigned* out, unsigned mask, unsigned predicates) {
  const unsigned lane = threadIdx.x, own = predicates >> lane & 1u;
  if (!(mask >> lane & 1u)) return;
  out[lane] = __ballot_sync(mask, static_cast<int>(own));
  out[32 + lane] = static_cast<unsigned>(__any_sync(mask, static_cast<int>(own)));
  out[64 + lane] = static_cast<unsigned>(__all_sync(mask, static_cast<int>(own)));
}
void votes(unsigned* out, unsigned mask, unsigned predicates) { launch(vote_kernel, 1, 32, 0, nullptr, out, mask, predicates); }

__global__ void block_vote_kernel(int* out, int threshold) {
  const int i = static_cast<int>(threadIdx.x), p = i < threshold;
  out[3 * i] = __syncthreads_count(p);
  out[3 * i + 1] = __syncthreads_and(p);
  out[3 * i + 2] = __syncthreads_or(p);
}
void block_votes(int* out, int threshold) { launch(block_vote_kernel, 1, 96, 0, nullptr, out, threshold); }

__global__ void __launch_bounds__(256) reduction_kernel(float* out, const float* in) {
  const float x = in[threadIdx.x];
  out[threadIdx.x] = tll::block_sum<256>(x);
  out[256 + threadIdx.x] = tll::block_max<256>(x);
  out[512 + threadIdx.x] = tll::warp_sum(x);
}
void reductions(float* out, const float* in) { launch(reduction_kernel, 1, 256, 0, nullptr, out, in); }

__global__ void atomic_kernel(int* sum, int* largest, unsigned long long* bits) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(sum, i);
  atomicMax(largest, i ^ 5);
  atomicOr(bits, 1ull << (i % 64));
}
void atomics(int* sum, int* largest, unsigned long long* bits, int blocks) {
  launch(atomic_kernel, static_cast<unsigned>(blocks), 64, 0, nullptr, sum, largest, bits);
}

__global__ void scale_kernel(float* out, const float* in, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = in[i] * factor;
}
void scale(cudaStream_t stream, float* out, const float* in, float factor, int n) {
  launch(scale_kernel, static_cast<unsigned>(tll::ceil_div(n, 128)), 128, 0, stream, out, in, factor, n);
}

__global__ void traffic_kernel(float* out, const float* in, int repeat) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
  for (int r = 0; r < repeat; r++) out[i + n * static_cast<unsigned>(r)] = in[i + n * static_cast<unsigned>(r)];
}
void traffic(float* out, const float* in, int blocks, int repeat) {
  launch(traffic_kernel, static_cast<unsigned>(blocks), 256, 0, nullptr, out, in, repeat);
}
__global__ void barrier_kernel(int* out, int repeat) {
  int sum = 0;
  for (int r = 0; r < repeat; r++) sum += __syncthreads_count(r & 1);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
void barriers(int* out, int blocks, int repeat) {
  launch(barrier_kernel, static_cast<unsigned>(blocks), 256, 0, nullptr, out, repeat);
}
__global__ void nothing_kernel() {}
void nothing(int blocks) { launch(nothing_kernel, static_cast<unsigned>(blocks), 128, 0, nullptr); }

}  // namespace collectives
