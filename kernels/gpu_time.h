// A model of the time that an op takes on a GPU, for plans: what --batch-size auto compares, and dev/cost prints.
//
// An op takes the longest of
//   memory        its bytes at the bandwidth that copies reach
//   arithmetic    the flops of a product of cuBLASLt, at the rate that large ones reach, over whole tiles and whole waves of SMs
//   instructions  of our own kernels: what a warp executes (kernel_counts.inc), with as many warps as an SM holds, and the blocks
//                 on the SMs in launch order (schedule), since the tiles of causal attention are of unequal length
// and a gap for each launch.
//
// What it takes for granted: dev/cost/README.md. None of it was measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/matmul.h"

namespace tll {

// What is taken for granted, until dev/gpu_check.sh has measured it: shares of what is published that are reached.
inline constexpr double kMemoryShare = 0.9;  // of the bandwidth, by copies
inline constexpr double kGemmShare = 0.725;  // of the peak, by large products of cuBLASLt: 717 TFLOP/s of an H200's 989
// Of the rate that dev/cost/count_instructions.py simulates, by our kernels: clocks below boost, warps of a block that wait for
// one another, and what caches do not have.
inline constexpr double kKernelShare = 0.8;

// Of what is published of a GPU (src/report/known_gpus.h).
struct Gpu {
  int arch = 0;      // compute capability, 700 … 1200
  int sms = 0;       // multiprocessors
  double clock = 0;  // a second
  int64_t l2 = 0;    // bytes
  double tensor_flops = 0, fp32_flops = 0,
         bandwidth = 0;  // a second: of products of 16 bits and of fp32, and bytes of its memory
  double launch = 0;     // seconds from the end of a kernel to the begin of the next
};

// What an SM has to hold blocks: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
struct SmLimits {
  int threads, blocks;
  int64_t shared, reserved, unit;  // bytes; of them what each block takes besides; to what they are rounded up
};
SmLimits sm_limits(int arch);

// A launch of one of our kernels.
struct GpuLaunch {
  std::string kernel;  // as kernel_counts.inc names it: without the type
  int64_t grid[3];
  int64_t dynamic_shared;  // bytes
  // Turns of the main loop, of each block in the order in which they are launched; one number: all blocks have as many.
  std::vector<int> turns;
};
// What cuda() launches for them with operands of 16 bits that tensor cores multiply. Not here: delta_kernel of the backward pass
// and the sum of split-K, which take as long as their bytes.
std::vector<GpuLaunch> gpu_launches(const AttentionSizes& sizes, bool backward, int arch);
GpuLaunch gpu_launch(const Matmul<float>& op, int arch);  // not of two transposed operands, which fma multiplies

// Clocks of a block of one kernel, with n blocks on its SM: its prologue and epilogue, and a turn of its main loop.
struct BlockClocks {
  std::vector<double> once, turn;  // [n - 1], up to as many blocks as an SM holds
};
// Clocks until the last block has ended. Blocks start in launch order: first one on each SM, then a second one, and so on, and
// then wherever one ends. Those of an SM slow each other down. Of many more blocks than the SMs hold only the last ones are
// followed; those before them take their sum over all SMs.
double schedule(int sms, const BlockClocks& clocks, const std::vector<int>& turns);
// The same where all blocks are equal: in waves.
double schedule_equal(int sms, const BlockClocks& clocks, int64_t blocks, int turns);

}  // namespace tll
