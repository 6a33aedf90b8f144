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
#define __maxnreg__(...)
#define __align__(n) __attribute__((aligned(n)))
// A block runs on one OS thread, so its shared memory is thread_local.
#define __shared__ static thread_local

#define EMULATOR_DEVICE inline __attribute__((always_inline))

// clang-format off
#define EMULATOR_VECTOR(name, T)                                                                             \
  struct name##1 { T x; };                                                                                   \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                         \
  struct name##3 { T x, y, z; };                                                                             \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };                         \
  EMULATOR_DEVICE constexpr name##1 make_##name##1(T x) { return {x}; }                                      \
  EMULATOR_DEVICE constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                              \
  EMULATOR_DEVICE constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                      \
  EMULATOR_DEVICE constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
// clang-format on
EMULATOR_VECTOR(char, signed char)
EMULATOR_VECTOR(uchar, unsigned char)
EMULATOR_VECTOR(short, short)
EMULATOR_VECTOR(ushort, unsigned short)
EMULATOR_VECTOR(int, int)
EMULATOR_VECTOR(uint, unsigned int)
EMULATOR_VECTOR(longlong, long long)
EMULATOR_VECTOR(ulonglong, unsigned long long)
EMULATOR_VECTOR(float, float)
EMULATOR_VECTOR(double, double)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
