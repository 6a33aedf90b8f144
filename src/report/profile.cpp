#include "src/report/profile.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/cuda_device.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "src/model/device_memory.h"

namespace tll {
namespace {

using Clock = std::chrono::steady_clock;

template <class Float>
Matmul<float> square_matmul(Float* out, const Float* a, const Float* b, int size, Scratch scratch) {
  return {.out = matrix(out, size, size), .a = matrix(a, size, size), .b = matrix(b, size, size).t(), .scratch = scratch};
}

// The best of `runs` runs of the op, `at_once` of them in a row, in `work` of one a second. No run begins after `limit`.
template <class Op>
double best_rate(const Device& device, const Op& op, double work, int runs, int at_once,
                 Clock::duration limit = Clock::duration::max()) {
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < runs && Clock::now() - start < limit; i++) {
    synchronize(device);
    const auto begin = Clock::now();
    for (int k = 0; k < at_once; k++) run(device, op);
    synchronize(device);
    best = std::max(best, at_once * work / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

// Numbers from -1 to 1. Equal ones would change fewer bits from one operation to the next, draw less power, and so run faster
// than those of a model.
template <class Float>
std::vector<Float> random_values(size_t count) {
  std::vector<Float> values(count);
  uint64_t state = 1;
  for (Float& v : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's generator, of which the upper bits are good
    v = from_acc<Float>(static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f);
  }
  return values;
}

// Flops a second of a product of size³.
template <class Float>
double cpu_flops(const Device& device, int size, int runs) {
  const size_t count = static_cast<size_t>(size) * static_cast<size_t>(size);
  const std::vector<Float> a = random_values<Float>(count), b(a.rbegin(), a.rend());
  std::vector<Float> out(count);
  std::vector<float> scratch(static_cast<size_t>(Matmul<float>::scratch_floats(device.threads)));
  const Matmul<float> matmul =
      square_matmul<Float>(out.data(), a.data(), b.data(), size, {scratch.data(), static_cast<int64_t>(scratch.size())});
  return best_rate(device, matmul, matmul.cost().flops, runs, 1, std::chrono::milliseconds(150));
}

template <class Float>
double cuda_flops(const Device& device, void* memory, int64_t bytes) {
  // Matrices as large as the memory allows, but no larger than it takes to keep a GPU busy.
  constexpr int64_t kLargest = 8192, kSmallest = 512;
  constexpr int kAtOnce = 8;
  int64_t size = kLargest;
  const int64_t scratch = Matmul<float>::kCudaScratch * static_cast<int64_t>(sizeof(float));
  while (size >= kSmallest && 3 * size * size * static_cast<int64_t>(sizeof(Float)) + scratch > bytes) size /= 2;
  if (size < kSmallest) return 0;
  const int64_t count = size * size;
  auto* at = static_cast<Float*>(memory);
  // Random values are made on the host, as many as are different enough, and repeated on the GPU. Rows begin at different ones.
  const int64_t period = std::min<int64_t>((1 << 20) - 3, 2 * count);
  const std::vector<Float> values = random_values<Float>(static_cast<size_t>(period));
  copy_to_cuda(device, at + count, values.data(), static_cast<size_t>(period) * sizeof(Float));
  for (int64_t done = period; done < 2 * count; done *= 2)
    copy_within_cuda(device, at + count + done, at + count,
                     static_cast<size_t>(std::min(done, 2 * count - done)) * sizeof(Float));
  cuda_synchronize(device);
  const Matmul<float> matmul = square_matmul<Float>(at, at + count, at + 2 * count, static_cast<int>(size),
                                                    {reinterpret_cast<float*>(at + 3 * count), Matmul<float>::kCudaScratch});
  return best_rate(device, matmul, matmul.cost().flops, 6, kAtOnce);
}

double copied_bytes(const Device& device, void* memory, int64_t bytes) {
  constexpr int64_t kMost = 1 << 28;  // floats: much more than the caches hold
  const bool host = on_host(device);
  std::vector<float> here(host ? size_t{1} << 25 : 0, 1.0f);
  const int64_t n = host ? static_cast<int64_t>(here.size()) / 2 : std::min(kMost, bytes / 8 / 64 * 64);
  if (n == 0) return 0;
  float* from = host ? here.data() : static_cast<float*>(memory);
  const Copy<float> copy{.out = from + n, .in = from, .n = n};
  if (!host) cuda_fill(device, memory, 0x3c, static_cast<size_t>(n) * sizeof(float));
  return best_rate(device, copy, copy.cost().bytes, 8, 1);
}

}  // namespace

template <class Float>
Ceilings measure_ceilings(const Device& device, bool copies, void* memory, int64_t bytes) {
  Ceilings found;
  if (device.kind == DeviceKind::cuda) {
    if (cuda_emulated()) return found;
    found.flops = cuda_flops<Float>(device, memory, bytes);
  } else if constexpr (has_cpu<Float>) {
    found.flops = cpu_flops<Float>(device, 768, 40);
  }
  if (copies) found.bytes = copied_bytes(device, memory, bytes);
  return found;
}

bool bf16_is_faster(const Device& device) {
  if (!cpu_has_bf16_matmul()) return false;
  constexpr int kSize = 256, kRuns = 2;
  constexpr double kClearly = 1.2;
  double fp32 = 0, bfloat = 0;
  for (int turn = 0; turn < 3; turn++) {
    fp32 = std::max(fp32, cpu_flops<float>(device, kSize, kRuns));
    bfloat = std::max(bfloat, cpu_flops<bf16>(device, kSize, kRuns));
  }
  return bfloat * kClearly >= fp32;
}

template Ceilings measure_ceilings<float>(const Device&, bool, void*, int64_t);
template Ceilings measure_ceilings<bf16>(const Device&, bool, void*, int64_t);
template Ceilings measure_ceilings<half>(const Device&, bool, void*, int64_t);

void print_profile(const Device& device, const Ceilings& ceilings) {
  if (!device.profile) return;
  std::vector<ProfileLine> lines;
  double total = 0;
  for (const ProfileLine& l : device.profile->lines)
    if (l.op) lines.push_back(l), total += l.seconds;
  // The roofline (Williams et al. 2009): the seconds that each ceiling allows at least. The larger one binds.
  const auto arithmetic = [&](const ProfileLine& l) { return ceilings.flops > 0 ? l.cost.flops / ceilings.flops : 0; };
  const auto memory = [&](const ProfileLine& l) { return ceilings.bytes > 0 ? l.cost.bytes / ceilings.bytes : 0; };
  std::sort(lines.begin(), lines.end(), [](const ProfileLine& a, const ProfileLine& b) { return a.seconds > b.seconds; });
  fmt::print(stderr, "{:<20} {:>9} {:>9} {:>7} {:>8} {:>9} {:>8}  {}\n", "op", "calls", "seconds", "share", "GB/s", "GFLOP/s",
             "of peak", "bound by");
  for (const ProfileLine& l : lines) {
    const double rate = l.cost.flops / l.seconds;
    fmt::print(stderr, "{:<20} {:>9} {:>9.3f} {:>6.1f}% {:>8.1f} {:>9.1f} {:>7.1f}%  {}\n", l.op, l.calls, l.seconds,
               100 * l.seconds / total, l.cost.bytes / l.seconds / 1e9, rate / 1e9,
               100 * std::max(arithmetic(l), memory(l)) / l.seconds, arithmetic(l) >= memory(l) ? "arithmetic" : "memory");
  }
  fmt::print(stderr, "{:<20} {:>9} {:>9.3f}   ceilings: a matmul of this type at {:.1f} GFLOP/s, a copy at {:.1f} GB/s\n",
             "all ops", "", total, ceilings.flops / 1e9, ceilings.bytes / 1e9);
}

}  // namespace tll
