// Problems with data on the device, and their expected results.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dev/ladder/ladder.h"

namespace tll::ladder {

// Ends the program with a line that says what failed.
void cuda_must(cudaError_t error, const char* what);

struct Memory {
  Memory(size_t bytes, const char* name);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data = nullptr;
  size_t bytes;
};

template <class Problem>
struct Case {
  Problem problem{};
  std::string shape;
  std::vector<std::unique_ptr<Memory>> memory{};  // the first holds the result
  // Of each element of the result, computed in double. Empty if the case is only timed.
  std::vector<double> expected{}, tolerance{};
};

// Random values. `expect`: also compute the expected result, which takes far longer.
Case<Rmsnorm> rmsnorm_case(int N, int C, bool expect);
Case<Matmul> matmul_case(int M, int N, int K, bool expect);
Case<Attention> attention_case(int H, int N, int D, bool expect);

// The result, element by element.
std::vector<double> result(const Case<Rmsnorm>&);
std::vector<double> result(const Case<Matmul>&);
std::vector<double> result(const Case<Attention>&);

}  // namespace tll::ladder
