#include "src/report/known_gpus.h"

#include <algorithm>

#include "kernels/cuda_device.h"
#include "src/base/spelling.h"

namespace tll {
namespace {

constexpr int64_t kKiB = 1 << 10, kMiB = 1 << 20;
constexpr std::string_view kEstimate = "estimate";
constexpr std::string_view kPublished = "usable as reported for this GPU, context an estimate";

// Peak rates, bandwidths and links: the vendor's data sheets. GeForce parts sum 16-bit products in fp32 at half the rate of the
// marketing figures. Links: PCIe at 80 % of its raw rate one way. SMs, boost clocks and L2: the vendor's architecture white
// papers and data sheets. Of sm_90 and sm_100 the clock is the one at which the rate of tensor cores holds; that of fp32 is
// stated for a higher one.
constexpr double kPcie3 = 12.8e9, kPcie4 = 25.6e9, kPcie4x8 = 12.8e9, kPcie5 = 51.2e9;
constexpr KnownGpu kGpus[] = {
    {"T4", 750, 15104 * kMiB, 300 * kMiB, kPublished, 65e12, 8.1e12, 320e9, kPcie3, 40, 1.59e9, 4 * kMiB},
    {"V100-16GB", 700, 16160 * kMiB, 320 * kMiB, kPublished, 125e12, 15.7e12, 900e9, kPcie3, 80, 1.53e9, 6 * kMiB},
    {"V100-32GB", 700, 32510 * kMiB, 320 * kMiB, kPublished, 125e12, 15.7e12, 900e9, kPcie3, 80, 1.53e9, 6 * kMiB},
    {"RTX-2080-Ti", 750, 11019 * kMiB, 300 * kMiB, kPublished, 53.8e12, 13.4e12, 616e9, kPcie3, 68, 1.545e9, 5632 * kKiB},
    {"A10", 860, 22731 * kMiB, 400 * kMiB, kPublished, 125e12, 31.2e12, 600e9, kPcie4, 72, 1.695e9, 6 * kMiB},
    {"A10G", 860, 22587 * kMiB, 400 * kMiB, kPublished, 70e12, 35e12, 600e9, kPcie4, 80, 1.71e9, 6 * kMiB},
    {"A30", 800, 24062 * kMiB, 420 * kMiB, kEstimate, 165e12, 10.3e12, 933e9, kPcie4, 56, 1.44e9, 24 * kMiB},
    {"A40", 860, 45634 * kMiB, 420 * kMiB, kEstimate, 149.7e12, 37.4e12, 696e9, kPcie4, 84, 1.74e9, 6 * kMiB},
    {"A100-40GB", 800, 40536 * kMiB, 450 * kMiB, kPublished, 312e12, 19.5e12, 1555e9, kPcie4, 108, 1.41e9, 40 * kMiB},
    {"A100-80GB", 800, 81152 * kMiB, 450 * kMiB, kEstimate, 312e12, 19.5e12, 1935e9, kPcie4, 108, 1.41e9, 40 * kMiB},
    {"RTX-3060-12GB", 860, 11931 * kMiB, 350 * kMiB, kPublished, 25.5e12, 12.7e12, 360e9, kPcie4, 28, 1.777e9, 3 * kMiB},
    {"RTX-3070", 860, 7972 * kMiB, 350 * kMiB, kEstimate, 40.6e12, 20.3e12, 448e9, kPcie4, 46, 1.725e9, 4 * kMiB},
    {"RTX-3080-10GB", 860, 10009 * kMiB, 380 * kMiB, kEstimate, 59.5e12, 29.8e12, 760e9, kPcie4, 68, 1.71e9, 5 * kMiB},
    {"RTX-3090", 860, 24259 * kMiB, 400 * kMiB, kPublished, 71e12, 35.6e12, 936e9, kPcie4, 82, 1.695e9, 6 * kMiB},
    {"RTX-A5000", 860, 24247 * kMiB, 400 * kMiB, kEstimate, 111e12, 27.8e12, 768e9, kPcie4, 64, 1.695e9, 6 * kMiB},
    {"RTX-A6000", 860, 48677 * kMiB, 420 * kMiB, kEstimate, 154.8e12, 38.7e12, 768e9, kPcie4, 84, 1.8e9, 6 * kMiB},
    {"L4", 890, 22563 * kMiB, 420 * kMiB, kEstimate, 121e12, 30.3e12, 300e9, kPcie4, 58, 2.04e9, 48 * kMiB},
    {"L40S", 890, 45589 * kMiB, 450 * kMiB, kEstimate, 362e12, 91.6e12, 864e9, kPcie4, 142, 2.52e9, 96 * kMiB},
    {"RTX-4060", 890, 7807 * kMiB, 380 * kMiB, kEstimate, 30.2e12, 15.1e12, 272e9, kPcie4x8, 24, 2.46e9, 24 * kMiB},
    {"RTX-4060-Ti-16GB", 890, 15946 * kMiB, 380 * kMiB, kEstimate, 44.1e12, 22.1e12, 288e9, kPcie4x8, 34, 2.535e9, 32 * kMiB},
    {"RTX-4070", 890, 11872 * kMiB, 400 * kMiB, kEstimate, 58.3e12, 29.1e12, 504e9, kPcie4, 46, 2.475e9, 36 * kMiB},
    {"RTX-4080", 890, 15946 * kMiB, 400 * kMiB, kEstimate, 97.5e12, 48.7e12, 717e9, kPcie4, 76, 2.505e9, 64 * kMiB},
    {"RTX-4090", 890, 24081 * kMiB, 430 * kMiB, kEstimate, 165e12, 82.6e12, 1008e9, kPcie4, 128, 2.52e9, 72 * kMiB},
    {"RTX-6000-Ada", 890, 48519 * kMiB, 430 * kMiB, kEstimate, 364e12, 91.1e12, 960e9, kPcie4, 142, 2.505e9, 96 * kMiB},
    {"H100", 900, 81082 * kMiB, 600 * kMiB, kPublished, 989e12, 67e12, 3350e9, kPcie5, 132, 1.83e9, 50 * kMiB},
    {"H100-PCIe", 900, 81008 * kMiB, 600 * kMiB, kPublished, 756e12, 51e12, 2000e9, kPcie5, 114, 1.62e9, 50 * kMiB},
    {"H200", 900, 143156 * kMiB, 600 * kMiB, kPublished, 989e12, 67e12, 4800e9, kPcie5, 132, 1.83e9, 50 * kMiB},
    {"GH200", 900, 97280 * kMiB, 600 * kMiB, kEstimate, 989e12, 67e12, 4000e9, 360e9, 132, 1.83e9, 50 * kMiB},
    {"B200", 1000, 182631 * kMiB, 700 * kMiB, kPublished, 2250e12, 75e12, 7700e9, kPcie5, 148, 1.86e9, 126 * kMiB},
    {"RTX-5070-Ti", 1200, 15842 * kMiB, 500 * kMiB, kEstimate, 87.9e12, 43.9e12, 896e9, kPcie5, 70, 2.452e9, 48 * kMiB},
    {"RTX-5080", 1200, 15842 * kMiB, 500 * kMiB, kEstimate, 112.6e12, 56.3e12, 960e9, kPcie5, 84, 2.617e9, 64 * kMiB},
    {"RTX-5090", 1200, 32109 * kMiB, 550 * kMiB, kEstimate, 209.5e12, 104.8e12, 1792e9, kPcie5, 170, 2.407e9, 96 * kMiB},
};

std::string plain(std::string_view name) {
  std::string text = lower_case(name);
  std::erase_if(text, [](char c) { return c == '-' || c == '_' || c == ' '; });
  for (const std::string_view maker : {"nvidia", "geforce", "tesla"})
    if (text.starts_with(maker)) text.erase(0, maker.size());
  return text;
}

}  // namespace

const KnownGpu* known_gpu(std::string_view name) {
  const std::string wanted = plain(name);
  const KnownGpu* unique = nullptr;
  for (const KnownGpu& gpu : kGpus) {
    const std::string known = plain(gpu.name);
    if (known == wanted) return &gpu;
    // "RTX 3060" is the one of 12 GB, while "A100" may be either.
    const bool shorter = !wanted.empty() && known.starts_with(wanted) && known.ends_with("gb") &&
                         std::all_of(known.begin() + static_cast<ptrdiff_t>(wanted.size()), known.end() - 2,
                                     [](char c) { return c >= '0' && c <= '9'; });
    if (!shorter) continue;
    if (unique) return nullptr;
    unique = &gpu;
  }
  return unique ? unique : gpu_of_driver_name(name);
}

const KnownGpu* gpu_of_driver_name(std::string_view name) {
  const auto words = [](std::string_view text) {
    std::vector<std::string> all(1);
    for (const char c : lower_case(text))
      if (c == '-' || c == '_' || c == ' ')
        all.emplace_back();
      else
        all.back() += c;
    return all;
  };
  const std::vector<std::string> here = words(name);
  const KnownGpu* best = nullptr;
  size_t most = 0;
  for (const KnownGpu& gpu : kGpus) {
    const std::vector<std::string> known = words(gpu.name);
    const bool all = std::all_of(known.begin(), known.end(), [&](const std::string& word) {
      return std::find(here.begin(), here.end(), word) != here.end();
    });
    if (all && known.size() > most) best = &gpu, most = known.size();
  }
  return best;
}

std::vector<std::string_view> known_gpu_names() {
  std::vector<std::string_view> names;
  for (const KnownGpu& gpu : kGpus) names.push_back(gpu.name);
  return names;
}

namespace {

// Of this name; of the one that is here; of the commonest in data centres.
const KnownGpu& gpu_or_usual(std::string_view name) {
  const KnownGpu* known = name.empty() ? gpu_of_driver_name(cuda_name()) : known_gpu(name);
  return known ? *known : *known_gpu("A100-40GB");
}
constexpr double kLaunch = 1.5e-6;  // from kernel to kernel in a CUDA graph: an estimate

}  // namespace

Speed nominal_speed(DeviceKind device, std::string_view gpu, int threads, bool fp32) {
  constexpr double kCpuFlops = 40e9, kCpuBytes = 20e9;  // of a thread; of all
  constexpr double kCall = 1e-6;
  if (device == DeviceKind::cpu) return {kCpuFlops * threads, kCpuBytes, 0, kCall};
  const KnownGpu& known = gpu_or_usual(gpu);
  return {fp32 ? known.fp32_flops : known.flops, known.bandwidth, known.link, kLaunch};
}

Gpu nominal_gpu(std::string_view name) {
  const KnownGpu& known = gpu_or_usual(name);
  return {.arch = known.arch,
          .sms = known.sms,
          .clock = known.clock,
          .l2 = known.l2,
          .tensor_flops = known.flops,
          .fp32_flops = known.fp32_flops,
          .bandwidth = known.bandwidth,
          .launch = kLaunch};
}

}  // namespace tll
