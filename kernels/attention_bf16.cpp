// Keys and values are packed first, once for all queries. Then a task owns one head of one document (forward: one tile of its
// queries) and goes over tiles of keys. The gradients of keys and values are kept transposed, (D, 32) for each panel: then P and
// dS, as they come, are pairs of rows of a second operand, and nothing that has the size of the scores is transposed.
#include "kernels/attention_bf16.h"

#include <cmath>
#include <limits>

#include "kernels/bf16_block.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kQueries = kBf16Queries, kKeys = kBf16Keys;
constexpr float kLog2e = 1.44269504088896341f, kInfinity = std::numeric_limits<float>::infinity();
static_assert(kBlock == kBf16Panel && kLine == kBf16Line && kQueries % kBlock == 0 && kKeys % kBlock == 0);

// 2^x, for -∞ and what is below float's range 0. Taylor's series on [-½, ½]: its first term left out is 1.2e-7.
inline __attribute__((always_inline)) __m512 exp2_16(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(1.54035304e-4f);
  for (const float c : {1.33335581e-3f, 9.61812911e-3f, 5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}

// Rounded pairs (row, next) of 16 columns, and the 16 of each row.
struct Rounded {
  __m512i pairs;
  __m256i row, next;
};
inline __attribute__((always_inline)) Rounded round_rows(__m512 row, __m512 next) {
  alignas(64) static constexpr uint16_t kPairs[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(next, row));
  return {_mm512_permutexvar_epi16(_mm512_load_si512(kPairs), both), _mm512_castsi512_si256(both),
          _mm512_extracti64x4_epi64(both, 1)};
}

// A part of an op's scratch.
struct Memory {
  float* at;
  template <class T = float>
  T* take(int64_t count) {
    T* const found = reinterpret_cast<T*>(at);
    at += count * static_cast<int64_t>(sizeof(T)) / static_cast<int64_t>(sizeof(float));
    return found;
  }
};

// ---- documents ----------------------------------------------------------------------------------------------------------------

struct Document {
  int begin, length;  // rows
  int panel, panels;
};
// As many documents as there are panels for.
struct Documents {
  const AttentionSizes& sizes;
  int first, last, panels = 0, tiles = 0;  // tiles of queries
  Documents(const AttentionSizes& s, int from) : sizes(s), first(from), last(from) {
    const int64_t room = attention_bf16_panels(s.N);
    for (; last < s.docs && panels + divide_up(length(last), kBlock) <= room; last++)
      panels += divide_up(length(last), kBlock), tiles += divide_up(length(last), kQueries);
  }
  int length(int d) const { return sizes.cu_seqlens[d + 1] - sizes.cu_seqlens[d]; }
  Document document(int d, int panel) const { return {sizes.cu_seqlens[d], length(d), panel, divide_up(length(d), kBlock)}; }
  // Document d, which may be empty.
  Document at(int d) const {
    int panel = 0;
    for (int before = first; before < d; before++) panel += divide_up(length(before), kBlock);
    return document(d, panel);
  }
  // The document that owns the part: of each document each `rows` rows are one. `part` becomes the number among its own.
  Document find(int& part, int rows) const {
    for (int d = first, panel = 0;; d++) {
      const int parts = divide_up(length(d), rows);
      if (part < parts) return document(d, panel);
      part -= parts, panel += divide_up(length(d), kBlock);
    }
  }
};

// f(document, panel, g) for each of the documents' panels, `panel` among its document's own, and each key/value head.
template <class F>
void for_each_panel(const Documents& documents, int64_t cost, const F& f) {
  const int G = documents.sizes.G;
  parallel_for(int64_t{documents.panels} * G, cost, [&](int64_t task) {
    int panel = static_cast<int>(task / G);
    const Document doc = documents.find(panel, kBlock);
    f(doc, panel, static_cast<int>(task % G));
  });
}

// One of the packed matrices of all key/value heads. By keys: for each panel of keys the transpose of its rows, for products over
// D. Else: for each panel of D the rows, for products over keys.
struct PackedRows {
  uint32_t* data;
  int steps;       // panels of D
  int64_t panels;  // that there is room for
  uint32_t* transposed(int g, int panel) const { return data + (g * panels + panel) * steps * kStep; }
  uint32_t* plain(int g, int d_panel, int panel) const {
    return data + ((g * int64_t{steps} + d_panel) * panels + panel) * kStep;
  }
};
void pack_transposed(const PackedRows& to, const ConstMatrix& rows, int g, const Document& doc, int p) {
  const int row = p * kBlock;
  pack_panel(to.transposed(g, doc.panel + p), rows.t(), row, std::min(kBlock, rows.row_count - row), 0, rows.col_count);
}
void pack_plain(const PackedRows& to, const ConstMatrix& rows, int g, const Document& doc, int p) {
  const int row = p * kBlock;
  for (int s = 0; s < to.steps; s++)
    pack_panel(to.plain(g, s, doc.panel + p), rows, s * kBlock, std::min(kBlock, rows.col_count - s * kBlock), row,
               std::min(kBlock, rows.row_count - row));
}
// Head `head` of a document's rows.
ConstMatrix head_of(const bf16* x, int64_t stride, const Document& doc, int head, int D) {
  return matrix(x + doc.begin * stride + head * D, doc.length, D, stride);
}

// Rows of a tile of queries: where they lie, or with zeros up to whole blocks.
Rows rows_of_queries(const ConstMatrix& x, int i0, int queries, bf16* tile) {
  const int D = x.col_count, width = attention_bf16_pad(D), steps = width / kBlock;
  const bf16* data = static_cast<const bf16*>(x.data) + i0 * x.stride;
  if (D == width && queries % kBlock == 0) return {data, x.stride, steps, nullptr};
  for (int i = 0; i < divide_up(queries, kBlock) * kBlock; i++)
    for (int d = 0; d < width; d += kBlock)
      _mm512_storeu_si512(tile + i * width + d,
                          i < queries ? load_words(data + i * x.stride + d, D - d) : _mm512_setzero_si512());
  return {tile, width, steps, nullptr};
}
// Their transpose, (width, kQueries), with zeros behind.
void transposed_queries(const ConstMatrix& x, int i0, int queries, bf16* tile) {
  const ConstMatrix turned = x.rows(i0, queries).t();
  for (int d = 0; d < attention_bf16_pad(x.col_count); d += 16) {
    for (int i = 0; i < divide_up(queries, kBlock) * kBlock; i += kBlock) {
      bf16* const to = tile + d * kQueries + i;
      if (d < x.col_count) pack_rows(to, kQueries, turned, d, i, std::min(kBlock, queries - i));
      for (int r = std::clamp(x.col_count - d, 0, 16); r < 16; r++)
        _mm512_storeu_si512(to + r * kQueries, _mm512_setzero_si512());
    }
  }
}

// A tile's queries i0 … and keys j0 …, multiples of kBlock. In blocks, a causal mask hides what is right of the diagonal: these
// blocks are not computed, and what stands there in a tile is not read.
struct CausalTile {
  int i0, j0;
  int keys_of(int i, int wide) const { return std::clamp(i0 + i + kBlock - j0, 0, wide); }  // that a query of the block sees
  int first_query(int c) const { return std::max(0, j0 + c - i0); }                         // that sees a key of the block
};

// out (queries, cols) = or += rows (queries, inner) · panels, which lie panel_step apart. cols(i) and inner(i) are those of the
// block of queries from i on.
template <class Cols, class Inner>
void multiply(Bf16Blocks& blocks, const Rows& rows, int queries, const uint32_t* panels, int64_t panel_step, float* out,
              int64_t stride, bool add, const Cols& cols, const Inner& inner) {
  for (int i = 0; i < queries; i += kBlock) {
    Rows block = rows.from(i);
    block.whole = inner(i) / kBlock;
    for (int p = 0; p < cols(i) / kBlock; p++)
      blocks.multiply(block, panels + p * panel_step, kBlock, kBlock, out + i * stride + p * kBlock, stride, add);
  }
}

// Which of the keys j0 … j0+keys-1 query i sees: none from `whole` on, a multiple of kBlock.
struct Visible {
  __m512i first, end;
  int whole;
  Visible(int i, int j0, int keys, int window) {
    const int behind = std::clamp(i + 1 - j0, 0, keys);
    first = _mm512_set1_epi32(window > 0 ? i - window + 1 - j0 : 0), end = _mm512_set1_epi32(behind);
    whole = divide_up(behind, kBlock) * kBlock;
  }
  __mmask16 mask(int column) const {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_add_epi32(lanes, _mm512_set1_epi32(column));
    return _mm512_mask_cmple_epi32_mask(_mm512_cmplt_epi32_mask(at, end), first, at);
  }
};
// Whether each of the queries i0 … end-1 sees all keys of a whole tile. Then what is computed for rows behind the queries is
// finite, and not used.
bool all_visible(int i0, int end, int j0, int keys, int window) {
  return keys == kKeys && j0 + kKeys - 1 <= i0 && (window == 0 || end - window <= j0);
}
int first_key(int i0, int window) { return window > 0 ? std::max(0, i0 - window + 1) / kBlock * kBlock : 0; }

// ---- forward ------------------------------------------------------------------------------------------------------------------

void forward_tile(const AttentionForward<bf16>& op, Bf16Instructions with, const PackedRows& keys_of, const PackedRows& values_of,
                  const Document& doc, int h, int i0, Memory own) {
  const int D = op.sizes.D, H = op.sizes.H, g = h / (H / op.sizes.G), width = attention_bf16_pad(D);
  const int queries = std::min(kQueries, doc.length - i0), padded = divide_up(queries, kBlock) * kBlock;
  float* const scores = own.take(kQueries * kKeys);
  bf16* const p = own.take<bf16>(kQueries * kKeys);
  bf16* const q_tile = own.take<bf16>(kQueries * width);
  float* const o = own.take(kQueries * width);
  float *const sums = own.take(kQueries * 16), *const top = own.take(kQueries);
  const float scale = static_cast<float>(op.sizes.scale), scale2 = scale * kLog2e;
  const Rows q = rows_of_queries(head_of(op.q, op.sizes.qk_stride, doc, h, D), i0, queries, q_tile);
  std::fill_n(o, padded * width, 0.0f);
  std::fill_n(sums, padded * 16, 0.0f);
  std::fill_n(top, padded, -kInfinity);

  Bf16Blocks blocks(with);
  const int end = i0 + queries;
  for (int j0 = first_key(i0, op.sizes.window); j0 < end; j0 += kKeys) {
    const int keys = std::min(kKeys, end - j0), wide = divide_up(keys, kBlock) * kBlock, panel = doc.panel + j0 / kBlock;
    const CausalTile tile{i0, j0};
    const auto keys_of_block = [&](int i) { return tile.keys_of(i, wide); };
    multiply(blocks, q, padded, keys_of.transposed(g, panel), int64_t{keys_of.steps} * kStep, scores, kKeys, false, keys_of_block,
             [&](int) { return width; });
    const auto softmax = [&]<bool kAll>(std::bool_constant<kAll>) {
      for (int i = 0; i < padded; i++) {
        const Visible visible(i0 + i, j0, i < queries ? keys : 0, op.sizes.window);
        const int seen = kAll ? kKeys : visible.whole;
        const float* const row = scores + i * kKeys;
        bf16* const p_row = p + i * kKeys;
        __m512 s[kKeys / 16], most = _mm512_set1_ps(top[i]);
        for (int c = 0; c < seen; c += 16) {
          s[c / 16] =
              kAll ? _mm512_loadu_ps(row + c) : _mm512_mask_loadu_ps(_mm512_set1_ps(-kInfinity), visible.mask(c), row + c);
          most = _mm512_max_ps(most, s[c / 16]);
        }
        const float now = _mm512_reduce_max_ps(most), before = top[i];
        const float base = now == -kInfinity ? 0.0f : now * scale2;  // a row that has seen no key yet has -∞
        __m512 sum = _mm512_loadu_ps(sums + i * 16);
        if (now != before) {
          const __m512 factor = exp2_16(_mm512_set1_ps(before * scale2 - base));
          sum = _mm512_mul_ps(sum, factor);
          for (int d = 0; d < width; d += 16)
            _mm512_storeu_ps(o + i * width + d, _mm512_mul_ps(_mm512_loadu_ps(o + i * width + d), factor));
          top[i] = now;
        }
        for (int c = seen; c < wide; c += kBlock) _mm512_storeu_si512(p_row + c, _mm512_setzero_si512());
        for (int c = 0; c < seen; c += kBlock) {
          const __m512 a = exp2_16(_mm512_fmsub_ps(s[c / 16], _mm512_set1_ps(scale2), _mm512_set1_ps(base)));
          const __m512 b = exp2_16(_mm512_fmsub_ps(s[c / 16 + 1], _mm512_set1_ps(scale2), _mm512_set1_ps(base)));
          sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
          _mm512_storeu_si512(p_row + c, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)));
        }
        _mm512_storeu_ps(sums + i * 16, sum);
      }
    };
    all_visible(i0, end, j0, keys, op.sizes.window) ? softmax(std::true_type()) : softmax(std::false_type());
    multiply(
        blocks, {p, kKeys, wide / kBlock, nullptr}, padded, values_of.plain(g, 0, panel), values_of.panels * kStep, o, width,
        true, [&](int) { return width; }, keys_of_block);
  }
  for (int i = 0; i < queries; i++) {
    const float sum = _mm512_reduce_add_ps(_mm512_loadu_ps(sums + i * 16));
    bf16* const out = op.out + (doc.begin + i0 + i) * op.sizes.out_row() + int64_t{h} * D;
    for (int d = 0; d < D; d += 16)
      store_bf16(out + d, D - d, _mm512_mul_ps(_mm512_loadu_ps(o + i * width + d), _mm512_set1_ps(1.0f / sum)));
    op.lse[static_cast<int64_t>(h) * op.sizes.N + doc.begin + i0 + i] = top[i] * scale + std::log(sum);
  }
}

// ---- backward -----------------------------------------------------------------------------------------------------------------

// dkᵀ and dvᵀ of each query head: no two tasks add to one place.
struct HeadGradients {
  float *dk, *dv;
  int width;
  int64_t panels;
  int64_t at(int h, int panel) const { return (h * panels + panel) * width * kBlock; }
};

void backward_head(const AttentionBackward<bf16>& op, Bf16Instructions with, const PackedRows& keys_of,
                   const PackedRows& values_of, const PackedRows& plain_keys, const HeadGradients& gradients, const Document& doc,
                   int h, Memory own) {
  const int D = op.sizes.D, H = op.sizes.H, g = h / (H / op.sizes.G), width = attention_bf16_pad(D);
  float* const scores = own.take(kQueries * kKeys);
  float* const dp = own.take(kQueries * kKeys);
  uint32_t* const p_pairs = own.take<uint32_t>(kQueries / 2 * kKeys);
  uint32_t* const ds_pairs = own.take<uint32_t>(kQueries / 2 * kKeys);
  bf16* const ds = own.take<bf16>(kQueries * kKeys);
  bf16* const q_tile = own.take<bf16>(kQueries * width);
  bf16* const dout_tile = own.take<bf16>(kQueries * width);
  bf16* const q_turned = own.take<bf16>(kQueries * width);
  bf16* const dout_turned = own.take<bf16>(kQueries * width);
  float* const dq = own.take(kQueries * width);
  float *const lse = own.take(kQueries), *const delta = own.take(kQueries);
  const float scale = static_cast<float>(op.sizes.scale), scale2 = scale * kLog2e;
  const ConstMatrix q_all = head_of(op.q, op.sizes.qk_stride, doc, h, D), dout_all = head_of(op.dout, int64_t{H} * D, doc, h, D),
                    out_all = head_of(op.out, op.sizes.out_row(), doc, h, D);
  std::fill_n(gradients.dk + gradients.at(h, doc.panel), int64_t{doc.panels} * width * kBlock, 0.0f);
  std::fill_n(gradients.dv + gradients.at(h, doc.panel), int64_t{doc.panels} * width * kBlock, 0.0f);

  Bf16Blocks blocks(with);
  for (int i0 = 0; i0 < doc.length; i0 += kQueries) {
    const int queries = std::min(kQueries, doc.length - i0), padded = divide_up(queries, kBlock) * kBlock, end = i0 + queries;
    const Rows q = rows_of_queries(q_all, i0, queries, q_tile), dout = rows_of_queries(dout_all, i0, queries, dout_tile);
    transposed_queries(q_all, i0, queries, q_turned);
    transposed_queries(dout_all, i0, queries, dout_turned);
    for (int i = 0; i < padded; i++) {
      lse[i] = delta[i] = 0;
      if (i >= queries) continue;
      lse[i] = op.lse[static_cast<int64_t>(h) * op.sizes.N + doc.begin + i0 + i] * kLog2e;
      __m512 sum = _mm512_setzero_ps();
      const bf16* const dout_row = static_cast<const bf16*>(dout_all.data) + (i0 + i) * dout_all.stride;
      const bf16* const out_row = static_cast<const bf16*>(out_all.data) + (i0 + i) * out_all.stride;
      for (int d = 0; d < D; d += 16) sum = _mm512_fmadd_ps(load_bf16(dout_row + d, D - d), load_bf16(out_row + d, D - d), sum);
      delta[i] = _mm512_reduce_add_ps(sum);
    }
    const int first = first_key(i0, op.sizes.window);
    for (int j0 = first; j0 < end; j0 += kKeys) {
      const int keys = std::min(kKeys, end - j0), wide = divide_up(keys, kBlock) * kBlock, panel = doc.panel + j0 / kBlock;
      const int64_t panel_step = int64_t{keys_of.steps} * kStep;
      const CausalTile tile{i0, j0};
      const auto keys_of_block = [&](int i) { return tile.keys_of(i, wide); };
      const auto whole_width = [&](int) { return width; };
      multiply(blocks, q, padded, keys_of.transposed(g, panel), panel_step, scores, kKeys, false, keys_of_block, whole_width);
      multiply(blocks, dout, padded, values_of.transposed(g, panel), panel_step, dp, kKeys, false, keys_of_block, whole_width);
      const auto probabilities = [&]<bool kAll>(std::bool_constant<kAll>) {
        for (int i = 0; i < padded; i += 2) {
          const Visible visible[2] = {{i0 + i, j0, i < queries ? keys : 0, op.sizes.window},
                                      {i0 + i + 1, j0, i + 1 < queries ? keys : 0, op.sizes.window}};
          const int seen = kAll ? kKeys : std::max(visible[0].whole, visible[1].whole);
          // Panels of kBlock keys with kQueries / 2 pairs each.
          const auto pair = [&](int c) { return (c / kBlock * (kQueries / 2) + i / 2) * kBlock + c % kBlock; };
          for (int c = 0; c < seen; c += 16) {
            __m512 p_row[2], ds_row[2];
            for (int r = 0; r < 2; r++) {
              const int64_t at = (i + r) * kKeys + c;
              const __mmask16 mask = kAll ? 0xffff : visible[r].mask(c);
              const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + at), _mm512_set1_ps(scale2), _mm512_set1_ps(lse[i + r]));
              p_row[r] = _mm512_maskz_mov_ps(mask, exp2_16(x));
              const __m512 y = _mm512_sub_ps(_mm512_loadu_ps(dp + at), _mm512_set1_ps(delta[i + r]));
              ds_row[r] = _mm512_maskz_mul_ps(mask, p_row[r], y);
            }
            const Rounded p_rounded = round_rows(p_row[0], p_row[1]), ds_rounded = round_rows(ds_row[0], ds_row[1]);
            _mm512_storeu_si512(p_pairs + pair(c), p_rounded.pairs);
            _mm512_storeu_si512(ds_pairs + pair(c), ds_rounded.pairs);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + i * kKeys + c), ds_rounded.row);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + (i + 1) * kKeys + c), ds_rounded.next);
          }
          for (int c = seen; c < wide; c += 16) {  // what neither row sees
            _mm512_storeu_si512(p_pairs + pair(c), _mm512_setzero_si512());
            _mm512_storeu_si512(ds_pairs + pair(c), _mm512_setzero_si512());
            for (int r = 0; r < 2; r++)
              _mm256_storeu_si256(reinterpret_cast<__m256i*>(ds + (i + r) * kKeys + c), _mm256_setzero_si256());
          }
        }
      };
      all_visible(i0, end, j0, keys, op.sizes.window) ? probabilities(std::true_type()) : probabilities(std::false_type());
      for (int c = 0; c < wide; c += kBlock) {
        const int first_query = tile.first_query(c);
        if (first_query >= padded) continue;
        const int64_t pairs = (c / kBlock * (kQueries / 2) + first_query / 2) * kBlock, to = gradients.at(h, panel + c / kBlock);
        const auto add = [&](float* sums, const bf16* turned, const uint32_t* of_pairs) {
          multiply(
              blocks, {turned + first_query, kQueries, 0, nullptr}, width, of_pairs + pairs, 0, sums + to, kBlock, true,
              [](int) { return kBlock; }, [&](int) { return padded - first_query; });
        };
        add(gradients.dv, dout_turned, p_pairs);
        add(gradients.dk, q_turned, ds_pairs);
      }
      multiply(blocks, {ds, kKeys, 0, nullptr}, padded, plain_keys.plain(g, 0, panel), plain_keys.panels * kStep, dq, width,
               j0 != first, whole_width, keys_of_block);
    }
    for (int i = 0; i < queries; i++)
      for (int d = 0; d < D; d += 16)
        store_bf16(op.dq + (doc.begin + i0 + i) * op.sizes.d_row() + h * D + d, D - d,
                   _mm512_mul_ps(_mm512_loadu_ps(dq + i * width + d), _mm512_set1_ps(scale)));
  }
}

// out = scale · the sum over the group's heads of a panel's transposed gradients, which lie `head_step` apart.
void store_group(bf16* out, int64_t stride, int keys, int D, const float* turned, int64_t head_step, int group, float scale) {
  for (int d = 0; d < D; d += 16) {
    for (int half = 0; half < keys; half += 16) {
      __m512i r[16];
      for (int i = 0; i < 16; i++) {
        const float* const from = turned + (d + i) * kBlock + half;
        __m512 sum = _mm512_loadu_ps(from);
        for (int h = 1; h < group; h++) sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + h * head_step));
        r[i] = _mm512_castps_si512(_mm512_mul_ps(sum, _mm512_set1_ps(scale)));
      }
      transpose(r);
      for (int j = half; j < std::min(keys, half + 16); j++)
        store_bf16(out + j * stride + d, D - d, _mm512_castsi512_ps(r[j - half]));
    }
  }
}

}  // namespace

void attend_bf16(const AttentionForward<bf16>& op, Bf16Instructions with) {
  const AttentionSizes& s = op.sizes;
  const int64_t room = attention_bf16_panels(s.N), packed = attention_bf16_packed(s.N, s.G, s.D, 1);
  const int steps = attention_bf16_pad(s.D) / kBlock;
  Memory memory{line(op.scratch)};
  const PackedRows keys{memory.take<uint32_t>(packed), steps, room}, values{memory.take<uint32_t>(packed), steps, room};
  for (int d = 0; d < s.docs;) {
    const Documents documents(s, d);
    d = documents.last;
    for_each_panel(documents, 2 * kBlock * s.D, [&](const Document& doc, int panel, int g) {
      pack_transposed(keys, head_of(op.k, s.qk_stride, doc, g, s.D), g, doc, panel);
      pack_plain(values, head_of(op.v, s.stride, doc, g, s.D), g, doc, panel);
    });
    parallel_pieces(int64_t{documents.tiles} * s.H, s.threads, [&](int64_t task, int worker) {
      // Long rows of keys first: the last tiles of a document cost most.
      int tile = documents.tiles - 1 - static_cast<int>(task / s.H);
      const Document doc = documents.find(tile, kQueries);
      forward_tile(op, with, keys, values, doc, static_cast<int>(task % s.H), tile * kQueries,
                   {memory.at + attention_bf16_forward_tiles(s.D) * worker});
    });
  }
}

void attend_bf16(const AttentionBackward<bf16>& op, Bf16Instructions with) {
  const AttentionSizes& s = op.sizes;
  const int64_t room = attention_bf16_panels(s.N), packed = attention_bf16_packed(s.N, s.G, s.D, 1);
  const int width = attention_bf16_pad(s.D), steps = width / kBlock, group = s.H / s.G;
  Memory memory{line(op.scratch)};
  const PackedRows keys{memory.take<uint32_t>(packed), steps, room}, values{memory.take<uint32_t>(packed), steps, room},
      plain_keys{memory.take<uint32_t>(packed), steps, room};
  const int64_t of_all_heads = attention_bf16_gradients(s.N, s.H, s.D) / 2;
  const HeadGradients gradients{memory.take(of_all_heads), memory.take(of_all_heads), width, room};
  for (int d = 0; d < s.docs;) {
    const Documents documents(s, d);
    d = documents.last;
    for_each_panel(documents, 3 * kBlock * s.D, [&](const Document& doc, int panel, int g) {
      const ConstMatrix k = head_of(op.k, s.qk_stride, doc, g, s.D);
      pack_transposed(keys, k, g, doc, panel);
      pack_transposed(values, head_of(op.v, s.stride, doc, g, s.D), g, doc, panel);
      pack_plain(plain_keys, k, g, doc, panel);
    });
    parallel_pieces(int64_t{documents.last - documents.first} * s.H, s.threads, [&](int64_t task, int worker) {
      const Document doc = documents.at(documents.first + static_cast<int>(task / s.H));
      backward_head(op, with, keys, values, plain_keys, gradients, doc, static_cast<int>(task % s.H),
                    {memory.at + attention_bf16_backward_tiles(s.D) * worker});
    });
    for_each_panel(documents, 2 * kBlock * s.D * (group + 1), [&](const Document& doc, int panel, int g) {
      const int64_t row = doc.begin + panel * kBlock, head_step = gradients.at(1, 0);
      const int64_t from = gradients.at(g * group, doc.panel + panel);
      const int rows = std::min(kBlock, doc.length - panel * kBlock);
      store_group(op.dk + row * s.d_row() + g * s.D, s.d_row(), rows, s.D, gradients.dk + from, head_step, group,
                  static_cast<float>(s.scale));
      store_group(op.dv + row * s.d_row() + g * s.D, s.d_row(), rows, s.D, gradients.dv + from, head_step, group, 1.0f);
    });
  }
}

}  // namespace tll
