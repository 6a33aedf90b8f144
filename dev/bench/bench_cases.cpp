#include <algorithm>
#include <cstring>

#include "dev/bench/bench_case.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace tll::bench {
namespace {

constexpr int kRank = 16;        // of an adapter
constexpr int kLogitRows = 512;  // rows of a chunk of the loss

// Documents of seq_len tokens and what remains, as cu_seqlens.
std::vector<int32_t> documents(int N, int seq_len) {
  std::vector<int32_t> bounds{0};
  while (bounds.back() < N) bounds.push_back(std::min(N, bounds.back() + seq_len));
  return bounds;
}

// out (rows, cols) = A · B: the way a linear layer calls it.
template <class Float>
BenchCase product(const Sizes& sizes, std::string what, int rows, int cols, int inner, bool ta, bool tb, DType out_dtype,
                  bool accumulate) {
  const DType f = dtype_of<Float>;
  const int64_t scratch = sizes.cuda ? Matmul<float>::kCudaScratch : Matmul<float>::scratch_floats(sizes.threads), one = 1;
  what += fmt::format(" {} x {} x {} {}{}{}", rows, cols, inner, ta ? 'T' : 'N', tb ? 'T' : 'N', accumulate ? " +=" : "");
  return bench_case(what, f,
                    {{"a", f, one * rows * inner},
                     {"b", f, one * cols * inner},
                     {"out", out_dtype, one * rows * cols},
                     {"scratch", DType::f32, scratch}},
                    [=](const Memory& t) {
                      const Float *a = t.at<Float>("a"), *b = t.at<Float>("b");
                      return Matmul<float>{
                          .out = out_dtype == f ? matrix(t.at<Float>("out"), rows, cols) : matrix(t.at<float>("out"), rows, cols),
                          .a = ta ? matrix(a, inner, rows).t() : matrix(a, rows, inner),
                          .b = tb ? matrix(b, cols, inner).t() : matrix(b, inner, cols),
                          .alpha = 1,
                          .accumulate = accumulate,
                          .scratch = {t.at<float>("scratch"), scratch}};
                    });
}

template <class Float>
BenchCase matmul_ceiling_of(const Sizes& s) {
  const ModelShape& m = s.models.back();
  return product<Float>(s, std::string(m.name) + " gate_up", s.N, 2 * m.F, m.C, false, true, dtype_of<Float>, false);
}

template <class Float>
void add_linear(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const DType f = dtype_of<Float>;
  const auto add = [&](const char* what, int rows, int cols, int inner, bool ta, bool tb, DType out, bool accumulate) {
    cases.push_back(product<Float>(s, fmt::format("{} {}", m.name, what), rows, cols, inner, ta, tb, out, accumulate));
  };
  const int N = s.N, qkv = (m.H + 2 * m.G) * m.D, r = kRank, chunk = std::min(N, kLogitRows);
  add("qkv", N, qkv, m.C, false, true, f, false);
  add("o", N, m.C, m.H * m.D, false, true, f, true);
  add("gate_up", N, 2 * m.F, m.C, false, true, f, false);
  add("down", N, m.C, m.F, false, true, f, true);
  add("gate_up, dx", N, m.C, 2 * m.F, false, false, f, false);
  add("down, dx", N, m.F, m.C, false, false, f, false);
  add("head", chunk, m.V, m.C, false, true, DType::f32, false);
  // An adapter of rank r on a layer C -> F: u = x·Aᵀ, y += u·Bᵀ; z = dy·B, dB += dyᵀ·u, dA += zᵀ·x, dx += z·A.
  add("LoRA x·A", N, r, m.C, false, true, f, false);
  add("LoRA u·B", N, m.F, r, false, true, f, true);
  add("LoRA dy·B", N, r, m.F, false, false, f, false);
  add("LoRA dB", m.F, r, N, true, false, DType::f32, true);
  add("LoRA dA", r, m.C, N, true, false, DType::f32, true);
  add("LoRA dx", N, m.C, r, false, false, f, true);
}

template <class Float>
void add_attention(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m, int seq_len) {
  const DType f = dtype_of<Float>;
  const std::vector<int32_t> bounds = documents(s.N, seq_len);
  const int N = s.N, H = m.H, G = m.G, D = m.D, stride = (H + 2 * G) * D, docs = static_cast<int>(bounds.size()) - 1;
  const double pairs = visible_pairs(bounds.data(), docs, 0), scale = 1 / std::sqrt(static_cast<double>(D));
  const std::string shape = fmt::format("{} N {} S {} H {} G {} D {}", m.name, N, seq_len, H, G, D);
  const int64_t width = int64_t{N} * H * D, joint = int64_t{N} * stride;
  const BenchTensor qkv{"qkv", f, joint}, out{"out", f, width}, lse{"lse", DType::f32, int64_t{H} * N, {Fill::kConstant, 8}};
  const BenchTensor cu{"cu_seqlens", DType::i32, docs + 1, exactly(bounds)};
  cases.push_back(bench_case(
      shape, f, {qkv, out, lse, cu, {"scratch", DType::f32, s.cuda ? 0 : AttentionForward<Float>::scratch_floats(D, s.threads)}},
      [=, threads = s.threads](const Memory& t) {
        const Float* q = t.at<Float>("qkv");
        return AttentionForward<Float>{.out = t.at<Float>("out"),
                                       .lse = t.at<float>("lse"),
                                       .q = q,
                                       .k = q + H * D,
                                       .v = q + (H + G) * D,
                                       .scratch = t.at<float>("scratch"),
                                       .sizes = {.cu_seqlens = t.at<int32_t>("cu_seqlens"),
                                                 .docs = docs,
                                                 .N = N,
                                                 .H = H,
                                                 .G = G,
                                                 .D = D,
                                                 .stride = stride,
                                                 .window = 0,
                                                 .threads = threads,
                                                 .scale = scale,
                                                 .pairs = pairs}};
      }));
  if (D == 128 && seq_len == 4096 && f != DType::f32) cases.back().least_tflops = 250;
  cases.push_back(bench_case(shape, f,
                             {qkv,
                              out,
                              lse,
                              cu,
                              {"dqkv", f, joint},
                              {"dout", f, width},
                              {"scratch", DType::f32,
                               s.cuda ? AttentionBackward<Float>::cuda_scratch_floats(N, H)
                                      : AttentionBackward<Float>::scratch_floats(N, H, D, s.threads)}},
                             [=, threads = s.threads](const Memory& t) {
                               const Float* q = t.at<Float>("qkv");
                               Float* dq = t.at<Float>("dqkv");
                               return AttentionBackward<Float>{.dq = dq,
                                                               .dk = dq + H * D,
                                                               .dv = dq + (H + G) * D,
                                                               .dout = t.at<Float>("dout"),
                                                               .out = t.at<Float>("out"),
                                                               .lse = t.at<float>("lse"),
                                                               .q = q,
                                                               .k = q + H * D,
                                                               .v = q + (H + G) * D,
                                                               .scratch = t.at<float>("scratch"),
                                                               .sizes = {.cu_seqlens = t.at<int32_t>("cu_seqlens"),
                                                                         .docs = docs,
                                                                         .N = N,
                                                                         .H = H,
                                                                         .G = G,
                                                                         .D = D,
                                                                         .stride = stride,
                                                                         .window = 0,
                                                                         .threads = threads,
                                                                         .scale = scale,
                                                                         .pairs = pairs}};
                             }));
}

template <class Float>
void add_decode(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const DType f = dtype_of<Float>;
  const int B = 8, H = m.H, G = m.G, D = m.D, capacity = s.seq_len;
  const int64_t cache = int64_t{B} * capacity * G * D;
  cases.push_back(bench_case(fmt::format("{} B {} capacity {}", m.name, B, capacity), f,
                             {{"q", f, int64_t{B} * H * D},
                              {"k", f, cache},
                              {"v", f, cache},
                              {"out", f, int64_t{B} * H * D},
                              {"scores", DType::f32, int64_t{B} * H * capacity},
                              {"lengths", DType::i32, B, exactly(std::vector<int32_t>(B, capacity))}},
                             [=](const Memory& t) {
                               return AttentionDecode<Float>{.out = t.at<Float>("out"),
                                                             .q = t.at<Float>("q"),
                                                             .k = t.at<Float>("k"),
                                                             .v = t.at<Float>("v"),
                                                             .scores = t.at<float>("scores"),
                                                             .lengths = t.at<int32_t>("lengths"),
                                                             .B = B,
                                                             .H = H,
                                                             .G = G,
                                                             .D = D,
                                                             .stride = H * D,
                                                             .capacity = capacity,
                                                             .window = 0,
                                                             .scale = 1 / std::sqrt(static_cast<double>(D))};
                             }));
}

// Norms, rope, SwiGLU, embedding, loss: bound by memory, all of them.
template <class Float>
void add_rows(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const DType f = dtype_of<Float>, acc = DType::f32;
  const int N = s.N, C = m.C, F = m.F, V = m.V;
  const int64_t nc = int64_t{N} * C, nf = int64_t{N} * F;
  const std::string shape = fmt::format("{} N {} C {}", m.name, N, C), wide = fmt::format("{} N {} F {}", m.name, N, F);
  cases.push_back(bench_case(shape, f, {{"out", f, nc}, {"rstd", acc, N}, {"x", f, nc}, {"w", f, C}}, [=](const Memory& t) {
    return RmsnormForward<Float>{t.at<Float>("out"), t.at<float>("rstd"), t.at<Float>("x"), t.at<Float>("w"), N, C, 1e-5};
  }));
  cases.push_back(bench_case(
      shape, f, {{"dx", f, nc}, {"dout", f, nc}, {"x", f, nc}, {"w", f, C}, {"rstd", acc, N, {Fill::kConstant, 1}}},
      [=](const Memory& t) {
        return RmsnormBackward<Float>{
            t.at<Float>("dx"), nullptr, t.at<Float>("dout"), t.at<Float>("x"), t.at<Float>("w"), t.at<float>("rstd"), N, C};
      }));
  const int heads = m.H + m.G, D = m.D, stride = (m.H + 2 * m.G) * D;
  std::vector<int32_t> positions(static_cast<size_t>(N));
  for (int n = 0; n < N; n++) positions[static_cast<size_t>(n)] = n % s.seq_len;
  const int64_t table = int64_t{s.seq_len} * D / 2;
  cases.push_back(bench_case(
      fmt::format("{} N {} heads {} D {}", m.name, N, heads, D), f,
      {{"x", f, int64_t{N} * stride},  // turned again and again: by an angle, so that it neither grows nor shrinks
       {"cos", acc, table, {Fill::kConstant, 0.6}},
       {"sin", acc, table, {Fill::kConstant, 0.8}},
       {"positions", DType::i32, N, exactly(positions)}},
      [=](const Memory& t) {
        return Rope<Float>{
            t.at<Float>("x"), t.at<float>("cos"), t.at<float>("sin"), t.at<int32_t>("positions"), N, heads, D, stride, false};
      }));
  cases.push_back(bench_case(wide, f, {{"act", f, nf}, {"gate_up", f, 2 * nf}}, [=](const Memory& t) {
    return SwigluForward<Float>{t.at<Float>("act"), t.at<Float>("gate_up"), N, F};
  }));
  cases.push_back(bench_case(wide, f, {{"act", f, nf}, {"gate_up", f, 2 * nf}, {"dact", f, nf}}, [=](const Memory& t) {
    return SwigluBackward<Float>{t.at<Float>("act"), t.at<Float>("gate_up"), t.at<Float>("dact"), N, F};
  }));
  cases.push_back(
      bench_case(shape, f, {{"out", f, nc}, {"table", f, int64_t{V} * C}, {"ids", DType::i32, N, {Fill::kBelow, 1.0 * V}}},
                 [=](const Memory& t) {
                   return EmbeddingForward<Float>{t.at<Float>("out"), t.at<Float>("table"), f, t.at<int32_t>("ids"), N, C, V};
                 }));
}

// What depends on the rows alone, at one model's sizes.
template <class Float>
void add_glue(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const DType f = dtype_of<Float>, acc = DType::f32;
  const int N = s.N, C = m.C, V = m.V, D = m.D, P = s.seq_len;
  const int64_t nc = int64_t{N} * C;
  const std::string shape = fmt::format("{} N {} C {}", m.name, N, C);
  const BenchTensor ids{"ids", DType::i32, N, {Fill::kBelow, 1.0 * V}};
  cases.push_back(bench_case(shape, f, {{"dtable", acc, int64_t{V} * C}, {"dout", f, nc}, ids}, [=](const Memory& t) {
    return EmbeddingBackward<Float>{t.at<float>("dtable"), t.at<Float>("dout"), t.at<int32_t>("ids"), N, C, V, -1};
  }));
  cases.push_back(bench_case(
      fmt::format("P {} D {}", P, D), f,
      {{"cos", acc, int64_t{P} * D / 2}, {"sin", acc, int64_t{P} * D / 2}, {"inv_freq", acc, D / 2, {Fill::kConstant, 0.5}}},
      [=](const Memory& t) {
        return RopeTable<Float>{t.at<float>("cos"), t.at<float>("sin"), t.at<float>("inv_freq"), P, D};
      }));
  std::vector<int32_t> rows(static_cast<size_t>(N / 2));
  for (size_t i = 0; i < rows.size(); i++) rows[i] = static_cast<int32_t>(2 * i);
  const int R = static_cast<int>(rows.size());
  const BenchTensor chosen{"rows", DType::i32, R, exactly(rows)};
  cases.push_back(bench_case(fmt::format("R {} C {}", R, C), f, {{"out", f, nc}, {"x", f, nc}, chosen}, [=](const Memory& t) {
    return GatherRows<Float>{t.at<Float>("out"), t.at<Float>("x"), t.at<int32_t>("rows"), R, C};
  }));
  cases.push_back(bench_case(fmt::format("R {} C {}", R, C), f, {{"out", f, nc}, {"x", f, nc}, chosen}, [=](const Memory& t) {
    return ScatterRows<Float>{t.at<Float>("out"), t.at<Float>("x"), t.at<int32_t>("rows"), R, C};
  }));
  cases.push_back(bench_case(shape, f, {{"out", f, nc}, {"bias", f, C}}, [=](const Memory& t) {
    return BiasForward<Float>{t.at<Float>("out"), t.at<Float>("bias"), N, C};
  }));
  cases.push_back(bench_case(shape, f, {{"dbias", acc, C}, {"dout", f, nc}}, [=](const Memory& t) {
    return BiasBackward<Float>{t.at<float>("dbias"), t.at<Float>("dout"), N, C};
  }));
}

// Over the flat range of trained values.
template <class Float>
void add_flat(std::vector<BenchCase>& cases, const Sizes& s) {
  const int64_t n = s.trained;
  const std::string shape = fmt::format("n {}", n);
  cases.push_back(bench_case(shape, dtype_of<Float>, {{"out", dtype_of<Float>, n}, {"in", DType::f32, n}}, [=](const Memory& t) {
    return CastFromMaster<Float>{t.at<Float>("out"), t.at<float>("in"), n};
  }));
  cases.push_back(bench_case(shape, DType::f32,
                             {{"out", DType::f64, 1}, {"partial", DType::f64, SumOfSquares::blocks(n)}, {"x", DType::f32, n}},
                             [=](const Memory& t) {
                               return SumOfSquares{t.at<double>("out"), t.at<double>("partial"), t.at<float>("x"), n};
                             }));
  const AdamWFactors factors = adamw_factors(10, 1e-4, 0.9, 0.999, 0.01, 1);
  const float* numbers = &factors.apply;
  const int64_t count = sizeof(factors) / sizeof(float);
  cases.push_back(bench_case(shape, DType::f32,
                             {{"param", DType::f32, n},
                              {"m", DType::f32, n},
                              {"v", DType::f32, n, {Fill::kConstant, 1}},
                              {"grad", DType::f32, n},
                              {"factors", DType::f32, count, exactly(std::vector<float>(numbers, numbers + count))}},
                             [=](const Memory& t) {
                               return AdamW{.param = t.at<float>("param"),
                                            .m = t.at<float>("m"),
                                            .v = t.at<float>("v"),
                                            .grad = t.at<float>("grad"),
                                            .factors = reinterpret_cast<const AdamWFactors*>(t.at<float>("factors")),
                                            .n = n,
                                            .beta1 = 0.9,
                                            .beta2 = 0.999,
                                            .eps = 1e-8};
                             }));
}

template <class Float>
void add_dropout(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const int N = s.N, C = m.C;
  const int64_t nc = int64_t{N} * C;
  const DType f = dtype_of<Float>;
  cases.push_back(bench_case(fmt::format("{} N {} C {}", m.name, N, C), f, {{"out", f, nc}, {"x", f, nc}}, [=](const Memory& t) {
    return Dropout<Float>{
        .out = t.at<Float>("out"), .x = t.at<Float>("x"), .N = N, .C = C, .p = 0.1, .key = 1, .accumulate = false};
  }));
}

template <class Float>
void add_loss(std::vector<BenchCase>& cases, const Sizes& s, const ModelShape& m) {
  const int rows = std::min(s.N, kLogitRows), V = m.V;
  const int64_t logits = int64_t{rows} * V;
  cases.push_back(bench_case(fmt::format("{} rows {} V {}", m.name, rows, V), dtype_of<Float>,
                             {{"logits", DType::f32, logits},
                              {"dlogits", dtype_of<Float>, logits},
                              {"scale", DType::f64, 1, {Fill::kConstant, 1.0 / s.N}},
                              {"losses", DType::f32, rows},
                              {"targets", DType::i32, rows, {Fill::kBelow, 1.0 * V}}},
                             [=](const Memory& t) {
                               return CrossEntropy<Float>{.logits = t.at<float>("logits"),
                                                          .losses = t.at<float>("losses"),
                                                          .targets = t.at<int32_t>("targets"),
                                                          .dlogits = t.at<Float>("dlogits"),
                                                          .dlogits_stride = V,
                                                          .scale = t.at<double>("scale"),
                                                          .rows = rows,
                                                          .V = V};
                             }));
}

template <class Float>
std::vector<BenchCase> cases_of(const Sizes& s) {
  std::vector<BenchCase> cases;
  for (const ModelShape& m : s.models) {
    add_linear<Float>(cases, s, m);
    for (int seq_len : {s.seq_len, s.seq_len / 2}) add_attention<Float>(cases, s, m, seq_len);
    add_rows<Float>(cases, s, m);
  }
  add_decode<Float>(cases, s, s.models.back());
  add_glue<Float>(cases, s, s.models.front());
  add_dropout<Float>(cases, s, s.models.front());
  add_loss<Float>(cases, s, s.models.back());
  add_flat<Float>(cases, s);
  return cases;
}

}  // namespace

BenchCase copy_ceiling(const Sizes& s) {
  return bench_case(fmt::format("n {}", s.copied), DType::f32, {{"out", DType::f32, s.copied}, {"in", DType::f32, s.copied}},
                    [n = s.copied](const Memory& t) {
                      return Copy<float>{t.at<float>("out"), t.at<float>("in"), n};
                    });
}
BenchCase matmul_ceiling(const Sizes& s, DType dtype) {
  return dtype == DType::bf16  ? matmul_ceiling_of<bf16>(s)
         : dtype == DType::f16 ? matmul_ceiling_of<half>(s)
                               : matmul_ceiling_of<float>(s);
}
std::vector<BenchCase> all_cases(const Sizes& s, DType dtype) {
  return dtype == DType::bf16 ? cases_of<bf16>(s) : dtype == DType::f16 ? cases_of<half>(s) : cases_of<float>(s);
}

}  // namespace tll::bench
