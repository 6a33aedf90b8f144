// SHA-256 (FIPS 180-4), for test vectors that are published as hashes.
#pragma once

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

namespace tll::test {

// The first 32 bits of the fraction of the square (2) or cube (3) root of the first primes.
template <size_t kCount>
std::array<uint32_t, kCount> fractions_of_roots(int root) {
  std::array<uint32_t, kCount> all{};
  size_t n = 0;
  for (int p = 2; n < kCount; p++) {
    bool prime = true;
    for (int d = 2; d * d <= p; d++) prime = prime && p % d != 0;
    if (!prime) continue;
    const long double r = root == 2 ? std::sqrt(static_cast<long double>(p)) : std::cbrt(static_cast<long double>(p));
    all[n++] = static_cast<uint32_t>(std::fmod(r, 1.0L) * 0x1p32L);
  }
  return all;
}

inline std::string sha256(const void* data, size_t size) {
  static const std::array<uint32_t, 64> k = fractions_of_roots<64>(3);
  std::array<uint32_t, 8> h = fractions_of_roots<8>(2);
  std::string text(static_cast<const char*>(data), size);
  text += '\x80';
  text.resize((text.size() + 8 + 63) / 64 * 64);
  for (size_t i = 0; i < 8; i++) text[text.size() - 1 - i] = static_cast<char>(size * 8 >> 8 * i);
  for (size_t at = 0; at < text.size(); at += 64) {
    uint32_t w[64];
    for (size_t i = 0; i < 16; i++) {
      w[i] = 0;
      for (size_t j = 0; j < 4; j++) w[i] = w[i] << 8 | static_cast<uint8_t>(text[at + 4 * i + j]);
    }
    for (size_t i = 16; i < 64; i++) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] =
          w[i - 16] + w[i - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    std::array<uint32_t, 8> s = h;
    for (size_t i = 0; i < 64; i++) {
      const uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
      const uint32_t t1 = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) + choice + k[i] + w[i];
      const uint32_t t2 = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) + majority;
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (size_t i = 0; i < 8; i++) h[i] += s[i];
  }
  std::string hex;
  for (uint32_t word : h) hex += fmt::format("{:08x}", word);
  return hex;
}

}  // namespace tll::test
