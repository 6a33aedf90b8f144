#include "src/files/gguf_quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/numeric.h"
#include "src/base/check.h"
#include "src/base/parallel.h"

// A product and a sum must be rounded one after the other: no fused multiply-add, which compilers use by default where the
// processor has it (arm64).
#if defined(__clang__)
#define TLL_UNFUSED
#define TLL_UNFUSED_BODY _Pragma("clang fp contract(off)")
#else
#define TLL_UNFUSED __attribute__((optimize("fp-contract=off")))
#define TLL_UNFUSED_BODY
#endif

namespace tll {
namespace {

constexpr int kBlock = 32;

template <class To>
void put(std::byte* out, const To& value) {
  std::memcpy(out, &value, sizeof(To));
}

// The scale as the file has it. A block whose scale is beyond fp16 is counted.
void put_scale(std::byte* out, float d, GgufFit& fit) {
  const half rounded = round_to_half(d);
  fit.too_large += (rounded.bits & 0x7fff) == 0x7c00;
  put(out, rounded);
}

// 1/d of the reference. Where it overflows, d is below what fp16 holds, and the block is 0.
float reciprocal(float d) {
  const float inverse = d == 0 ? 0 : 1 / d;
  return std::isfinite(inverse) ? inverse : 0;
}

void block_q8_0(const float* x, std::byte* out, GgufFit& fit) {
  float largest = 0;
  for (int i = 0; i < kBlock; i++) largest = std::max(largest, std::abs(x[i]));
  const float d = largest / 127, inverse = reciprocal(d);
  put_scale(out, d, fit);
  for (int i = 0; i < kBlock; i++) put(out + 2 + i, static_cast<int8_t>(std::round(x[i] * inverse)));
}

TLL_UNFUSED void block_q4_0(const float* x, std::byte* out, GgufFit& fit) {
  TLL_UNFUSED_BODY
  float extreme = 0;
  for (int i = 0; i < kBlock; i++)
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  const float d = extreme / -8, inverse = reciprocal(d);
  put_scale(out, d, fit);
  const auto code = [&](int i) TLL_UNFUSED {
    const float product = x[i] * inverse;
    return std::min(15u, static_cast<unsigned>(static_cast<int>(product + 8.5f)));
  };
  for (int i = 0; i < kBlock / 2; i++) put(out + 2 + i, static_cast<uint8_t>(code(i) | code(i + kBlock / 2) << 4));
}

void values_f16(const float* x, int64_t count, std::byte* out, GgufFit& fit) {
  for (int64_t i = 0; i < count; i++) put_scale(out + 2 * i, x[i], fit);
}

void values_bf16(const float* x, int64_t count, std::byte* out, GgufFit&) {
  for (int64_t i = 0; i < count; i++) put(out + 2 * i, round_to_bf16(x[i]));
}

}  // namespace

int64_t gguf_bytes(GgufType type, int64_t count) {
  const GgufTypeRow& row = gguf_type_row(type);
  TLL_CHECK(count % row.block == 0, "{} values of {}", count, row.name);
  return count / row.block * row.bytes;
}

void gguf_quantize(GgufType type, const float* values, int64_t count, std::byte* out, GgufFit& fit) {
  TLL_CHECK(count % gguf_type_row(type).block == 0, "{} values of {}", count, gguf_type_row(type).name);
  const int64_t bad = std::count_if(values, values + count, [](float x) { return !std::isfinite(x); });
  fit.not_finite += bad;
  if (bad > 0) return;
  // Blocks are independent: threads take ranges of them.
  constexpr int64_t kRange = 1 << 14;
  std::atomic<int64_t> too_large = 0;
  parallel_for((count + kRange - 1) / kRange, 16 * kRange, [&](int64_t range) {
    const int64_t first = range * kRange, n = std::min(kRange, count - first);
    const float* x = values + first;
    std::byte* to = out + gguf_bytes(type, first);
    GgufFit own;
    switch (type) {
      case GgufType::F32:
        std::memcpy(to, x, static_cast<size_t>(n) * sizeof(float));
        break;
      case GgufType::F16:
        values_f16(x, n, to, own);
        break;
      case GgufType::BF16:
        values_bf16(x, n, to, own);
        break;
      case GgufType::Q8_0:
        for (int64_t i = 0; i < n; i += kBlock) block_q8_0(x + i, to + gguf_bytes(type, i), own);
        break;
      case GgufType::Q4_0:
        for (int64_t i = 0; i < n; i += kBlock) block_q4_0(x + i, to + gguf_bytes(type, i), own);
        break;
      default:
        TLL_CHECK(false, "{} is not written", gguf_type_row(type).name);
    }
    too_large += own.too_large;
  });
  fit.too_large += too_large;
}

}  // namespace tll
