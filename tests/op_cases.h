// The ops that tests check and build/bench_ops times: one factory each. All but the reference costs little, whatever the sizes
// are.
#pragma once

#include "kernels/adamw.h"
#include "kernels/quantized.h"
#include "tests/op_case.h"

namespace tll::test {

struct MatmulShape {
  struct {
    int rows, cols, inner;
  } size;
  struct {
    Kind a = Kind::f32, b = Kind::f32, out = Kind::f32;
  } types = {};
  bool ta = false, tb = true;  // stored transposed
  double alpha = 1;
  bool accumulate = false, small_scratch = false, cpu = true, backward = true;
  int gap = 0;
  int pitch = 0;               // not 0: rows are padded to a multiple of so many elements, and there is no other gap
  size_t alignment = 0;        // OpCase::alignment
  Random* integers = nullptr;  // of small integers, whose sums are exact in any order
  int64_t scratch = 0;         // floats, other than an op gets; only CUDA does with fewer
  bool residual = false;       // y = addend + …
};
OpCase matmul(const MatmulShape&);

struct AttentionShape {
  std::vector<int> lengths;  // of the documents
  int H, G, D, window, gap;
  bool cuda = false;           // scratch for CUDA alone
  int threads = kMostThreads;  // scratch for so many on a CPU
  bool apart = false;          // q and k lie in a buffer of their own
  bool mma = false;            // on CUDA by the kernels with mma, where those with wgmma would be used
  bool avx512 = false;         // bf16 by AVX-512's instructions, where the processor has faster ones too
};
OpCase attention(const AttentionShape&);
OpCase attention_decode(const std::vector<int>& lengths, int H, int G, int D, int capacity, int window, int gap);

OpCase embedding(Random&, int N, int C, int V, Kind table, int padding = -1);
OpCase rmsnorm(int N, int C, bool trained_weight, double sigma);
struct QkNormShape {
  int N, H, G, D, gap = 0;
  bool trained = true, in_place = false;  // in place: as without a backward pass, nothing is saved
  double sigma = 1;
};
OpCase qk_norm(const QkNormShape&);
OpCase rope(Random&, int N, int heads, int D, int gap, int positions = 50, int rotary = 0);  // 0: all of D
OpCase rope_table(int P, int D, float scale = 1);
OpCase swiglu(int N, int F, double sigma, bool in_place = false);  // in_place: act lies where dact was
// Rows without a target among the others. in_place: the gradient lies where the logits were. type: of the logits, acc or storage.
OpCase cross_entropy(Random&, int rows, int V, double sigma, int gap = 0, bool in_place = false, Kind type = Kind::acc);

// A joint matrix of so many columns; of each tensor in it the code and the rows.
struct QuantizedShape {
  struct Part {
    WeightCode code;
    int rows;
    int block = kQuantBlock;
    bool nested = false;
    Kind dense = Kind::bf16;  // its type
  };
  std::vector<Part> parts;
  int cols;
};
// Window: of out.
struct WindowShape {
  int first_row, rows, first_col, cols, gap = 0;
};
OpCase quantize(int64_t n, WeightCode code, int block, double sigma, Kind in = Kind::storage);
OpCase quantize_scales(int64_t blocks);
OpCase dequantize(Random&, const QuantizedShape&, const WindowShape&, Kind out);
struct QuantizedMatmulShape {
  int N;
  QuantizedShape w;
  Kind type = Kind::f32, out = Kind::f32;
  bool cpu = true, accumulate = false, residual = false;
  int gap = 0;
  int64_t scratch = 0;  // floats; 0: enough for tests
  int64_t piece = -1;   // bytes, other than an op gets; 0: none on a CPU
  int extra = 0;        // as many rows below, and columns behind, those of w: CUDA only
};
OpCase quantized_matmul(Random&, const QuantizedMatmulShape&);

OpCase bias(int N, int C);
OpCase gather_scatter(Random&, int N, int C, int R, bool missing = false);
// with_step: the mask's key comes from two numbers, one of them in memory of the device. The rows are those of a batch from
// first_row on.
OpCase dropout(int N, int C, double p, bool accumulate, uint64_t key, bool with_step = false, int first_row = 0);
OpCase cast(int64_t n);
OpCase copy(int64_t n);
OpCase copy_rows(int N, int C);
TensorSpec factors_spec(const AdamWFactors&);
OpCase adamw(int64_t n, int64_t t, double weight_decay, double grad_scale, double grad_size = 0.1,
             Kind type = Kind::f32);  // t 0: a skipped step
struct Adamw8bitShape {
  std::vector<int64_t> tensors;  // values of each
  int64_t t = 2;                 // 0: a skipped step
  double weight_decay = 0, grad_scale = 1;
  Kind type = Kind::f32;
  bool guard = true;
  bool odd_gradients = false;     // zeros of both signs, blocks of zeros, what is not finite, and a spread of 1e6
  int64_t first = 0, blocks = 0;  // 0: all
};
OpCase adamw8bit(Random&, const Adamw8bitShape&);
OpCase sum_of_squares(int64_t n, Kind type = Kind::f32);

}  // namespace tll::test
