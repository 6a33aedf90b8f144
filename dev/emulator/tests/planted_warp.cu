// Planted bugs of warps: shuffles, masks, tensor-core operands, asynchronous copies.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

template <bool kBug>
__global__ void missing_warp_barrier_kernel(float* out, const float* in) {
  __shared__ float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  if (!kBug) __syncwarp();
  out[threadIdx.x] = s[31 - threadIdx.x];
}
TLL_CASE(missing_warp_barrier, 750, kUnordered, 1, 32, 0, m.out, m.in)

// __syncwarp of half a warp orders only that half.
template <bool kBug>
__global__ void half_warp_barrier_kernel(float* out, const float* in) {
  __shared__ float s[32];
  const unsigned lane = threadIdx.x, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  s[lane] = in[lane];
  __syncwarp(mask);
  out[lane] = s[kBug ? lane ^ 16 : lane ^ 15];
}
TLL_CASE(half_warp_barrier, 750, kUnordered, 1, 32, 0, m.out, m.in)

// A shuffle does not order memory.
template <bool kBug>
__global__ void shuffle_is_no_barrier_kernel(float* out, const float* in) {
  __shared__ float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  const float x = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 1);
  if (!kBug) __syncwarp();
  out[threadIdx.x] = s[31 - threadIdx.x] + x;
}
TLL_CASE(shuffle_is_no_barrier, 750, kUnordered, 1, 32, 0, m.out, m.in)

// 48 threads: the second warp has 16 lanes.
template <bool kBug>
__global__ void shuffle_lane_kernel(float* out, const float* in) {
  const float x = in[threadIdx.x];
  const unsigned mask = threadIdx.x < 32 ? 0xffffffffu : 0x0000ffffu;
  out[threadIdx.x] = x + __shfl_down_sync(mask, x, 8, kBug ? 32 : 16);
}
TLL_CASE(shuffle_lane, 750, kCollective, 1, 48, 0, m.out, m.in)

// The mask names the whole warp, but half of it calls.
template <bool kBug>
__global__ void shuffle_mask_kernel(float* out, const float* in) {
  float x = in[threadIdx.x];
  if (threadIdx.x < 16) x += __shfl_xor_sync(kBug ? 0xffffffffu : 0x0000ffffu, x, 1);
  __syncwarp();
  out[threadIdx.x] = x;
}
TLL_CASE(shuffle_mask, 750, kCollective, 1, 32, 0, m.out, m.in)

template <bool kBug>
__global__ void own_lane_missing_kernel(int* counter, const float* in) {
  const unsigned votes = __ballot_sync(kBug ? 0x7fffffffu : 0xffffffffu, in[threadIdx.x] > 3.0f);
  if (threadIdx.x == 0) *counter = static_cast<int>(votes);
}
TLL_CASE(own_lane_missing, 750, kCollective, 1, 32, 0, m.counter, m.in)

template <bool kBug>
__global__ void active_mask_kernel(float* out, const float* in) {
  const unsigned mask = kBug ? __activemask() : 0xffffffffu;
  out[threadIdx.x] = __shfl_xor_sync(mask, in[threadIdx.x], 1);
}
TLL_CASE(active_mask, 750, kCollective, 1, 32, 0, m.out, m.in)

template <bool kBug>
__global__ void exited_lane_kernel(float* out, const float* in) {
  if (kBug && threadIdx.x == 31) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 1);
}
TLL_CASE(exited_lane, 750, kCollective, 1, 32, 0, m.out, m.in)

// ---- asynchronous copies ------------------------------------------------------------------------------------------------------
template <bool kBug>
__global__ void copy_without_wait_kernel(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  tll::cp_async_16(s + 4 * threadIdx.x, in + 4 * threadIdx.x);
  tll::cp_async_commit();
  if (!kBug) tll::cp_async_wait_group<0>();
  __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
}
TLL_CASE(copy_without_wait, 800, kInFlight, 1, 32, 0, m.out, m.in)

template <bool kBug>
__global__ void copy_without_barrier_kernel(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  tll::cp_async_16(s + 4 * threadIdx.x, in + 4 * threadIdx.x);
  tll::cp_async_commit();
  tll::cp_async_wait_group<0>();
  if (!kBug) __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
}
TLL_CASE(copy_without_barrier, 750, kUnordered, 1, 32, 0, m.out, m.in)

// Two stages. In the tail nothing is committed, so a wait count that was right before is one too large.
template <bool kBug>
__global__ void pipeline_kernel(float* out, const float* in, int steps) {
  __shared__ float s[2][32];
  const unsigned t = threadIdx.x;
  tll::cp_async_4(&s[0][t], in + t);
  tll::cp_async_commit();
  float sum = 0;
  for (int i = 0; i < steps; i++) {
    if (i + 1 < steps) tll::cp_async_4(&s[(i + 1) % 2][t], in + 32 * (i + 1) + t);
    if (!kBug || i + 1 < steps) tll::cp_async_commit();
    tll::cp_async_wait_group<1>();
    __syncthreads();
    sum += s[i % 2][31 - t];
    __syncthreads();
  }
  out[t] = sum;
}
TLL_CASE(pipeline, 800, kInFlight, 1, 32, 0, m.out, m.in, 5)

template <bool kBug>
__global__ void copy_source_misaligned_kernel(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  tll::cp_async_16(s + 4 * threadIdx.x, in + 4 * threadIdx.x + (kBug ? 1 : 0), 8);
  tll::cp_async_wait_all();
  __syncthreads();
  out[threadIdx.x] = s[4 * threadIdx.x] + s[4 * threadIdx.x + 3];
}
TLL_CASE(copy_source_misaligned, 800, kMisaligned, 1, 32, 0, m.out, m.in)

// ---- tensor cores -------------------------------------------------------------------------------------------------------------
// out = A · I with A (16, 16) of small integers: out[i] == i where nothing is wrong. As halves, 0 … 255 are exact.
template <bool kBug>
__global__ void fragment_index_kernel(float* out) {
  __shared__ __align__(16) tll::half a[16][24], b[8][24];
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (unsigned tile = 0; tile < 2; tile++) {
    for (unsigned i = lane; i < 256; i += 32) a[i / 16][i % 16] = tll::from_float<tll::half>(static_cast<float>(i));
    for (unsigned i = lane; i < 128; i += 32)
      b[i / 16][i % 16] = tll::from_float<tll::half>(i % 16 == i / 16 + 8 * tile ? 1.0f : 0.0f);
    __syncwarp();
    uint32_t ra[4], rb[2];
    float c[4] = {};
    tll::ldmatrix(ra, &a[lane % 16][8 * (lane / 16)]);
    tll::ldmatrix(rb, &b[lane % 8][8 * (lane / 8 % 2)]);
    tll::mma_m16n8k16<tll::half>(c, ra, rb);
    for (unsigned e = 0; e < 4; e++) {
      const unsigned row = g + 8 * (kBug ? e & 1 : e >> 1), column = 2 * t + (kBug ? e >> 1 : e & 1);
      out[16 * row + 8 * tile + column] = c[e];
    }
    __syncwarp();
  }
}
TLL_CASE(fragment_index, 750, kWrongValues, 1, 32, 0, m.out)

template <bool kBug>
__global__ void ldmatrix_without_barrier_kernel(float* out) {
  __shared__ __align__(16) tll::half a[8][8];
  const unsigned lane = threadIdx.x;
  for (unsigned i = 0; i < 2; i++) a[lane / 4][2 * (lane % 4) + i] = tll::half{static_cast<uint16_t>(lane)};
  if (!kBug) __syncwarp();
  uint32_t r[1];
  tll::ldmatrix_trans(r, &a[lane % 8][0]);
  out[lane] = static_cast<float>(r[0]);
}
TLL_CASE(ldmatrix_without_barrier, 750, kUnordered, 1, 32, 0, m.out)

template <bool kBug>
__global__ void ldmatrix_pitch_kernel(float* out) {
  constexpr int kPitch = kBug ? 12 : 16;  // 24 bytes: every other row is not aligned to 16 bytes
  __shared__ __align__(16) tll::half a[8 * kPitch];
  for (int i = static_cast<int>(threadIdx.x); i < 8 * kPitch; i += 32) a[i] = tll::half{0};
  __syncwarp();
  uint32_t r[1];
  tll::ldmatrix(r, a + kPitch * static_cast<int>(threadIdx.x % 8));
  out[threadIdx.x] = static_cast<float>(r[0]);
}
TLL_CASE(ldmatrix_pitch, 750, kMisaligned, 1, 32, 0, m.out)

}  // namespace planted
