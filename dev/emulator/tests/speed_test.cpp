// How fast the emulator is: build/emulator_tests --gtest_also_run_disabled_tests --gtest_filter='*Speed*'
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>

#include "dev/emulator/tests/collectives.h"
#include "emulator/emulator.h"

namespace {

// CPU time of the process, so that other programs do not count.
double now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

TEST(Speed, DISABLED_Figures) {
  float *in = nullptr, *out = nullptr;
  constexpr int kBlocks = 8, kRepeat = 64, kCount = kBlocks * 256 * kRepeat;
  ASSERT_EQ(cudaMalloc(&in, kCount * sizeof(float)), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&out, kCount * sizeof(float)), cudaSuccess);
  ASSERT_EQ(cudaMemset(in, 0, kCount * sizeof(float)), cudaSuccess);
  for (int workers : {1, 2}) {
    emulator::options().workers = workers;
    collectives::traffic(out, in, kBlocks, kRepeat);  // the records' pages
    cudaDeviceSynchronize();

    double start = now();
    emulator::Counters before = emulator::counters();
    for (int i = 0; i < 8; i++) collectives::traffic(out, in, kBlocks, kRepeat);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    double seconds = now() - start;
    std::printf("%d workers: %.1f ns an access of 4 bytes\n", workers,
                seconds * 1e9 / static_cast<double>(emulator::counters().accesses - before.accesses));

    start = now();
    before = emulator::counters();
    for (int i = 0; i < 8; i++) collectives::barriers(reinterpret_cast<int*>(out), kBlocks, 64);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    seconds = now() - start;
    std::printf("%d workers: %.1f ns a switch of threads\n", workers,
                seconds * 1e9 / static_cast<double>(emulator::counters().switches - before.switches));

    start = now();
    for (int i = 0; i < 1000; i++) collectives::scale(nullptr, out, in, 2.0f, 512);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::printf("%d workers: %.1f us a launch of 4 blocks of 128 threads with 2 accesses each\n", workers,
                (now() - start) * 1e6 / 1000);
    for (int blocks : {1, 64}) {
      start = now();
      for (int i = 0; i < 1000; i++) collectives::nothing(blocks);
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      std::printf("%d workers: %.1f us a launch of %d blocks of 128 threads that do nothing\n", workers,
                  (now() - start) * 1e6 / 1000, blocks);
    }
  }
  cudaFree(in);
  cudaFree(out);
}

}  // namespace
