// Planted bugs of asynchronous copies and tensor cores.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

enum class Slip { none, wait, barrier, refill, commit };

// A pipeline of kStages stages, as in GEMM kernels: issue stage i + kStages - 1, wait for stage i, use it.
template <int kStages, Slip kSlip>
__global__ void stages_kernel(float* out, const float* in, int steps) {
  __shared__ __align__(16) float s[kStages][128];
  const int t = static_cast<int>(threadIdx.x);
  const auto issue = [&](int i) {
    if (i < steps) tll::cp_async_16(&s[i % kStages][4 * t], in + 128 * i + 4 * t);
    if (kSlip != Slip::commit || i < steps) tll::cp_async_commit();
  };
  for (int i = 0; i < kStages - 1; i++) issue(i);
  float sum = 0;
  for (int i = 0; i < steps; i++) {
    tll::cp_async_wait_group<kStages - 2 + (kSlip == Slip::wait ? 1 : 0)>();
    if (kSlip != Slip::barrier) __syncthreads();
    if (kSlip != Slip::refill) issue(i + kStages - 1);
    sum += s[i % kStages][127 - t];
    if (kSlip == Slip::refill) issue(i + kStages);  // the stage that others may still read
  }
  out[t] = sum;
}
template <int kStages, Slip kSlip>
void stages(bool bug, Memory& m) {
  tll::launch(bug ? stages_kernel<kStages, kSlip> : stages_kernel<kStages, Slip::none>, 1, 32, 0, nullptr, m.out, m.in, 9);
}
const Registered stages_cases[] = {
    Registered{{"stages2_wait", stages<2, Slip::wait>, 800, kInFlight}},
    Registered{{"stages3_wait", stages<3, Slip::wait>, 800, kInFlight}},
    Registered{{"stages4_wait", stages<4, Slip::wait>, 800, kInFlight}},
    Registered{
        {"stages3_barrier", stages<3, Slip::barrier>, 800, (Faults{Fault::race, Fault::uninitialised, Fault::copy_in_flight})}},
    Registered{{"stages4_commit", stages<4, Slip::commit>, 800, kInFlight}},
    Registered{
        {"stages3_refill", stages<3, Slip::refill>, 800, (Faults{Fault::race, Fault::uninitialised, Fault::copy_in_flight})}},
};

// A ragged tile: cp.async's byte count gives the zeros. The bug leaves the rest of the tile as it was.
template <bool kBug>
__global__ void ragged_tile_kernel(float* out, const float* in, int n) {
  __shared__ __align__(16) float s[128];
  const int t = static_cast<int>(threadIdx.x), valid = max(0, min(4, n - 4 * t));
  if (!kBug || valid > 0) tll::cp_async_16(s + 4 * t, in + (valid > 0 ? 4 * t : 0), 4 * valid);
  tll::cp_async_wait_all();
  __syncthreads();
  out[t] = s[127 - t];
}
TLL_CASE(ragged_tile, 750, kUnwritten, 1, 32, 0, m.out, m.in, 107)

template <bool kBug>
__global__ void copy_too_long_kernel(float* out, const float* in, int n) {
  __shared__ __align__(16) float s[128];
  const int t = static_cast<int>(threadIdx.x), left = 4 * (n - 4 * t);
  tll::cp_async_16(s + 4 * t, in, kBug ? left : min(16, max(0, left)));
  tll::cp_async_wait_all();
  __syncthreads();
  out[t] = s[t];
}
TLL_CASE(copy_too_long, 800, kOutside, 1, 32, 0, m.out, m.in, 128)

// The copy reads past the end of the tensor.
template <bool kBug>
__global__ void copy_past_end_kernel(float* out, const float* in, int first) {
  __shared__ __align__(16) float s[32];
  const int t = static_cast<int>(threadIdx.x);
  if (t < 8) tll::cp_async_16(s + 4 * t, in + first + 4 * t + (kBug ? 4 : 0));
  tll::cp_async_wait_all();
  __syncthreads();
  out[t] = s[t];
}
TLL_CASE(copy_past_end, 750, kOutside, 1, 32, 0, m.out, m.in, kValues - 32)

// The source is overwritten while the copy is in flight.
template <bool kBug>
__global__ void source_changed_kernel(float* out, float* in) {
  __shared__ __align__(16) float s[128];
  const unsigned t = threadIdx.x;
  tll::cp_async_16(s + 4 * t, in + 4 * t);
  tll::cp_async_commit();
  if (!kBug) {
    tll::cp_async_wait_group<0>();
    __syncthreads();
  }
  in[127 - t] = 0.0f;
  tll::cp_async_wait_group<0>();
  __syncthreads();
  out[t] = s[t];
}
TLL_CASE(source_changed, 800, kRace, 1, 32, 0, m.out, m.in)

// The copying thread reads its own destination before the wait.
template <bool kBug>
__global__ void own_copy_kernel(float* out, const float* in) {
  __shared__ float s[32];
  const unsigned t = threadIdx.x;
  s[t] = 0.0f;
  tll::cp_async_4(s + t, in + t);
  tll::cp_async_commit();
  if (!kBug) tll::cp_async_wait_group<0>();
  out[t] = s[t];
}
TLL_CASE(own_copy, 800, kInFlight, 1, 32, 0, m.out, m.in)

// Two copies of one group write the same bytes.
template <bool kBug>
__global__ void twice_copied_kernel(float* out, const float* in) {
  __shared__ float s[64];
  const unsigned t = threadIdx.x;
  tll::cp_async_4(s + t, in + t);
  tll::cp_async_4(s + t + (kBug ? 0 : 32), in + 64 + t);
  tll::cp_async_wait_all();
  out[t] = s[t];
}
TLL_CASE(twice_copied, 800, kInFlight, 1, 32, 0, m.out, m.in)

// The array is reused without waiting for the copies of the last stage.
template <bool kBug>
__global__ void left_over_copy_kernel(float* out, const float* in) {
  __shared__ __align__(16) float s[2][128];
  const unsigned t = threadIdx.x;
  for (unsigned i = 0; i < 2; i++) {
    tll::cp_async_16(&s[i][4 * t], in + 128 * i + 4 * t);
    tll::cp_async_commit();
  }
  tll::cp_async_wait_group<1>();
  __syncthreads();
  const float x = s[0][127 - t];
  if (!kBug) tll::cp_async_wait_group<0>();
  __syncthreads();
  s[1][t] = x;  // the epilogue's buffer
  __syncthreads();
  out[t] = s[1][31 - t];
}
TLL_CASE(left_over_copy, 800, kInFlight, 1, 32, 0, m.out, m.in)

// ---- tensor cores -------------------------------------------------------------------------------------------------------------
// out = A · I in bf16 with A[i][j] = 16 i + j. Every fragment is loaded by hand; each bug gets one index wrong.
enum class Wrong { nothing, a_column, b_row, c_row, trans, step };
template <class Float, Wrong kWrong>
__global__ void product_kernel(float* out) {
  __shared__ __align__(16) Float a[16][24], b[2][8][24];
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (unsigned i = lane; i < 256; i += 32) {
    a[i / 16][i % 16] = tll::from_float<Float>(static_cast<float>(i));
    b[i / 128][i / 16 % 8][i % 16] = tll::from_float<Float>(i % 16 == i / 16 ? 1.0f : 0.0f);
  }
  __syncthreads();
  for (unsigned tile = 0; tile < 2; tile++) {
    uint32_t ra[4], rb[2];
    for (unsigned r = 0; r < 4; r++) {
      const unsigned row = g + 8 * (r & 1), column = 2 * t + 8 * (kWrong == Wrong::a_column ? r & 1 : r >> 1);
      memcpy(&ra[r], &a[row][column], 4);
    }
    if (kWrong == Wrong::trans) {
      tll::ldmatrix_trans(rb, &b[tile][lane % 8][8 * (lane / 8 % 2)]);
      rb[0] = __shfl_sync(0xffffffffu, rb[0], static_cast<int>(lane ^ 1));
    } else if (kWrong == Wrong::b_row) {
      tll::ldmatrix(rb, &b[tile][(lane + 1) % 8][8 * (lane / 8 % 2)]);
    } else {
      tll::ldmatrix(rb, &b[tile][lane % 8][8 * (lane / 8 % 2)]);
    }
    float c[4] = {};
    tll::mma_m16n8k16<Float>(c, ra, rb);
    for (unsigned e = 0; e < 4; e++) {
      const unsigned row = g + 8 * (kWrong == Wrong::c_row ? 1 - (e >> 1) : e >> 1);
      out[16 * row + 8 * (kWrong == Wrong::step ? 1 - tile : tile) + 2 * t + (e & 1)] = c[e];
    }
  }
}
template <class Float, Wrong kWrong>
void product(bool bug, Memory& m) {
  tll::launch(bug ? product_kernel<Float, kWrong> : product_kernel<Float, Wrong::nothing>, 1, 32, 0, nullptr, m.out);
}
const Registered product_cases[] = {
    Registered{{"product_a_column", product<tll::half, Wrong::a_column>, 750, kWrongValues}},
    Registered{{"product_b_row", product<tll::bf16, Wrong::b_row>, 800, kWrongValues}},
    Registered{{"product_c_row", product<tll::bf16, Wrong::c_row>, 800, kWrongValues}},
    Registered{{"product_trans", product<tll::half, Wrong::trans>, 750, kWrongValues}},
    Registered{{"product_step", product<tll::half, Wrong::step>, 750, kWrongValues}},
};

// A block of 48 threads: the second warp has too few lanes for mma.
template <bool kBug>
__global__ void half_a_warp_kernel(float* out) {
  uint32_t a[4] = {}, b[2] = {};
  float c[4] = {};
  if (kBug || threadIdx.x < 32) tll::mma_m16n8k16<tll::half>(c, a, b);
  out[threadIdx.x] = c[0];
}
TLL_CASE(half_a_warp, 750, kCollective, 1, 48, 0, m.out)

// Some lanes skip the mma because their rows are outside the matrix.
template <bool kBug>
__global__ void skipped_rows_kernel(float* out, int rows) {
  const int g = static_cast<int>(threadIdx.x) / 4;
  uint32_t a[4] = {}, b[2] = {};
  float c[4] = {};
  if (!kBug || g < rows) tll::mma_m16n8k16<tll::half>(c, a, b);
  if (g < rows) out[threadIdx.x] = c[0];
}
TLL_CASE(skipped_rows, 750, kCollective, 1, 32, 0, m.out, 5)
template <bool kBug>
__global__ void exited_rows_kernel(float* out, int rows) {
  const int g = static_cast<int>(threadIdx.x) / 4;
  if (kBug && g >= rows) return;
  __shared__ __align__(16) tll::half s[8][8];
  for (int i = 0; i < 2; i++) s[g][2 * (threadIdx.x % 4) + static_cast<unsigned>(i)] = tll::half{0};
  __syncwarp();
  uint32_t r[1];
  tll::ldmatrix(r, &s[threadIdx.x % 8][0]);
  out[threadIdx.x] = static_cast<float>(r[0]);
}
TLL_CASE(exited_rows, 750, kCollective, 1, 32, 0, m.out, 5)

// Each of two warps fills the rows of the other, without a block barrier.
template <bool kBug>
__global__ void ldmatrix_other_warp_kernel(float* out) {
  __shared__ __align__(16) tll::half s[2][8][8];
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (unsigned i = 0; i < 2; i++) s[1 - warp][lane / 4][2 * (lane % 4) + i] = tll::half{static_cast<uint16_t>(lane)};
  if (kBug) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  uint32_t r[1];
  tll::ldmatrix(r, &s[warp][lane % 8][0]);
  out[threadIdx.x] = static_cast<float>(r[0]);
}
TLL_CASE(ldmatrix_other_warp, 750, kUnordered, 1, 64, 0, m.out)

// The tile has 12 rows, but ldmatrix reads 16.
template <bool kBug>
__global__ void missing_rows_kernel(float* out, int rows) {
  __shared__ __align__(16) tll::half s[16][8];
  for (int i = static_cast<int>(threadIdx.x); i < 8 * (kBug ? rows : 16); i += 32) s[i / 8][i % 8] = tll::half{0};
  __syncwarp();
  uint32_t r[2];
  tll::ldmatrix(r, &s[threadIdx.x % 16][0]);
  out[threadIdx.x] = static_cast<float>(r[0] + r[1]);
}
TLL_CASE(missing_rows, 750, kUnwritten, 1, 32, 0, m.out, 12)

// ldmatrix of device memory; it reads only shared memory.
template <bool kBug>
__global__ void ldmatrix_device_kernel(float* out, const float* in) {
  __shared__ __align__(16) float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  uint32_t r[1];
  tll::ldmatrix(r, (kBug ? in : s) + 4 * (threadIdx.x % 8));
  out[threadIdx.x] = static_cast<float>(r[0]);
}
TLL_CASE(ldmatrix_device, 750, kOutside, 1, 32, 0, m.out, m.in)

// An instruction that the architecture lacks: __reduce_add_sync begins with sm_80.
template <bool kBug>
__global__ void old_architecture_kernel(int* counter, const float* in) {
  const unsigned all = 0xffffffffu;
  int sum = static_cast<int>(in[threadIdx.x]);
  if (kBug) {
    sum = __reduce_add_sync(all, sum);
  } else {
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(all, sum, d);
  }
  if (threadIdx.x == 0) *counter = sum;
}
void old_architecture(bool bug, Memory& m) {
  tll::launch(bug ? old_architecture_kernel<true> : old_architecture_kernel<false>, 1, 32, 0, nullptr, m.counter, m.in);
}
const Registered old_architecture_case{{"old_architecture", old_architecture, 750, kLaunch, 799}};

}  // namespace planted
