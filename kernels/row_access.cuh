// How kernels read and write rows of any alignment. A thread owns a few neighbouring elements whatever the alignment is; `vector`
// says that the rows are aligned for 128-bit accesses, and only chooses how they move. So the bits never depend on it.
#pragma once

#include "kernels/cuda_utils.cuh"
#include "kernels/device.h"

namespace tll {

inline cudaStream_t stream_of(const Device& device) { return static_cast<cudaStream_t>(device.stream); }
inline dim3 blocks_for(int64_t items, int64_t items_a_block) {
  return dim3(static_cast<unsigned>((items + items_a_block - 1) / items_a_block));
}

// v = p[0 … kCount-1] as float; of elements from `valid` on, 0.
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

// p[0 … valid-1] = v, rounded.
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

// 16 bytes of elements to shared memory (aligned to 16), zeros from `valid` on (0 … kVec<Float>); `from` may point anywhere, of
// the same alignment, where valid is 0. Complete after cp_async_commit, a wait and a barrier.
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
