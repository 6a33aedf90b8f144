#include "src/peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/matmul.h"

namespace tll {

template <class Float>
double measure_peak_flops(const Device& device) {
  constexpr int kSize = 768;
  using Clock = std::chrono::steady_clock;
  const std::vector<Float> a(kSize * kSize, from_acc<Float>(0.5f)), b = a;
  std::vector<Float> out(kSize * kSize);
  std::vector<float> scratch(static_cast<size_t>(Matmul<Float>::scratch_floats(device.threads)));
  const Matmul<Float> product{.out = out.data(),
                              .out_dtype = dtype_of<Float>,
                              .out_stride = kSize,
                              .a = {a.data(), dtype_of<Float>, kSize},
                              .b = {b.data(), dtype_of<Float>, kSize, true},
                              .rows = kSize,
                              .cols = kSize,
                              .inner = kSize,
                              .scratch = scratch.data(),
                              .scratch_size = static_cast<int64_t>(scratch.size())};
  double best = 0;
  const auto start = Clock::now();
  for (int i = 0; i < 40 && Clock::now() - start < std::chrono::milliseconds(150); i++) {
    const auto begin = Clock::now();
    run(device, product);
    best = std::max(best, product.cost().flops / std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

template double measure_peak_flops<float>(const Device&);
template double measure_peak_flops<bf16>(const Device&);

}  // namespace tll
