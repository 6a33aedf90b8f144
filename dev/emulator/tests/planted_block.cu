// Planted bugs of blocks and device memory.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

template <bool kBug>
__global__ void missing_barrier_kernel(float* out, const float* in) {
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  if (!kBug) __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
}
TLL_CASE(missing_barrier, 750, kUnordered, 1, 128, 0, m.out, m.in)

// Without the second barrier of the loop, the array is refilled while others still read it.
template <bool kBug>
__global__ void refill_kernel(float* out, const float* in) {
  __shared__ float s[64];
  float sum = 0;
  for (int i = 0; i < 4; i++) {
    s[threadIdx.x] = in[64 * i + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
    if (!kBug) __syncthreads();
  }
  out[threadIdx.x] = sum;
}
TLL_CASE(refill, 750, kRace, 1, 64, 0, m.out, m.in)

template <bool kBug>
__global__ void past_the_end_kernel(float* out, const float* in, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (kBug ? i <= n : i < n) out[i] = in[i];
}
TLL_CASE(past_the_end, 750, kOutside, (kValues + 128) / 128, 128, 0, m.out, m.in, kValues)

template <bool kBug>
__global__ void shared_index_kernel(float* out, const float* in) {
  __shared__ float s[8][33];
  for (int c = 0; c < (kBug ? 34 : 33); c++) s[threadIdx.x][c] = in[c];
  out[threadIdx.x] = s[threadIdx.x][32];
}
TLL_CASE(shared_index, 750, kOutside, 1, 8, 0, m.out, m.in)

template <bool kBug>
__global__ void dynamic_shared_end_kernel(float* out, const float* in, int n) {
  float* s = tll::dynamic_shared<float>();
  for (int i = static_cast<int>(threadIdx.x); i < n + (kBug ? 1 : 0); i += 32) s[i] = in[i];
  out[threadIdx.x] = s[threadIdx.x];
}
TLL_CASE(dynamic_shared_end, 750, kOutside, 1, 32, 100 * 4, m.out, m.in, 100)

// Two blocks write the same row.
template <bool kBug>
__global__ void one_row_two_blocks_kernel(float* out, const float* in) {
  const int row = kBug ? static_cast<int>(blockIdx.x) / 2 : static_cast<int>(blockIdx.x);
  out[100 * row + static_cast<int>(threadIdx.x)] = in[threadIdx.x];
}
TLL_CASE(one_row_two_blocks, 750, kRace, 8, 100, 0, m.out, m.in)

// A block reads what another block of the same launch writes.
template <bool kBug>
__global__ void other_block_reads_kernel(float* data, float* out) {
  const int other = kBug ? static_cast<int>(blockIdx.x + 1) % 4 : static_cast<int>(blockIdx.x);
  data[blockIdx.x * 32 + threadIdx.x] = 1.0f;
  out[blockIdx.x * 32 + threadIdx.x] = data[static_cast<unsigned>(other) * 32 + threadIdx.x];
}
TLL_CASE(other_block_reads, 750, kRace, 4, 32, 0, m.in, m.out)

template <bool kBug>
__global__ void divergent_barrier_kernel(float* out) {
  __shared__ float s[64];
  s[threadIdx.x] = 1.0f;
  if (kBug && threadIdx.x < 32) {
    __syncthreads();
    s[0] = 2.0f;
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = s[63 - threadIdx.x];
}
TLL_CASE(divergent_barrier, 750, (Faults{Fault::barrier, Fault::race}), 1, 64, 0, m.out)

template <bool kBug>
__global__ void early_exit_kernel(float* out, const float* in, int n) {
  __shared__ float s[64];
  const int i = static_cast<int>(threadIdx.x);
  if (kBug && i >= n) return;
  s[i] = i < n ? in[i] : 0.0f;
  __syncthreads();
  if (i < n) out[i] = s[n - 1 - i];
}
TLL_CASE(early_exit, 750, kBarrier, 1, 64, 0, m.out, m.in, 50)

template <bool kBug>
__global__ void uninitialised_shared_kernel(float* out, const float* in, int n) {
  __shared__ float s[64];
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) s[i] = in[i];
  if (!kBug && i >= n) s[i] = 0.0f;
  __syncthreads();
  out[i] = s[63 - i];
}
TLL_CASE(uninitialised_shared, 750, kUnwritten, 1, 64, 0, m.out, m.in, 63)

template <bool kBug>
__global__ void uninitialised_device_kernel(float* out, const float* in) {
  if (!kBug) out[threadIdx.x] = 0.0f;
  out[threadIdx.x] += in[threadIdx.x];
}
TLL_CASE(uninitialised_device, 750, kUnwritten, 1, 32, 0, m.out, m.in)

template <bool kBug>
__global__ void misaligned_vector_kernel(float* out, const float* in) {
  const int row = kBug ? 33 : 36;  // an odd pitch: most rows are not aligned to 16 bytes
  tll::store_vec(out + 4 * threadIdx.x, tll::load_vec<4>(in + row * static_cast<int>(threadIdx.x)));
}
TLL_CASE(misaligned_vector, 750, kMisaligned, 1, 32, 0, m.out, m.in)

template <bool kBug>
__global__ void misaligned_pointer_kernel(float* out, const float* in) {
  const char* p = reinterpret_cast<const char*>(in) + 4 * threadIdx.x + (kBug ? 2 : 0);
  out[threadIdx.x] = *reinterpret_cast<const float*>(p);
}
TLL_CASE(misaligned_pointer, 750, kMisaligned, 1, 32, 0, m.out, m.in)

// Blocks write partial sums, and the last one to arrive adds them. The fence orders the writes before the count.
template <bool kBug>
__global__ void last_block_kernel(float* out, const float* in, int* counter) {
  __shared__ int last;
  if (threadIdx.x == 0) {
    out[1 + blockIdx.x] = in[blockIdx.x];
    if (!kBug) __threadfence();
    last = atomicAdd(counter, 1) == static_cast<int>(gridDim.x) - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += out[1 + i];
    out[0] = sum;
  }
}
TLL_CASE(last_block, 750, kUnordered, 8, 32, 0, m.out, m.in, m.counter)

template <bool kBug>
__global__ void read_only_path_kernel(float* data, float* out) {
  const float x = kBug ? __ldg(data + threadIdx.x) : data[threadIdx.x];
  data[threadIdx.x] = 2 * x;
  out[threadIdx.x] = x;
}
TLL_CASE(read_only_path, 750, kRace, 1, 32, 0, m.in, m.out)

template <bool kBug>
__global__ void shift_kernel(int* counter, int by) {
  if (threadIdx.x == 0) *counter = 1 << (kBug ? by : by - 1);
}
TLL_CASE(shift, 750, kArithmetic, 1, 32, 0, m.counter, 32)

template <bool kBug>
__global__ void int_overflow_kernel(float* out, int rows, int columns) {
  const auto index = kBug ? rows * columns : static_cast<long long>(rows) * columns;
  if (threadIdx.x == 0) out[index % 7 >= 0 ? 0 : 1] = 1.0f;
}
TLL_CASE(int_overflow, 750, kArithmetic, 1, 32, 0, m.out, 100000, 100000)

template <bool kBug>
__global__ void host_pointer_kernel(float* out, const float* p) {
  out[threadIdx.x] = p[threadIdx.x];
}
void host_pointer(bool bug, Memory& m) {
  tll::launch(bug ? host_pointer_kernel<true> : host_pointer_kernel<false>, 1, 32, 0, nullptr, m.out, bug ? m.result : m.in);
}
TLL_HOST_CASE(host_pointer, 750, kOutside)

// A copy in the default stream does not wait for a non-blocking stream.
void unordered_copy(bool bug, Memory& m) {
  cudaStream_t stream;
  TLL_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  tll::launch(host_pointer_kernel<false>, 1, 32, 0, stream, m.out, static_cast<const float*>(m.in));
  if (!bug) TLL_CUDA(cudaStreamSynchronize(stream));
  (void)cudaMemcpy(m.result, m.out, 32 * sizeof(float), cudaMemcpyDeviceToHost);
  TLL_CUDA(cudaStreamDestroy(stream));
}
TLL_HOST_CASE(unordered_copy, 750, kHost)

}  // namespace planted
