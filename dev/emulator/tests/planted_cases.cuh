// Declarations of the planted cases, and how most of them are launched.
#pragma once

#include "dev/emulator/tests/planted.h"
#include "kernels/cuda_utils.cuh"

#define TLL_CASE(name, grid, block, shared, ...)                                                              \
  void name(bool bug, Memory& m) {                                                                            \
    tll::launch(bug ? name##_kernel<true> : name##_kernel<false>, grid, block, shared, nullptr, __VA_ARGS__); \
  }
