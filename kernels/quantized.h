// Frozen matrices in 4 and 8 bits: how they lie in memory, the ops that make and read them, and the GEMM over them.
//
// A tensor of the checkpoint is flattened row by row and cut into blocks of `block` elements; blocks ignore the ends of rows, and
// the last one may be short. Each block has a scale.
//
//   nf4     w = book[code] · absmax                     4-bit codes into 16 quantiles of the normal distribution (Dettmers et al.
//                                                       2023, QLoRA); the even element is in the high nibble of its byte
//   int8    w = code · scale, scale = absmax / 127      code = round(w / scale), ties to even; 0 where the scale is 0
//   fp4     as nf4, with another book; only read
//
// Double quantisation (QLoRA) stores the absmax of a block as an 8-bit code: with o the mean of all absmax, a = absmax − o, and
// blocks of 256 values of a,   absmax = map[code] · nested_absmax + o,   multiply and add rounded separately. The map is
// bitsandbytes' signed dynamic map; the nearest code wins, and a tie goes to the even one. Where nested_absmax is 0, so are the
// codes.
//
// Bits are those of bitsandbytes 0.50 (NF4: normalised by 1.0f / max(absmax, 1e-38f), thresholds are the float midpoints of
// neighbours, and a tie takes the lower code).
#pragma once

#include "kernels/matmul.h"

namespace tll {

enum class WeightCode : uint8_t { dense, nf4, fp4, int8 };

// One tensor of the checkpoint as rows of a joint matrix; count = rows · cols elements in ⌈count / block⌉ blocks.
struct QuantizedPart {
  WeightCode code = WeightCode::nf4;
  DType dtype = DType::bf16;             // dense: of the elements
  int first_row = 0, rows = 0;           // of the joint matrix
  int block = 64;                        // elements, at least 8
  const void* codes = nullptr;           // nf4, fp4: (⌈count/2⌉) bytes; int8: (count) signed bytes; dense: (count)
  const float* scales = nullptr;         // (blocks)  absmax, of int8 absmax/127; null: double quantised, or dense
  const uint8_t* scale_codes = nullptr;  // (blocks)
  const float* nested_absmax = nullptr;  // (⌈blocks/256⌉)
  const float* nested_offset = nullptr;  // (1)
  const float* nested_map = nullptr;     // (256)
  const float* book = nullptr;           // (16)  of nf4 and fp4
  TLL_HOST_DEVICE bool nested() const { return code != WeightCode::dense && !scales; }
};

// A joint matrix W (rows, cols): its parts, stacked.
struct QuantizedMatrix {
  static constexpr int kMostParts = 3;
  QuantizedPart parts[kMostParts] = {};
  int part_count = 0, rows = 0, cols = 0;
  void check() const;
  double bytes() const;  // of codes and scales
};

inline constexpr int kQuantBlock = 64, kNestedBlock = 256;
// Quantiles of the normal distribution, divided by the largest.
inline constexpr float kNf4Book[16] = {-1.0f,
                                       -0.6961928009986877f,
                                       -0.5250730514526367f,
                                       -0.39491748809814453f,
                                       -0.28444138169288635f,
                                       -0.18477343022823334f,
                                       -0.09105003625154495f,
                                       0.0f,
                                       0.07958029955625534f,
                                       0.16093020141124725f,
                                       0.24611230194568634f,
                                       0.33791524171829224f,
                                       0.44070982933044434f,
                                       0.5626170039176941f,
                                       0.7229568362236023f,
                                       1.0f};
// bitsandbytes' create_dynamic_map(): 256 values, ascending.
void dynamic_map(bool is_signed, float* map);

// Codes and scales of whole blocks (the last of a tensor may be short): a tensor may come in pieces that begin at a block. A NaN
// or infinite element is counted, and coded as 0 would be.
struct QuantizeBlocks {
  using Scalar = float;
  static constexpr const char* kName = "quantize";
  void* codes;          // as in QuantizedPart
  float* scales;        // (blocks)
  const void* in;       // (count) of type `dtype`: fp32, bf16 or fp16
  int32_t* not_finite;  // (1)  += elements that are NaN or infinite
  int64_t count;
  DType dtype;
  WeightCode code;          // nf4 or int8
  int block = kQuantBlock;  // a power of two, at least 8
  TLL_HOST_DEVICE int64_t blocks() const { return (count + block - 1) / block; }
  void check() const;
  Cost cost() const;
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Double quantisation of the scales of one tensor. The mean is summed in double, in a fixed order, and rounded once.
struct QuantizeScales {
  using Scalar = float;
  static constexpr const char* kName = "quantize_scales";
  uint8_t* codes;        // (blocks)
  float* nested_absmax;  // (⌈blocks/256⌉)
  float* nested_offset;  // (1)
  const float* scales;   // (blocks)
  const float* map;      // (256)  signed
  int64_t blocks;        // at least 1
  void check() const;
  Cost cost() const;
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// out = rows first_row … and columns first_col … of W, rounded once to out's type: a window of out's shape.
struct Dequantize {
  using Scalar = float;
  static constexpr const char* kName = "dequantize";
  Matrix out;  // not transposed
  QuantizedMatrix w;
  int first_row = 0, first_col = 0;
  void check() const;
  Cost cost() const;
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// The GEMM of a frozen quantised weight, as Matmul, with B = Wᵀ (forward: y = x · Wᵀ) or B = W (the gradient of the input).
//
// W is dequantised to a's type. Where there is a piece, that is done a piece at a time, and each is multiplied: pieces of rows of
// W forward, of its columns backward, so that the sum over `inner` is never split and the result is rounded once. Elsewhere on a
// CPU the codes are decoded where Matmul packs its operand. The bits are those of Matmul with the dequantised pieces; without a
// piece those of Matmul with the dequantised matrix. A few rows (generation) are multiplied straight from the codes.
struct QuantizedMatmul {
  using Scalar = float;
  static constexpr const char* kName = "quantized_matmul";
  Matrix out;  // (rows, transposed ? w.rows : w.cols)
  ConstMatrix a;
  QuantizedMatrix w;
  bool transposed = true;  // B = Wᵀ
  // On CUDA. Dense columns (w.rows, R) behind W's own where B = Wᵀ, rows (R, w.cols) below them where B = W: so `a` has R more
  // columns, and their products belong to the same sum. Of a's type; null: none. See src/model/linear.h.
  ConstMatrix extra = {};
  bool accumulate = false;
  Scratch scratch = {};  // as of Matmul
  const void* addend = nullptr;
  void* piece = nullptr;     // piece_bytes() of memory, or fewer; null where they are 0
  int64_t piece_size = 0;    // bytes
  const char* role = kName;  // as of Matmul
  // A piece has a multiple of kPieceLines rows or columns, if it does not have them all: whole tiles of a GEMM.
  int extra_size() const { return !extra.data ? 0 : transposed ? extra.col_count : extra.row_count; }  // R
  static constexpr int kFewRows = 8;  // so many rows at most are multiplied straight from the codes
  static constexpr int64_t kPieceLines = 128, kCudaPiece = 16 << 20, kCpuPiece = 8 << 20;
  // Bytes of the piece for a model whose largest joint matrix has so many rows and columns, those of `extra` and its alignment
  // counted, with a of type `type`.
  static int64_t piece_bytes(DeviceKind, DType type, int64_t rows, int64_t cols);
  void check() const;
  Cost cost() const;
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
