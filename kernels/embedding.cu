// Forward: one block per output row. Backward: one block per position. The block of the first position of an id adds the
// gradients of all its positions, in order; the other blocks return. So no atomics are needed. A warp finds the positions by
// ballot, 32 at a time; a thread handles four consecutive columns per pass over the row.
#include "kernels/embedding.h"
#include "kernels/row_access.cuh"

namespace tll {
namespace {

constexpr int kThreads = 128;

template <class Float, class Table>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(const __grid_constant__ EmbeddingForward<Float> op, bool vector) {
  const Table* __restrict__ row = static_cast<const Table*>(op.table) + static_cast<int64_t>(op.ids[blockIdx.x]) * op.C;
  Float* __restrict__ out = op.out + static_cast<int64_t>(blockIdx.x) * op.C;
  float v[8];
  for (int c = threadIdx.x * 8; c < op.C; c += kThreads * 8) {
    load_floats(v, row + c, op.C - c, vector);
    store_floats(out + c, v, op.C - c, vector);
  }
}

template <class Float>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(const __grid_constant__ EmbeddingBackward<Float> op, bool vector) {
  const Float* __restrict__ dout = op.dout;
  const int32_t* __restrict__ ids = op.ids;
  const int N = op.N, C = op.C, n = blockIdx.x, lane = static_cast<int>(lane_id());
  const int32_t id = ids[n];
  if (id == op.padding_id) return;
  for (int base = 0; base < n; base += kWarp) {
    const bool earlier = base + lane < n && ids[base + lane] == id;
    if (__any_sync(kFullWarp, earlier)) return;  // that position's block does the work
  }
  float* row = op.dtable + static_cast<int64_t>(id) * C;
  for (int pass = 0; pass < C; pass += kThreads * 4) {
    const int c = pass + static_cast<int>(threadIdx.x) * 4, valid = C - c;
    float sum[4] = {}, v[4];
    if (valid > 0) load_floats(sum, row + c, valid, vector);
    for (int base = n; base < N; base += kWarp) {
      unsigned found = __ballot_sync(kFullWarp, base + lane < N && ids[base + lane] == id);
      for (; found; found &= found - 1) {
        if (valid <= 0) continue;
        load_floats(v, dout + (base + __ffs(static_cast<int>(found)) - 1) * op.dout_row() + c, valid, vector);
#pragma unroll
        for (int i = 0; i < 4; i++) sum[i] += v[i];
      }
    }
    if (valid > 0) store_floats(row + c, sum, valid, vector);
  }
}

template <class Float, class Table>
void look_up(const Device& device, const EmbeddingForward<Float>& op) {
  const bool vector =
      vec_aligned<kVec<Float>>(op.out, op.C) && vec_aligned<kVec<Table>>(static_cast<const Table*>(op.table), op.C);
  launch<embedding_forward_kernel<Float, Table>>(dim3(static_cast<unsigned>(op.N)), kThreads, 0, stream_of(device), op, vector);
}

}  // namespace

template <class Float>
void EmbeddingForward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  with_storage_type(table_dtype, [&](auto type) { look_up<Float, decltype(type)>(device, *this); });
}

template <class Float>
void EmbeddingBackward<Float>::cuda(const Device& device) const {
  if (N == 0) return;
  launch<embedding_backward_kernel<Float>>(dim3(static_cast<unsigned>(N)), kThreads, 0, stream_of(device), *this,
                                           vec_aligned<4>(dtable, C) && vec_aligned<4>(dout, dout_row()));
}

TLL_INSTANTIATE_CUDA(EmbeddingForward)
TLL_INSTANTIATE_CUDA(EmbeddingBackward)

}  // namespace tll
