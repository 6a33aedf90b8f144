// wgmma of one case, however it is launched: a warpgroup multiplies 16 columns of A and 16 rows of B, whose values are small
// integers, so that every sum is exact.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "dev/ptx_sim/half.h"
#include "dev/ptx_sim/ptx_sim.h"

namespace ptx::test {

inline constexpr int kThreads = 128, kRows = 64, kStep = 16;

// How a matrix lies in shared memory. swizzle: bytes; 16: none.
struct Layout {
  int swizzle = 16;
  bool transposed = false;  // M- or N-major
  int mn = 0, k = 0;        // its size
  bool wide = false;        // which of the two strides is the large one

  int groups_k() const { return k / 8; }
  int groups_mn() const { return transposed ? (mn + swizzle / 2 - 1) / (swizzle / 2) : mn / 8; }
  int atom() const { return 8 * swizzle; }
  // Without a swizzle both strides are free, so one of them has an odd multiple of 16 bytes more than its atoms need.
  int along_k() const {
    if (!transposed && swizzle > 16) return 0;  // not used
    return wide ? groups_mn() * atom() + (swizzle == 16 ? 48 : 0) : atom();
  }
  int along_mn() const {
    if (!transposed && swizzle > 16) return wide ? 2 * atom() : atom();
    return wide ? atom() : groups_k() * atom() + (swizzle == 16 ? 16 : 0);
  }
  bool leading_is_k() const { return swizzle == 16; }
  int bytes() const { return groups_mn() * along_mn() + groups_k() * along_k() + atom(); }
  // Of an element. The pieces of 16 bytes of a row of the pattern change places with the row.
  int offset(int m, int kk) const {
    const int row = transposed ? kk % 8 : m % 8, unit = swizzle / 2;
    const int along = transposed ? m % unit : swizzle == 16 ? kk % 8 : kk;  // within the pattern's row
    const int turn = swizzle == 128 ? row : swizzle == 64 ? row / 2 : swizzle == 32 ? row / 4 : 0;
    const int at = row * swizzle + ((along / 8) ^ turn) * 16 + along % 8 * 2;
    if (transposed) return m / unit * along_mn() + kk / 8 * along_k() + at;
    return m / 8 * along_mn() + kk / 8 * along_k() + at;
  }
  // Of the matrix from column k0 on, without the address of what lies before it.
  uint64_t descriptor(int at, int k0, int base_offset = 0) const {
    const int start = at + (!transposed && swizzle > 16 ? k0 * 2 : k0 / 8 * along_k());
    const auto leading = static_cast<uint64_t>(leading_is_k() ? along_k() : along_mn());
    const auto stride = static_cast<uint64_t>(leading_is_k() ? along_mn() : along_k());
    const bool k_major = !transposed && swizzle > 16;
    const uint64_t mode = swizzle == 128 ? 1 : swizzle == 64 ? 2 : swizzle == 32 ? 3 : 0;
    return static_cast<uint64_t>(start) / 16 | (k_major ? 1 : leading / 16) << 16 |
           (k_major ? static_cast<uint64_t>(along_mn()) : stride) / 16 << 32 | static_cast<uint64_t>(base_offset) << 49 |
           mode << 62;
  }
};

struct Case {
  int n = 16;
  bool half = true, registers = false;  // A in registers
  Layout a{128, false, kRows, 64, false}, b{128, false, 16, 64, false};
  int scale_a = 1, scale_b = 1;
  bool add = true;
  int k0_a = 0, k0_b = 0;
  int pattern_at = 0;  // 128-byte rows between a boundary of 1024 bytes and the patterns' begin
};

inline float a_value(int m, int k) { return static_cast<float>((m * 7 + k * 3 + m / 9) % 11 - 5); }
inline float b_value(int k, int n) { return static_cast<float>((k * 5 + n * 2 + n / 7) % 9 - 4); }
inline float d_value(int m, int n) { return static_cast<float>((m * 3 + n) % 13 - 6); }

struct Found {
  std::string reports;  // with the fault, if there was one
  int wrong = 0;        // elements of D
};
// What a kernel is given: the image of shared memory and how many 16 bytes it has, D, A's fragments, descriptors without the
// address of shared memory, scale-d.
struct Arguments {
  const void* image;
  uint32_t pieces;
  float* d;
  const void* fragments;
  uint64_t a, b;
  uint32_t add;
};
// launch(Arguments, bytes of dynamic shared memory)
template <class F>
Found run_case(const Case& c, const F& launch, int fewer_pieces = 0) {
  alignas(16) static uint8_t image[128 << 10];
  alignas(16) static uint32_t fragments[kThreads * 4];
  static float d[kThreads * 128];
  std::memset(image, 0xff, sizeof(image));  // NaN
  const auto bits = [&](float x) { return c.half ? float_to_half(x) : float_to_bf16(x); };
  const auto put = [&](int at, float x) {
    const uint16_t value = bits(x);
    std::memcpy(image + at, &value, sizeof(value));
  };
  const int a_at = 128 * c.pattern_at, b_at = a_at + (c.a.bytes() + 1023) / 1024 * 1024, bytes = b_at + c.b.bytes() + 1024;
  EXPECT_LE(bytes, static_cast<int>(sizeof(image)));
  for (int k = 0; k < c.a.k; k++)
    for (int m = 0; m < kRows; m++) put(a_at + c.a.offset(m, k), a_value(m, k));
  for (int k = 0; k < c.b.k; k++)
    for (int n = 0; n < c.n; n++) put(b_at + c.b.offset(n, k), b_value(k, n));
  // Of thread T: group T % 32 / 4, T % 4 within it; the warp's rows begin at 16 · (T / 32).
  for (int t = 0; t < kThreads; t++)
    for (int r = 0; r < 4; r++) {
      const int m = t / 32 * 16 + t % 32 / 4 + 8 * (r & 1), k = t % 4 * 2 + 8 * (r >> 1);
      fragments[4 * t + r] = bits(a_value(m, k)) | static_cast<uint32_t>(bits(a_value(m, k + 1))) << 16;
    }
  const auto row = [](int t, int e) { return 16 * (t / 32) + t % 32 / 4 + 8 * (e / 2 % 2); };
  const auto column = [](int t, int e) { return 8 * (e / 4) + 2 * (t % 4) + e % 2; };
  for (int t = 0; t < kThreads; t++)
    for (int e = 0; e < c.n / 2; e++) d[t * c.n / 2 + e] = d_value(row(t, e), column(t, e));
  const int base_a = c.a.swizzle == 16 ? 0 : c.pattern_at, base_b = c.b.swizzle == 16 ? 0 : c.pattern_at;
  Arguments arguments{image,
                      static_cast<uint32_t>(bytes / 16 - fewer_pieces),
                      d,
                      fragments,
                      c.a.descriptor(a_at, c.k0_a, base_a),
                      c.b.descriptor(b_at, c.k0_b, base_b),
                      c.add};
  add_memory(image, sizeof(image)), add_memory(d, sizeof(d)), add_memory(fragments, sizeof(fragments));
  take_reports();
  Found found;
  try {
    launch(arguments, static_cast<size_t>(bytes));
  } catch (const Fault& fault) {
    found.reports = fault.what();
  }
  found.reports += take_reports();
  for (const void* memory : {static_cast<const void*>(image), static_cast<const void*>(d), static_cast<const void*>(fragments)})
    remove_memory(memory, 1);
  for (int t = 0; t < kThreads; t++)
    for (int e = 0; e < c.n / 2; e++) {
      const int m = row(t, e), n = column(t, e);
      double sum = c.add ? static_cast<double>(d_value(m, n)) : 0;
      for (int k = 0; k < kStep; k++)
        sum += static_cast<double>(c.scale_a) * static_cast<double>(a_value(m, k + c.k0_a)) * static_cast<double>(c.scale_b) *
               static_cast<double>(b_value(k + c.k0_b, n));
      found.wrong += static_cast<double>(d[t * c.n / 2 + e]) != sum;
    }
  return found;
}

inline Layout layout(int which, int mn) {  // 0 … 7: four swizzles, then those of the transposed
  static constexpr int kSwizzles[] = {16, 32, 64, 128};
  const int swizzle = kSwizzles[which % 4];
  const bool transposed = which >= 4;
  return {swizzle, transposed, mn, !transposed && swizzle > 16 ? swizzle / 2 : 32, false};
}
// Which of a matrix's steps of 16 columns is multiplied, which strides it has, signs, scale-d: each of these changes from case to
// case.
inline Case make_case(int n, bool half, int a, int b, int number) {
  Case c{.n = n, .half = half, .registers = a == 8, .a = layout(a % 8, kRows), .b = layout(b, n)};
  c.a.wide = number & 1, c.b.wide = number & 2;
  c.scale_a = number & 4 ? -1 : 1, c.scale_b = number & 8 ? -1 : 1, c.add = number % 3 != 0;
  c.k0_a = c.registers ? 0 : number / 2 % (c.a.k / kStep) * kStep, c.k0_b = number / 3 % (c.b.k / kStep) * kStep;
  return c;
}
inline std::string name(const Case& c) {
  const auto of = [](const Layout& l) { return std::to_string(l.swizzle) + (l.transposed ? "t" : "") + (l.wide ? "w" : ""); };
  return (c.half ? "f16 n" : "bf16 n") + std::to_string(c.n) + " A " + (c.registers ? "registers" : of(c.a)) + " at " +
         std::to_string(c.k0_a) + " B " + of(c.b) + " at " + std::to_string(c.k0_b);
}

}  // namespace ptx::test
