// On a CPU a task owns one head of one document (forward: one tile of its queries). Scores are kept transposed, a row for each
// key: then neither K nor V is ever transposed, and the online softmax over keys runs on whole vectors of queries.
#include "kernels/attention.h"

#include "kernels/attention_bf16.h"
#include "kernels/tile_gemm.h"
#include "src/base/parallel.h"

namespace tll {
namespace {

constexpr int kQueries = kQueryTile, kKeys = kKeyTile;
constexpr int pad(int d) { return attention_pad(d); }
static_assert(kAttentionPad % kPad == 0 && kQueries % kPad == 0);
// Floats of one thread's tiles. Forward: qt, scores, o, k, v, 3 rows. Backward: qt, dot, q, dout, dq, k, v, p, ds, 2 rows.
constexpr int64_t forward_tiles(int D) { return attention_forward_tiles(D); }
constexpr int64_t backward_tiles(int D) { return attention_backward_tiles(D); }

// Rows of a head as float, padded with zeros to whole vectors. In place where they are so already.
struct Rows {
  const float* data;
  ptrdiff_t stride;
};
template <class Float>
Rows rows_as_float(const Float* x, ptrdiff_t stride, int rows, int D, float* tile) {
  if constexpr (dtype_of<Float> == DType::f32) {
    if (D % kPad == 0) return {x, stride};
  }
  const int width = pad(D);
  for (int r = 0; r < rows; r++) {
    for (int d = 0; d < D; d++) tile[r * width + d] = to_acc(x[r * stride + d]);
    for (int d = D; d < width; d++) tile[r * width + d] = 0;
  }
  return {tile, width};
}
// The transpose of `rows` rows, padded with zeros to kQueries columns.
template <class Float>
void transposed_as_float(const Float* x, ptrdiff_t stride, int rows, int D, float* tile) {
  for (int d = 0; d < D; d++) {
    for (int r = 0; r < rows; r++) tile[d * kQueries + r] = to_acc(x[r * stride + d]);
    for (int r = rows; r < kQueries; r++) tile[d * kQueries + r] = 0;
  }
}

// The keys that the queries i0 … i1-1 of a document see; the first one is rounded down to a tile.
struct KeyRange {
  int begin, end;
};
KeyRange visible_keys(int i0, int i1, int window) {
  const int first = window > 0 && i0 - window + 1 > 0 ? i0 - window + 1 : 0;
  return {first / kKeys * kKeys, i1};
}
// Of the queries i0 … i0+queries-1 those that see key j; none: {n, n}.
struct QueryRange {
  int begin, end;
};
QueryRange visible_queries(int i0, int queries, int j, int window) {
  const int begin = std::clamp(j - i0, 0, queries);
  return {begin, window > 0 ? std::clamp(j + window - i0, begin, queries) : queries};
}
void fill_hidden(float* row, const QueryRange& visible, float value) {
  std::fill(row, row + visible.begin, value);
  std::fill(row + visible.end, row + kQueries, value);
}

template <class Float>
void forward_tile(const AttentionForward<Float>& op, int begin, int length, int h, int i0, float* tiles) {
  const int N = op.sizes.N, H = op.sizes.H, D = op.sizes.D, window = op.sizes.window;
  const int stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const int width = pad(D), queries = length - i0 < kQueries ? length - i0 : kQueries, g = h / (H / op.sizes.G);
  float* qt = tiles;
  float* scores = qt + width * kQueries;
  float* o = scores + kKeys * kQueries;
  float* k_tile = o + width * kQueries;
  float* v_tile = k_tile + width * kKeys;
  float *top = v_tile + width * kKeys, *sum = top + kQueries, *factor = sum + kQueries;
  const float scale = static_cast<float>(op.sizes.scale);
  transposed_as_float(op.q + static_cast<size_t>(begin + i0) * qk_stride + h * D, qk_stride, queries, D, qt);
  for (int i = 0; i < kQueries; i++) top[i] = -INFINITY, sum[i] = 0;
  for (int i = 0; i < kQueries * width; i++) o[i] = 0;

  const KeyRange range = visible_keys(i0, i0 + queries, window);
  for (int j0 = range.begin; j0 < range.end; j0 += kKeys) {
    const int keys = range.end - j0 < kKeys ? range.end - j0 : kKeys;
    const auto row = [&](const Float* x, int step) { return x + static_cast<size_t>(begin + j0) * step + g * D; };
    const Rows k = rows_as_float(row(op.k, qk_stride), qk_stride, keys, D, k_tile);
    const Rows v = rows_as_float(row(op.v, stride), stride, keys, D, v_tile);
    tile_gemm(keys, kQueries, D, k.data, k.stride, 1, qt, kQueries, scores, kQueries, false, CausalResult(i0 - j0));
    for (int j = 0; j < keys; j++) fill_hidden(scores + j * kQueries, visible_queries(i0, kQueries, j0 + j, window), -INFINITY);
    for (int i = 0; i < kQueries; i++) factor[i] = top[i];
    for (int j = 0; j < keys; j++)
      for (int i = 0; i < kQueries; i++) top[i] = scores[j * kQueries + i] > top[i] ? scores[j * kQueries + i] : top[i];
    for (int i = 0; i < kQueries; i++) {
      const float base = top[i] == -INFINITY ? 0.0f : top[i];  // a row that has seen no key yet
      factor[i] = fast_exp((factor[i] - base) * scale);
      sum[i] *= factor[i];
    }
    for (int j = 0; j < keys; j++) {
      float* p = scores + j * kQueries;
#pragma omp simd
      for (int i = 0; i < kQueries; i++) {
        p[i] = fast_exp((p[i] - (top[i] == -INFINITY ? 0.0f : top[i])) * scale);
        sum[i] += p[i];
      }
    }
    for (int i = 0; i < queries; i++)
      if (factor[i] != 1.0f)
        for (int d = 0; d < width; d++) o[i * width + d] *= factor[i];
    tile_gemm(queries, width, keys, scores, 1, kQueries, v.data, v.stride, o, width, true, CausalColumns(i0 - j0));
  }
  for (int i = 0; i < queries; i++) {
    const float inverse = 1.0f / sum[i];
    Float* out = op.out + (begin + i0 + i) * op.sizes.out_row() + h * D;
    for (int d = 0; d < D; d++) out[d] = from_acc<Float>(o[i * width + d] * inverse);
    op.lse[static_cast<size_t>(h) * N + begin + i0 + i] = top[i] * scale + std::log(sum[i]);
  }
}

template <class Float>
void backward_head(const AttentionBackward<Float>& op, int begin, int length, int h, float* dk_all, float* dv_all, float* tiles) {
  const int N = op.sizes.N, H = op.sizes.H, D = op.sizes.D, window = op.sizes.window;
  const int stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const int width = pad(D), g = h / (H / op.sizes.G);
  const ptrdiff_t wide = static_cast<ptrdiff_t>(H) * width, out_row = op.sizes.out_row();
  float* qt = tiles;
  float* dot = qt + width * kQueries;
  float* q_tile = dot + width * kQueries;
  float* dout_tile = q_tile + width * kQueries;
  float* dq = dout_tile + width * kQueries;
  float* k_tile = dq + width * kQueries;
  float* v_tile = k_tile + width * kKeys;
  float* p = v_tile + width * kKeys;
  float* ds = p + kKeys * kQueries;
  float *lse = ds + kKeys * kQueries, *delta = lse + kQueries;
  const float scale = static_cast<float>(op.sizes.scale);
  float* dk_head = dk_all + begin * wide + h * width;
  float* dv_head = dv_all + begin * wide + h * width;
  for (int j = 0; j < length; j++)
    for (int d = 0; d < width; d++) dk_head[j * wide + d] = dv_head[j * wide + d] = 0;

  for (int i0 = 0; i0 < length; i0 += kQueries) {
    const int queries = length - i0 < kQueries ? length - i0 : kQueries;
    const Float* q_rows = op.q + static_cast<size_t>(begin + i0) * qk_stride + h * D;
    const Float* dout_rows = op.dout + static_cast<size_t>(begin + i0) * H * D + h * D;
    const Float* out_rows = op.out + (begin + i0) * out_row + h * D;
    transposed_as_float(q_rows, qk_stride, queries, D, qt);
    transposed_as_float(dout_rows, static_cast<ptrdiff_t>(H) * D, queries, D, dot);
    const Rows q = rows_as_float(q_rows, qk_stride, queries, D, q_tile);
    const Rows dout = rows_as_float(dout_rows, static_cast<ptrdiff_t>(H) * D, queries, D, dout_tile);
    for (int i = 0; i < kQueries; i++) lse[i] = delta[i] = 0;
    for (int i = 0; i < queries; i++) {
      lse[i] = op.lse[static_cast<size_t>(h) * N + begin + i0 + i];
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int d = 0; d < D; d++)
        sum += to_acc(dout_rows[static_cast<ptrdiff_t>(i) * H * D + d]) * to_acc(out_rows[i * out_row + d]);
      delta[i] = sum;
    }
    const KeyRange range = visible_keys(i0, i0 + queries, window);
    for (int j0 = range.begin; j0 < range.end; j0 += kKeys) {
      const int keys = range.end - j0 < kKeys ? range.end - j0 : kKeys;
      const auto row = [&](const Float* x, int step) { return x + static_cast<size_t>(begin + j0) * step + g * D; };
      const Rows k = rows_as_float(row(op.k, qk_stride), qk_stride, keys, D, k_tile);
      const Rows v = rows_as_float(row(op.v, stride), stride, keys, D, v_tile);
      const int shift = i0 - j0;
      tile_gemm(keys, kQueries, D, k.data, k.stride, 1, qt, kQueries, p, kQueries, false, CausalResult(shift));
      tile_gemm(keys, kQueries, D, v.data, v.stride, 1, dot, kQueries, ds, kQueries, false, CausalResult(shift));
      for (int j = 0; j < keys; j++) {
        const QueryRange visible = visible_queries(i0, queries, j0 + j, window);
        float *pj = p + j * kQueries, *dj = ds + j * kQueries;
#pragma omp simd
        for (int i = visible.begin; i < visible.end; i++) {
          pj[i] = fast_exp(pj[i] * scale - lse[i]);
          dj[i] = pj[i] * (dj[i] - delta[i]);
        }
        fill_hidden(pj, visible, 0.0f);
        fill_hidden(dj, visible, 0.0f);
      }
      tile_gemm(keys, width, queries, p, kQueries, 1, dout.data, dout.stride, dv_head + j0 * wide, wide, true, CausalRows(shift));
      tile_gemm(keys, width, queries, ds, kQueries, 1, q.data, q.stride, dk_head + j0 * wide, wide, true, CausalRows(shift));
      tile_gemm(queries, width, keys, ds, 1, kQueries, k.data, k.stride, dq, width, j0 != range.begin, CausalColumns(shift));
    }
    for (int i = 0; i < queries; i++) {
      Float* out = op.dq + (begin + i0 + i) * op.sizes.d_row() + h * D;
      for (int d = 0; d < D; d++) out[d] = from_acc<Float>(dq[i * width + d] * scale);
    }
  }
}

// ---- the formulae as they stand: what the oracle types run ---------------------------------------------------------------

// f(h, g, i, first) for each query i of each head: it sees the keys first … i of head g.
template <class F>
void for_each_query(const AttentionSizes& s, const F& f) {
  for (int doc = 0; doc < s.docs; doc++) {
    const int begin = s.cu_seqlens[doc], end = s.cu_seqlens[doc + 1];
    for (int h = 0; h < s.H; h++)
      for (int i = begin; i < end; i++)
        f(h, h / (s.H / s.G), i, s.window > 0 && i - s.window + 1 > begin ? i - s.window + 1 : begin);
  }
}

template <class Float>
void forward_plain(const AttentionForward<Float>& op) {
  const int N = op.sizes.N, D = op.sizes.D, stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const Float scale = Float(op.sizes.scale);
  for_each_query(op.sizes, [&](int h, int g, int i, int first) {
    const auto score = [&](int j) {
      Float s{};
      for (int d = 0; d < D; d++)
        s += op.q[static_cast<size_t>(i) * qk_stride + h * D + d] * op.k[static_cast<size_t>(j) * qk_stride + g * D + d];
      return s * scale;
    };
    double top = -INFINITY;
    for (int j = first; j <= i; j++) top = real_part(score(j)) > top ? real_part(score(j)) : top;
    Float* out = op.out + i * op.sizes.out_row() + h * D;
    for (int d = 0; d < D; d++) out[d] = Float(0);
    Float sum{};
    for (int j = first; j <= i; j++) {
      const Float p = exp_acc(score(j) - top);
      sum += p;
      for (int d = 0; d < D; d++) out[d] += p * op.v[static_cast<size_t>(j) * stride + g * D + d];
    }
    for (int d = 0; d < D; d++) out[d] /= sum;
    op.lse[static_cast<size_t>(h) * N + i] = top + std::log(sum);
  });
}

template <class Float>
void backward_plain(const AttentionBackward<Float>& op) {
  const int N = op.sizes.N, H = op.sizes.H, G = op.sizes.G, D = op.sizes.D;
  const int stride = op.sizes.stride, qk_stride = op.sizes.qk_stride;
  const int64_t d_row = op.sizes.d_row();
  const Float scale = Float(op.sizes.scale);
  for (int n = 0; n < N; n++) {
    for (int c = 0; c < H * D; c++) op.dq[n * d_row + c] = Float(0);
    for (int c = 0; c < G * D; c++) op.dk[n * d_row + c] = op.dv[n * d_row + c] = Float(0);
  }
  for_each_query(op.sizes, [&](int h, int g, int i, int first) {
    const size_t qi = static_cast<size_t>(i) * qk_stride + h * D, dqi = static_cast<size_t>(i * d_row) + h * D;
    const size_t oi = static_cast<size_t>(i) * H * D + h * D;
    const Float* out = op.out + i * op.sizes.out_row() + h * D;
    Float delta{};
    for (int d = 0; d < D; d++) delta += op.dout[oi + d] * out[d];
    for (int j = first; j <= i; j++) {
      const size_t kj = static_cast<size_t>(j) * qk_stride + g * D, vj = static_cast<size_t>(j) * stride + g * D;
      const size_t dj = static_cast<size_t>(j * d_row) + g * D;
      Float s{}, dp{};
      for (int d = 0; d < D; d++) s += op.q[qi + d] * op.k[kj + d], dp += op.dout[oi + d] * op.v[vj + d];
      const Float p = exp_acc(s * scale - op.lse[static_cast<size_t>(h) * N + i]), ds = p * (dp - delta) * scale;
      for (int d = 0; d < D; d++) {
        op.dv[dj + d] += p * op.dout[oi + d];
        op.dk[dj + d] += ds * op.q[qi + d];
        op.dq[dqi + d] += ds * op.k[kj + d];
      }
    }
  });
}

}  // namespace

template <class Float>
template <Isa>
void AttentionForward<Float>::cpu() const {
  if constexpr (is_oracle<Float>) {
    forward_plain(*this);
  } else {
    const int32_t* const cu_seqlens = sizes.cu_seqlens;
    const int docs = sizes.docs, N = sizes.N, H = sizes.H, D = sizes.D;
    TLL_CHECK(cu_seqlens[docs] == N, "documents of {} rows, {} rows", cu_seqlens[docs], N);
    if constexpr (dtype_of<Float> == DType::bf16 && kIsa == kIsaWithBf16)
      if (attention_bf16(*this)) return;
    int tiles = 0;
    for (int d = 0; d < docs; d++) tiles += (cu_seqlens[d + 1] - cu_seqlens[d] + kQueries - 1) / kQueries;
    const int64_t tasks = static_cast<int64_t>(tiles) * H;
    parallel_pieces(tasks, sizes.threads, [&](int64_t task, int worker) {
      // Long rows of keys first: the last tiles of a document cost most.
      int tile = tiles - 1 - static_cast<int>(task / H), doc = 0;
      for (;; doc++) {
        const int count = (cu_seqlens[doc + 1] - cu_seqlens[doc] + kQueries - 1) / kQueries;
        if (tile < count) break;
        tile -= count;
      }
      forward_tile(*this, cu_seqlens[doc], cu_seqlens[doc + 1] - cu_seqlens[doc], static_cast<int>(task % H), tile * kQueries,
                   scratch + forward_tiles(D) * worker);
    });
  }
}

template <class Float>
template <Isa>
void AttentionBackward<Float>::cpu() const {
  if constexpr (is_oracle<Float>) {
    backward_plain(*this);
  } else {
    const int32_t* const cu_seqlens = sizes.cu_seqlens;
    const int docs = sizes.docs, N = sizes.N, H = sizes.H, G = sizes.G, D = sizes.D;
    TLL_CHECK(cu_seqlens[docs] == N, "documents of {} rows, {} rows", cu_seqlens[docs], N);
    if constexpr (dtype_of<Float> == DType::bf16 && kIsa == kIsaWithBf16)
      if (attention_bf16(*this)) return;
    const int width = pad(D), group = H / G;
    float* dk_all = scratch;  // (N, H, width), one gradient for each query head: no two tasks add to one place
    float* dv_all = dk_all + static_cast<size_t>(N) * H * width;
    float* tiles = dv_all + static_cast<size_t>(N) * H * width;
    parallel_pieces(static_cast<int64_t>(docs) * H, sizes.threads, [&](int64_t task, int worker) {
      const int doc = static_cast<int>(task / H);
      backward_head(*this, cu_seqlens[doc], cu_seqlens[doc + 1] - cu_seqlens[doc], static_cast<int>(task % H), dk_all, dv_all,
                    tiles + backward_tiles(D) * worker);
    });
    const float s = static_cast<float>(sizes.scale);
    parallel_for(N, 2 * H * width, [&](int64_t n) {
      for (int g = 0; g < G; g++) {
        const float* dk_row = dk_all + (static_cast<size_t>(n) * H + g * group) * width;
        const float* dv_row = dv_all + (static_cast<size_t>(n) * H + g * group) * width;
        for (int d = 0; d < D; d++) {
          float sum_k = 0, sum_v = 0;
          for (int h = 0; h < group; h++) sum_k += dk_row[h * width + d], sum_v += dv_row[h * width + d];
          dk[n * sizes.d_row() + g * D + d] = from_acc<Float>(sum_k * s);
          dv[n * sizes.d_row() + g * D + d] = from_acc<Float>(sum_v);
        }
      }
    });
  }
}

template <class Float>
template <Isa>
void AttentionDecode<Float>::cpu() const {
  using Acc = acc_t<Float>;
  parallel_pieces(static_cast<int64_t>(B) * H, cpu_threads(), [&](int64_t task, int) {
    const int b = static_cast<int>(task / H), h = static_cast<int>(task % H), g = h / (H / G), length = lengths[b];
    const int first = window > 0 && length > window ? length - window : 0;
    const Float* query = q + static_cast<size_t>(b) * stride + h * D;
    const size_t base = static_cast<size_t>(b) * capacity * G * D + g * D, step = static_cast<size_t>(G) * D;
    Acc* score = scores + static_cast<size_t>(task) * capacity;
    auto top = real_part(Acc(-INFINITY));
    for (int j = first; j < length; j++) {
      const Float* key = k + base + j * step;
      Acc s{};
      if constexpr (is_oracle<Float>) {
        for (int d = 0; d < D; d++) s += to_acc(query[d]) * to_acc(key[d]);
      } else {
        const int dims = D;
#pragma omp simd reduction(+ : s)
        for (int d = 0; d < dims; d++) s += to_acc(query[d]) * to_acc(key[d]);
      }
      score[j] = s * Acc(scale);
      top = real_part(score[j]) > top ? real_part(score[j]) : top;
    }
    Acc sum{};
    for (int j = first; j < length; j++) sum += score[j] = exp_acc(score[j] - top);
    constexpr int kColumns = 64;
    for (int d0 = 0; d0 < D; d0 += kColumns) {
      const int columns = std::min(kColumns, D - d0);
      Acc o[kColumns] = {};
      for (int j = first; j < length; j++) {
        const Float* value = v + base + j * step + d0;
        for (int d = 0; d < columns; d++) o[d] += score[j] * to_acc(value[d]);
      }
      for (int d = 0; d < columns; d++) out[b * out_row() + h * D + d0 + d] = from_acc<Float>(o[d] / sum);
    }
  });
}

template <class Float>
template <Isa>
void CacheWrite<Float>::cpu() const {
  for (int n = 0; n < N; n++) {
    if (slots[n] < 0) continue;
    const int64_t to = (static_cast<int64_t>(slots[n]) * capacity + positions[n]) * W, from = static_cast<int64_t>(n) * stride;
    std::copy(k + from, k + from + W, keys + to);
    std::copy(v + from, v + from + W, values + to);
  }
}

TLL_INSTANTIATE(AttentionForward)
TLL_INSTANTIATE(AttentionBackward)
TLL_INSTANTIATE(AttentionDecode)
TLL_INSTANTIATE(CacheWrite)

}  // namespace tll
