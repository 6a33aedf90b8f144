// A thread writes one element: first all of A's, then all of B's.
#include "kernels/any_type.cuh"
#include "kernels/join_adapters.h"

namespace tll {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) join_adapters_kernel(const __grid_constant__ JoinAdapters op) {
  const unsigned in = op.a.col_count, R = op.b.col_count, of_a = in * R, of_b = R * op.b.row_count;
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  if (item < of_a) {
    const unsigned r = item / in, c = item % in;
    store_any(op.a.data, op.a.dtype, r * op.a.stride + c, load_any(op.a_value.data, op.a_value.dtype, r * op.a_value.stride + c));
  } else if (item - of_a < of_b) {
    const unsigned n = (item - of_a) / R, r = (item - of_a) % R;
    const float x = op.scaled<float>(static_cast<int>(n), static_cast<int>(r),
                                     [](const ConstMatrix& m, int64_t i) { return load_any(m.data, m.dtype, i); });
    store_any(op.b.data, op.b.dtype, n * op.b.stride + r, x);
  }
}

}  // namespace

void JoinAdapters::cuda(const Device& device) const {
  const int64_t items = int64_t{a.row_count} * a.col_count + int64_t{b.row_count} * b.col_count;
  TLL_CHECK(items <= INT32_MAX, "adapters of {} elements", items);
  if (items > 0) launch<join_adapters_kernel>(blocks_for(items, kThreads), kThreads, 0, stream_of(device), *this);
}

}  // namespace tll
