// Cases of attention: grouped heads, packed documents, windows, and lengths around the tiles' edges.
#include "kernels/attention_bf16.h"
#include "kernels/attention_wgmma.h"
#include "kernels/elementwise.h"
#include "tests/op_cases.h"

namespace tll::test {
namespace {

std::string name_of(const AttentionShape& s) {
  std::string docs;
  for (int n : s.lengths) docs += fmt::format("{}{}", docs.empty() ? "" : "+", n);
  return fmt::format("T {} H {} G {} D {}{}", docs, s.H, s.G, s.D, s.window ? fmt::format(" W {}", s.window) : "") +
         (s.apart ? " q|k apart" : "") + (s.mma ? " mma" : "") + (s.avx512 ? " avx512" : "");
}

template <class Op>
void run(const AttentionShape& s, Tensors& t, const Op& op) {
  struct WithoutWgmma {
    explicit WithoutWgmma(bool without) { use_wgmma(!without); }
    ~WithoutWgmma() { use_wgmma(true); }
  };
  t.launch({Op::kName, op.cost(), [op, mma = s.mma, avx512 = s.avx512](const Device& on) {
              const WithoutWgmma without(mma);
              if constexpr (std::is_same_v<typename Op::Scalar, bf16>)
                if (avx512 && on.kind == DeviceKind::cpu && on.isa == kIsaWithBf16 &&
                    attention_bf16(op, Bf16Instructions::avx512))
                  return;
              tll::run(on, op);
            }});
}

// The definition: all scores of a row, one softmax, in double.
void attention_reference(const AttentionShape& s, double scale, const Values& in, Reference& r) {
  const int D = s.D, group = s.H / s.G, stride = (s.H + 2 * s.G) * D + s.gap;
  int N = 0;
  for (int n : s.lengths) N += n;
  auto &out = r.value["out"], &lse = r.value["lse"], &m_out = r.magnitude["out"], &m_lse = r.magnitude["lse"],
       &m_grad = r.magnitude["dqkv"];
  for (auto* v : {&out, &m_out}) v->resize(static_cast<size_t>(N) * s.H * D);
  for (auto* v : {&lse, &m_lse}) v->resize(static_cast<size_t>(N) * s.H);
  m_grad.resize(in.at("qkv").size());
  const double *qkv = in.at("qkv").data(), *dout = in.at("dout").data();
  double steepest = 0;  // the largest Σ|q||k|·scale: roundings of a score are relative to it
  int begin = 0, longest = 0;
  for (int length : s.lengths) {
    longest = std::max(longest, length);
    for (int h = 0; h < s.H; h++) {
      const int k_at = (s.H + h / group) * D, v_at = (s.H + s.G + h / group) * D;
      for (int i = 0; i < length; i++) {
        const size_t q_row = static_cast<size_t>(begin + i) * stride + h * D;
        const size_t o_row = static_cast<size_t>(begin + i) * s.H * D + h * D;
        const int first = s.window ? std::max(0, i - s.window + 1) : 0;
        std::vector<double> p(static_cast<size_t>(i) + 1, 0.0);
        double sum = 0, d_out_out = 0, most = -INFINITY;
        for (int j = first; j <= i; j++) {
          double score = 0, size = 0;
          for (int d = 0; d < D; d++) {
            const double term = qkv[q_row + d] * qkv[static_cast<size_t>(begin + j) * stride + k_at + d];
            score += term, size += std::abs(term);
          }
          steepest = std::max(steepest, size * scale);
          p[j] = score * scale, most = std::max(most, p[j]);
        }
        for (int j = first; j <= i; j++) sum += p[j] = std::exp(p[j] - most);
        const size_t l = static_cast<size_t>(h) * N + begin + i;
        lse[l] = most + std::log(sum), m_lse[l] = 1 + std::abs(lse[l]);
        for (int j = first; j <= i; j++) {
          p[j] /= sum;
          for (int d = 0; d < D; d++) {
            const double v = qkv[static_cast<size_t>(begin + j) * stride + v_at + d];
            out[o_row + d] += p[j] * v, m_out[o_row + d] += p[j] * std::abs(v);
          }
        }
        for (int d = 0; d < D; d++) d_out_out += std::abs(dout[o_row + d]) * m_out[o_row + d];
        for (int j = first; j <= i; j++) {
          const size_t row = static_cast<size_t>(begin + j) * stride;
          double dp = 0;
          for (int d = 0; d < D; d++) dp += std::abs(dout[o_row + d] * qkv[row + v_at + d]);
          // Float's exponential is 0 below e^-87 (1e-38, or 1e-30 times the tolerance).
          const double seen = p[j] + 1e-30, ds = seen * (dp + d_out_out) * scale;
          for (int d = 0; d < D; d++) {
            m_grad[row + v_at + d] += seen * std::abs(dout[o_row + d]);
            m_grad[row + k_at + d] += ds * std::abs(qkv[q_row + d]);
            m_grad[q_row + d] += ds * std::abs(qkv[row + k_at + d]);
          }
        }
      }
    }
    begin += length;
  }
  // A score and the maximum taken from it: D + 2 roundings each; their difference and the exponential's argument: 2 more. Then
  // the exponential itself, 2 ulp, and a sum of the row's keys, rescaled once a key tile.
  const double score = 2.0 * (D + 3) * steepest, row = longest + longest / kKeyTile + 4;
  const double p = score + 4 + row;
  r.tolerance["lse"] = {score + row + 4, 0};
  r.tolerance["out"] = {2 * p + 2, 1, 1};  // on tensor cores P is rounded, ...
  // dS holds P, dP and delta, whose own `out` was rounded when it was saved; then a sum over keys, or over queries and heads.
  r.tolerance["dqkv"] = {2 * p + 2 + p + 2.0 * D + 1.0 * longest * group + 8, 2, 1};  // ... and so is dS
}

}  // namespace

OpCase attention(const AttentionShape& s) {
  OpCase c{.op = "attention", .shape = name_of(s), .tensor_cores = true};
  const int H = s.H, G = s.G, D = s.D, stride = (H + 2 * G) * D + s.gap, docs = static_cast<int>(s.lengths.size());
  std::vector<int32_t> bounds{0};
  for (int n : s.lengths) bounds.push_back(bounds.back() + n);
  const int N = bounds.back();
  const double scale = 1 / std::sqrt(D), pairs = visible_pairs(bounds.data(), docs, s.window);
  using Forward = AttentionForward<bf16>;  // bf16 may need more scratch than float, never less
  using Backward = AttentionBackward<bf16>;
  c.tensors = {
      {.name = "qkv", .role = Role::input, .rows = N, .width = (H + 2 * G) * D, .gap = s.gap},
      {.name = "bounds", .role = Role::constant, .kind = Kind::i32, .width = docs + 1, .values = {bounds.begin(), bounds.end()}},
      {.name = "out", .role = Role::output, .rows = N, .width = H * D},
      {.name = "lse", .role = Role::saved, .kind = Kind::acc, .rows = H, .width = N},
      {.name = "dout", .role = Role::constant, .rows = N, .width = H * D},
      {.name = "dqkv", .role = Role::gradient, .rows = N, .width = (H + 2 * G) * D, .gap = s.gap},
      {.name = "forward_scratch",
       .role = Role::scratch,
       .kind = Kind::always_f32,
       .width = s.cuda ? 0 : Forward::scratch_floats(N, G, D, s.threads)},
      {.name = "backward_scratch",
       .role = Role::scratch,
       .kind = Kind::always_f32,
       .width = s.cuda ? 0 : Backward::scratch_floats(N, H, G, D, s.threads)},
      {.name = "cuda_scratch",
       .role = Role::scratch,
       .kind = Kind::always_f32,
       .width = Backward::cuda_scratch_floats(N, H, G, D)}};
  const int qk_width = (H + G) * D, qk_stride = s.apart ? qk_width + s.gap : stride;
  if (s.apart) c.tensors.push_back({.name = "qk", .role = Role::scratch, .rows = N, .width = qk_width, .gap = s.gap});
  const auto sizes_of = [=](Tensors& t) {
    const int out_stride = static_cast<int>(t["out"].stride), d_stride = static_cast<int>(t["dqkv"].stride);
    return AttentionSizes{t["bounds"],      docs,  N,    H, G, D, stride, qk_stride, out_stride, d_stride, s.window,
                          t.device.threads, scale, pairs};
  };
  const auto queries = [=]<class F>(F, Tensors& t) -> const F* {
    const F* qkv = t["qkv"];
    if (!s.apart) return qkv;
    F* qk = t["qk"];
    for (int n = 0; n < N; n++) t.run(Copy<F>{.out = qk + n * qk_stride, .in = qkv + n * stride, .n = qk_width});
    return qk;
  };
  c.forward = typed([=]<class F>(F, Tensors& t) {
    const F *q = queries(F(), t), *qkv = t["qkv"];
    run(s, t,
        AttentionForward<F>{.out = t["out"],
                            .lse = t["lse"],
                            .q = q,
                            .k = q + H * D,
                            .v = qkv + (H + G) * D,
                            .scratch = t["forward_scratch"],
                            .sizes = sizes_of(t)});
  });
  c.backward = typed([=]<class F>(F, Tensors& t) {
    const F *q = queries(F(), t), *qkv = t["qkv"];
    F* dq = t["dqkv"];
    run(s, t,
        AttentionBackward<F>{.dq = dq,
                             .dk = dq + H * D,
                             .dv = dq + (H + G) * D,
                             .dout = t["dout"],
                             .out = t["out"],
                             .lse = t["lse"],
                             .q = q,
                             .k = q + H * D,
                             .v = qkv + (H + G) * D,
                             .scratch = t[t.device.kind == DeviceKind::cuda ? "cuda_scratch" : "backward_scratch"],
                             .sizes = sizes_of(t)});
  });
  c.reference = [=](const Values& in, Reference& r) { attention_reference(s, scale, in, r); };
  return c;
}

// Tokens of a batch, padding among them, to a cache that holds other tokens already.
static OpCase cache_write(Random& random, int N, int slots, int W, int capacity, int gap) {
  OpCase c{.op = "cache_write", .shape = fmt::format("N {} slots {} W {} capacity {}", N, slots, W, capacity)};
  // Different places, in any order.
  std::vector<int> places(static_cast<size_t>(slots) * static_cast<size_t>(capacity));
  for (size_t i = 0; i < places.size(); i++) places[i] = static_cast<int>(i);
  std::shuffle(places.begin(), places.end(), random);
  std::vector<double> slot_of, position_of;
  for (size_t n = 0; n < static_cast<size_t>(N); n++) {
    slot_of.push_back(n % 5 == 3 ? -1 : places[n] / capacity);
    position_of.push_back(n % 5 == 3 ? 0 : places[n] % capacity);
  }
  const int64_t rows = int64_t{1} * slots * capacity;
  c.oracle = false;
  c.tensors = {{.name = "k", .role = Role::constant, .rows = N, .width = W, .gap = gap},
               {.name = "v", .role = Role::constant, .rows = N, .width = W, .gap = gap},
               {.name = "slots", .role = Role::constant, .kind = Kind::i32, .width = N, .values = slot_of},
               {.name = "positions", .role = Role::constant, .kind = Kind::i32, .width = N, .values = position_of},
               {.name = "keys", .role = Role::output, .rows = rows, .width = W, .accumulates = true},
               {.name = "values", .role = Role::output, .rows = rows, .width = W, .accumulates = true}};
  c.forward = typed([=]<class F>(F, Tensors& t) {
    t.run(CacheWrite<F>{.keys = t["keys"],
                        .values = t["values"],
                        .k = t["k"],
                        .v = t["v"],
                        .slots = t["slots"],
                        .positions = t["positions"],
                        .N = N,
                        .W = W,
                        .stride = W + gap,
                        .capacity = capacity});
  });
  c.reference = [=](const Values& in, Reference& r) {
    for (const auto& [to, from] : {std::pair{"keys", "k"}, std::pair{"values", "v"}}) {
      r.value[to] = in.at(to);
      for (size_t n = 0; n < static_cast<size_t>(N); n++) {
        if (slot_of[n] < 0) continue;
        const size_t place =
            static_cast<size_t>(slot_of[n]) * static_cast<size_t>(capacity) + static_cast<size_t>(position_of[n]);
        for (size_t i = 0; i < static_cast<size_t>(W); i++)
          r.value[to][place * static_cast<size_t>(W) + i] = in.at(from)[n * static_cast<size_t>(W + gap) + i];
      }
      r.tolerance[to] = {0, 0};  // copies
    }
  };
  return c;
}

// Decoding one token of each of several sequences equals the last row of the forward pass over each.
OpCase attention_decode(const std::vector<int>& lengths, int H, int G, int D, int capacity, int window, int gap) {
  const int B = static_cast<int>(lengths.size()), stride = H * D + gap;
  OpCase c{.op = "attention_decode", .shape = name_of({lengths, H, G, D, window, gap})};
  const double scale = 1 / std::sqrt(D);
  c.tensors = {
      {.name = "q", .role = Role::constant, .rows = B, .width = H * D, .gap = gap},
      {.name = "k", .role = Role::constant, .rows = int64_t{1} * B * capacity, .width = G * D},
      {.name = "v", .role = Role::constant, .rows = int64_t{1} * B * capacity, .width = G * D},
      {.name = "lengths", .role = Role::constant, .kind = Kind::i32, .width = B, .values = {lengths.begin(), lengths.end()}},
      {.name = "out", .role = Role::output, .rows = B, .width = H * D},
      {.name = "scores", .role = Role::scratch, .kind = Kind::acc, .width = int64_t{1} * B * H * capacity}};
  c.forward = typed([=]<class F>(F, Tensors& t) {
    t.run(AttentionDecode<F>{.out = t["out"],
                             .q = t["q"],
                             .k = t["k"],
                             .v = t["v"],
                             .scores = t["scores"],
                             .lengths = t["lengths"],
                             .B = B,
                             .H = H,
                             .G = G,
                             .D = D,
                             .stride = stride,
                             .capacity = capacity,
                             .window = window,
                             .scale = scale,
                             .out_stride = static_cast<int>(t["out"].stride)});
  });
  c.reference = [=](const Values& in, Reference& r) {
    for (int b = 0; b < B; b++) {
      // The whole sequence as the forward pass would see it; only its last query is known, and only that row is kept.
      const int n = lengths[b];
      const AttentionShape whole{{n}, H, G, D, window, 0};
      const size_t width = static_cast<size_t>(H + 2 * G) * D, cache = static_cast<size_t>(G) * D;
      Values one{{"qkv", std::vector<double>(n * width)}, {"dout", std::vector<double>(static_cast<size_t>(n) * H * D)}};
      for (int j = 0; j < n; j++)
        for (size_t d = 0; d < cache; d++) {
          const size_t from = (static_cast<size_t>(b) * capacity + j) * cache + d;
          one["qkv"][j * width + H * D + d] = in.at("k")[from];
          one["qkv"][j * width + H * D + cache + d] = in.at("v")[from];
        }
      for (int d = 0; d < H * D; d++) one["qkv"][(n - 1) * width + d] = in.at("q")[static_cast<size_t>(b) * stride + d];
      Reference row;
      attention_reference(whole, scale, one, row);
      for (int d = 0; d < H * D; d++) {
        r.value["out"].push_back(row.value["out"][static_cast<size_t>(n - 1) * H * D + d]);
        r.magnitude["out"].push_back(row.magnitude["out"][static_cast<size_t>(n - 1) * H * D + d]);
      }
      if (row.tolerance["out"].acc > r.tolerance["out"].acc) r.tolerance["out"] = row.tolerance["out"];
    }
  };
  return c;
}

void add_attention_cases(std::vector<OpCase>& cases, Random& random) {
  const auto add = [&](const OpCase& c) { cases.push_back(c); };
  const std::vector<int> sizes{4, 12, 20, 32, 64, 96, 128}, groups{1, 3, 4, 7};
  for (size_t i = 0; i < sizes.size(); i++) {
    const int group = groups[i % groups.size()], G = 1 + static_cast<int>(i % 2);
    add(attention({{1, 5, 17, 1}, group * G, G, sizes[i], 0, static_cast<int>(i)}));
  }
  for (int D : {32, 64, 96}) add(attention({{40, 31}, 2, 1, D, 0, 8}));  // rows of whole vectors
  for (int D : {6, 20, 36, 64, 80, 112, 128}) {
    AttentionShape apart{.lengths = {33, 1, 20}, .H = 2, .G = 1, .D = D, .window = 0, .gap = D == 6 ? 3 : 8};
    apart.apart = true;
    add(attention(apart));
  }
  for (int group : groups) add(attention({{9, 4}, 2 * group, 2, 8, 0, 3}));
  for (int D : {20, 32, 64, 96, 128}) add(attention({{100, 45}, 3, 1, D, 0, 0}));  // on CUDA a part for each head of the group
  for (int n : {47, 48, 49, 63, 64, 65, 96, 97, 129}) add(attention({{n}, 2, 1, 12, 0, 1}));
  add(attention({{50, 1, 66, 1, 1}, 3, 1, 20, 0, 0}));
  add(attention({{0, 5, 0, 3, 0}, 2, 1, 4, 0, 0}));  // empty documents
  add(attention({{}, 2, 1, 4, 0, 0}));
  for (int n : {7, 65, 113})
    for (int window : {1, n - 1, n, n + 1}) add(attention({{n}, 2, 2, 4, window, 0}));
  for (int window : {16, 47, 48, 63, 64, 65}) add(attention({{131, 70}, 3, 1, 4, window, 5}));
  add(attention({{70}, 1, 1, 128, 33, 0}));
  for (int n : {127, 128, 129, 145}) add(attention({{n}, 2, 1, 64, 0, 0}));  // around the tiles of tensor cores
  add(attention({{90, 60}, 1, 1, 128, 0, 8}));
  for (int i = 0; i < 4; i++) {
    std::vector<int> lengths(static_cast<size_t>(between(random, 1, 4)));
    for (int& n : lengths) n = between(random, 1, 80);
    const int G = between(random, 1, 2), D = pick(random, sizes), group = pick(random, groups);
    const int window = between(random, 0, 1) ? between(random, 1, 80) : 0;
    add(attention({lengths, group * G, G, D, window, between(random, 0, 7)}));
  }
  add(cache_write(random, 1, 1, 1, 1, 0));
  add(cache_write(random, 23, 3, 40, 9, 8));
  add(cache_write(random, 7, 2, 67, 5, 3));
  add(cache_write(random, 2, 2, 1040, 3, 0));  // more columns than a pass has
  add(misaligned_in_turn(cache_write(random, 3, 2, 40, 5, 0)));
  for (int D : {40, 72}) add(attention({{33, 9}, 2, 1, D, 0, 0}));   // whole vectors, fewer than a tile's columns
  add(attention({{64, 32, 33}, 2, 1, 4, 0, 0}));                     // documents end where tiles do
  add(with_sigma(attention({{70, 9}, 2, 1, 12, 0, 1}), "qkv", 12));  // e^score overflows
  add(misaligned_in_turn(attention({{9}, 2, 1, 32, 0, 0})));
  for (const int gap : {8, 5}) {        // room behind the columns of out
    for (const int length : {70, 130})  // 130: in parts of a group
      add(with_gaps(attention({{length, 9}, 4, 2, 32, 0, 0}), {{"out", gap}, {"dqkv", 2 * gap}}));
    add(with_gaps(attention_decode({9, 5}, 4, 2, 32, 16, 0, 0), {{"out", gap}}));
  }
  add(attention({{79, 50}, 171, 1, 4, 0, 0}));  // parts of two heads, the last of one
  add(attention_decode({1}, 1, 1, 4, 1, 0, 0));
  add(attention_decode({5, 3}, 2, 1, 160, 8, 0, 0));  // more columns, and more keys, than a pass has
  add(attention_decode({200, 140}, 2, 1, 4, 200, 150, 0));
  add(with_mean(with_mean(attention_decode({9, 3}, 2, 1, 12, 9, 0, 0), "q", 8, random), "k", -8, random));  // all e^score are 0
  add(misaligned_in_turn(attention_decode({9}, 2, 1, 32, 16, 0, 0)));
  add(attention_decode({1, 37, 64, 5}, 6, 2, 20, 64, 0, 40));
  for (int window : {1, 36, 37, 38}) add(attention_decode({37, 12}, 4, 4, 12, 40, window, 0));
  add(attention_decode({between(random, 1, 90), between(random, 1, 90)}, 7, 1, pick(random, sizes), 90, 0,
                       between(random, 0, 9)));
  // More short documents than there are panels for at once.
  const auto many = [&](bool avx512) {
    AttentionShape shape{.lengths = {}, .H = 2, .G = 1, .D = 12, .window = 0, .gap = 1};
    for (int i = 0; i < 40; i++) shape.lengths.push_back(i % 7);
    shape.avx512 = avx512;
    return attention(shape);
  };
  add(many(false));
  for (int D : {32, 64, 96, 128}) {  // the kernels with mma, in two parts of a group
    AttentionShape shape{.lengths = {70, 90}, .H = 4, .G = 2, .D = D, .window = D == 64 ? 50 : 0, .gap = 0};
    shape.mma = true;
    OpCase c = attention(shape);
    c.dtypes = {DType::bf16};
    add(c);
  }
  if (bf16_instructions() > Bf16Instructions::avx512) {
    add(many(true));
    for (int D : {4, 32, 80, 128}) {
      AttentionShape shape{.lengths = {33, 1, 20, 65}, .H = 6, .G = 2, .D = D, .window = D == 80 ? 40 : 0, .gap = 3};
      shape.avx512 = true;
      add(attention(shape));
    }
  }
}

}  // namespace tll::test
