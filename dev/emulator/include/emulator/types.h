// Qualifiers, vector types and dim3 of CUDA C++, on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>  // first: it uses the attribute __noinline__, which is a macro from here on

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// A block runs on one OS thread, so its shared memory is thread_local.
#define __shared__ static thread_local

#define EMULATOR_DEVICE inline __attribute__((always_inline))

// clang-format off
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
// clang-format on
EMULATOR_DEVICE constexpr float2 make_float2(float x, float y) { return {x, y}; }

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
