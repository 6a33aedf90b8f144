// Planted bugs of blocks in more than one dimension, barriers in divergent code, votes, structs and mixed shared memory.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

// A block of 16 × 8 threads reads a tile transposed.
template <bool kBug>
__global__ void transpose_kernel(float* out, const float* in) {
  __shared__ float tile[16][17];
  for (unsigned y = threadIdx.y; y < 16; y += blockDim.y) tile[y][threadIdx.x] = in[16 * y + threadIdx.x];
  if (!kBug) __syncthreads();
  for (unsigned y = threadIdx.y; y < 16; y += blockDim.y) out[16 * y + threadIdx.x] = tile[threadIdx.x][y];
}
TLL_CASE(transpose, 750, kUnordered, 1, dim3(16, 8), 0, m.out, m.in)

// 5 × 4 × 2 threads: the second warp has 8 lanes.
template <bool kBug>
__global__ void partial_warp_sum_kernel(float* out, const float* in) {
  const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned mask = t < 32 ? 0xffffffffu : 0x00ffu;
  float x = in[t];
  for (unsigned d = 4; d > 0; d /= 2) x += __shfl_down_sync(mask, x, d, kBug ? 16 : 8);
  out[t] = x;
}
TLL_CASE(partial_warp_sum, 750, kCollective, 1, dim3(5, 4, 2), 0, m.out, m.in)

// One plane of threads too many in z: it is outside the array.
template <bool kBug>
__global__ void planes_kernel(float* out, const float* in) {
  __shared__ float s[4][4][4];
  const unsigned x = threadIdx.x, y = threadIdx.y, z = threadIdx.z;
  s[kBug ? z + 1 : z][y][x] = in[x];
  __syncthreads();
  out[x + 4 * (y + 4 * z)] = s[kBug ? z + 1 : z][x][y];
}
TLL_CASE(planes, 750, kOutside, 1, dim3(4, 4, 4), 0, m.out, m.in)

// All threads reach the same barriers in the source, but half of them skip one iteration.
template <bool kBug>
__global__ void skipped_iteration_kernel(float* out, const float* in) {
  __shared__ float s[64];
  float sum = 0;
  for (unsigned i = 0; i < 6; i++) {
    if (kBug && i == 2 && threadIdx.x >= 32) continue;
    s[threadIdx.x] = in[i * 64 + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
    __syncthreads();
  }
  out[threadIdx.x] = sum;
}
TLL_CASE(skipped_iteration, 750, (Faults{Fault::barrier, Fault::race}), 1, 64, 0, m.out, m.in)

// The number of iterations with a barrier depends on the thread.
template <bool kBug>
__global__ void trip_count_kernel(float* out, const float* in, int n) {
  __shared__ float s[96];
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  const int end = kBug ? n - t : n;
  for (int i = 0; i < end; i += 32) {
    s[t] = in[i + t];
    __syncthreads();
    sum += s[95 - t];
    __syncthreads();
  }
  out[t] = sum;
}
TLL_CASE(trip_count, 750, kBarrier, 1, 96, 0, m.out, m.in, 160)

template <bool kBug>
__global__ void barrier_in_branch_kernel(float* out, const float* in) {
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  if (!kBug || threadIdx.x % 2 == 0) __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
TLL_CASE(barrier_in_branch, 750, kBarrier, 1, 128, 0, m.out, m.in)

// A barrier inside a device function that only the first warp calls.
__device__ __noinline__ float exchange(float* s, float x) {
  s[threadIdx.x] = x;
  __syncthreads();
  return s[threadIdx.x ^ 1];
}
template <bool kBug>
__global__ void hidden_barrier_kernel(float* out, const float* in) {
  __shared__ float s[64];
  float x = in[threadIdx.x];
  if (!kBug || threadIdx.x < 32) x = exchange(s, x);
  out[threadIdx.x] = x;
}
TLL_CASE(hidden_barrier, 750, kBarrier, 1, 64, 0, m.out, m.in)

template <bool kBug>
__global__ void count_barrier_kernel(int* counter, const float* in) {
  const bool large = in[threadIdx.x] > 2.0f;
  int votes = 0;
  if (kBug && threadIdx.x >= 48) {
    votes = __syncthreads_or(large);
  } else {
    votes = __syncthreads_count(large);
  }
  if (threadIdx.x == 0) *counter = votes;
}
TLL_CASE(count_barrier, 750, kBarrier, 1, 64, 0, m.counter, m.in)

// A tree reduction of the block. Its last steps lack a barrier because "a warp runs in lockstep".
template <bool kBug>
__global__ void warp_synchronous_kernel(float* out, const float* in) {
  __shared__ float s[128];
  const unsigned t = threadIdx.x;
  s[t] = in[t];
  __syncthreads();
  for (unsigned d = 64; d > 0; d /= 2) {
    if (t < d) s[t] += s[t + d];
    if (d > 32) {
      __syncthreads();
    } else if (!kBug) {
      __syncwarp();
    }
  }
  if (t == 0) *out = s[0];
}
TLL_CASE(warp_synchronous, 750, kRace, 1, 128, 0, m.out, m.in)

// Lanes 0 … 9 take the branch, but the mask names 16.
template <bool kBug>
__global__ void divergent_mask_kernel(float* out, const float* in) {
  float x = in[threadIdx.x];
  if (threadIdx.x < 10) {
    const unsigned mask = kBug ? 0x0000ffffu : 0x03ffu;
    if (__any_sync(mask, x > 3.0f)) x = -x;
  }
  out[threadIdx.x] = x;
}
TLL_CASE(divergent_mask, 750, kCollective, 1, 32, 0, m.out, m.in)

// Two branches with one collective each, whose masks overlap.
template <bool kBug>
__global__ void two_branches_kernel(float* out, const float* in) {
  float x = in[threadIdx.x];
  if (threadIdx.x % 2) {
    x += __shfl_sync(kBug ? 0xffffffffu : 0xaaaaaaaau, x, 1);
  } else {
    x -= __shfl_sync(kBug ? 0xffffffffu : 0x55555555u, x, 0);
  }
  out[threadIdx.x] = x;
}
TLL_CASE(two_branches, 750, kCollective, 1, 32, 0, m.out, m.in)

// The mask is a ballot of the branch's condition; the bug takes another condition.
template <bool kBug>
__global__ void ballot_mask_kernel(float* out, const float* in) {
  float x = in[threadIdx.x];
  const unsigned mask = __ballot_sync(0xffffffffu, kBug ? x > 2.0f : x > 3.0f);
  if (x > 3.0f) x += __shfl_sync(mask, x, __ffs(static_cast<int>(mask)) - 1);
  out[threadIdx.x] = x;
}
TLL_CASE(ballot_mask, 750, kCollective, 1, 32, 0, m.out, m.in)

// Groups of 16 lanes. The bug counts the source lane from the warp's first lane, and one too far.
template <bool kBug>
__global__ void group_lane_kernel(float* out) {
  const unsigned lane = threadIdx.x, group = lane / 16;
  for (unsigned i = 0; i < 8; i++) {
    const float x = static_cast<float>(32 * i + lane);
    const int from = static_cast<int>(kBug ? 16 * group + lane % 16 + 1 : lane % 16);
    out[32 * i + lane] = __shfl_sync(0xffffffffu, x, from, 16);
  }
}
TLL_CASE(group_lane, 750, kWrongValues, 1, 32, 0, m.out)

// A struct in shared memory: thread 0 writes one member, thread 32 the other, and all read both.
struct Statistics {
  float sum, largest;
  int count[4];
};
template <bool kBug>
__global__ void shared_struct_kernel(float* out, const float* in) {
  __shared__ Statistics s;
  if (threadIdx.x == 0) s.sum = in[0];
  if (threadIdx.x == 32) s.largest = in[1];
  if (threadIdx.x < (kBug ? 3 : 4)) s.count[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s.sum + s.largest + static_cast<float>(s.count[threadIdx.x % 4]);
}
TLL_CASE(shared_struct, 750, kUnwritten, 1, 64, 0, m.out, m.in)

// Static and dynamic arrays together. The dynamic one is split by hand, in the bug with an overlap of one value.
template <bool kBug>
__global__ void mixed_shared_kernel(float* out, const float* in) {
  __shared__ float scale[2];
  float* a = tll::dynamic_shared<float>();
  float* b = a + (kBug ? 63 : 64);
  const unsigned t = threadIdx.x;
  if (t < 2) scale[t] = in[t + 1];
  a[t] = in[t];
  b[t] = in[t + 64];
  __syncthreads();
  out[t] = a[t] * scale[0] + b[63 - t] * scale[1];
}
TLL_CASE(mixed_shared, 750, kRace, 1, 64, 128 * 4, m.out, m.in)

// Double buffering. The bug writes the next values into the buffer that is being read.
template <bool kBug>
__global__ void double_buffer_kernel(float* out, const float* in) {
  __shared__ float s[2][64];
  const unsigned t = threadIdx.x;
  s[0][t] = in[t];
  __syncthreads();
  float sum = 0;
  for (unsigned i = 0; i < 8; i++) {
    if (i < 7) s[kBug ? i % 2 : (i + 1) % 2][t] = in[64 * (i + 1) + t];
    sum += s[i % 2][63 - t];
    __syncthreads();
  }
  out[t] = sum;
}
TLL_CASE(double_buffer, 750, kRace, 1, 64, 0, m.out, m.in)

// A scan step overwrites values that others have not read yet.
template <bool kBug>
__global__ void scan_kernel(float* out, const float* in) {
  __shared__ float s[64];
  const unsigned t = threadIdx.x;
  s[t] = in[t];
  __syncthreads();
  for (unsigned d = 1; d < 64; d *= 2) {
    const float x = t >= d ? s[t - d] : 0.0f;
    if (!kBug) __syncthreads();
    s[t] += x;
    __syncthreads();
  }
  out[t] = s[t];
}
TLL_CASE(scan, 750, kRace, 1, 64, 0, m.out, m.in)

// All threads write the same value to one flag, which is a race all the same.
template <bool kBug>
__global__ void common_flag_kernel(float* out, const float* in) {
  __shared__ int any;
  if (threadIdx.x == 0) any = 0;
  __syncthreads();
  if (in[threadIdx.x] > 5.0f) {
    if (kBug) {
      any = 1;
    } else {
      atomicOr(&any, 1);
    }
  }
  __syncthreads();
  out[threadIdx.x] = static_cast<float>(any);
}
TLL_CASE(common_flag, 750, kRace, 1, 64, 0, m.out, m.in)

// Different threads may write the bytes of one word; overlapping halves race.
template <bool kBug>
__global__ void bytes_kernel(float* out, const float* in) {
  __shared__ __align__(16) unsigned char s[256];
  const unsigned t = threadIdx.x;
  s[t] = static_cast<unsigned char>(in[t]);
  if (kBug && t % 4 == 3 && t < 60) *reinterpret_cast<unsigned short*>(s + t - 1) = 7;
  __syncthreads();
  out[t] = static_cast<float>(s[63 - t]);
}
TLL_CASE(bytes, 750, kRace, 1, 64, 0, m.out, m.in)

// Other threads reuse an array as another type.
template <bool kBug>
__global__ void reused_array_kernel(float* out, const float* in) {
  __shared__ __align__(16) unsigned char raw[512];
  auto* f = reinterpret_cast<float*>(raw);
  auto* h = reinterpret_cast<tll::half*>(raw);
  const unsigned t = threadIdx.x;
  f[t] = in[t];
  __syncthreads();
  const float x = f[127 - t];
  if (!kBug) __syncthreads();
  h[t] = tll::from_float<tll::half>(x);
  __syncthreads();
  out[t] = tll::to_float(h[127 - t]);
}
TLL_CASE(reused_array, 750, kRace, 1, 128, 0, m.out, m.in)

// One warp produces, one consumes. The bug lacks the barrier in one iteration.
template <bool kBug>
__global__ void producer_consumer_kernel(float* out, const float* in) {
  __shared__ float box[2][32];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 4; i++) {
    if (warp == 0) box[i % 2][lane] = in[32 * i + lane];
    if (!kBug || i != 2) __syncthreads();
    if (warp == 1) out[32 * i + lane] = box[i % 2][31 - lane];
  }
}
TLL_CASE(producer_consumer, 750, kUnordered, 1, 64, 0, m.out, m.in)

// The threads of a surplus row return after the last barrier; in the bug before it.
template <bool kBug>
__global__ void early_return_kernel(float* out, const float* in, int rows) {
  __shared__ float s[2];
  const int row = static_cast<int>(threadIdx.y);
  if (kBug && row >= rows) return;
  if (threadIdx.x == 0) s[row] = in[row];
  __syncthreads();
  if (row >= rows) return;
  out[32 * row + static_cast<int>(threadIdx.x)] = s[0];
}
TLL_CASE(early_return, 750, kBarrier, 1, dim3(32, 2), 0, m.out, m.in, 1)

// __syncwarp with a mask that lacks the writer.
template <bool kBug>
__global__ void warp_mask_kernel(float* out, const float* in) {
  __shared__ float s[4];
  const unsigned lane = threadIdx.x;
  if (lane == 3) s[0] = in[5];
  if (!kBug) {
    __syncwarp();
  } else if (lane != 3) {
    __syncwarp(0xfffffff7u);
  }
  out[lane] = s[0];
}
TLL_CASE(warp_mask, 750, kUnordered, 1, 32, 0, m.out, m.in)

// Lanes leave a loop at different times, though a vote in it names all of them.
template <bool kBug>
__global__ void leaving_lanes_kernel(float* out, const float* in) {
  float x = in[threadIdx.x];
  int n = 0;
  while (kBug ? x > 0 : __any_sync(0xffffffffu, x > 0)) {
    if (kBug) n += __popc(__ballot_sync(0xffffffffu, x > 0));
    x -= 1.0f;
    n++;
  }
  out[threadIdx.x] = static_cast<float>(n);
}
TLL_CASE(leaving_lanes, 750, kCollective, 1, 32, 0, m.out, m.in)

}  // namespace planted
