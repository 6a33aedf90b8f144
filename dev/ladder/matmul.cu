// The ladder of matmul.
#include "dev/ladder/matmul/1_thread_an_element.cuh"
#include "dev/ladder/matmul/2_warp_an_element.cuh"
#include "dev/ladder/matmul/3_shared_tiles.cuh"
#include "dev/ladder/matmul/4_thread_tiles.cuh"
#include "dev/ladder/matmul/5_wide_loads.cuh"
#include "dev/ladder/matmul/6_tensor_cores.cuh"
#include "dev/ladder/matmul/7_padded_rows.cuh"
#include "dev/ladder/matmul/8_double_buffer.cuh"
#include "dev/ladder/matmul/9_large_warp_tiles.cuh"

namespace tll::ladder {
namespace {

// A tile of kTile × kTile elements of C reads its rows of A and of B once.
template <int kTile>
double bytes(const Matmul& p) {
  const double a = 2.0 * p.M * p.K, b = 2.0 * p.N * p.K;
  return a * ceil_div(p.N, kTile) + b * ceil_div(p.M, kTile) + 4.0 * p.M * p.N;
}

}  // namespace

template <>
const std::vector<Rung<Matmul>>& rungs() {
  static const std::vector<Rung<Matmul>> list = {
      {"1_thread_an_element", "a thread owns an element", 750, run_matmul_1, bytes<1>},
      {"2_warp_an_element", "coalesced: a warp owns an element, lanes lie along k", 750, run_matmul_2, bytes<1>},
      {"3_shared_tiles", "tiles of 32 × 32 in shared memory", 750, run_matmul_3, bytes<32>},
      {"4_thread_tiles", "8 × 8 elements a thread, in registers", 750, run_matmul_4, bytes<128>},
      {"5_wide_loads", "128-bit loads", 750, run_matmul_5, bytes<128>},
      {"6_tensor_cores", "tensor cores: mma and ldmatrix", 800, run_matmul_6, bytes<128>},
      {"7_padded_rows", "padded rows: no bank conflicts", 800, run_matmul_7, bytes<128>},
      {"8_double_buffer", "the next tile comes by cp.async meanwhile", 800, run_matmul_8, bytes<128>},
      {"9_large_warp_tiles", "64 × 64 elements a warp", 800, run_matmul_9, bytes<128>},
  };
  return list;
}

}  // namespace tll::ladder
