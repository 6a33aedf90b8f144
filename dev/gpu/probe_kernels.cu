#include <cuda_runtime.h>

#include "dev/gpu/probe_kernels.h"
#ifdef TLL_EMULATED
#include "emulator/emulator.h"
#endif

#include "kernels/cuda_utils.cuh"

namespace tll::probe {
namespace {

constexpr int kThreads = 256;

// GPU memory that holds a copy of a host vector, or a result.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) : count_(count) { TLL_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T))); }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    TLL_CUDA(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }
  std::vector<T> download() const {
    std::vector<T> values(count_);
    TLL_CUDA(cudaDeviceSynchronize());
    TLL_CUDA(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

template <Form kForm>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* c) {
  constexpr int kA = kForm == Form::half_k8 ? 2 : 4, kB = kA / 2;
  const size_t lane = size_t{blockIdx.x} * kWarp + threadIdx.x;
  uint32_t ra[kA], rb[kB];
  float rc[4];
  for (int i = 0; i < kA; i++) ra[i] = a[lane * kA + i];
  for (int i = 0; i < kB; i++) rb[i] = b[lane * kB + i];
  for (int i = 0; i < 4; i++) rc[i] = c[lane * 4 + i];
  if constexpr (kForm == Form::half_k8) {
    mma_m16n8k8_half(rc, ra, rb);
  } else if constexpr (kForm == Form::half_k16) {
    mma_m16n8k16<half>(rc, ra, rb);
  } else {
    mma_m16n8k16<bf16>(rc, ra, rb);
  }
  for (int i = 0; i < 4; i++) c[lane * 4 + i] = rc[i];
}

template <bool kTrans, int kMatrices>
__global__ void ldmatrix_kernel(const uint16_t* values, const int* row, uint32_t* out) {
  alignas(16) __shared__ uint16_t shared[256];
  for (int i = threadIdx.x; i < 256; i += kWarp) shared[i] = values[i];
  __syncwarp();
  uint32_t r[kMatrices];
  ldmatrix_form<kTrans>(r, shared + row[threadIdx.x]);
  for (int i = 0; i < kMatrices; i++) out[threadIdx.x * kMatrices + i] = r[i];
}

__global__ void cp_async_kernel(const uint8_t* source, int bytes, uint8_t* out) {
  alignas(16) __shared__ uint8_t shared[16];
  for (int i = 0; i < 16; i++) shared[i] = 0xee;
  tll::cp_async<16>(shared, source, bytes);
  cp_async_wait_all();
  for (int i = 0; i < 16; i++) out[i] = shared[i];
}

__global__ void fmaxf_kernel(const float* a, const float* b, float* out) {
  out[threadIdx.x] = fmaxf(a[threadIdx.x], b[threadIdx.x]);
}

__global__ void function_kernel(int function, const float* x, float* y, size_t count) {
  const size_t i = size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  switch (function) {
    case 0:
      y[i] = expf(x[i]);
      break;
    case 1:
      y[i] = exp2f(x[i]);
      break;
    case 2:
      y[i] = logf(x[i]);
      break;
    case 3:
      y[i] = rsqrtf(x[i]);
      break;
    default:
      y[i] = __expf(x[i]);
  }
}

__global__ void convert_kernel(uint32_t first, uint32_t count, Conversion* out) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= count) return;
  const float x = __uint_as_float(first + i);
  out[i] = {from_float<bf16>(x).bits, from_float<half>(x).bits, __float2int_rz(x)};
}

template <bool kTrans>
auto ldmatrix_of(int matrices) {
  return matrices == 1 ? ldmatrix_kernel<kTrans, 1> : matrices == 2 ? ldmatrix_kernel<kTrans, 2> : ldmatrix_kernel<kTrans, 4>;
}

}  // namespace

#ifdef TLL_EMULATED
bool is_emulated() { return true; }
void emulate(int arch) {
  emulator::options().arch = arch;
  emulator::options().mma = emulator::MmaSum::hardware;
}
#else
bool is_emulated() { return false; }
void emulate(int) {}
#endif

int device_count() {
  int count = 0;  // unchanged if there is no driver
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Properties properties() {
  cudaDeviceProp p;
  int clock = 0;
  TLL_CUDA(cudaGetDeviceProperties(&p, 0));
  if (cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, 0) != cudaSuccess) clock = 0;
  return {.name = p.name,
          .arch = p.major * 100 + p.minor * 10,
          .multiprocessors = p.multiProcessorCount,
          .threads_per_multiprocessor = p.maxThreadsPerMultiProcessor,
          .blocks_per_multiprocessor = p.maxBlocksPerMultiProcessor,
          .registers_per_multiprocessor = p.regsPerMultiprocessor,
          .memory_bytes = static_cast<int64_t>(p.totalGlobalMem),
          .l2_bytes = p.l2CacheSize,
          .shared_per_block = static_cast<int64_t>(p.sharedMemPerBlock),
          .shared_per_block_opt_in = static_cast<int64_t>(p.sharedMemPerBlockOptin),
          .shared_per_multiprocessor = static_cast<int64_t>(p.sharedMemPerMultiprocessor),
          .reserved_shared_per_block = static_cast<int64_t>(p.reservedSharedMemPerBlock),
          .memory_clock_khz = clock,
          .memory_bus_bits = p.memoryBusWidth};
}

std::vector<float> mma(Form form, const Registers& tiles) {
  const Buffer<uint32_t> a(tiles.a), b(tiles.b);
  const Buffer<float> c(tiles.c);
  const unsigned grid = static_cast<unsigned>(tiles.c.size() / (kWarp * 4));
  const auto kernel = form == Form::half_k8    ? mma_kernel<Form::half_k8>
                      : form == Form::half_k16 ? mma_kernel<Form::half_k16>
                                               : mma_kernel<Form::bf16_k16>;
  launch(kernel, grid, kWarp, 0, nullptr, a.data(), b.data(), c.data());
  return c.download();
}

std::vector<uint32_t> ldmatrix(int matrices, bool transposed, const std::vector<uint16_t>& values, const std::vector<int>& row) {
  const Buffer<uint16_t> from(values);
  const Buffer<int> rows(row);
  const Buffer<uint32_t> out(static_cast<size_t>(kWarp * matrices));
  const auto kernel = transposed ? ldmatrix_of<true>(matrices) : ldmatrix_of<false>(matrices);
  launch(kernel, 1, kWarp, 0, nullptr, from.data(), rows.data(), out.data());
  return out.download();
}

std::vector<uint8_t> cp_async(int bytes, bool null_source, int shift) {
  std::vector<uint8_t> values(64);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<uint8_t>(i + 1);
  const Buffer<uint8_t> source(values), out(size_t{16});
  launch(cp_async_kernel, 1, 1, 0, nullptr, null_source ? nullptr : source.data() + shift, bytes, out.data());
  return out.download();
}

std::vector<float> fmaxf_of(const std::vector<float>& a, const std::vector<float>& b) {
  const Buffer<float> from(a), with(b), out(a.size());
  launch(fmaxf_kernel, 1, static_cast<unsigned>(a.size()), 0, nullptr, from.data(), with.data(), out.data());
  return out.download();
}

std::vector<float> function_of(int function, const std::vector<float>& x) {
  const Buffer<float> from(x), out(x.size());
  const unsigned grid = static_cast<unsigned>(ceil_div<size_t>(x.size(), kThreads));
  launch(function_kernel, grid, kThreads, 0, nullptr, function, from.data(), out.data(), x.size());
  return out.download();
}

Converter::Converter(uint32_t count) : count_(count) {
  TLL_CUDA(cudaMalloc(reinterpret_cast<void**>(&device_), count * sizeof(Conversion)));
  TLL_CUDA(cudaMallocHost(reinterpret_cast<void**>(&host_), count * sizeof(Conversion)));
}
Converter::~Converter() {
  cudaFree(device_);
  cudaFreeHost(host_);
}
const Conversion* Converter::run(uint32_t first) {
  launch(convert_kernel, ceil_div<unsigned>(count_, kThreads), kThreads, 0, nullptr, first, count_, device_);
  TLL_CUDA(cudaMemcpyAsync(host_, device_, count_ * sizeof(Conversion), cudaMemcpyDeviceToHost));
  TLL_CUDA(cudaDeviceSynchronize());
  return host_;
}

}  // namespace tll::probe
