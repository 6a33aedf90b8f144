// Causal grouped-query attention over packed documents, in tiles with an online softmax: the (N, N) scores are never stored
// (FlashAttention: Dao et al. 2022; FlashAttention-2: Dao 2023).
//
// Query head h reads key/value head g = h / (H/G). Documents are the ranges cu_seqlens[i] … cu_seqlens[i+1] of the N rows;
// query i of a document may see its keys j with  i - W < j ≤ i  (W = window; 0: no window).
//
// Forward:   S[i,j] = scale · q_i·k_j        P = softmax_j(S)        out_i = Σ_j P[i,j]·v_j
//            lse_i  = ln Σ_j e^S[i,j]                                              saved, with q, k, v and out
// Backward:  delta_i = dout_i·out_i          P[i,j] = e^(S[i,j] - lse_i)
//            dv_j = Σ_i P[i,j]·dout_i        dP[i,j] = dout_i·v_j    dS = P ⊙ (dP - delta_i)
//            dq_i = scale·Σ_j dS[i,j]·k_j    dk_j = scale·Σ_i dS[i,j]·q_i          dk, dv summed over the group's heads
//
// Cost: 4·D flops a visible (query, key) pair and head forward, 10·D backward. Bound by arithmetic.
#pragma once

#include <algorithm>

#include "kernels/device.h"
#include "kernels/row_stride.h"

namespace tll {

// Tiles of the CPU implementation, which give the sizes of its scratch. All are float, padded to kAttentionPad columns.
inline constexpr int kQueryTile = 64, kKeyTile = 64, kAttentionPad = 16;
constexpr int attention_pad(int d) { return (d + kAttentionPad - 1) / kAttentionPad * kAttentionPad; }
constexpr int64_t attention_forward_tiles(int D) {
  return static_cast<int64_t>(attention_pad(D)) * (2 * kQueryTile + 2 * kKeyTile) + kKeyTile * kQueryTile + 3 * kQueryTile;
}
constexpr int64_t attention_backward_tiles(int D) {
  return static_cast<int64_t>(attention_pad(D)) * (5 * kQueryTile + 2 * kKeyTile) + 2 * kKeyTile * kQueryTile + 2 * kQueryTile;
}

// Where the processor multiplies bf16, a tile has kBf16Queries x kBf16Keys scores, and keys and values are packed beforehand, in
// panels of 32 that begin with each document. There is room for panels of as many documents as usual; more are done in turn.
inline constexpr int kBf16Queries = 64, kBf16Keys = 64, kBf16Panel = 32;
constexpr int64_t attention_bf16_panels(int64_t N) { return (N + kBf16Panel - 1) / kBf16Panel + (N + 127) / 128; }
constexpr int attention_bf16_pad(int d) { return (d + kBf16Panel - 1) / kBf16Panel * kBf16Panel; }
// Floats of one thread. Forward: scores, p, q, o, top, 16 partial sums. Backward: scores and dp, pairs of p and ds, ds, q and
// dout and their transposes, dq, lse, delta.
constexpr int64_t attention_bf16_forward_tiles(int D) {
  return kBf16Queries * (kBf16Keys * 3 / 2 + attention_bf16_pad(D) * 3 / 2 + 1 + 16);
}
constexpr int64_t attention_bf16_backward_tiles(int D) {
  return kBf16Queries * (kBf16Keys * 7 / 2 + attention_bf16_pad(D) * 3 + 2);
}
// The packed keys and values, and for each head the gradients of both.
constexpr int64_t attention_bf16_packed(int64_t N, int G, int D, int matrices) {
  return matrices * G * attention_bf16_panels(N) * attention_bf16_pad(D) * kBf16Panel / 2;
}
constexpr int64_t attention_bf16_gradients(int64_t N, int H, int D) {
  return 2 * H * attention_bf16_panels(N) * attention_bf16_pad(D) * kBf16Panel;
}
inline constexpr int kBf16Line = 16;  // floats, to begin at a line of cache

// The visible (query, key) pairs of one head, which the arithmetic is proportional to.
inline double visible_pairs(const int32_t* cu_seqlens, int docs, int window) {
  double pairs = 0;
  for (int d = 0; d < docs; d++) {
    const double n = cu_seqlens[d + 1] - cu_seqlens[d], w = window > 0 && window < n ? window : n;
    pairs += w * (w + 1) / 2 + (n - w) * w;
  }
  return pairs;
}

// The backward pass on CUDA: a block sums dk and dv of a tile of keys over the query heads of their group. Where that makes too
// few blocks to fill a large GPU, it sums over a part of the heads, and the parts are added afterwards. Not of few rows, whose
// step takes as long as the weights are read. The number of parts does not follow the GPU, since the bits would.
struct GroupParts {
  int parts, heads;  // heads of each part; the last may have fewer
};
inline constexpr int kPartKeys = 64, kFewKeyRows = 128, kFewKeyBlocks = 256;
constexpr GroupParts group_parts(int64_t N, int H, int G) {
  const int64_t group = H / G, blocks = (N + kPartKeys - 1) / kPartKeys * G;
  if (N <= kFewKeyRows || blocks > kFewKeyBlocks) return {1, H / G};
  const int64_t most = 2 * kFewKeyBlocks / blocks, heads = (group + most - 1) / most;
  return {static_cast<int>((group + heads - 1) / heads), static_cast<int>(heads)};
}
constexpr int attention_cuda_pad(int D) { return D <= 64 ? 64 : 128; }  // the most columns of a tile on CUDA

// What forward and backward have in common.
struct AttentionSizes {
  const int32_t* cu_seqlens = nullptr;  // (docs + 1)  ascending from 0 to N
  int docs = 0, N = 0, H = 0, G = 0, D = 0;
  int stride = 0;      // of rows of v: of a joint q|k|v buffer, in elements
  int qk_stride = 0;   // of rows of q and k: the same, or that of a q|k buffer of their own
  int out_stride = 0;  // of rows of out; 0: H·D
  int d_stride = 0;    // of rows of dq, dk and dv; 0: stride
  int window = 0;
  int threads = 1;  // CPU
  double scale = 1;
  double pairs = 0;  // visible_pairs, which only cost() needs
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, int64_t{H} * D); }
  TLL_HOST_DEVICE int64_t d_row() const { return row_stride(d_stride, stride); }
  void check() const {
    TLL_CHECK(cu_seqlens && G > 0 && H % G == 0 && D > 0 && docs >= 0 && window >= 0 && stride >= G * D && qk_stride >= H * D &&
                  out_row() >= int64_t{H} * D && d_row() >= H * D,
              "N {} H {} G {} D {} docs {} strides {} {} {} {}", N, H, G, D, docs, stride, qk_stride, out_stride, d_stride);
  }
};

template <class Float>
struct AttentionForward {
  using Scalar = Float;
  static constexpr const char* kName = "attention_forward";
  Float* out;          // (N, out_stride)  rows of H·D
  acc_t<Float>* lse;   // (H, N)
  const Float *q, *k;  // (N, qk_stride)  rows of H·D and of G·D
  const Float* v;      // (N, stride)     rows of G·D
  float* scratch;      // (scratch_floats(N, G, D, threads))  unused by the oracle types
  AttentionSizes sizes;
  static int64_t scratch_floats(int64_t N, int G, int D, int threads) {
    if (is_oracle<Float>) return 0;
    const int64_t any = attention_forward_tiles(D) * threads;
    if (dtype_of<Float> != DType::bf16) return any;
    return std::max(any, attention_bf16_packed(N, G, D, 2) + attention_bf16_forward_tiles(D) * threads + kBf16Line);
  }
  void check() const {
    sizes.check();
    TLL_CHECK(q && k && v && out && lse, "null tensor");
  }
  Cost cost() const {
    return {(2.0 * sizes.H + 2.0 * sizes.G) * sizes.N * sizes.D * sizeof(Float), 4.0 * sizes.D * sizes.H * sizes.pairs};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

template <class Float>
struct AttentionBackward {
  using Scalar = Float;
  static constexpr const char* kName = "attention_backward";
  Float *dq, *dk, *dv;      // (N, d_stride)  written, not accumulated
  const Float* dout;        // (N, H·D)
  const Float* out;         // (N, out_stride)
  const acc_t<Float>* lse;  // (H, N)
  const Float *q, *k;       // (N, qk_stride)
  const Float* v;           // (N, stride)
  float* scratch;           // (scratch_floats(N, H, G, D, threads)), on CUDA (cuda_scratch_floats(N, H, G, D))
  AttentionSizes sizes;
  // On CUDA scratch begins with so many floats, two for each row of each head. The parts of dk and dv follow.
  TLL_HOST_DEVICE int64_t row_scratch() const { return int64_t{2} * sizes.N * sizes.H; }
  // Enough for any number of rows up to N; fewer may be in more parts.
  static int64_t cuda_scratch_floats(int64_t N, int H, int G, int D) {
    int64_t most = 0;  // tiles, each as often as it has parts
    for (int64_t tiles = 1, end = std::min<int64_t>((N + kPartKeys - 1) / kPartKeys, kFewKeyBlocks / G); tiles <= end; tiles++)
      if (const int parts = group_parts(tiles * kPartKeys, H, G).parts; parts > 1) most = std::max(most, tiles * parts);
    return 2 * N * H + 2 * most * G * kPartKeys * attention_cuda_pad(D);
  }
  static int64_t scratch_floats(int64_t N, int H, int G, int D, int threads) {
    if (is_oracle<Float>) return 0;
    const int64_t any = 2 * N * H * attention_pad(D) + attention_backward_tiles(D) * threads;
    if (dtype_of<Float> != DType::bf16) return any;
    return std::max(any, attention_bf16_packed(N, G, D, 3) + attention_bf16_gradients(N, H, D) +
                             attention_bf16_backward_tiles(D) * threads + kBf16Line);
  }
  void check() const {
    sizes.check();
    TLL_CHECK(q && k && v && out && lse && dq && dk && dv && dout, "null tensor");
  }
  Cost cost() const {
    return {(4.0 * sizes.H + 4.0 * sizes.G) * sizes.N * sizes.D * sizeof(Float), 10.0 * sizes.D * sizes.H * sizes.pairs};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Writes keys and values of N new tokens, as they lie in qkv, to the KV cache: row n to place positions[n] of slot slots[n]. A
// negative slot is padding and not written.
template <class Float>
struct CacheWrite {
  using Scalar = Float;
  static constexpr const char* kName = "cache_write";
  Float *keys, *values;      // (slots, capacity, W)  W = G·D
  const Float *k, *v;        // (N, W), rows `stride` apart
  const int32_t* slots;      // (N)
  const int32_t* positions;  // (N)  each in [0, capacity)
  int N, W, stride, capacity;
  void check() const {
    TLL_CHECK(keys && values && k && v && slots && positions && N >= 0 && W > 0 && stride >= W && capacity > 0,
              "N {} W {} stride {} capacity {}", N, W, stride, capacity);
  }
  Cost cost() const { return {4.0 * N * W * sizeof(Float), 0}; }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

// Generation: one new token of each of B sequences attends to the KV cache of its sequence.
template <class Float>
struct AttentionDecode {
  using Scalar = Float;
  static constexpr const char* kName = "attention_decode";
  Float* out;              // (B, H·D), rows out_stride apart
  const Float* q;          // (B, stride)
  const Float *k, *v;      // (B, capacity, G·D)  rows 0 … lengths[b]-1 are valid, the new token's included
  acc_t<Float>* scores;    // (B, H, capacity)  scratch
  const int32_t* lengths;  // (B)  in [1, capacity]
  int B, H, G, D, stride, capacity, window;
  double scale;
  int out_stride = 0;  // 0: H·D
  TLL_HOST_DEVICE int64_t out_row() const { return row_stride(out_stride, int64_t{H} * D); }
  void check() const {
    TLL_CHECK(
        out && q && k && v && scores && lengths && B > 0 && G > 0 && H % G == 0 && capacity > 0 && out_row() >= int64_t{H} * D,
        "B {} H {} G {} capacity {} stride {}", B, H, G, capacity, out_stride);
  }
  Cost cost() const {
    const double keys = window > 0 && window < capacity ? window : capacity;
    return {2.0 * B * keys * G * D * sizeof(Float), 4.0 * B * keys * H * D};
  }
  template <Isa>
  void cpu() const;
  void cuda(const Device&) const;
};

}  // namespace tll
