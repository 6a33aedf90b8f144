#include "src/files/gguf_blocks.h"

#include <cstring>

#include "kernels/numeric.h"
#include "src/base/check.h"

namespace tll {
namespace {

constexpr int kSmall = 32, kHalf = kSmall / 2, kSub = 32, kSubBlocks = 8;

uint8_t byte(const std::byte* data, int i) { return std::to_integer<uint8_t>(data[i]); }
int8_t signed_byte(const std::byte* data, int i) { return static_cast<int8_t>(byte(data, i)); }
float half_at(const std::byte* data) {
  half value;
  std::memcpy(&value, data, sizeof value);
  return to_acc(value);
}
uint32_t bits_at(const std::byte* data) {
  uint32_t value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// Element i of 32 nibbles.
int nibble(const std::byte* q, int i) { return i < kHalf ? byte(q, i) & 15 : byte(q, i - kHalf) >> 4; }

template <bool five, bool has_min>
void small_block(const std::byte* block, float* out) {
  constexpr int kMiddle = has_min ? 0 : five ? 16 : 8;
  const float d = half_at(block), m = has_min ? half_at(block + 2) : 0;
  const std::byte* next = block + (has_min ? 4 : 2);
  const uint32_t h = five ? bits_at(next) : 0;
  const std::byte* q = next + (five ? 4 : 0);
  for (int i = 0; i < kSmall; i++) {
    const auto value = static_cast<float>((nibble(q, i) | static_cast<int>(h >> i & 1) << 4) - kMiddle);
    out[i] = has_min ? value * d + m : value * d;
  }
}

void q8_0(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < kSmall; i++) out[i] = static_cast<float>(signed_byte(block + 2, i)) * d;
}

// Q4_K and Q5_K.
template <bool five>
void scaled_block(const std::byte* block, float* out) {
  const float d = half_at(block), e = half_at(block + 2);
  const std::byte *s = block + 4, *h = block + 16, *q = h + (five ? 32 : 0);
  for (int b = 0; b < kSubBlocks; b++) {
    const int scale = b < 4 ? byte(s, b) & 63 : (byte(s, b + 4) & 15) | (byte(s, b - 4) >> 6) << 4;
    const int minimum = b < 4 ? byte(s, b + 4) & 63 : byte(s, b + 4) >> 4 | (byte(s, b) >> 6) << 4;
    const float step = d * static_cast<float>(scale), least = e * static_cast<float>(minimum);
    for (int i = 0; i < kSub; i++) {
      const int low = byte(q, kSub * (b / 2) + i) >> (b % 2 * 4) & 15;
      const int value = five ? low | (byte(h, i) >> b & 1) << 4 : low;
      out[kSub * b + i] = step * static_cast<float>(value) - least;
    }
  }
}

void q6_k(const std::byte* block, float* out) {
  const std::byte *l = block, *h = block + 128, *scale = block + 192;
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; i++) {
    const int a = i / 128, t = i / 32 % 4, k = i % 32;
    const int low = byte(l, 64 * a + 32 * (t % 2) + k) >> (t < 2 ? 0 : 4) & 15;
    const int value = low | (byte(h, 32 * a + k) >> (2 * t) & 3) << 4;
    out[i] = d * static_cast<float>(signed_byte(scale, i / 16)) * static_cast<float>(value - 32);
  }
}

}  // namespace

void gguf_dequantize_block(GgufType type, const std::byte* block, float* out) {
  switch (type) {
    case GgufType::Q4_0:
      return small_block<false, false>(block, out);
    case GgufType::Q4_1:
      return small_block<false, true>(block, out);
    case GgufType::Q5_0:
      return small_block<true, false>(block, out);
    case GgufType::Q5_1:
      return small_block<true, true>(block, out);
    case GgufType::Q8_0:
      return q8_0(block, out);
    case GgufType::Q4_K:
      return scaled_block<false>(block, out);
    case GgufType::Q5_K:
      return scaled_block<true>(block, out);
    case GgufType::Q6_K:
      return q6_k(block, out);
    default:
      break;
  }
  TLL_CHECK(false, "{} has no blocks", gguf_type_row(type).name);
}

}  // namespace tll
