// The ladder of attention.
#include "dev/ladder/attention/1_three_kernels.cuh"
#include "dev/ladder/attention/2_block_a_query.cuh"
#include "dev/ladder/attention/3_online_softmax.cuh"
#include "dev/ladder/attention/4_shared_tiles.cuh"
#include "dev/ladder/attention/5_tensor_cores.cuh"
#include "dev/ladder/attention/6_prefetch.cuh"
#include "dev/ladder/attention/7_below_the_diagonal.cuh"

namespace tll::ladder {
namespace {

double three_kernels(const Attention& p) {
  const double scores = 1.0 * p.N * p.N;
  return p.H * (scores * (4.0 * p.D + 4) + 16 * scores + 6.0 * scores * p.D + 2.0 * p.N * p.D);
}
// All keys and values are read once per kQueries queries.
template <int kQueries>
double bytes(const Attention& p) {
  return p.H * (4.0 * p.N * p.D + 4.0 * p.N * p.D * ceil_div(p.N, kQueries));
}
double below_the_diagonal(const Attention& p) {
  double keys = 0;
  for (int i0 = 0; i0 < p.N; i0 += 64) keys += i0 + 64 < p.N ? i0 + 64 : p.N;
  return p.H * 4.0 * p.D * (p.N + keys);
}

}  // namespace

template <>
const std::vector<Rung<Attention>>& rungs() {
  static const std::vector<Rung<Attention>> list = {
      {"1_three_kernels", "scores, softmax, sum: three kernels", 750, run_attention_1, three_kernels},
      {"2_block_a_query", "a block owns a query: scores stay in shared memory", 750, run_attention_2, bytes<1>},
      {"3_online_softmax", "online softmax: one pass, coalesced", 750, run_attention_3, bytes<1>},
      {"4_shared_tiles", "16 queries share tiles in shared memory", 750, run_attention_4, bytes<16>},
      {"5_tensor_cores", "tensor cores, 64 queries a block", 800, run_attention_5, bytes<64>},
      {"6_prefetch", "the next tile comes by cp.async meanwhile", 800, run_attention_6, bytes<64>},
      {"7_below_the_diagonal", "no tiles above the diagonal", 800, run_attention_7, below_the_diagonal},
  };
  return list;
}

}  // namespace tll::ladder
