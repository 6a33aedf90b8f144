// The ladder of rmsnorm.
#include "dev/ladder/rmsnorm/1_thread_a_row.cuh"
#include "dev/ladder/rmsnorm/2_block_a_row.cuh"
#include "dev/ladder/rmsnorm/3_warp_shuffles.cuh"
#include "dev/ladder/rmsnorm/4_wide_loads.cuh"
#include "dev/ladder/rmsnorm/5_row_in_registers.cuh"
#include "dev/ladder/rmsnorm/6_warp_a_row.cuh"

namespace tll::ladder {
namespace {

// Per row: w and out once, x twice; or x once, as far as the row stays in registers.
double bytes_read_twice(const Rmsnorm& p) { return 8.0 * p.N * p.C; }
double bytes_kept(const Rmsnorm& p, int kept) { return 6.0 * p.N * p.C + (p.C > kept ? 2.0 * p.N * (p.C - kept) : 0.0); }
double bytes_kept_5(const Rmsnorm& p) { return bytes_kept(p, 4096); }
double bytes_kept_6(const Rmsnorm& p) { return bytes_kept(p, p.C % 8 == 0 ? 4096 : 0); }

}  // namespace

template <>
const std::vector<Rung<Rmsnorm>>& rungs() {
  static const std::vector<Rung<Rmsnorm>> list = {
      {"1_thread_a_row", "a thread owns a row", 750, run_rmsnorm_1, bytes_read_twice},
      {"2_block_a_row", "a block owns a row: coalesced, sums meet in shared memory", 750, run_rmsnorm_2, bytes_read_twice},
      {"3_warp_shuffles", "sums by warp shuffles: one barrier", 750, run_rmsnorm_3, bytes_read_twice},
      {"4_wide_loads", "128-bit loads and stores", 750, run_rmsnorm_4, bytes_read_twice},
      {"5_row_in_registers", "the row stays in registers: read once", 750, run_rmsnorm_5, bytes_kept_5},
      {"6_warp_a_row", "a warp owns a row: no barrier", 750, run_rmsnorm_6, bytes_kept_6},
  };
  return list;
}

}  // namespace tll::ladder
