// What every .cu file includes: launches, error checks, reductions, and the headers for types (cuda_types.cuh), tensor cores
// (mma.cuh) and asynchronous copies (cp_async.cuh).
//
// The same sources are compiled by nvcc for a GPU, and by the host compiler for the emulator (dev/emulator), which defines
// TLL_EMULATED. Therefore kernels are launched by launch(), not by <<<>>>, and use dynamic_shared<T>() for dynamic shared memory.
#pragma once

#include <utility>

#include "kernels/cp_async.cuh"
#include "kernels/cuda_types.cuh"
#include "kernels/mma.cuh"
#include "src/base/check.h"

namespace tll {

// ---- errors -------------------------------------------------------------------------------------------------------------------
inline void cuda_check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  fail(kExitFault, "the GPU failed at {}:{}: {}: {} ({})", file, line, call, cudaGetErrorString(error), cudaGetErrorName(error));
}
// TLL_CUDA(cudaMemcpy(...)) throws an Error with the source line if the call fails.
#define TLL_CUDA(call) ::tll::cuda_check((call), #call, __FILE__, __LINE__)

// ---- launch -------------------------------------------------------------------------------------------------------------------
// launch(kernel<Float, 4>, grid, block, bytes of dynamic shared memory, stream, arguments...)
//
// Arguments are converted to the kernel's parameter types. More than 48 KiB of shared memory needs an opt-in for each
// instantiation of a kernel. launch() opts in when dynamic_smem leaves less than 16 KiB of them for static arrays.
inline constexpr size_t kSharedWithoutOptIn = 32 * 1024;
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t dynamic_smem, cudaStream_t stream, Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument for each parameter of the kernel");
  if (dynamic_smem > kSharedWithoutOptIn)
    TLL_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(dynamic_smem)));
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_smem;
  config.stream = stream;
  TLL_CUDA(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...));
}

// launch<kernel<Float, 4>>(grid, …): the same, and the kernel is loaded when the device is opened. CUDA would load it at its
// first launch, which takes device memory and must not happen during stream capture.
void list_kernel(const void* kernel);  // cuda_device.cu
template <auto kKernel>
struct Listed {
  static const bool done;
};
template <auto kKernel>
const bool Listed<kKernel>::done = (list_kernel(reinterpret_cast<const void*>(kKernel)), true);
template <auto kKernel, class... Args>
void launch(dim3 grid, dim3 block, size_t dynamic_smem, cudaStream_t stream, Args&&... args) {
  static_cast<void>(&Listed<kKernel>::done);
  launch(kKernel, grid, block, dynamic_smem, stream, std::forward<Args>(args)...);
}

// ---- reductions ---------------------------------------------------------------------------------------------------------------
// Deterministic: the order of the additions depends only on the number of threads. Every lane (thread) gets the same bits. All
// lanes of the warp (threads of the block) must call.
struct Sum {
  TLL_DEVICE float operator()(float a, float b) const { return a + b; }
  static constexpr float kNeutral = 0.0f;
};
// The maximum; NaN if either is NaN, which fmaxf would hide.
struct Max {
  TLL_DEVICE float operator()(float a, float b) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
#else
    return a != a || a > b ? a : b;
#endif
  }
  static constexpr float kNeutral = -INFINITY;
};

// Warp-level reduction within groups of kLanes (a power of two) consecutive lanes. kLanes = 4 reduces a row of mma's accumulator.
template <class Op, int kLanes = kWarp>
TLL_DEVICE float warp_reduce(float x) {
  static_assert(kLanes > 0 && kLanes <= kWarp && (kLanes & (kLanes - 1)) == 0, "a power of two up to 32");
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) x = Op()(x, __shfl_xor_sync(kFullWarp, x, distance));
  return x;
}
template <int kLanes = kWarp>
TLL_DEVICE float warp_sum(float x) {
  return warp_reduce<Sum, kLanes>(x);
}
template <int kLanes = kWarp>
TLL_DEVICE float warp_max(float x) {
  return warp_reduce<Max, kLanes>(x);
}

// Block-level reduction, for a one-dimensional block of kThreads threads (a multiple of 32). With more than one warp it ends with
// a barrier, so it may be called again at once.
template <class Op, int kThreads>
TLL_DEVICE float block_reduce(float x) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024, "whole warps");
  constexpr int kWarps = kThreads / kWarp;
  x = warp_reduce<Op>(x);
  if constexpr (kWarps > 1) {
    __shared__ float partial[kWarps];
    if (lane_id() == 0) partial[warp_id()] = x;
    __syncthreads();
    x = warp_reduce<Op>(lane_id() < kWarps ? partial[lane_id()] : Op::kNeutral);
    __syncthreads();
  }
  return x;
}
template <int kThreads>
TLL_DEVICE float block_sum(float x) {
  return block_reduce<Sum, kThreads>(x);
}
template <int kThreads>
TLL_DEVICE float block_max(float x) {
  return block_reduce<Max, kThreads>(x);
}

}  // namespace tll
