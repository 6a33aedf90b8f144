// On a CPU. Where the processor multiplies bf16, pieces of W are dequantised for it; else the codes are decoded into the panels
// of the packed fp32 GEMM of sgemm.h. A few rows (generation) are dot products with one decoded row of W at a time.
#include "kernels/quantized.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "kernels/matmul_bf16.h"
#include "kernels/quantized_rules.h"
#include "kernels/sgemm.h"

namespace tll {
namespace {

// ---- encoding -----------------------------------------------------------------------------------------------------------------

template <class In>
void quantize_block(const QuantizeBlocks& op, int64_t block, int& not_finite) {
  const int64_t first = block * op.block;
  const int n = static_cast<int>(std::min<int64_t>(op.block, op.count - first));
  const In* in = static_cast<const In*>(op.in) + first;
  const auto value = [&](int i) {
    const float x = to_acc(in[i]);
    return x - x == 0 ? x : 0.0f;
  };
  float largest = 0;
  int bad = 0;
  for (int i = 0; i < n; i++) {
    const float x = to_acc(in[i]);
    bad += !(x - x == 0);
    largest = std::max(largest, std::abs(value(i)));
  }
  not_finite += bad;
  if (op.code == WeightCode::int8) {
    int8_t* codes = static_cast<int8_t*>(op.codes) + first;
    const float scale = largest / 127;
    op.scales[block] = scale;
    for (int i = 0; i < n; i++) codes[i] = static_cast<int8_t>(int8_code(value(i), scale));
    return;
  }
  uint8_t* codes = static_cast<uint8_t*>(op.codes) + first / 2;
  op.scales[block] = largest;
  const float inverse = 1.0f / std::max(largest, 1e-38f);
  for (int i = 0; i < n / 2; i++)
    codes[i] = static_cast<uint8_t>(nf4_code(value(2 * i) * inverse) << 4 | nf4_code(value(2 * i + 1) * inverse));
  if (n % 2) codes[n / 2] = static_cast<uint8_t>(nf4_code(value(n - 1) * inverse) << 4 | nf4_code(0));
}

// ---- decoding -----------------------------------------------------------------------------------------------------------------

float block_scale(const QuantizedPart& p, int64_t block) {
  if (p.scales) return p.scales[block];
  const volatile float product = p.nested_map[p.scale_codes[block]] * p.nested_absmax[block / kNestedBlock];  // never fused
  return product + *p.nested_offset;
}

// x rounded to Rounded, as an Out: the same type, or float.
template <class Rounded, class Out>
TLL_INLINE Out rounded(float x) {
  const Rounded r = from_acc<Rounded>(x);
  if constexpr (std::is_same_v<Rounded, Out>)
    return r;
  else
    return to_acc(r);
}

// Sixteen pairs of neighbours at a time are looked up, byte for byte of the result, in tables of 16 bytes, for which processors
// have an instruction. Returns how many of the pairs are done.
#if (defined(__SSSE3__) || defined(__aarch64__)) && __has_builtin(__builtin_shuffle)  // clang has no shuffle by a variable
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Words __attribute__((vector_size(16)));
#define TLL_EVEN_BYTES(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define TLL_ODD_BYTES(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
// The first halves of a and b, their elements in turns, and the second halves.
TLL_INLINE void in_turns(Bytes a, Bytes b, Bytes (&out)[2]) {
  out[0] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  out[1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
template <class Out>
int64_t look_up_vectors(Out* to, const uint8_t* pairs, int64_t count, const Out (&table)[16]) {
  Bytes t[sizeof(Out)], planes[4];
  std::memcpy(t, table, sizeof table);
  if constexpr (sizeof(Out) == 2) {
    planes[0] = TLL_EVEN_BYTES(t[0], t[1]), planes[1] = TLL_ODD_BYTES(t[0], t[1]);
  } else {
    const Bytes e0 = TLL_EVEN_BYTES(t[0], t[1]), e1 = TLL_EVEN_BYTES(t[2], t[3]);
    const Bytes o0 = TLL_ODD_BYTES(t[0], t[1]), o1 = TLL_ODD_BYTES(t[2], t[3]);
    planes[0] = TLL_EVEN_BYTES(e0, e1), planes[1] = TLL_EVEN_BYTES(o0, o1);
    planes[2] = TLL_ODD_BYTES(e0, e1), planes[3] = TLL_ODD_BYTES(o0, o1);
  }
  int64_t i = 0;
  for (; i + 16 <= count; i += 16, to += 32) {
    Bytes sixteen, codes[2], low[2];
    std::memcpy(&sixteen, pairs + i, 16);
    in_turns(sixteen >> 4, sixteen & 15, codes);
    for (int half = 0; half < 2; half++) {
      in_turns(__builtin_shuffle(planes[0], codes[half]), __builtin_shuffle(planes[1], codes[half]), low);
      if constexpr (sizeof(Out) == 2) {
        for (int q = 0; q < 2; q++) std::memcpy(to + 16 * half + 8 * q, &low[q], 16);
      } else {
        Bytes high[2];
        in_turns(__builtin_shuffle(planes[2], codes[half]), __builtin_shuffle(planes[3], codes[half]), high);
        for (int q = 0; q < 2; q++) {
          const Words a = reinterpret_cast<Words>(low[q]), b = reinterpret_cast<Words>(high[q]);
          const Words first = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
          const Words second = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
          std::memcpy(to + 16 * half + 8 * q, &first, 16);
          std::memcpy(to + 16 * half + 8 * q + 4, &second, 16);
        }
      }
    }
  }
  return i;
}
#else
template <class Out>
int64_t look_up_vectors(Out*, const uint8_t*, int64_t, const Out (&)[16]) {
  return 0;
}
#endif

// to[i] = nibble[first + i] of the codes, looked up.
template <class Out>
void look_up(Out* to, const uint8_t* codes, int64_t first, int64_t count, const Out (&table)[16]) {
  int64_t i = 0;
  if (first % 2 && count > 0) to[i++] = table[codes[first / 2] & 15];
  const uint8_t* pair = codes + (first + i) / 2;
  const int64_t done = look_up_vectors(to + i, pair, (count - i) / 2, table);
  for (i += 2 * done, pair += done; i + 2 <= count; i += 2, pair++) to[i] = table[*pair >> 4], to[i + 1] = table[*pair & 15];
  if (i < count) to[i] = table[*pair >> 4];
}

// to[i] = element first + i of the part.
template <class Rounded, class Out>
void decode(const QuantizedPart& p, int64_t first, int64_t count, Out* to) {
  if (p.code == WeightCode::dense) {
    with_storage_type(p.dtype, [&](auto type) {
      const auto* from = static_cast<const decltype(type)*>(p.codes) + first;
      for (int64_t i = 0; i < count; i++) to[i] = rounded<Rounded, Out>(to_acc(from[i]));
    });
    return;
  }
  for (int64_t end = first + count, next; first < end; to += next - first, first = next) {
    const int64_t block = first / p.block;
    next = std::min(end, (block + 1) * p.block);
    const float scale = block_scale(p, block);
    if (p.code == WeightCode::int8) {
      const int8_t* codes = static_cast<const int8_t*>(p.codes) + first;
      for (int64_t i = 0; i < next - first; i++) to[i] = rounded<Rounded, Out>(static_cast<float>(codes[i]) * scale);
    } else {
      Out table[16];
#pragma omp simd
      for (int c = 0; c < 16; c++) table[c] = rounded<Rounded, Out>(p.book[c] * scale);
      look_up(to, static_cast<const uint8_t*>(p.codes), first, next - first, table);
    }
  }
}

const QuantizedPart& part_of(const QuantizedMatrix& w, int row) {
  int part = 0;
  while (row >= w.parts[part].first_row + w.parts[part].rows) part++;
  return w.parts[part];
}
// Columns col … of a row of W.
template <class Rounded, class Out>
void decode_row(const QuantizedMatrix& w, int row, int col, int64_t count, Out* to) {
  const QuantizedPart& p = part_of(w, row);
  decode<Rounded>(p, static_cast<int64_t>(row - p.first_row) * w.cols + col, count, to);
}

// ---- GEMM ---------------------------------------------------------------------------------------------------------------------

// A panel of B, decoded. Rows of W are lines of the panel, which are decoded a few columns at a time and turned, or run across
// it.
template <class Rounded>
void pack_codes(const QuantizedMatmul& op, float* to, int line, int lines, int first, int inner) {
  if (op.transposed) {
    constexpr int kColumns = 128;
    alignas(64) float rows[kPanelColumns * kColumns];
    for (int k = 0; k < inner; k += kColumns) {
      const int count = std::min(kColumns, inner - k);
      for (int i = 0; i < lines; i++) decode_row<Rounded>(op.w, line + i, first + k, count, rows + i * kColumns);
      pack<kPanelColumns>(to + k * kPanelColumns, rows, kColumns, true, 0, lines, 0, count, 1.0f);
    }
  } else {
    for (int k = 0; k < inner; k++, to += kPanelColumns) {
      decode_row<Rounded>(op.w, first + k, line, lines, to);
      std::fill(to + lines, to + kPanelColumns, 0.0f);
    }
  }
}

// A thread decodes one row of W at a time to its part of the scratch.
template <class A>
bool dot_decoded_rows(const QuantizedMatmul& op, const Matmul<float>& matmul) {
  constexpr int64_t kPart = Matmul<float>::kOwn;
  const int threads = static_cast<int>(std::min<int64_t>(cpu_threads(), op.scratch.size / kPart));
  if (op.w.cols * static_cast<int64_t>(sizeof(A)) > kPart * static_cast<int64_t>(sizeof(float)) || threads == 0) return false;
  const auto row = [&](int n, int worker) {
    A* to = reinterpret_cast<A*>(op.scratch.data + kPart * worker);
    decode_row<A>(op.w, n, 0, op.w.cols, to);
    return to;
  };
  if (op.out.dtype == DType::f32)
    dot_rows<1, A, A, float>(matmul, threads, row);
  else
    dot_rows<1, A, A, bf16>(matmul, threads, row);
  return true;
}

}  // namespace

template <Isa>
void QuantizeBlocks::cpu() const {
  with_storage_type(dtype, [&](auto type) {
    std::atomic<int> bad = 0;
    parallel_ranges(blocks(), 16 * block, [&](int64_t begin, int64_t end) {
      int own = 0;
      for (int64_t b = begin; b < end; b++) quantize_block<decltype(type)>(*this, b, own);
      bad += own;
    });
    *not_finite += bad;
  });
}

template <Isa>
void QuantizeScales::cpu() const {
  double sums[kNestedBlock] = {};
  for (int64_t first = 0; first < blocks; first += kNestedBlock) {
    const int n = static_cast<int>(std::min<int64_t>(kNestedBlock, blocks - first));
    for (int i = 0; i < n; i++) sums[i] += static_cast<double>(scales[first + i]);
  }
  for (int half = kNestedBlock / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) sums[i] += sums[i + half];
  const float offset = static_cast<float>(sums[0] / static_cast<double>(blocks));
  *nested_offset = offset;
  parallel_for((blocks + kNestedBlock - 1) / kNestedBlock, 16 * kNestedBlock, [&](int64_t outer) {
    const int64_t first = outer * kNestedBlock;
    const int n = static_cast<int>(std::min<int64_t>(kNestedBlock, blocks - first));
    float largest = 0;
    for (int i = 0; i < n; i++) largest = std::max(largest, std::abs(scales[first + i] - offset));
    nested_absmax[first / kNestedBlock] = largest;
    const float inverse = 1.0f / largest;
    for (int i = 0; i < n; i++)
      codes[first + i] = static_cast<uint8_t>(largest == 0 ? 0 : nearest_code(map, (scales[first + i] - offset) * inverse));
  });
}

template <Isa>
void Dequantize::cpu() const {
  with_storage_type(out.dtype, [&](auto type) {
    using Out = decltype(type);
    parallel_for(out.row_count, 2 * out.col_count, [&](int64_t r) {
      decode_row<Out>(w, first_row + static_cast<int>(r), first_col, out.col_count, static_cast<Out*>(out.data) + r * out.stride);
    });
  });
}

template <Isa isa>
void QuantizedMatmul::cpu() const {
  TLL_CHECK(!extra.data, "further rows or columns on a CPU");
  Matmul<float> matmul = dense_matmul(*this);
  copy_addend(matmul);
  matmul.addend = nullptr;
  if (is_empty(matmul)) return;
  if (matmul.rows() <= few_rows_of(a.dtype) && !a.transposed && transposed && a.dtype != DType::f16)
    if (a.dtype == DType::f32 ? dot_decoded_rows<float>(*this, matmul) : dot_decoded_rows<bf16>(*this, matmul)) return;
  if (piece) {
    for_each_piece(*this, matmul, [](const FilledPiece& filled, const Matmul<float>& part) {
      filled.decoded.cpu<isa>();
      part.cpu<isa>();
    });
    return;
  }
  with_storage_type(a.dtype, [&](auto type) {
    packed_matmul(matmul, [&](float* to, int col, int cols, int first, int inner) {
      pack_codes<decltype(type)>(*this, to, col, cols, first, inner);
    });
  });
}

template void QuantizeBlocks::cpu<kIsa>() const;
template void QuantizeScales::cpu<kIsa>() const;
template void Dequantize::cpu<kIsa>() const;
template void QuantizedMatmul::cpu<kIsa>() const;

#ifdef TLL_ORACLE  // what needs no fast instructions: the base objects hold it

void dynamic_map(bool is_signed, float* map) {
  std::vector<float> values{0.0f, 1.0f};
  for (int i = 0; i < 7; i++) {
    const int n = is_signed ? 1 << i : 2 << i;  // intervals of 0.1 … 1
    const float step = (1.0f - 0.1f) / static_cast<float>(n), scale = static_cast<float>(std::pow(10.0, i - 6));
    const auto point = [&](int j) {
      return j < (n + 1) / 2 ? std::fma(step, static_cast<float>(j), 0.1f) : std::fma(-step, static_cast<float>(n - j), 1.0f);
    };
    for (int j = 0; j < n; j++) {
      const float value = scale * ((point(j) + point(j + 1)) / 2);
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  std::copy(values.begin(), values.end(), map);
}

void QuantizedMatrix::check() const {
  TLL_CHECK(part_count >= 1 && part_count <= kMostParts && cols >= 0, "{} parts, {} columns", part_count, cols);
  int row = 0;
  for (int i = 0; i < part_count; i++) {
    const QuantizedPart& p = parts[i];
    TLL_CHECK(p.codes && p.first_row == row && p.rows >= 0 && (p.code == WeightCode::dense || p.block >= 8),
              "part {}: rows {} from {}, not {}; blocks of {}", i, p.rows, p.first_row, row, p.block);
    TLL_CHECK(!p.nested() || (p.scale_codes && p.nested_absmax && p.nested_offset && p.nested_map), "part {} has no scales", i);
    TLL_CHECK(p.book || p.code == WeightCode::dense || p.code == WeightCode::int8, "part {} has no book", i);
    row += p.rows;
  }
  TLL_CHECK(row == rows, "{} rows in {}", row, rows);
}
double QuantizedMatrix::bytes() const {
  double sum = 0;
  for (int i = 0; i < part_count; i++) {
    const QuantizedPart& p = parts[i];
    const double count = static_cast<double>(p.rows) * cols, blocks = std::ceil(count / p.block);
    if (p.code == WeightCode::dense)
      sum += count * static_cast<double>(dtype_bytes(p.dtype));
    else
      sum += count * (p.code == WeightCode::int8 ? 1 : 0.5) + blocks * (p.nested() ? 1 + 4.0 / kNestedBlock : 4);
  }
  return sum;
}

void QuantizeBlocks::check() const {
  TLL_CHECK(codes && scales && in && not_finite && count >= 0 && block >= 8 && (block & (block - 1)) == 0,
            "{} elements in blocks of {}", count, block);
  TLL_CHECK(code == WeightCode::nf4 || code == WeightCode::int8, "code {}", static_cast<int>(code));
}
Cost QuantizeBlocks::cost() const {
  const double n = static_cast<double>(count);
  return {
      n * (static_cast<double>(dtype_bytes(dtype)) + (code == WeightCode::int8 ? 1 : 0.5)) + 4.0 * static_cast<double>(blocks()),
      n};
}

void QuantizeScales::check() const {
  TLL_CHECK(codes && nested_absmax && nested_offset && scales && map && blocks > 0, "{} blocks", blocks);
}
Cost QuantizeScales::cost() const { return {static_cast<double>(blocks) * (2 * 4 + 1), 2 * static_cast<double>(blocks)}; }

void Dequantize::check() const {
  w.check();
  TLL_CHECK(
      out.data && !out.transposed && out.stride >= out.col_count && first_row >= 0 && first_col >= 0 && out.row_count >= 0 &&
          out.col_count >= 0 && first_row + out.row_count <= w.rows && first_col + out.col_count <= w.cols,
      "rows {} from {} of {}, columns {} from {} of {}", out.row_count, first_row, w.rows, out.col_count, first_col, w.cols);
}
Cost Dequantize::cost() const {
  const double n = static_cast<double>(out.row_count) * out.col_count, whole = static_cast<double>(w.rows) * w.cols;
  return {n * static_cast<double>(dtype_bytes(out.dtype)) + (n > 0 ? w.bytes() * n / whole : 0), n};
}

int64_t QuantizedMatmul::piece_bytes(DeviceKind kind, DType type, int64_t rows, int64_t cols) {
  const bool cuda = kind == DeviceKind::cuda;
  if (!cuda && (type != DType::bf16 || !cpu_has_bf16_matmul())) return 0;
  const int64_t size = static_cast<int64_t>(dtype_bytes(type)), most = cuda ? kCudaPiece : kCpuPiece;
  return std::min(rows * cols * size, std::max(most, kPieceLines * std::max(rows, cols) * size));
}
void QuantizedMatmul::check() const {
  w.check();
  const int cols = transposed ? w.rows : w.cols, inner = (transposed ? w.cols : w.rows) + extra_size();
  TLL_CHECK(!extra.data || (extra.dtype == a.dtype && !extra.transposed &&
                            (transposed ? extra.row_count : extra.col_count) == cols && extra.stride >= extra.col_count),
            "further rows or columns ({}, {}), stride {}", extra.row_count, extra.col_count, extra.stride);
  TLL_CHECK(out.data && a.data && !out.transposed && out.col_count == cols && a.col_count == inner &&
                a.row_count == out.row_count && out.stride >= cols && a.stride >= a.stored_cols(),
            "out ({}, {}), a ({}, {}), w ({}, {}), strides {} {}", out.row_count, out.col_count, a.row_count, a.col_count, w.rows,
            w.cols, out.stride, a.stride);
}
Cost QuantizedMatmul::cost() const {
  const double m = out.row_count, n = out.col_count, k = a.col_count;
  return {(m * k + extra_size() * n) * static_cast<double>(dtype_bytes(a.dtype)) + w.bytes() +
              (accumulate ? 2 : 1) * m * n * static_cast<double>(dtype_bytes(out.dtype)),
          2 * m * n * k};
}
#endif

}  // namespace tll
