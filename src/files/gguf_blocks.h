// Blocks of GGUF to fp32.
//
//   Q4_0   18 bytes    f16 d; 16 bytes                      (q − 8)·d
//   Q4_1   20          f16 d; f16 m; 16 bytes               q·d + m
//   Q5_0   22          f16 d; u32 h; 16 bytes               (q − 16)·d      bit i of h is bit 4 of element i
//   Q5_1   24          f16 d; f16 m; u32 h; 16 bytes        q·d + m
//   Q8_0   34          f16 d; 32 int8                       q·d
//   Q4_K   144         f16 d, e; 12 bytes s; 128 bytes q    (d·scale)·q − (e·min)
//   Q5_K   176         f16 d, e; 12 bytes s; 32 bytes h; 128 bytes q       the same, with bit 4
//   Q6_K   210         128 bytes l; 64 bytes h; 16 int8 scale; f16 d       (d·scale)·(q − 32)
//
// In a block of 32 the low nibble of byte j is element j and the high one element j + 16. A block of 256 (K) has sub-blocks with
// a scale each: of Q4_K and Q5_K 8 of 32 elements, whose 6-bit scales and minimums are in s; of Q6_K 16 of 16.
//
// The bits are those of ggml and gguf-py, with and without fused multiply-add: each product is exact in fp32 (11 bits of an f16
// times at most 6 and 5, or 7 and 6, bits), so that only the one sum rounds.
//
// Source: ggml-common.h (layouts) and ggml-quants.c (dequantize_row_*).
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/files/gguf_types.h"

namespace tll {

inline constexpr int32_t kLargestGgufBlock = 256;

// One block of a type with blocks: gguf_type_row(type).block values.
void gguf_dequantize_block(GgufType type, const std::byte* block, float* out);

}  // namespace tll
