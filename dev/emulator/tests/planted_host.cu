// Planted bugs of host code: launches that the architecture refuses, streams, events, buffers.
#include "dev/emulator/tests/planted_cases.cuh"

namespace planted {

template <bool kBug>
__global__ void touch_kernel(float* out, int n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < static_cast<unsigned>(n)) out[i] = 1.0f;
}
__global__ void double_kernel(float* out, const float* in, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = 2.0f * in[i];
}
cudaError_t try_launch(void (*kernel)(float*, int), dim3 grid, dim3 block, size_t shared, Memory& m, int n = 0) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  return cudaLaunchKernelEx(&config, kernel, m.out, n);
}
void large_block(bool bug, Memory& m) { (void)try_launch(touch_kernel<false>, 1, dim3(32, bug ? 33 : 32), 0, m); }
TLL_HOST_CASE(large_block, 750, kLaunch)
void deep_block(bool bug, Memory& m) { (void)try_launch(touch_kernel<false>, 1, dim3(1, 1, bug ? 65 : 64), 0, m); }
TLL_HOST_CASE(deep_block, 750, kLaunch)
void tall_grid(bool bug, Memory& m) { (void)try_launch(touch_kernel<false>, dim3(1, bug ? 65536 : 64), 1, 0, m); }
TLL_HOST_CASE(tall_grid, 750, kLaunch)
void empty_grid(bool bug, Memory& m) {
  const int n = bug ? 0 : 5;
  (void)try_launch(touch_kernel<false>, static_cast<unsigned>(tll::ceil_div(n, 32)), 32, 0, m, n);
}
TLL_HOST_CASE(empty_grid, 750, kLaunch)

template <bool kBug>
__global__ void static_shared_kernel(float* out, int n) {
  __shared__ float s[kBug ? 12289 : 12288];  // 48 KiB
  s[0] = 1.0f;
  if (n > 0) out[0] = s[0];
}
void static_shared(bool bug, Memory& m) {
  (void)try_launch(bug ? static_shared_kernel<true> : static_shared_kernel<false>, 1, 1, 0, m);
}
TLL_HOST_CASE(static_shared, 750, kLaunch)

// 20 KiB of static and 30 KiB of dynamic shared memory are more than 48 together. The array is not even used.
template <bool kBug>
__global__ void static_and_dynamic_kernel(float* out, int n) {
  __shared__ float s[5 * 1024];
  if (n > 100) s[threadIdx.x] = out[0];
  if (n > 200) out[0] = s[0];
}
void static_and_dynamic(bool bug, Memory& m) {
  (void)try_launch(static_and_dynamic_kernel<true>, 1, 1, (bug ? 30 : 28) * 1024, m);
}
TLL_HOST_CASE(static_and_dynamic, 750, kLaunch)

// Dynamic shared memory beyond the architecture's limit: 99 KiB of sm_86, 163 of sm_80, 227 of sm_90.
template <bool kBug>
__global__ void dynamic_kernel(float* out, int n) {
  float* s = tll::dynamic_shared<float>();
  s[0] = 1.0f;
  if (n > 0) out[0] = s[0];
}
void opt_in_and_launch(int bytes, Memory& m) {
  auto kernel = dynamic_kernel<false>;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) == cudaSuccess)
    (void)try_launch(kernel, 1, 1, static_cast<size_t>(bytes), m);
}
void architecture_limit(bool bug, Memory& m) {
  int limit = 0;
  TLL_CUDA(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  opt_in_and_launch(limit + (bug ? 16 : 0), m);
}
TLL_HOST_CASE(architecture_limit, 750, kLaunch)
// More than any architecture grants (64 KiB at least, 227 at most); then more than 48 KiB without the opt-in.
void too_much_shared(bool bug, Memory& m) { opt_in_and_launch((bug ? 228 : 64) * 1024, m); }
TLL_HOST_CASE(too_much_shared, 750, kLaunch)
void no_opt_in(bool bug, Memory& m) { (void)try_launch(dynamic_kernel<true>, 1, 1, 48 * 1024 + (bug ? 16 : 0), m); }
TLL_HOST_CASE(no_opt_in, 750, kLaunch)

// The opt-in is for another instantiation of the kernel.
template <class Float, int kTile>
__global__ void tile_kernel(float* out, int n) {
  auto* s = tll::dynamic_shared<Float>();
  s[kTile - 1] = Float{};
  if (n > 0) out[0] = static_cast<float>(kTile);
}
void other_instantiation(bool bug, Memory& m) {
  auto first = tile_kernel<float, 64>;
  auto second = tile_kernel<float, 128>;
  TLL_CUDA(cudaFuncSetAttribute(bug ? first : second, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 * 1024));
  (void)try_launch(second, 1, 1, 60 * 1024, m);
  TLL_CUDA(cudaFuncSetAttribute(second, cudaFuncAttributeMaxDynamicSharedMemorySize, 0));
}
TLL_HOST_CASE(other_instantiation, 750, kLaunch)

// The test states that nvcc reported 68 registers for this kernel.
void too_many_registers(bool bug, Memory& m) { (void)try_launch(touch_kernel<true>, 1, bug ? 960 : 896, 0, m); }
TLL_HOST_CASE(too_many_registers, 750, kLaunch)

// ---- streams ------------------------------------------------------------------------------------------------------------------
struct TwoStreams {
  cudaStream_t a = nullptr, b = nullptr;
  cudaEvent_t event = nullptr;
  TwoStreams() {
    TLL_CUDA(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    TLL_CUDA(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    TLL_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  ~TwoStreams() {
    (void)cudaDeviceSynchronize();
    (void)cudaStreamDestroy(a);
    (void)cudaStreamDestroy(b);
    (void)cudaEventDestroy(event);
  }
  // Lets b wait for what is in a, and forgets it in the bug.
  void order(bool bug) {
    TLL_CUDA(cudaEventRecord(event, a));
    if (!bug) TLL_CUDA(cudaStreamWaitEvent(b, event, 0));
  }
};
void enqueue_double(cudaStream_t stream, float* out, const float* in) {
  tll::launch(double_kernel, 4, 64, 0, stream, out, in, 256);
}

// One stream doubles what another has just doubled.
void missing_event(bool bug, Memory& m) {
  TwoStreams s;
  enqueue_double(s.a, m.in + 256, m.in);
  s.order(bug);
  enqueue_double(s.b, m.out, m.in + 256);
}
TLL_HOST_CASE(missing_event, 750, kRace)

// The event is recorded before the work that it should cover.
void early_event(bool bug, Memory& m) {
  TwoStreams s;
  if (bug) TLL_CUDA(cudaEventRecord(s.event, s.a));
  enqueue_double(s.a, m.in + 256, m.in);
  if (!bug) TLL_CUDA(cudaEventRecord(s.event, s.a));
  TLL_CUDA(cudaStreamWaitEvent(s.b, s.event, 0));
  enqueue_double(s.b, m.in + 256, m.in);
}
TLL_HOST_CASE(early_event, 750, kRace)

// A tensor is overwritten in one stream while another still reads it.
void reused_tensor(bool bug, Memory& m) {
  TwoStreams s;
  enqueue_double(s.a, m.out, m.in);
  s.order(bug);
  TLL_CUDA(cudaMemsetAsync(m.in, 0, 1024, s.b));
}
TLL_HOST_CASE(reused_tensor, 750, kRace)

// An upload in one stream is used in another.
void upload_elsewhere(bool bug, Memory& m) {
  TwoStreams s;
  TLL_CUDA(cudaMemcpyAsync(m.in, m.pinned, 1024, cudaMemcpyHostToDevice, s.a));
  s.order(bug);
  enqueue_double(s.b, m.out, m.in);
}
TLL_HOST_CASE(upload_elsewhere, 750, kRace)

void download_elsewhere(bool bug, Memory& m) {
  TwoStreams s;
  enqueue_double(s.a, m.in, m.in);
  s.order(bug);
  TLL_CUDA(cudaMemcpyAsync(m.result, m.in, 1024, cudaMemcpyDeviceToHost, s.b));
}
TLL_HOST_CASE(download_elsewhere, 750, kRace)

// A staging buffer is refilled before the copy from it is done.
void reused_staging(bool bug, Memory& m) {
  TwoStreams s;
  for (int i = 0; i < 3; i++) {
    if (!bug && i > 0) TLL_CUDA(cudaEventSynchronize(s.event));
    for (int k = 0; k < 256; k++) m.pinned[k] = static_cast<float>(256 * i + k);
    TLL_CUDA(cudaMemcpyAsync(m.out + 256 * i, m.pinned, 1024, cudaMemcpyHostToDevice, s.a));
    TLL_CUDA(cudaEventRecord(s.event, s.a));
  }
}
TLL_HOST_CASE(reused_staging, 750, kHost)

// Results are read before the stream is waited for.
void early_read(bool bug, Memory& m) {
  TwoStreams s;
  enqueue_double(s.a, m.out, m.in);
  TLL_CUDA(cudaMemcpyAsync(m.pinned, m.out, 1024, cudaMemcpyDeviceToHost, s.a));
  if (!bug) TLL_CUDA(cudaStreamSynchronize(s.a));
  m.result[0] = m.pinned[7] + 1.0f;
}
TLL_HOST_CASE(early_read, 750, kHost)

// The same, with a wait for an event of another stream.
void wrong_event(bool bug, Memory& m) {
  TwoStreams s;
  enqueue_double(s.a, m.out, m.in);
  TLL_CUDA(cudaMemcpyAsync(m.pinned, m.out, 1024, cudaMemcpyDeviceToHost, s.a));
  TLL_CUDA(cudaEventRecord(s.event, bug ? s.b : s.a));
  TLL_CUDA(cudaEventSynchronize(s.event));
  m.result[0] = m.pinned[7] + 1.0f;
}
TLL_HOST_CASE(wrong_event, 750, kHost)

// The host reads device memory.
void device_pointer_on_host(bool bug, Memory& m) {
  if (!bug) TLL_CUDA(cudaMemcpy(m.result, m.in, 4, cudaMemcpyDeviceToHost));
  m.result[1] = (bug ? m.in[0] : m.result[0]) + 1.0f;
}
TLL_HOST_CASE(device_pointer_on_host, 750, kHost)

void upload_past_end(bool bug, Memory& m) {
  (void)cudaMemcpyAsync(m.out, m.result, (kValues + (bug ? 1 : 0)) * sizeof(float), cudaMemcpyHostToDevice, nullptr);
}
TLL_HOST_CASE(upload_past_end, 750, kHost)
void wrong_direction(bool bug, Memory& m) {
  (void)cudaMemcpyAsync(m.result, m.in, 64, bug ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, nullptr);
}
TLL_HOST_CASE(wrong_direction, 750, kHost)
void freed_stream(bool bug, Memory& m) {
  cudaStream_t stream = nullptr;
  TLL_CUDA(cudaStreamCreate(&stream));
  if (bug) TLL_CUDA(cudaStreamDestroy(stream));
  (void)cudaMemsetAsync(m.out, 0, 64, stream);
  if (!bug) TLL_CUDA(cudaStreamDestroy(stream));
}
TLL_HOST_CASE(freed_stream, 750, kHost)
void freed_memory(bool bug, Memory&) {
  float* p = nullptr;
  TLL_CUDA(cudaMalloc(&p, 1024));
  if (bug) TLL_CUDA(cudaFree(p));
  tll::launch(touch_kernel<false>, 1, 32, 0, nullptr, p, 32);
  if (!bug) TLL_CUDA(cudaFree(p));
}
TLL_HOST_CASE(freed_memory, 750, kOutside)

// Two branches of a graph write one tensor.
void graph_branches(bool bug, Memory& m) {
  TwoStreams s;
  cudaEvent_t joined = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  TLL_CUDA(cudaEventCreate(&joined));
  TLL_CUDA(cudaStreamBeginCapture(s.a, cudaStreamCaptureModeGlobal));
  TLL_CUDA(cudaEventRecord(s.event, s.a));
  TLL_CUDA(cudaStreamWaitEvent(s.b, s.event, 0));
  enqueue_double(s.a, m.out, m.in);
  enqueue_double(s.b, m.out + (bug ? 255 : 256), m.in);
  TLL_CUDA(cudaEventRecord(joined, s.b));
  TLL_CUDA(cudaStreamWaitEvent(s.a, joined, 0));
  enqueue_double(s.a, m.in, m.out);
  TLL_CUDA(cudaStreamEndCapture(s.a, &graph));
  TLL_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 2; i++) TLL_CUDA(cudaGraphLaunch(executable, s.a));
  (void)cudaDeviceSynchronize();
  TLL_CUDA(cudaGraphExecDestroy(executable));
  TLL_CUDA(cudaGraphDestroy(graph));
  TLL_CUDA(cudaEventDestroy(joined));
}
TLL_HOST_CASE(graph_branches, 750, kRace)

}  // namespace planted
