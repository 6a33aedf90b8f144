// Planted bugs of device memory: bounds of tensors, alignment, unwritten values, blocks that share data, numbers.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

// One row too many: it lies in the gap behind the tensor.
template <bool kBug>
__global__ void rows_kernel(float* out, const float* in, int rows, int columns) {
  for (int row = static_cast<int>(blockIdx.x); row < rows + (kBug ? 1 : 0); row += static_cast<int>(gridDim.x))
    for (int c = static_cast<int>(threadIdx.x); c < columns; c += static_cast<int>(blockDim.x)) out[row * columns + c] = in[c];
}
TLL_CASE(rows, 750, kOutside, 5, 32, 0, m.out, m.in, 64, 64)

template <bool kBug>
__global__ void before_the_tensor_kernel(float* out, const float* in, int window) {
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int i = t - window; i <= t; i++)
    if (kBug || i >= 0) sum += in[i];
  out[t] = sum;
}
TLL_CASE(before_the_tensor, 750, kOutside, 1, 32, 0, m.out, m.in, 3)

// An index that reaches another tensor of the same allocation: found because that tensor is not written.
template <bool kBug>
__global__ void another_tensor_kernel(float* out, const float* in, int stride) {
  out[threadIdx.x] = in[kBug ? static_cast<int>(threadIdx.x) + stride : static_cast<int>(threadIdx.x)];
}
TLL_CASE(another_tensor, 750, kUnwritten, 1, 32, 0, m.out, m.in, kValues + 64)

// The last vector of the tensor reaches 2 values beyond it.
template <bool kBug>
__global__ void vector_tail_kernel(float* out, const float* in, int n) {
  for (int i = 2 * static_cast<int>(threadIdx.x); i < n; i += 64) {
    if (kBug || i + 4 <= n) {
      for (int k = 0; k < 4; k += 2) tll::store_vec(out + i / 2 * 4 + k, tll::load_vec<2>(in + i / 2 * 4 + k));
    }
  }
}
TLL_CASE(vector_tail, 750, kOutside, 1, 32, 0, m.out, m.in, kValues / 2 + 1)

template <bool kBug>
__global__ void odd_row_kernel(float* out, const float* in, int columns) {
  const float* row = in + static_cast<int>(blockIdx.x) * columns;
  if (!kBug && columns % 4) {
    for (int i = 0; i < 4; i++) out[4 * (blockIdx.x * blockDim.x + threadIdx.x) + i] = row[4 * threadIdx.x + i];
  } else {
    *reinterpret_cast<float4*>(out + 4 * (blockIdx.x * blockDim.x + threadIdx.x)) =
        *reinterpret_cast<const float4*>(row + 4 * threadIdx.x);
  }
}
#ifndef __clang__  // clang copies a struct by memcpy, which does not tell the alignment
TLL_CASE(odd_row, 750, kMisaligned, 3, 8, 0, m.out, m.in, 33)
#endif

// Loads two halves as one word from an odd index.
template <bool kBug>
__global__ void odd_half_kernel(float* out, const float* in, int first) {
  const auto* h = reinterpret_cast<const tll::half*>(in) + (kBug ? first : first + 1);
  const tll::Vec<tll::half, 2> v = tll::load_vec<2>(h + 2 * threadIdx.x);
  out[threadIdx.x] = tll::to_float(v[0]) + tll::to_float(v[1]);
}
TLL_CASE(odd_half, 750, kMisaligned, 1, 32, 0, m.out, m.in, 1)

template <bool kBug>
__global__ void copied_struct_kernel(float* out, const float* in) {
  struct alignas(8) Pair {
    float a, b;
  };
  const auto* p = reinterpret_cast<const Pair*>(in + (kBug ? 1 : 2));
  const Pair pair = p[threadIdx.x];
  out[threadIdx.x] = pair.a + pair.b;
}
#ifndef __clang__  // clang copies a struct by memcpy, which does not tell the alignment
TLL_CASE(copied_struct, 750, kMisaligned, 1, 32, 0, m.out, m.in)
#endif

// Reads the result of an earlier launch, in which one block wrote nothing.
template <bool kBug>
__global__ void part_written_kernel(float* out, const float* in, int blocks) {
  if (static_cast<int>(blockIdx.x) < (kBug ? blocks - 1 : blocks)) out[blockIdx.x * 32 + threadIdx.x] = in[threadIdx.x];
}
template <bool kBug>
__global__ void sum_kernel(float* out, const float* in, int n) {
  float x = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) x += in[i];
  out[threadIdx.x] = x;
}
void part_written(bool bug, Memory& m) {
  tll::launch(bug ? part_written_kernel<true> : part_written_kernel<false>, 4, 32, 0, nullptr, m.out, m.in, 4);
  tll::launch(sum_kernel<false>, 1, 32, 0, nullptr, m.out + 1024, m.out, 128);
}
TLL_HOST_CASE(part_written, 750, kUnwritten)

// Copies to the host what no kernel wrote.
void unwritten_copy(bool bug, Memory& m) {
  tll::launch(part_written_kernel<false>, 4, 32, 0, nullptr, m.out, m.in, 4);
  (void)cudaMemcpy(m.result, m.out, (bug ? 129 : 128) * sizeof(float), cudaMemcpyDeviceToHost);
}
TLL_HOST_CASE(unwritten_copy, 750, kHost)

// Accumulates into memory that nobody zeroed.
template <bool kBug>
__global__ void accumulate_kernel(float* out, const float* in, int parts) {
  for (int p = 0; p < parts; p++) {
    const float x = in[32 * p + static_cast<int>(threadIdx.x)];
    if (!kBug && p == 0) {
      out[threadIdx.x] = x;
    } else {
      out[threadIdx.x] += x;
    }
  }
}
TLL_CASE(accumulate, 750, kUnwritten, 1, 32, 0, m.out, m.in, 3)

// ---- blocks that share data ---------------------------------------------------------------------------------------------------
// A block writes 8 rows; in the bug 9, of which the last belongs to the next block.
template <bool kBug>
__global__ void shared_row_kernel(float* out, const float* in) {
  const unsigned first = 8 * blockIdx.x, last = first + (kBug ? 9 : 8);
  for (unsigned row = first + threadIdx.y; row < last; row += blockDim.y) out[32 * row + threadIdx.x] = in[threadIdx.x];
}
TLL_CASE(shared_row, 750, kRace, 4, dim3(32, 4), 0, m.out, m.in)

// Reads a halo: the neighbouring block's results of the same launch.
template <bool kBug>
__global__ void halo_kernel(float* out, float* work) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  work[i] = 2.0f * work[i];
  __syncthreads();
  const bool inside = threadIdx.x + 1 < blockDim.x;
  out[i] = work[i] + (inside || (kBug && i + 1 < gridDim.x * blockDim.x) ? work[i + 1] : 0.0f);
}
TLL_CASE(halo, 750, kRace, 4, 64, 0, m.out, m.in)

// Split reduction: the last block to arrive adds the partial results. The bug counts a block before all its threads have written.
template <bool kBug>
__global__ void column_partials_kernel(float* partial, const float* in, int* counter) {
  __shared__ bool last;
  partial[64 * blockIdx.y + threadIdx.x] = in[64 * blockIdx.y + threadIdx.x];
  __threadfence();
  if (!kBug) __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(counter, 1) == static_cast<int>(gridDim.y) - 1;
  __syncthreads();
  if (!last) return;
  float sum = 0;
  for (unsigned y = 0; y < gridDim.y; y++) sum += partial[64 * y + threadIdx.x];
  partial[1024 + threadIdx.x] = sum;
}
TLL_CASE(column_partials, 750, kUnordered, dim3(1, 6), 64, 0, m.out, m.in, m.counter)

// Integer atomics may come in any order; plain increments race.
template <bool kBug>
__global__ void histogram_kernel(int* counts, const float* in, int n) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < static_cast<unsigned>(n); i += gridDim.x * blockDim.x) {
    const int bin = static_cast<int>(in[i]);
    if (kBug) {
      counts[bin] = counts[bin] + 1;
    } else {
      atomicAdd(&counts[bin], 1);
    }
  }
}
TLL_CASE(histogram, 750, kRace, 4, 64, 0, m.counter, m.in, 1024)

// An atomic and a plain read of the same counter.
template <bool kBug>
__global__ void read_counter_kernel(float* out, int* counter) {
  atomicAdd(counter, 1);
  if (!kBug) __syncthreads();
  if (threadIdx.x == 0) out[0] = static_cast<float>(kBug ? *counter : atomicAdd(counter, 0));
}
TLL_CASE(read_counter, 750, kRace, 1, 64, 0, m.out, m.counter)

// ---- __ldg --------------------------------------------------------------------------------------------------------------------
template <bool kBug>
__global__ void ldg_in_place_kernel(float* x, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const float left = kBug ? __ldg(x + i) : x[i];
  x[i] = left + 1.0f;
  out[i] = left;
}
TLL_CASE(ldg_in_place, 750, kRace, 4, 32, 0, m.in, m.out)
template <bool kBug>
__global__ void ldg_after_write_kernel(float* out, const float* in) {
  out[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  const float y = kBug ? __ldg(out + (threadIdx.x ^ 1)) : out[threadIdx.x ^ 1];
  __syncthreads();
  out[64 + threadIdx.x] = y;
}
TLL_CASE(ldg_after_write, 750, kRace, 1, 64, 0, m.out, m.in)

// ---- numbers ------------------------------------------------------------------------------------------------------------------
template <bool kBug>
__global__ void quantise_kernel(int8_t* out, const float* in, float scale) {
  const float x = in[threadIdx.x] * scale;
  out[threadIdx.x] = static_cast<int8_t>(kBug ? x : fminf(fmaxf(x, -127.0f), 127.0f));
}
TLL_CASE(quantise, 750, kArithmetic, 1, 32, 0, reinterpret_cast<int8_t*>(m.out), m.in, 50.0f)
template <bool kBug>
__global__ void unsigned_quantise_kernel(uint8_t* out, const float* in) {
  const float x = in[threadIdx.x] - (kBug ? 3.0f : 0.0f);
  out[threadIdx.x] = static_cast<uint8_t>(x);
}
TLL_CASE(unsigned_quantise, 750, kArithmetic, 1, 32, 0, reinterpret_cast<uint8_t*>(m.out), m.in)
template <bool kBug>
__global__ void nan_index_kernel(float* out, const float* in) {
  const float x = in[threadIdx.x] / (kBug ? in[threadIdx.x] : 1.0f);
  out[static_cast<int>(x) % 32 + static_cast<int>(threadIdx.x) * 32] = 1.0f;
}
TLL_CASE(nan_index, 750, kArithmetic, 1, 32, 0, m.out, m.in)
template <bool kBug>
__global__ void variable_shift_kernel(int* out, const float* in) {
  const int by = static_cast<int>(in[threadIdx.x]) * (kBug ? 6 : 5);
  out[threadIdx.x] = static_cast<int>(0x80000000u >> by);
}
TLL_CASE(variable_shift, 750, kArithmetic, 1, 32, 0, m.counter, m.in)
template <bool kBug>
__global__ void zero_division_kernel(int* out, const float* in) {
  const int n = static_cast<int>(in[threadIdx.x]);
  out[threadIdx.x] = 100 / (kBug ? n : n + 1);
}
TLL_CASE(zero_division, 750, kArithmetic, 1, 32, 0, m.counter, m.in)
// row · stride, the index of a logit, overflows int.
template <bool kBug>
__global__ void logit_index_kernel(float* out, int row, int stride) {
  const size_t base = kBug ? static_cast<size_t>(row * stride) : static_cast<size_t>(row) * static_cast<size_t>(stride);
  out[threadIdx.x] = static_cast<float>(base % 7);
}
TLL_CASE(logit_index, 750, kArithmetic, 1, 32, 0, m.out, 20000, 128256)
template <bool kBug>
__global__ void block_offset_kernel(float* out, int rows_per_block) {
  const int row = kBug ? static_cast<int>(blockIdx.x + 1) * rows_per_block : static_cast<int>(blockIdx.x);
  out[threadIdx.x + 32 * blockIdx.x] = static_cast<float>(row);
}
TLL_CASE(block_offset, 750, kArithmetic, 4, 32, 0, m.out, 700000000)

// A data-dependent index of a local array.
template <bool kBug>
__global__ void local_index_kernel(float* out, const float* in) {
  float values[6] = {0, 1, 2, 3, 4, 5};
  const int i = static_cast<int>(in[threadIdx.x]);  // 0 … 6
  out[threadIdx.x] = values[kBug ? i : i % 6];
}
TLL_CASE(local_index, 750, kOutside, 1, 32, 0, m.out, m.in)
template <bool kBug>
__global__ void null_kernel(float* out, const float* bias) {
  out[threadIdx.x] = kBug || bias ? bias[threadIdx.x] : 0.0f;
}
TLL_CASE(null, 750, kOutside, 1, 32, 0, m.out, static_cast<const float*>(nullptr))
// A pointer to another thread's local variable, passed through shared memory.
template <bool kBug>
__global__ void foreign_local_kernel(float* out, const float* in) {
  __shared__ const float* p[32];
  float mine = in[threadIdx.x];
  p[threadIdx.x] = &mine;
  __syncthreads();
  out[threadIdx.x] = *p[kBug ? 31 - threadIdx.x : threadIdx.x];
}
TLL_CASE(foreign_local, 750, kOutside, 1, 32, 0, m.out, m.in)

}  // namespace planted
