// Kernels with one bug each, and the same kernels without it.
#pragma once

#include <cuda_runtime.h>

namespace planted {

inline constexpr int kValues = 4096;

// Device memory of a case, fresh for each run.
struct Memory {
  float *in, *out;        // kValues each; in is written, out is not
  int* counter;           // 0
  float result[kValues];  // host: what the case copied back, if it did
};

struct Case {
  const char* name;
  void (*run)(bool bug, Memory& memory);  // enqueues; the caller synchronises
  int first_arch;                         // an architecture that has all it needs
  bool numeric = false;                   // the bug shows in memory.result, as memory.result[i] != i
};

extern const Case kCases[];
extern const int kCaseCount;

}  // namespace planted
