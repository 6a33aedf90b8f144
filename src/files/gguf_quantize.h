// Values to the types in which a GGUF file holds matrices.
//
// A row is cut into blocks of 32. With x the values of a block, in fp32, each operation rounded by itself:
//
//   Q8_0   d = max|x| / 127        q = round(x · 1/d), halves away from 0
//   Q4_0   d = m / −8, where m is the first x of the largest magnitude      q = min(15, trunc(x · 1/d + 8.5))
//
// with 1/d taken of the d before it is rounded to fp16, and 0 where d is 0. A block of Q8_0 is d (fp16) and 32 q (int8); one of
// Q4_0 is d (fp16) and 16 bytes, of which byte j has q[j] in its low and q[j + 16] in its high four bits.
//
// Source: ggml's ggml-quants.c (quantize_row_q8_0_ref, quantize_row_q4_0_ref) and gguf-py's quants.py, whose bits these are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/files/gguf_types.h"

namespace tll {

// Bytes of so many values, which are a multiple of the type's block.
int64_t gguf_bytes(GgufType type, int64_t count);

// Whether an F32 value, or the scale of a block, did not fit into what the type holds it as.
struct GgufFit {
  int64_t not_finite = 0;  // values that are infinite or NaN
  int64_t too_large = 0;   // finite values, or blocks, beyond fp16
};

// `count` values, a multiple of the block, to F32, F16, BF16, Q8_0 or Q4_0, rounded to nearest, ties to even where the type has
// no blocks. What does not fit is counted in `fit`, and its place in `out` means nothing.
void gguf_quantize(GgufType type, const float* values, int64_t count, std::byte* out, GgufFit& fit);

}  // namespace tll
