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
Matmul<float> square_product(Float* out, const Float* a, const Float* b, int size, Scratch scratch) {
  return {.out = matrix(out, size, size), .a = matrix(a, size, size), .b = matrix(b, size, size).t(), .scratch = scratch};
}

}  // namespace

template <class Float>
double measure_peak_flops(const Device& device) {
  constexpr int kSize = 768;
  const std::vector<Float> a(kSize * kSize, from_acc<Float>(0.5f)), b = a;
  std::vector<Float> out(kSize * kSize);
  std::vector<float> scratch(static_cast<size_t>(Matmul<float>::scratch_floats(device.threads)));
  const Matmul<float> product =
      square_product<Float>(out.data(), a.data(), b.data(), kSize, {scratch.data(), static_cast<int64_t>(scratch.size())});
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < 40 && Clock::now() - start < std::chrono::milliseconds(150); i++) {
    const auto begin = Clock::now();
    run(device, product);
    best = std::max(best, product.cost().flops / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

template <class Float>
double measure_peak_flops(const Device& device, void* memory, int64_t bytes) {
  if (cuda_emulated()) return 0;
  // As large as the memory allows, up to where a GPU is busy. Zeros would draw less power than numbers do: bytes of 0x3c are
  // about 0.01 to 1.05 in all three types.
  constexpr int64_t kLargest = 8192, kSmallest = 512, kAtOnce = 8;
  int64_t size = kLargest;
  const int64_t scratch = Matmul<float>::kCudaScratch * static_cast<int64_t>(sizeof(float));
  while (size >= kSmallest && 3 * size * size * static_cast<int64_t>(sizeof(Float)) + scratch > bytes) size /= 2;
  if (size < kSmallest) return 0;
  const int64_t count = size * size;
  auto* at = static_cast<Float*>(memory);
  cuda_fill(device, at, 0x3c, static_cast<size_t>(3 * count) * sizeof(Float));
  const Matmul<float> product = square_product<Float>(at, at + count, at + 2 * count, static_cast<int>(size),
                                                      {reinterpret_cast<float*>(at + 3 * count), Matmul<float>::kCudaScratch});
  double best = 0;
  for (int i = 0; i < 6; i++) {
    cuda_synchronize(device);
    const auto begin = Clock::now();
    for (int k = 0; k < kAtOnce; k++) run(device, product);
    cuda_synchronize(device);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, kAtOnce * product.cost().flops / seconds);
  }
  return best;
}

double measure_peak_bytes(const Device& device, void* memory, int64_t bytes) {
  constexpr int64_t kMost = 1 << 28;  // floats: far more than caches hold
  const bool host = device.kind == DeviceKind::cpu;
  if (!host && cuda_emulated()) return 0;
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

template double measure_peak_flops<float>(const Device&);
template double measure_peak_flops<bf16>(const Device&);
template <>
double measure_peak_flops<half>(const Device&) {
  return 0;  // the CPU has no products of fp16
}
template double measure_peak_flops<float>(const Device&, void*, int64_t);
template double measure_peak_flops<bf16>(const Device&, void*, int64_t);
template double measure_peak_flops<half>(const Device&, void*, int64_t);

}  // namespace tll
