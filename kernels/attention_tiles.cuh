// What the attention kernels share: tiles of rows in shared memory, matmuls of two tiles, and which query sees which key.
//
// A block of four warps owns a tile of rows X. Tiles Y of the other side stream by. Tile<Float, kD> serves head sizes up to kD:
//   load(tile, …)          rows from global to shared memory by cp.async; missing rows and columns become 0
//   Own<kHeld>(X)          X as the left operand; kHeld: read once and kept in registers, else read again in every matmul
//   matmul_nt(s, own, Y)   s = X·Yᵀ
//   accumulate(a, s, Y)    a += s·Y
// s and a lie in registers, spread over the lanes as accumulators of mma are: the four lanes of a quad hold a row, so warp_sum<4>
// and warp_max<4> reduce it. score_row(e) and score_column(e) locate element e of a thread's s. Rows are numbered within the
// thread; row(r) is the number within the block's tile.
//
// bf16 and fp16: tensor cores. A warp owns 16·kSlabs rows, a thread two of each 16, and s is rounded to the storage type before
// it is multiplied. float: fma. A warp owns 8 rows, a quad one.
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
    constexpr int kChunks = kD / kVec<Float>, kStep = kAttentionThreads / kChunks;
    const auto copy = [&](int c, bool whole) {
      const int row = c / kChunks, column = c % kChunks * kVec<Float>, left = row < rows ? D - column : 0;
      copy_vec_async(tile + row * kPitch + column, from + row * stride + column,
                     left < 0 ? 0 : (left > kVec<Float> ? kVec<Float> : left), whole);
    };
    if (!vector) {
#pragma unroll 1
      for (int c = threadIdx.x; c < kRows * kChunks; c += kAttentionThreads) copy(c, false);
    } else if constexpr (kAttentionThreads % kChunks == 0 && kRows % kStep == 0) {  // a thread stays in its column
      const int row0 = static_cast<int>(threadIdx.x) / kChunks, column = static_cast<int>(threadIdx.x) % kChunks * kVec<Float>;
      const int bytes = column < D ? 16 : 0;
      from += row0 * stride + column;
      tile += row0 * kPitch + column;
#pragma unroll
      for (int row = 0; row < kRows; row += kStep) {
        cp_async_16(tile + row * kPitch, from, row + row0 < rows ? bytes : 0);
        from += kStep * stride;
      }
    } else {
#pragma unroll
      for (int c = threadIdx.x; c < kRows * kChunks; c += kAttentionThreads) copy(c, true);
    }
  }
};

// kSlabs: m16 tiles of rows that a warp owns. Two halve the reads of Y from shared memory for each mma.
template <class Float, int kD_, int kSlabs_ = 1>
struct Tile : TileRows<Float, kD_> {
  static constexpr int kD = kD_, kPitch = TileRows<Float, kD_>::kPitch, kSlabs = kSlabs_;
  static constexpr int kOwn = 64 * kSlabs, kMine = 2 * kSlabs;  // rows of the block, of a thread
  // Rows of a tile that streams by, forward and backward: as many as registers and the 64 KiB of shared memory of sm_75 allow.
  static constexpr int kKeys = kSlabs > 1 ? 48 : 64, kStream = kD > 96 ? 16 : 32;
  static constexpr int kSums = kSlabs * kD / 2;  // accumulators of a thread
  template <int kY>
  static constexpr int kScores = kSlabs* kY / 2;

  TLL_DEVICE static int row(int r) {
    return static_cast<int>(warp_id()) * 16 * kSlabs + r / 2 * 16 + static_cast<int>(lane_id()) / 4 + r % 2 * 8;
  }
  template <int kY>
  TLL_DEVICE static constexpr int score_row(int e) {
    return e / (kY / 2) * 2 + e / 2 % 2;
  }
  template <int kY>
  TLL_DEVICE static int score_column(int e) {
    return e % (kY / 2) / 4 * 8 + static_cast<int>(lane_id() % 4) * 2 + e % 2;
  }

  // Registers of a thread if held: kSlabs·kD/4.
  template <bool kHeld>
  struct Own {
    const Float* a_row;
    uint32_t held[kHeld ? kD / 16 : 1][kSlabs][4];
    TLL_DEVICE explicit Own(const Float* x) {
      const int lane = static_cast<int>(lane_id());
      a_row = x + (static_cast<int>(warp_id()) * 16 * kSlabs + (lane & 15)) * kPitch + 8 * (lane >> 4);
      if constexpr (kHeld) {
#pragma unroll
        for (int k = 0; k < kD; k += 16)
#pragma unroll
          for (int slab = 0; slab < kSlabs; slab++) ldmatrix(held[k / 16][slab], a_row + slab * 16 * kPitch + k);
      }
    }
    TLL_DEVICE void operand(uint32_t (&a)[4], int slab, int k) const {  // of the columns k … k+15
      if constexpr (kHeld) {
#pragma unroll
        for (int r = 0; r < 4; r++) a[r] = held[k / 16][slab][r];
      } else {
        ldmatrix(a, a_row + slab * 16 * kPitch + k);
      }
    }
  };

  template <int kY, bool kHeld>
  TLL_DEVICE static void matmul_nt(float (&s)[kSlabs * kY / 2], const Own<kHeld>& own, const Float* y) {
    const int lane = static_cast<int>(lane_id());
    const Float* b_row = y + ((lane & 7) + 8 * (lane >> 4)) * kPitch + 8 * ((lane >> 3) & 1);
    float c[kSlabs][kY / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kD; k += 16) {
      uint32_t a[kSlabs][4], b[4];
#pragma unroll
      for (int slab = 0; slab < kSlabs; slab++) own.operand(a[slab], slab, k);
#pragma unroll
      for (int n = 0; n < kY; n += 16) {
        ldmatrix(b, b_row + n * kPitch + k);
        const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
        for (int slab = 0; slab < kSlabs; slab++) {
          mma_m16n8k16<Float>(c[slab][n / 8], a[slab], b0);
          mma_m16n8k16<Float>(c[slab][n / 8 + 1], a[slab], b1);
        }
      }
    }
#pragma unroll
    for (int e = 0; e < kSlabs * kY / 2; e++) s[e] = c[e / (kY / 2)][e % (kY / 2) / 4][e % 4];
  }

  template <int kY>
  TLL_DEVICE static void accumulate(float (&sums)[kSums], const float (&s)[kSlabs * kY / 2], const Float* y) {
    const int lane = static_cast<int>(lane_id());
    const Float* b_row = y + (lane & 15) * kPitch + 8 * (lane >> 4);
#pragma unroll
    for (int k = 0; k < kY; k += 16) {
      uint32_t a[kSlabs][4];
#pragma unroll
      for (int slab = 0; slab < kSlabs; slab++)
#pragma unroll
        for (int r = 0; r < 4; r++) {  // two neighbouring n8 tiles of s are an A operand
          const float* p = s + slab * (kY / 2) + k / 2 + 2 * r;
          a[slab][r] = pack2<Float>(p[0], p[1]);
        }
#pragma unroll
      for (int n = 0; n < kD; n += 16) {
        uint32_t b[4];
        ldmatrix_trans(b, b_row + k * kPitch + n);
        const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
        for (int slab = 0; slab < kSlabs; slab++) {
          float* at = sums + slab * (kD / 2) + n / 2;
          float c[2][4];
#pragma unroll
          for (int e = 0; e < 8; e++) c[e / 4][e % 4] = at[e];
          mma_m16n8k16<Float>(c[0], a[slab], b0);
          mma_m16n8k16<Float>(c[1], a[slab], b1);
#pragma unroll
          for (int e = 0; e < 8; e++) at[e] = c[e / 4][e % 4];
        }
      }
    }
  }

  // Epilogue: accumulators times factor(r) to global memory. They are staged in the warp's own rows of a tile that no other warp
  // reads, so that a lane writes 16 bytes at a time.
  template <class Factor>
  TLL_DEVICE static void store(Float* to, int64_t stride, int rows, int D, const float (&sums)[kSums], Float* tile, bool vector,
                               const Factor& factor) {
    const int lane = static_cast<int>(lane_id());
    __syncwarp();
#pragma unroll
    for (int e = 0; e < kSums; e += 2) {
      const int r = score_row<kD>(e);
      const uint32_t pair = pack2<Float>(sums[e] * factor(r), sums[e + 1] * factor(r));
      memcpy(tile + row(r) * kPitch + score_column<kD>(e), &pair, sizeof(pair));
    }
    __syncwarp();
    constexpr int kChunks = kD / kVec<Float>;
#pragma unroll 1
    for (int c = lane; c < 16 * kSlabs * kChunks; c += kWarp) {
      const int at = static_cast<int>(warp_id()) * 16 * kSlabs + c / kChunks, column = c % kChunks * kVec<Float>;
      if (at >= rows || column >= D) continue;
      const Float* from = tile + at * kPitch + column;
      Float* here = to + at * stride + column;
      if (vector) {  // D is a multiple of kVec; as raw bits, of which nvcc makes one load and one store
        *reinterpret_cast<raw_bits<16>*>(here) = *reinterpret_cast<const raw_bits<16>*>(from);
      } else {
        for (int i = 0; i < kVec<Float> && column + i < D; i++) here[i] = from[i];
      }
    }
  }
};

template <int kD_>
struct Tile<float, kD_, 1> : TileRows<float, kD_> {
  static constexpr int kD = kD_, kPitch = TileRows<float, kD_>::kPitch;
  static constexpr int kOwn = 32, kMine = 1;
  static constexpr int kKeys = 32, kStream = kD > 96 ? 8 : 16;
  static constexpr int kSums = kD / 4;
  template <int kY>
  static constexpr int kScores = kY / 4;

  TLL_DEVICE static int row(int) { return static_cast<int>(threadIdx.x) / 4; }
  template <int kY>
  TLL_DEVICE static constexpr int score_row(int) {
    return 0;
  }
  template <int kY>
  TLL_DEVICE static int score_column(int e) {
    return e * 4 + static_cast<int>(lane_id() % 4);
  }

  template <bool>
  struct Own {  // never held
    const float* mine;
    TLL_DEVICE explicit Own(const float* x) : mine(x + row(0) * kPitch) {}
  };

  template <int kY, bool kHeld>
  TLL_DEVICE static void matmul_nt(float (&s)[kY / 4], const Own<kHeld>& own, const float* y) {
    const float* other = y + static_cast<int>(lane_id() % 4) * kPitch;
#pragma unroll
    for (int e = 0; e < kY / 4; e++) s[e] = 0;
#pragma unroll 4
    for (int d = 0; d < kD; d += 4) {
      const Vec<float, 4> xv = load_vec<4>(own.mine + d);
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

  template <class Factor>
  TLL_DEVICE static void store(float* to, int64_t stride, int rows, int D, const float (&sums)[kSums], float*, bool vector,
                               const Factor& factor) {
    const int first = static_cast<int>(lane_id() % 4) * 4;
#pragma unroll
    for (int n = 0; n < kD; n += 16) {
      float v[4];
#pragma unroll
      for (int i = 0; i < 4; i++) v[i] = sums[n / 4 + i] * factor(0);
      if (row(0) < rows) store_floats(to + row(0) * stride + n + first, v, D - n - first, vector);
    }
  }
};

// ---- which query sees which key --------------------------------------------------------------------------------------------
//
// Query i sees the keys first_key(i) … i. Key j is seen by the queries j … query_end(j)-1. Both bounds are monotone, so those of
// a tile are those of its first and last row.
struct Documents {
  const int32_t* bounds;  // (docs + 1)
  int docs, window;
  // The last document that begins at or before row i, so never an empty one.
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

// ---- the parts of a group ---------------------------------------------------------------------------------------------------
//
// Where a thread of the keys' kernels leaves its kSums sums of dk (tensor 0) or dv (1), kAttentionThreads floats apart. The same
// thread of add_parts_kernel takes them from there, so they need not lie in rows: all these kernels have the layout of Tile's
// sums, which is wgmma's too. Both grids have a group in x and a tile in z.
template <int kSums, class Float>
TLL_DEVICE float* part_sums(const AttentionBackward<Float>& op, unsigned part, unsigned parts, unsigned tensor) {
  const int64_t block = (static_cast<int64_t>(blockIdx.z) * gridDim.x + blockIdx.x) * parts + part;
  return op.scratch + op.row_scratch() + (2 * block + tensor) * (kSums * kAttentionThreads) + threadIdx.x;
}
template <int kSums, class Float>
TLL_DEVICE void leave_part(const AttentionBackward<Float>& op, const float (&dk)[kSums], const float (&dv)[kSums]) {
  float *dk_part = part_sums<kSums>(op, blockIdx.y, gridDim.y, 0), *dv_part = part_sums<kSums>(op, blockIdx.y, gridDim.y, 1);
#pragma unroll
  for (int e = 0; e < kSums; e++) dk_part[e * kAttentionThreads] = dk[e], dv_part[e * kAttentionThreads] = dv[e];
}
// Enqueues add_parts_kernel, for tiles of kD columns: dk and dv from their parts.
template <class Float, int kD>
void add_parts(const Device& device, const AttentionBackward<Float>& op, int parts, bool vector);

// ---- launching -------------------------------------------------------------------------------------------------------------

template <class Float>
void check_tensor_cores(const Device& device, const char* op) {
  TLL_CHECK((std::is_same_v<Float, float> || tensor_cores_multiply<Float>(device.arch)),
            "{} in {} needs tensor cores of sm_80 or later, this GPU is sm_{}; use fp16", op, dtype_name(dtype_of<Float>),
            device.arch / 10);
}

// One block for each head and tile of `own` rows. GPUs start blocks by their index, x first: here every head's block of one tile,
// then those of the next. Under a causal mask tiles differ in work, so kernels take y = 0 for the tile with the most: the last
// blocks of a launch, which some SMs run while the others have none left, are then short.
inline dim3 attention_grid(int heads, int N, int own) {
  constexpr int kMostTiles = 65535;  // of a grid's y
  const int tiles = (N - 1) / own + 1;
  TLL_CHECK(tiles <= kMostTiles, "attention on CUDA has up to {} rows, not {}", int64_t{kMostTiles} * own, N);
  return dim3(static_cast<unsigned>(heads), static_cast<unsigned>(tiles));
}

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
