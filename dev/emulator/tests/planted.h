// Kernels and host code, each with one bug and without it.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "dev/emulator/include/emulator/fault.h"

namespace planted {

inline constexpr int kValues = 4096;

// The tensors of a case, in one allocation with gaps between them; new for each run.
struct Memory {
  float *in, *out;        // kValues each; in holds i % 7, out is not written
  int* counter;           // 64 zeros
  float* pinned;          // kValues of pinned memory, 0
  float result[kValues];  // host memory, 0
};

struct Case {
  const char* name;
  void (*run)(bool bug, Memory& memory);  // enqueues; the caller synchronises
  int first_arch;                         // an architecture that has all it needs
  // One of these faults is reported. Which one may depend on the order of threads: without a barrier, a thread that reads first
  // reads uninitialised memory, and one that comes second races. Empty: the bug shows as out[i] != i for some i < 256.
  std::vector<emulator::Fault> faults;
  int last_arch = 9999;
};
std::vector<Case>& cases();

}  // namespace planted
