// A part of a matrix is decoded eight neighbours of a row at a time: a thread reads their 32 bits of codes, looks them up in
// shared memory, where the book and the map of nested scales lie, and multiplies by the scale of their block, or two.
//
//   quantize_kernel        a warp owns a block of the tensor: it finds the largest, then encodes.
//   sum_scales_kernel      one block sums all scales, each thread every 256th.
//   encode_scales_kernel   a block owns a nested block, a thread a scale.
//   dequantize_kernel      a thread decodes and stores kEights times eight elements. Bound by memory.
//   dot_codes_kernel       up to 8 rows (generation). A warp owns one column of the result, which is one row of W.
//
// More rows: W is dequantised a piece at a time, and Matmul multiplies it.
#include "kernels/any_type.cuh"
#include "kernels/elementwise.h"
#include "kernels/quantized_rules.h"

namespace tll {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// ---- encoding -----------------------------------------------------------------------------------------------------------------

template <class In>
__global__ void __launch_bounds__(kThreads) quantize_kernel(const __grid_constant__ QuantizeBlocks op) {
  const int lane = static_cast<int>(lane_id());
  const int64_t block = int64_t{blockIdx.x} * kWarps + warp_id(), first = block * op.block;
  if (block >= op.blocks()) return;  // the whole warp
  const int n = op.count - first < op.block ? static_cast<int>(op.count - first) : op.block;
  const In* __restrict__ in = static_cast<const In*>(op.in) + first;
  const auto value = [&](int i) {
    const float x = i < n ? to_float(in[i]) : 0.0f;
    return x - x == 0 ? x : 0.0f;
  };
  float largest = 0;
  int bad = 0;
  for (int i = lane; i < n; i += kWarp) {
    const float x = to_float(in[i]);
    bad += !(x - x == 0);
    largest = fmaxf(largest, fabsf(value(i)));
  }
  largest = warp_max(largest);
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) bad += __shfl_xor_sync(kFullWarp, bad, distance);
  if (lane == 0 && bad > 0) atomicAdd(op.not_finite, bad);
  if (op.code == WeightCode::int8) {
    const float scale = largest / 127;
    if (lane == 0) op.scales[block] = scale;
    for (int i = lane; i < n; i += kWarp)
      static_cast<int8_t*>(op.codes)[first + i] = static_cast<int8_t>(int8_code(value(i), scale));
    return;
  }
  if (lane == 0) op.scales[block] = largest;
  const float inverse = 1.0f / fmaxf(largest, 1e-38f);
  for (int i = lane; i < (n + 1) / 2; i += kWarp)
    static_cast<uint8_t*>(op.codes)[first / 2 + i] =
        static_cast<uint8_t>(nf4_code(value(2 * i) * inverse) << 4 | nf4_code(value(2 * i + 1) * inverse));
}

static_assert(kThreads == kNestedBlock, "a thread for each scale of a nested block");

__global__ void __launch_bounds__(kThreads) sum_scales_kernel(const __grid_constant__ QuantizeScales op) {
  __shared__ double sums[kThreads];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < op.blocks; i += kThreads) sum += static_cast<double>(op.scales[i]);
  sums[threadIdx.x] = sum;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) *op.nested_offset = static_cast<float>(sums[0] / static_cast<double>(op.blocks));
}

__global__ void __launch_bounds__(kThreads) encode_scales_kernel(const __grid_constant__ QuantizeScales op) {
  __shared__ float map[kThreads];
  map[threadIdx.x] = op.map[threadIdx.x];
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const float x = i < op.blocks ? op.scales[i] - *op.nested_offset : 0.0f, largest = block_max<kThreads>(fabsf(x));
  if (threadIdx.x == 0) op.nested_absmax[blockIdx.x] = largest;
  const float inverse = 1.0f / largest;
  if (i < op.blocks) op.codes[i] = static_cast<uint8_t>(largest == 0 ? 0 : nearest_code(map, x * inverse));
}

// ---- decoding -----------------------------------------------------------------------------------------------------------------

// A part, as a kernel reads it.
struct Source {
  QuantizedPart part;
  int64_t cols;
  int shift;    // of an element to its block, or -1: blocks are no power of two
  bool vector;  // eights that begin at multiples of 8 of a row are aligned
};
Source source_of(const QuantizedPart& part, int cols) {
  int shift = 0;
  while (1 << shift < part.block) shift++;
  const bool nibbles = part.code == WeightCode::nf4 || part.code == WeightCode::fp4;
  const auto* codes = static_cast<const char*>(part.codes);
  const bool aligned = nibbles                         ? vec_aligned<4>(codes, 0)
                       : part.code == WeightCode::int8 ? vec_aligned<8>(codes, 0)
                                                       : vec_aligned<16>(codes, 0);
  return {part, cols, 1 << shift == part.block ? shift : -1, aligned && cols % 8 == 0};
}

struct Tables {
  float book[16], map[kNestedBlock];
};
// Ends with a barrier.
TLL_DEVICE void load_tables(Tables& to, const QuantizedPart& p) {
  if (threadIdx.x < 16 && p.book) to.book[threadIdx.x] = p.book[threadIdx.x];
  if (p.nested()) to.map[threadIdx.x] = p.nested_map[threadIdx.x];
  __syncthreads();
}

TLL_DEVICE float block_scale(const QuantizedPart& p, int64_t block, const Tables& tables) {
  if (p.scales) return p.scales[block];
  return __fmul_rn(tables.map[p.scale_codes[block]], p.nested_absmax[block / kNestedBlock]) + *p.nested_offset;
}

// v = elements first … first+7 of the part, those from `valid` on 0. vector: they begin at a multiple of 8 of an aligned row.
template <WeightCode kCode>
TLL_DEVICE void decode(float (&v)[8], const Source& s, int64_t first, int64_t valid, bool vector, const Tables& tables) {
  const QuantizedPart& p = s.part;
  vector = vector && valid >= 8;
  if constexpr (kCode == WeightCode::nf4) {
    const uint8_t* __restrict__ codes = static_cast<const uint8_t*>(p.codes);
    uint32_t word = 0;  // element i in bits 4i … 4i+3, where neighbours have changed places
    if (vector) {
      word = device_bit_cast<uint32_t>(load_vec<4>(codes + first / 2));
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++)
        if (i < valid)
          word |= static_cast<uint32_t>((first + i) % 2 ? codes[(first + i) / 2] & 15 : codes[(first + i) / 2] >> 4)
                  << 4 * (i ^ 1);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = tables.book[word >> 4 * (i ^ 1) & 15];
  } else {
    const int8_t* __restrict__ codes = static_cast<const int8_t*>(p.codes) + first;
    Vec<int8_t, 8> eight = {};
    if (vector) {
      eight = load_vec<8>(codes);
    } else {
#pragma unroll
      for (int i = 0; i < 8; i++)
        if (i < valid) eight[i] = codes[i];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = static_cast<float>(eight[i]);
  }
  const int64_t block = s.shift >= 0 ? first >> s.shift : first / p.block, left = (block + 1) * p.block - first;
  const float scale = block_scale(p, block, tables), next = left < 8 && left < valid ? block_scale(p, block + 1, tables) : scale;
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = i < valid ? v[i] * (i < left ? scale : next) : 0.0f;
}
template <>
TLL_DEVICE void decode<WeightCode::dense>(float (&v)[8], const Source& s, int64_t first, int64_t valid, bool vector,
                                          const Tables&) {
  if (s.part.dtype == DType::f32) return load_floats(v, static_cast<const float*>(s.part.codes) + first, valid, vector);
  if (s.part.dtype == DType::bf16) return load_floats(v, static_cast<const bf16*>(s.part.codes) + first, valid, vector);
  load_floats(v, static_cast<const half*>(s.part.codes) + first, valid, vector);
}

constexpr int kEights = 4;

// The rows of a window that lie in one part.
struct Window {
  Source source;
  int64_t first;  // element of the part
  Matrix out;
  bool vector;  // 128-bit accesses
};

template <class Out, WeightCode kCode>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(const __grid_constant__ Window w) {
  __shared__ Tables tables;
  load_tables(tables, w.source.part);
  const unsigned cols = static_cast<unsigned>(w.out.col_count), eights = ceil_div(cols, 8u), rows = w.out.row_count;
#pragma unroll 1
  for (unsigned i = 0; i < kEights; i++) {
    const unsigned item = (blockIdx.x * kEights + i) * kThreads + threadIdx.x, row = item / eights, col = item % eights * 8;
    if (row >= rows) return;
    float v[8];
    decode<kCode>(v, w.source, w.first + row * w.source.cols + col, cols - col, w.vector, tables);
    store_floats(static_cast<Out*>(w.out.data) + row * w.out.stride + col, v, cols - col, w.vector);
  }
}

// ---- a few rows ---------------------------------------------------------------------------------------------------------------

constexpr int kFewRows = QuantizedMatmul::kFewRows;

struct FewRows {
  Source source;
  Matrix out;  // the columns of the part
  const void* addend;
  ConstMatrix a;
  bool accumulate, vector;  // vector: all rows are aligned, and whole eights
};

template <class Float, WeightCode kCode>
__global__ void __launch_bounds__(kThreads, 3) dot_codes_kernel(const __grid_constant__ FewRows op) {
  __shared__ Tables tables;
  load_tables(tables, op.source.part);
  const int lane = static_cast<int>(lane_id()), rows = op.a.row_count, inner = op.a.col_count;
  const int64_t n = int64_t{blockIdx.x} * kWarps + warp_id();
  if (n >= op.source.part.rows) return;  // the whole warp
  const Float* __restrict__ x = static_cast<const Float*>(op.a.data);
  float sum[kFewRows] = {};
  const auto add_up = [&](auto whole) {  // whole: all eights are, so that loads need no branches and can run ahead
    constexpr bool kWhole = decltype(whole)::value;
#pragma unroll kWhole ? 4 : 1
    for (int k = lane * 8; k < inner; k += kWarp * 8) {
      float w[8], xv[8];
      decode<kCode>(w, op.source, n * inner + k, kWhole ? 8 : inner - k, kWhole, tables);
#pragma unroll
      for (int i = 0; i < 8; i++) w[i] = to_float(from_float<Float>(w[i]));
#pragma unroll
      for (int m = 0; m < kFewRows; m++) {
        if (m >= rows) break;
        load_floats<8>(xv, x + m * op.a.stride + k, kWhole ? 8 : inner - k, kWhole);
#pragma unroll
        for (int i = 0; i < 8; i++) sum[m] = fmaf(xv[i], w[i], sum[m]);
      }
    }
  };
  op.vector ? add_up(std::true_type()) : add_up(std::false_type());
#pragma unroll
  for (int m = 0; m < kFewRows; m++) {
    if (m >= rows) break;
    const float total = warp_sum(sum[m]);
    const int64_t at = m * op.out.stride + n;
    if (lane == 0)
      store_any(op.out.data, op.out.dtype, at, total + (op.accumulate ? load_any(op.addend, op.out.dtype, at) : 0.0f));
  }
}

// ---- launches -----------------------------------------------------------------------------------------------------------------

// f(std::integral_constant<WeightCode, …>): the decoder of a part.
template <class F>
void with_code(WeightCode code, const F& f) {
  if (code == WeightCode::dense) return f(std::integral_constant<WeightCode, WeightCode::dense>());
  if (code == WeightCode::int8) return f(std::integral_constant<WeightCode, WeightCode::int8>());
  f(std::integral_constant<WeightCode, WeightCode::nf4>());  // fp4 has another book
}

void dot_codes(const Device& device, const QuantizedMatmul& op) {
  for (int i = 0; i < op.w.part_count; i++) {
    const QuantizedPart& part = op.w.parts[i];
    if (part.rows == 0) continue;
    const int64_t first = part.first_row * static_cast<int64_t>(dtype_bytes(op.out.dtype));
    const void* addend = op.addend ? op.addend : op.out.data;
    FewRows few{source_of(part, op.w.cols),
                op.out.cols(part.first_row, part.rows),
                static_cast<const std::byte*>(addend) + first,
                op.a,
                op.accumulate,
                false};
    with_storage_type(op.a.dtype, [&](auto type) {
      using Float = decltype(type);
      few.vector = few.source.vector && vec_aligned<kVec<Float>>(static_cast<const Float*>(op.a.data), op.a.stride);
      with_code(part.code, [&](auto code) {
        launch<dot_codes_kernel<Float, code.value>>(blocks_for(part.rows, kWarps), kThreads, 0, stream_of(device), few);
      });
    });
  }
}

void copy_matrix(const Device& device, const Matrix& to, const ConstMatrix& from) {
  with_storage_type(to.dtype, [&](auto type) {
    using Float = decltype(type);
    CopyRows<Float>{
        static_cast<Float*>(to.data), static_cast<const Float*>(from.data), to.row_count, to.col_count, to.stride, from.stride}
        .cuda(device);
  });
}

}  // namespace

void QuantizeBlocks::cuda(const Device& device) const {
  if (count == 0) return;
  with_storage_type(dtype, [&](auto type) {
    launch<quantize_kernel<decltype(type)>>(blocks_for(blocks(), kWarps), kThreads, 0, stream_of(device), *this);
  });
}

void QuantizeScales::cuda(const Device& device) const {
  launch<sum_scales_kernel>(dim3(1), kThreads, 0, stream_of(device), *this);
  launch<encode_scales_kernel>(blocks_for(blocks, kThreads), kThreads, 0, stream_of(device), *this);
}

void Dequantize::cuda(const Device& device) const {
  if (out.row_count == 0 || out.col_count == 0) return;
  for (int i = 0; i < w.part_count; i++) {
    const QuantizedPart& part = w.parts[i];
    const int begin = std::max(first_row, part.first_row), end = std::min(first_row + out.row_count, part.first_row + part.rows);
    if (begin >= end) continue;
    Window window{source_of(part, w.cols), static_cast<int64_t>(begin - part.first_row) * w.cols + first_col,
                  out.rows(begin - first_row, end - begin), false};
    const int64_t eights = static_cast<int64_t>(end - begin) * ceil_div(out.col_count, 8);
    with_storage_type(out.dtype, [&](auto type) {
      using Out = decltype(type);
      window.vector =
          window.source.vector && first_col % 8 == 0 && vec_aligned<kVec<Out>>(static_cast<const Out*>(out.data), out.stride);
      with_code(part.code, [&](auto code) {
        launch<dequantize_kernel<Out, code.value>>(blocks_for(eights, kThreads * kEights), kThreads, 0, stream_of(device),
                                                   window);
      });
    });
  }
}

void QuantizedMatmul::cuda(const Device& device) const {
  const Matmul<float> matmul = dense_matmul(*this);
  if (matmul.rows() == 0 || matmul.cols() == 0) return;
  if (matmul.inner() == 0) return matmul.cuda(device);
  if (matmul.rows() <= kFewRows && transposed && !a.transposed && !extra.data) return dot_codes(device, *this);
  for_each_piece(*this, matmul, [&](const FilledPiece& filled, const Matmul<float>& part) {
    filled.decoded.cuda(device);
    if (filled.extra_from.data) copy_matrix(device, filled.extra_to, filled.extra_from);
    part.cuda(device);
  });
}

}  // namespace tll
