// Planted bugs of wgmma: what must come before it, between its issue and its wait, and how operands lie in shared memory.
#include "dev/emulator/tests/planted_cases.cuh"
#include "kernels/wgmma_tiles.cuh"

namespace planted {

enum class Late {
  nothing,
  fence,          // no wgmma.fence
  second_fence,   // none before a second batch
  proxy,          // no fence.proxy.async
  proxy_early,    // before the stores
  proxy_copy,     // before the wait for cp.async
  proxy_barrier,  // no barrier after it
  wait,           // waits for all but one group
  early_result,   // reads the results before the wait
  early_write,    // writes an operand before the wait
  early_refill,   // the same, between two barriers
  touched,        // writes an accumulator before the wait
  warp,           // one warp takes no part
  operands,       // the halves of the warpgroup name different operands
  swizzle,        // stores rows as they are
  row_swizzle,    // exchanges the units of a row by its neighbour's number
  aligned,        // a panel at the first byte of shared memory
  step,           // a column too far
  panel           // the second panel is where the first one is
};

// out = i for i < 256. A (64 × 64) has ones on its diagonal. B's row k has values in the four columns from 4·k on, modulo N, and
// so has the product; these are kept.
template <int N>
__device__ float factor(int k, int n) {
  return n / 4 == k % (N / 4) ? static_cast<float>(4 * k + n % 4) : 0.0f;
}
template <class Float, int N>
__device__ void keep(float* out, const float (&d)[N / 2]) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  for (int e = 0; e < N / 2; e++) {
    const int row = thread / 32 * 16 + lane / 4 + e / 2 % 2 * 8, column = e / 4 * 8 + lane % 4 * 2 + e % 2;
    if (column / 4 == row % (N / 4)) out[4 * row + column % 4] = d[e];
  }
}

// Both operands in shared memory, K-major.
template <class Float, Late kLate>
__global__ void __launch_bounds__(128) shared_operands_kernel(float* out) {
#ifdef TLL_WGMMA
  using Tile = tll::PanelTile<Float, 64, 64, 128>;
  Float* a = kLate == Late::aligned ? tll::dynamic_shared<Float>() : tll::panel_begin(tll::dynamic_shared<Float>());
  Float* b = a + Tile::kElements;
  const int thread = static_cast<int>(threadIdx.x);
  const auto place = [](int row, int column) {
    if (kLate == Late::swizzle) return row * 64 + column;
    if (kLate == Late::row_swizzle) return row * 64 + (column ^ ((row + 1) % 8 * 8));
    return Tile::at(row, column);
  };
  if (kLate == Late::proxy_early) tll::proxy_fence();
  for (int i = thread; i < 64 * 64; i += 128) {
    a[place(i / 64, i % 64)] = tll::from_float<Float>(i / 64 == i % 64 ? 1.0f : 0.0f);
    b[place(i / 64, i % 64)] = tll::from_float<Float>(factor<64>(i % 64, i / 64));
  }
  if (kLate != Late::proxy && kLate != Late::proxy_early) tll::proxy_fence();
  if (kLate != Late::proxy_barrier) __syncthreads();
  const uint64_t first = Tile::k_major(kLate == Late::operands && thread < 64 ? b : a), second = Tile::k_major(b);
  float d[32];
  if (kLate != Late::fence) tll::wgmma_fence();
  for (int k = 0; k < 64; k += 16)
    if (kLate != Late::warp || thread < 96)
      tll::wgmma_ss<Float>(d, first + Tile::columns_on(k) + (kLate == Late::step && k == 16), second + Tile::columns_on(k),
                           k > 0);
  tll::wgmma_commit();
  if (kLate == Late::second_fence) {
    float more[32];
    tll::wgmma_ss<Float>(more, first, second, false);
    tll::wgmma_commit();
    tll::wgmma_wait<0>();
  }
  if (kLate == Late::early_result) keep<Float, 64>(out, d);
  if (kLate == Late::early_refill) __syncthreads();
  if (kLate == Late::early_write || kLate == Late::early_refill) a[thread] = tll::from_float<Float>(2.0f);
  if (kLate == Late::early_refill) __syncthreads();
  if (kLate == Late::touched) d[3] = 0.0f;
  tll::wgmma_wait<kLate == Late::wait>();
  tll::wgmma_results(d);
  if (kLate != Late::early_result) keep<Float, 64>(out, d);
#endif
}
template <class Float, Late kLate>
void shared_operands(bool bug, Memory& m) {
  tll::launch(bug ? shared_operands_kernel<Float, kLate> : shared_operands_kernel<Float, Late::nothing>, 1, 128, 17 * 1024,
              nullptr, m.out);
}

// A in registers; B by cp.async, [k][n] in panels of 64 columns.
template <class Float, int N, Late kLate>
__global__ void __launch_bounds__(128) register_operand_kernel(float* out, const Float* from) {
#ifdef TLL_WGMMA
  using Tile = tll::PanelTile<Float, 64, N, 128>;
  Float* b = tll::panel_begin(tll::dynamic_shared<Float>());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  for (int i = thread; i < 64 * N; i += 128) b[Tile::at(i / N, i % N)] = tll::from_float<Float>(factor<N>(i / N, i % N));
  if (kLate == Late::proxy_copy) {
    __syncthreads();
    Tile::load(b, from, 0, 64, N, true);
    tll::cp_async_commit();
    tll::proxy_fence();
    tll::cp_async_wait_group<0>();
  } else {
    tll::proxy_fence();
  }
  __syncthreads();
  const uint64_t rows = kLate == Late::panel ? tll::wgmma_descriptor(b, 0) : Tile::mn_major(b);
  float d[N / 2];
  tll::wgmma_fence();
  for (int k = 0; k < 64; k += 16) {
    uint32_t a[4];
    for (int r = 0; r < 4; r++) {
      const int row = thread / 32 * 16 + lane / 4 + r % 2 * 8, column = k + lane % 4 * 2 + r / 2 * 8;
      a[r] = tll::pack2<Float>(row == column ? 1.0f : 0.0f, row == column + 1 ? 1.0f : 0.0f);
    }
    tll::wgmma_rs<Float>(d, a, rows + Tile::rows_on(kLate == Late::step ? 64 - 16 - k : k), k > 0);
  }
  tll::wgmma_commit();
  tll::wgmma_wait<0>();
  tll::wgmma_results(d);
  keep<Float, N>(out, d);
#endif
}
template <class Float, int N, Late kLate>
void register_operand(bool bug, Memory& m) {
  tll::launch(bug ? register_operand_kernel<Float, N, kLate> : register_operand_kernel<Float, N, Late::nothing>, 1, 128,
              17 * 1024, nullptr, m.out, reinterpret_cast<const Float*>(m.in));
}

using tll::bf16;
using tll::half;
const Faults kEarly{Fault::wgmma}, kMixed{Fault::race, Fault::uninitialised, Fault::copy_in_flight};
const Registered wgmma_cases[] = {
    Registered{{"wgmma_fence", shared_operands<bf16, Late::fence>, 900, kEarly}},
    Registered{{"wgmma_second_fence", shared_operands<bf16, Late::second_fence>, 900, kEarly}},
    Registered{{"wgmma_proxy", shared_operands<half, Late::proxy>, 900, kRace}},
    Registered{{"wgmma_proxy_early", shared_operands<bf16, Late::proxy_early>, 900, kRace}},
    Registered{{"wgmma_proxy_barrier", shared_operands<bf16, Late::proxy_barrier>, 900, kMixed}},
    Registered{{"wgmma_proxy_copy", register_operand<bf16, 64, Late::proxy_copy>, 900, kRace}},
    Registered{{"wgmma_wait", shared_operands<bf16, Late::wait>, 900, kEarly}},
    Registered{{"wgmma_early_result", shared_operands<bf16, Late::early_result>, 900, kWrongValues}},
    Registered{{"wgmma_early_write", shared_operands<bf16, Late::early_write>, 900, kRace}},
    Registered{{"wgmma_early_refill", shared_operands<half, Late::early_refill>, 900, kInFlight}},
    Registered{{"wgmma_touched", shared_operands<bf16, Late::touched>, 900, kEarly}},
    Registered{{"wgmma_warp", shared_operands<bf16, Late::warp>, 900, kCollective}},
    Registered{{"wgmma_operands", shared_operands<bf16, Late::operands>, 900, kCollective}},
    Registered{{"wgmma_swizzle", shared_operands<half, Late::swizzle>, 900, kWrongValues}},
    Registered{{"wgmma_row_swizzle", shared_operands<bf16, Late::row_swizzle>, 900, kWrongValues}},
    Registered{{"wgmma_aligned", shared_operands<bf16, Late::aligned>, 900, kMisaligned}},
    Registered{{"wgmma_step", shared_operands<bf16, Late::step>, 900, kWrongValues}},
    Registered{{"wgmma_rows", register_operand<half, 64, Late::step>, 900, kWrongValues}},
    Registered{{"wgmma_panel", register_operand<bf16, 128, Late::panel>, 900, kWrongValues}},
};

// An architecture without it.
template <bool kBug>
__global__ void wgmma_before_kernel(float* out) {
#ifdef TLL_WGMMA
  if (kBug) tll::wgmma_fence();
#endif
  out[threadIdx.x] = 0;
}
void wgmma_before(bool bug, Memory& m) {
  tll::launch(bug ? wgmma_before_kernel<true> : wgmma_before_kernel<false>, 1, 128, 0, nullptr, m.out);
}
const Registered wgmma_before_case{{"wgmma_before", wgmma_before, 750, kLaunch, 899}};

}  // namespace planted
