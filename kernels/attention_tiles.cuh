// What the kernels of attention are made of: tiles of rows in shared memory, products of two tiles, and who sees whom.
//
// A block of four warps owns a tile of rows X; tiles Y of the other side stream by. Tile<Float, kD> gives, for head sizes up to
// kD:
//   load(tile, …)          rows from global to shared memory, asynchronously; what is missing in rows or columns becomes 0
//   products(s, X, Y)      s[x, y] = Σ_d X[x, d] · Y[y, d]
//   accumulate(a, s, Y)    a[x, d] += Σ_y s[x, y] · Y[y, d]
// A thread holds some elements of s and of the accumulators; the four lanes of a quad hold all of a row, so that sums and maxima
// over a row are warp_sum<4> and warp_max<4>. score_row/score_column and sum_row/sum_column say which; rows are numbered within
// the thread, row(r) within the block's tile.
//
// bf16 and fp16: tensor cores; a warp owns 16 rows, a thread two of them (r = 0, 1), and s is rounded to the storage type before
// it is multiplied. float: a warp owns 8 rows, a quad one, everything in fma.
#pragma once

#include "kernels/attention.h"
#include "kernels/row_access.cuh"

namespace tll {

inline constexpr int kAttentionThreads = 128;

template <class Float, int kD_>
struct TileRows {
  static constexpr int kD = kD_, kPitch = kD + kVec<Float>;  // an odd number of 16-byte units: no bank conflicts
  template <int kRows>
  TLL_DEVICE static void load(Float* tile, const Float* from, int64_t stride, int rows, int D, bool vector) {
    constexpr int kChunks = kD / kVec<Float>;
    for (int c = threadIdx.x; c < kRows * kChunks; c += kAttentionThreads) {
      const int row = c / kChunks, column = c % kChunks * kVec<Float>;
      int valid = row < rows ? D - column : 0;
      valid = valid < 0 ? 0 : (valid > kVec<Float> ? kVec<Float> : valid);
      copy_vec_async(tile + row * kPitch + column, valid > 0 ? from + row * stride + column : from, valid, vector);
    }
  }
};

template <class Float, int kD_>
struct Tile : TileRows<Float, kD_> {
  static constexpr int kD = kD_, kPitch = TileRows<Float, kD_>::kPitch;
  static constexpr int kOwn = 64, kMine = 2;                     // rows of the block, of a thread
  static constexpr int kKeys = 64, kStream = kD > 96 ? 16 : 32;  // rows that stream by: forward, backward
  static constexpr int kSums = kD / 2;                           // accumulators of a thread
  template <int kY>
  static constexpr int kScores = kY / 2;

  TLL_DEVICE static int row(int r) { return static_cast<int>(warp_id() * 16 + lane_id() / 4) + 8 * r; }
  TLL_DEVICE static int score_row(int e) { return e / 2 % 2; }
  TLL_DEVICE static int score_column(int e) { return e / 4 * 8 + static_cast<int>(lane_id() % 4) * 2 + e % 2; }
  TLL_DEVICE static int sum_row(int e) { return score_row(e); }
  TLL_DEVICE static int sum_column(int e) { return score_column(e); }

  template <int kY>
  TLL_DEVICE static void products(float (&s)[kY / 2], const Float* x, const Float* y) {
    const int lane = static_cast<int>(lane_id());
    const Float* a_row = x + (static_cast<int>(warp_id()) * 16 + (lane & 15)) * kPitch + 8 * (lane >> 4);
    const Float* b_row = y + ((lane & 7) + 8 * (lane >> 4)) * kPitch + 8 * ((lane >> 3) & 1);
    float c[kY / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kD; k += 16) {
      uint32_t a[4], b[4];
      ldmatrix(a, a_row + k);
#pragma unroll
      for (int n = 0; n < kY; n += 16) {
        ldmatrix(b, b_row + n * kPitch + k);
        const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
        mma_m16n8k16<Float>(c[n / 8], a, b0);
        mma_m16n8k16<Float>(c[n / 8 + 1], a, b1);
      }
    }
#pragma unroll
    for (int e = 0; e < kY / 2; e++) s[e] = c[e / 4][e % 4];
  }

  template <int kY>
  TLL_DEVICE static void accumulate(float (&sums)[kSums], const float (&s)[kY / 2], const Float* y) {
    const int lane = static_cast<int>(lane_id());
    const Float* b_row = y + (lane & 15) * kPitch + 8 * (lane >> 4);
#pragma unroll
    for (int k = 0; k < kY; k += 16) {
      const float* p = s + k / 2;  // two neighbouring n8 tiles of s are an A operand
      const uint32_t a[4] = {pack2<Float>(p[0], p[1]), pack2<Float>(p[2], p[3]), pack2<Float>(p[4], p[5]),
                             pack2<Float>(p[6], p[7])};
#pragma unroll
      for (int n = 0; n < kD; n += 16) {
        uint32_t b[4];
        ldmatrix_trans(b, b_row + k * kPitch + n);
        const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
        float c[2][4];
#pragma unroll
        for (int e = 0; e < 8; e++) c[e / 4][e % 4] = sums[n / 2 + e];
        mma_m16n8k16<Float>(c[0], a, b0);
        mma_m16n8k16<Float>(c[1], a, b1);
#pragma unroll
        for (int e = 0; e < 8; e++) sums[n / 2 + e] = c[e / 4][e % 4];
      }
    }
  }
};

template <int kD_>
struct Tile<float, kD_> : TileRows<float, kD_> {
  static constexpr int kD = kD_, kPitch = TileRows<float, kD_>::kPitch;
  static constexpr int kOwn = 32, kMine = 1;
  static constexpr int kKeys = 32, kStream = kD > 96 ? 8 : 16;
  static constexpr int kSums = kD / 4;
  template <int kY>
  static constexpr int kScores = kY / 4;

  TLL_DEVICE static int row(int) { return static_cast<int>(threadIdx.x) / 4; }
  TLL_DEVICE static int score_row(int) { return 0; }
  TLL_DEVICE static int score_column(int e) { return e * 4 + static_cast<int>(lane_id() % 4); }
  TLL_DEVICE static int sum_row(int) { return 0; }
  TLL_DEVICE static int sum_column(int e) { return e / 4 * 16 + static_cast<int>(lane_id() % 4) * 4 + e % 4; }

  template <int kY>
  TLL_DEVICE static void products(float (&s)[kY / 4], const float* x, const float* y) {
    const float* mine = x + row(0) * kPitch;
    const float* other = y + static_cast<int>(lane_id() % 4) * kPitch;
#pragma unroll
    for (int e = 0; e < kY / 4; e++) s[e] = 0;
#pragma unroll 4
    for (int d = 0; d < kD; d += 4) {
      const Vec<float, 4> xv = load_vec<4>(mine + d);
#pragma unroll
      for (int e = 0; e < kY / 4; e++) {
        const Vec<float, 4> yv = load_vec<4>(other + e * 4 * kPitch + d);
#pragma unroll
        for (int i = 0; i < 4; i++) s[e] = fmaf(xv[i], yv[i], s[e]);
      }
    }
  }

  template <int kY>
  TLL_DEVICE static void accumulate(float (&sums)[kSums], const float (&s)[kY / 4], const float* y) {
    const unsigned quad = lane_id() & ~3u;
    const float* columns = y + static_cast<int>(lane_id() % 4) * 4;
#pragma unroll
    for (int e = 0; e < kY / 4; e++) {
#pragma unroll
      for (int t = 0; t < 4; t++) {
        const float p = __shfl_sync(kFullWarp, s[e], quad + t);
#pragma unroll
        for (int c = 0; c < kD; c += 16) {
          const Vec<float, 4> yv = load_vec<4>(columns + (e * 4 + t) * kPitch + c);
#pragma unroll
          for (int i = 0; i < 4; i++) sums[c / 4 + i] = fmaf(p, yv[i], sums[c / 4 + i]);
        }
      }
    }
  }
};

// Rows of accumulators to global memory, times factor(r).
template <class T, class Float, class Factor>
TLL_DEVICE void store_rows(Float* to, int64_t stride, int rows, int D, const float (&sums)[T::kSums], const Factor& factor) {
#pragma unroll
  for (int e = 0; e < T::kSums; e++) {
    const int r = T::sum_row(e), column = T::sum_column(e);
    if (T::row(r) < rows && column < D) to[T::row(r) * stride + column] = from_float<Float>(sums[e] * factor(r));
  }
}

// ---- who sees whom: query i sees the keys first_key(i) … i, key j is seen by the queries j … query_end(j)-1
// -------------------- Both rise with their argument, so a tile's bounds are those of its first and last row.

struct Documents {
  const int32_t* bounds;  // (docs + 1)
  int docs, window;
  // The last document that begins at or before row i: empty ones are passed over.
  TLL_DEVICE int document(int i) const {
    int low = 0, high = docs - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (bounds[middle] <= i)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
  TLL_DEVICE int first_key(int i) const {
    const int begin = bounds[document(i)];
    return window > 0 && i - begin >= window ? i - window + 1 : begin;
  }
  TLL_DEVICE int query_end(int j) const {
    const int end = bounds[document(j) + 1];
    return window > 0 && end - j > window ? j + window : end;
  }
};

// ---- launching
// ------------------------------------------------------------------------------------------------------------------

inline constexpr float kLog2e = 1.4426950408889634f;

// Calls f(integral_constant<kD>) with the least kD that D fits.
template <class F>
void with_head_size(int D, const F& f) {
  TLL_CHECK(D <= 128, "attention on CUDA has head sizes up to 128, not {}", D);
  if (D <= 32) return f(std::integral_constant<int, 32>{});
  if (D <= 64) return f(std::integral_constant<int, 64>{});
  if (D <= 96) return f(std::integral_constant<int, 96>{});
  f(std::integral_constant<int, 128>{});
}
template <class Float>
bool vector_heads(const Float* p, int64_t stride, int D) {
  return vec_aligned<kVec<Float>>(p, stride) && D % kVec<Float> == 0;
}

}  // namespace tll
