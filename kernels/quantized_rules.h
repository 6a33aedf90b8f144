// What CPU and CUDA share: the rules by which numbers become codes, and how a GEMM is cut into pieces.
#pragma once

#include <algorithm>

#include "kernels/quantized.h"
#include "kernels/row_stride.h"

namespace tll {
namespace {

// x = w / absmax. A code's neighbours meet at the float midpoint of their values, which belongs to the lower code.
TLL_HOST_DEVICE inline int nf4_code(float x) {
  constexpr float kMidpoints[15] = {-0x1.b239bp-1f,  -0x1.38a4ep-1f,  -0x1.d709p-2f,  -0x1.5bd4ecp-2f, -0x1.e079d8p-3f,
                                    -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f, 0x1.ec90c4p-4f,  0x1.a0cfcp-3f,
                                    0x1.2b05a8p-2f,  0x1.8ea7f2p-2f,  0x1.00da08p-1f, 0x1.491b5ep-1f,  0x1.b913b4p-1f};
  int code = 0;
  for (int i = 0; i < 15; i++) code += x > kMidpoints[i];
  return code;
}

TLL_HOST_DEVICE inline int int8_code(float w, float scale) {
  const float code = rintf(w / scale);
  return scale == 0 ? 0 : static_cast<int>(code > 127 ? 127 : code < -127 ? -127 : code);
}

// The index of the nearest of 256 ascending values; half way between two, the even one of their indices.
TLL_HOST_DEVICE inline int nearest_code(const float* map, float x) {
  int upper = 0;  // the first value that is not below x
  for (int step = 128; step > 0; step /= 2)
    if (map[upper + step - 1] < x) upper += step;
  if (upper == 0) return 0;
  const float middle = 0.5f * (map[upper - 1] + map[upper]);
  return x > middle || (x == middle && upper % 2 == 0) ? upper : upper - 1;
}

// The Matmul of the dequantised matrix. Its operand B has a shape, and no memory yet.
inline Matmul<float> dense_matmul(const QuantizedMatmul& op) {
  const int R = op.extra_size(), rows = op.w.rows + (op.transposed ? 0 : R), cols = op.w.cols + (op.transposed ? R : 0);
  const ConstMatrix w{nullptr, op.a.dtype, rows, cols, cols, false};
  return {.out = op.out,
          .a = op.a,
          .b = op.transposed ? w.t() : w,
          .accumulate = op.accumulate,
          .scratch = op.scratch,
          .addend = op.addend};
}

// What a piece is filled with before it is multiplied.
struct FilledPiece {
  Dequantize decoded;
  Matrix extra_to;         // its further columns or rows
  ConstMatrix extra_from;  // null: none
};

// f(FilledPiece, Matmul) for one piece of the result's columns after the other.
template <class F>
void for_each_piece(const QuantizedMatmul& op, const Matmul<float>& whole, const F& f) {
  constexpr int64_t kLines = QuantizedMatmul::kPieceLines;
  const int64_t size = static_cast<int64_t>(dtype_bytes(op.a.dtype)), cols = whole.cols();
  // A forward piece with columns of `extra` has aligned rows, as W has where it is dense.
  const int64_t inner = op.transposed && op.extra.data ? aligned_row(whole.inner(), op.a.dtype) : whole.inner();
  const int64_t line = inner * size;
  int64_t most = op.piece_size / std::max<int64_t>(line, 1);
  TLL_CHECK(op.piece && most > 0, "a piece of {} bytes, {} in a line", op.piece_size, line);
  if (most < cols) {  // pieces of much the same size
    if (most > kLines) most = most / kLines * kLines;
    const int64_t equal = (cols + (cols + most - 1) / most - 1) / ((cols + most - 1) / most);
    most = std::min(most, (equal + kLines - 1) / kLines * kLines);
  }
  for (int64_t c = 0; c < cols; c += most) {
    const int first = static_cast<int>(c), count = static_cast<int>(std::min(most, cols - c));
    const Matrix piece{op.piece, op.a.dtype, op.transposed ? count : whole.inner(), op.transposed ? whole.inner() : count,
                       op.transposed ? inner : count};
    Matmul<float> part = whole;
    part.out = whole.out.cols(first, count);
    part.b = op.transposed ? piece.t() : piece;
    if (part.addend)
      part.addend = static_cast<const std::byte*>(whole.addend) + c * static_cast<int64_t>(dtype_bytes(op.out.dtype));
    FilledPiece filled{{piece, op.w, op.transposed ? first : 0, op.transposed ? 0 : first}, {}, {}};
    if (const int R = op.extra_size(); R > 0) {
      filled.decoded.out = op.transposed ? piece.cols(0, op.w.cols) : piece.rows(0, op.w.rows);
      filled.extra_to = op.transposed ? piece.cols(op.w.cols, R) : piece.rows(op.w.rows, R);
      filled.extra_from = op.transposed ? op.extra.rows(first, count) : op.extra.cols(first, count);
    }
    f(filled, part);
  }
}

}  // namespace
}  // namespace tll
