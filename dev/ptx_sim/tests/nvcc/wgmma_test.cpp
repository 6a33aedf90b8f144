// What nvcc makes of kernels with wgmma, against sums in a loop.
#include "dev/ptx_sim/tests/nvcc/wgmma.h"

#include <cuda_runtime.h>

#include <vector>

#include "dev/ptx_sim/tests/wgmma_case.h"

namespace ptx::test {
namespace {

// The objects hold PTX for compute_90, where the kernels are traps, and for compute_90a.
void start(const void* kernel, size_t shared, std::vector<void*> arguments) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1), config.blockDim = dim3(kThreads), config.dynamicSmemBytes = shared;
  EXPECT_EQ(cudaLaunchKernelExC(&config, kernel, arguments.data()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
}

TEST(PtxOfNvcc, Products) {
  int number = 0;
  for (const int n : {8, 64, 256})
    for (int a = 0; a <= 8; a++)
      for (int b = 0; b < 8; b++)
        for (const bool half : {false, true}) {
          Case c = make_case(n, half, a, b, number++);
          c.scale_a = c.scale_b = 1;
          const Found found = run_case(c, [&](Arguments& x, size_t shared) {
            start(product_kernel(half, n, c.registers, c.a.transposed, c.b.transposed), shared,
                  {&x.image, &x.pieces, &x.d, &x.fragments, &x.a, &x.b, &x.add});
          });
          ASSERT_EQ(found.reports, "") << name(c);
          ASSERT_EQ(found.wrong, 0) << name(c);
        }
}

// Scores are integers below 256, which bf16 holds.
TEST(PtxOfNvcc, Attention) {
  constexpr int kKeys = 128, kWidth = 64;
  alignas(16) static uint16_t q[kRows * kWidth], k[kKeys * kWidth], v[kKeys * kWidth];
  static float out[kRows * kWidth];
  const auto value = [](int row, int column, int by) { return static_cast<float>((row * by + column * 5 + row / 3) % 4 - 1); };
  for (int e = 0; e < kKeys * kWidth; e++) {
    const int row = e / kWidth, column = e % kWidth;
    if (row < kRows) q[e] = float_to_bf16(value(row, column, 3));
    k[e] = float_to_bf16(value(row, column, 7)), v[e] = float_to_bf16(value(row, column, 9));
  }
  add_memory(q, sizeof(q)), add_memory(k, sizeof(k)), add_memory(v, sizeof(v)), add_memory(out, sizeof(out));
  take_reports();
  void *qp = q, *kp = k, *vp = v, *op = out;
  start(attention_kernel(), 5 * 64 * 128, {&qp, &kp, &vp, &op});
  EXPECT_EQ(take_reports(), "");
  int wrong = 0;
  double most = 0;
  for (int m = 0; m < kRows; m++) {
    double sums[kWidth] = {};
    for (int key = 0; key < kKeys; key++) {
      double score = 0;
      for (int c = 0; c < kWidth; c++) score += static_cast<double>(value(m, c, 3)) * static_cast<double>(value(key, c, 7));
      most = std::max(most, std::abs(score));
      for (int c = 0; c < kWidth; c++) sums[c] += score * static_cast<double>(value(key, c, 9));
    }
    for (int c = 0; c < kWidth; c++) wrong += static_cast<double>(out[m * kWidth + c]) != sums[c];
  }
  EXPECT_LT(most, 256);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace ptx::test
