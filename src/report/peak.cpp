#include "src/report/peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/cuda_device.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;

template <class Float>
Matmul<float> square_matmul(Float* out, const Float* a, const Float* b, int size, Scratch scratch) {
  return {.out = matrix(out, size, size), .a = matrix(a, size, size), .b = matrix(b, size, size).t(), .scratch = scratch};
}

template <class Float>
double cpu_flops(const Device& device) {
  constexpr int kSize = 768;
  const std::vector<Float> a(kSize * kSize, from_acc<Float>(0.5f)), b = a;
  std::vector<Float> out(kSize * kSize);
  std::vector<float> scratch(static_cast<size_t>(Matmul<float>::scratch_floats(device.threads)));
  const Matmul<float> matmul =
      square_matmul<Float>(out.data(), a.data(), b.data(), kSize, {scratch.data(), static_cast<int64_t>(scratch.size())});
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < 40 && Clock::now() - start < std::chrono::milliseconds(150); i++) {
    const auto begin = Clock::now();
    run(device, matmul);
    best = std::max(best, matmul.cost().flops / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

template <class Float>
double cuda_flops(const Device& device, void* memory, int64_t bytes) {
  // Matrices as large as the memory allows, but no larger than it takes to keep a GPU busy. They are not zeros, which would draw
  // less power: bytes of 0x3c are numbers from about 0.01 to 1.05 in all three types.
  constexpr int64_t kLargest = 8192, kSmallest = 512, kAtOnce = 8;
  int64_t size = kLargest;
  const int64_t scratch = Matmul<float>::kCudaScratch * static_cast<int64_t>(sizeof(float));
  while (size >= kSmallest && 3 * size * size * static_cast<int64_t>(sizeof(Float)) + scratch > bytes) size /= 2;
  if (size < kSmallest) return 0;
  const int64_t count = size * size;
  auto* at = static_cast<Float*>(memory);
  cuda_fill(device, at, 0x3c, static_cast<size_t>(3 * count) * sizeof(Float));
  const Matmul<float> matmul = square_matmul<Float>(at, at + count, at + 2 * count, static_cast<int>(size),
                                                    {reinterpret_cast<float*>(at + 3 * count), Matmul<float>::kCudaScratch});
  double best = 0;
  for (int i = 0; i < 6; i++) {
    cuda_synchronize(device);
    const auto begin = Clock::now();
    for (int k = 0; k < kAtOnce; k++) run(device, matmul);
    cuda_synchronize(device);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, kAtOnce * matmul.cost().flops / seconds);
  }
  return best;
}

double copied_bytes(const Device& device, void* memory, int64_t bytes) {
  constexpr int64_t kMost = 1 << 28;  // floats: much more than the caches hold
  const bool host = device.kind == DeviceKind::cpu;
  std::vector<float> here(host ? size_t{1} << 25 : 0, 1.0f);
  const int64_t n = host ? static_cast<int64_t>(here.size()) / 2 : std::min(kMost, bytes / 8 / 64 * 64);
  if (n == 0) return 0;
  float* from = host ? here.data() : static_cast<float*>(memory);
  const Copy<float> copy{.out = from + n, .in = from, .n = n};
  if (!host) cuda_fill(device, memory, 0x3c, static_cast<size_t>(n) * sizeof(float));
  double best = 0;
  for (int i = 0; i < 8; i++) {
    if (!host) cuda_synchronize(device);
    const auto begin = Clock::now();
    run(device, copy);
    if (!host) cuda_synchronize(device);
    best = std::max(best, copy.cost().bytes / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace

template <class Float>
Ceilings measure_ceilings(const Device& device, bool copies, void* memory, int64_t bytes) {
  Ceilings found;
  if (device.kind == DeviceKind::cuda) {
    if (cuda_emulated()) return found;
    found.flops = cuda_flops<Float>(device, memory, bytes);
  } else if constexpr (has_cpu<Float>) {
    found.flops = cpu_flops<Float>(device);
  }
  if (copies) found.bytes = copied_bytes(device, memory, bytes);
  return found;
}

template Ceilings measure_ceilings<float>(const Device&, bool, void*, int64_t);
template Ceilings measure_ceilings<bf16>(const Device&, bool, void*, int64_t);
template Ceilings measure_ceilings<half>(const Device&, bool, void*, int64_t);

}  // namespace tll
