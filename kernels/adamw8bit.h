// AdamW whose moments are 8-bit codes (Dettmers et al. 2022, 8-bit optimizers via block-wise quantization), in one launch over
// all trained tensors. The bits are those of bitsandbytes' CUDA kernel with IEEE operations in place of its approximate ones.
//
// A tensor is cut into blocks of 256 values, the last of which may be short. A block has a largest |m| and |v|, its absmax, and
// each value a code of m and of v: an index into bitsandbytes' dynamic map, signed for m, unsigned for v. Codes of 0 with absmax
// 0 are the moments' zeros. With fma rounded once, and all else after every operation:
//
//   g = gradient · grad_scale
//   m = fma(g, 1-beta1, (signed[code]·absmax)·beta1)        v = fma(g, g·(1-beta2), (unsigned[code]·absmax)·beta2)
//   p = fma(-lr·c2/c1, m / fma(c2, eps, sqrt(v)), p)        c1 = 1 - beta1^t,  c2 = sqrt(1 - beta2^t);   t counts from 1
//   p = p · (1 - lr·weight_decay)                           after the update, other than AdamW; p is rounded in between
//   absmax = max |m|, max |v|;   code = nearest(m / absmax), nearest(v / absmax), as a product with the reciprocal
//
// 1-beta is a subtraction of floats. Of two codes that are equally near the even one is taken. A code of m whose value has not
// m's sign becomes its neighbour that has. Where the gradient is not finite, m = v = 0, and p stays.
//
// The guard: a v below 1.6e-7 of its block's largest has the code 0. The next update would then divide by little more than eps,
// and p moves by lr/eps times m. With the guard such a v that is not zero gets the code 1, 3.25e-7 of the largest. Without it
// the rule is bitsandbytes' own.
//
// Tensors below 4,096 values keep their moments as floats:
//   m = fma(m, beta1, (1-beta1)·g)        v = fma(v, beta2, (1-beta2)·(g·g))        p as above
//
// Memory-bound: reads 2 values and 2 codes, and writes 1 value and 2 codes, per element.
#pragma once

#include "kernels/adamw.h"

namespace tll {

// A tensor of the flat range, or a part of one from a block on. Blocks are counted from tensor to tensor: it has ⌈count/256⌉ of
// them.
struct TrainedSpan {
  int64_t offset;    // of its first value
  int64_t gradient;  // of the gradient of that: the same, unless gradients are split among ranks
  int64_t count;     // values
  int64_t first_block;
};

struct AdamW8bit {
  using Scalar = float;
  static constexpr const char* kName = "adamw8bit";
  static constexpr int kBlock = 256;
  static constexpr int64_t kFewest = 4096;  // values of a tensor that is kept in codes

  void* param;       // in and out; fp32, bf16 or fp16
  const void* grad;  // of the same type
  DType dtype;
  const TrainedSpan* spans;  // (span_count)  device memory, ascending in first_block: first the tensors in codes, then the others
  int span_count;
  const float* maps;            // (2, 256)  signed, unsigned: dynamic_map() of kernels/quantized.h
  const AdamWFactors* factors;  // (1)  device memory
  int64_t code_blocks;          // blocks that are kept in codes: 0 … code_blocks-1
  int64_t first, blocks;        // the blocks to update: first … first+blocks-1
  uint8_t *m_codes, *v_codes;   // (code blocks from `first` on, 256)  in and out
  float *m_absmax, *v_absmax;   // (code blocks from `first` on)       in and out
  float *m, *v;                 // (blocks from code_blocks on, 256)   in and out
  double beta1, beta2, eps;
  bool guard = true;

  static int64_t blocks_of(int64_t count) { return (count + kBlock - 1) / kBlock; }
  TLL_HOST_DEVICE bool with_codes() const { return first < code_blocks; }
  bool with_floats() const { return first + blocks > code_blocks; }
  void check() const {
    TLL_CHECK(blocks >= 0 && first >= 0 && code_blocks >= 0 && factors, "blocks {} from {}", blocks, first);
    TLL_CHECK(blocks == 0 || (param && grad && spans && span_count > 0), "{} tensors", span_count);
    TLL_CHECK(blocks == 0 || !with_codes() || (maps && m_codes && v_codes && m_absmax && v_absmax), "{} of codes", code_blocks);
    TLL_CHECK(blocks == 0 || !with_floats() || (m && v), "{} of codes", code_blocks);
  }
  Cost cost() const {
    const double n = static_cast<double>(blocks) * kBlock;
    return {n * (3.0 * static_cast<double>(dtype_bytes(dtype)) + 4) + 16.0 * static_cast<double>(blocks), 40 * n};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
