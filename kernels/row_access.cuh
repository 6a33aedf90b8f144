// Loads and stores of rows with any alignment. A thread handles the same consecutive elements in either case; `vector` states
// that the rows are aligned and only selects 128-bit accesses. So the results never depend on it.
#pragma once

#include "kernels/cuda_utils.cuh"
#include "kernels/device.h"

namespace tll {

inline cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }
inline dim3 blocks_for(int64_t items, int64_t items_a_block) {
  return dim3(static_cast<unsigned>((items + items_a_block - 1) / items_a_block));
}

// v = p[0 … kCount-1] as float; elements from `valid` on are 0.
template <int kCount, class Float>
TLL_DEVICE void load_floats(float (&v)[kCount], const Float* p, int64_t valid, bool vector) {
  constexpr int kStep = kVec<Float> < kCount ? kVec<Float> : kCount;
  static_assert(kCount % kStep == 0, "whole vectors");
  if (vector && valid >= kCount) {
#pragma unroll
    for (int i = 0; i < kCount; i += kStep) {
      const Vec<Float, kStep> x = load_vec<kStep>(p + i);
#pragma unroll
      for (int j = 0; j < kStep; j++) v[i + j] = to_float(x[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i++) v[i] = i < valid ? to_float(p[i]) : 0.0f;
  }
}

// p[i] = v[i], rounded, for i < valid.
template <int kCount, class Float>
TLL_DEVICE void store_floats(Float* p, const float (&v)[kCount], int64_t valid, bool vector) {
  constexpr int kStep = kVec<Float> < kCount ? kVec<Float> : kCount;
  if (vector && valid >= kCount) {
#pragma unroll
    for (int i = 0; i < kCount; i += kStep) {
      Vec<Float, kStep> x;
#pragma unroll
      for (int j = 0; j < kStep; j++) x[j] = from_float<Float>(v[i + j]);
      store_vec(p + i, x);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i++)
      if (i < valid) p[i] = from_float<Float>(v[i]);
  }
}

// Copies `valid` (0 … kVec<Float>) elements to shared memory (aligned to 16 bytes) and fills up to 16 bytes with zeros. With
// valid = 0 nothing is read, so `from` may be any pointer of the stated alignment. Complete after cp_async_commit, a wait and a
// barrier.
template <class Float>
TLL_DEVICE void copy_vec_async(Float* shared, const Float* from, int valid, bool vector) {
  if (vector) {
    cp_async_16(shared, from, static_cast<int>(sizeof(Float)) * valid);
  } else {
    Vec<Float, kVec<Float>> x;
#pragma unroll
    for (int i = 0; i < kVec<Float>; i++) x[i] = i < valid ? from[i] : Float{};
    store_vec(shared, x);
  }
}

}  // namespace tll
