#include <algorithm>

#include "dev/bench/bench_case.h"
#include "kernels/matmul.h"
#include "tests/op_cases.h"

namespace tll::bench {
namespace {

using test::Kind;
using test::OpCase;
using test::with_values;

constexpr int kRank = 16;        // of an adapter
constexpr int kLogitRows = 512;  // rows of a chunk of the loss

// The pass is recorded without memory, for the op's name and cost and for the tensors that it uses on that kind of device.
BenchCase bench_case(const Sizes& s, const std::string& shape, DType dtype, const OpCase& c, const test::Pass& pass) {
  Recorder nowhere(dtype, Device{.kind = s.cuda ? DeviceKind::cuda : DeviceKind::cpu});
  for (const test::TensorSpec& spec : c.tensors) nowhere.place(spec, nullptr);
  pass(nowhere);
  const test::Launch& op = nowhere.launches.front();
  BenchCase made{.op = op.op, .shape = shape, .dtype = dtype, .tensors = c.tensors, .pass = pass, .cost = op.cost};
  std::erase_if(made.tensors, [&](const test::TensorSpec& spec) { return !nowhere.used.contains(spec.name); });
  return made;
}

// The way a linear layer calls it. stored: N or T of each operand.
BenchCase matmul_case(const Sizes& s, DType f, const std::string& what, int rows, int cols, int inner, const std::string& stored,
                      bool accumulate = false, Kind out = Kind::storage) {
  const OpCase c = test::matmul({.size = {rows, cols, inner},
                                 .types = {Kind::storage, Kind::storage, out},
                                 .ta = stored[0] == 'T',
                                 .tb = stored[1] == 'T',
                                 .accumulate = accumulate,
                                 .backward = false,
                                 .scratch = s.cuda ? Matmul<float>::kCudaScratch : Matmul<float>::scratch_floats(s.threads)});
  return bench_case(s, what + " " + c.shape, f, c, c.forward);
}

void add_linear(std::vector<BenchCase>& cases, const Sizes& s, DType f, const ModelShape& m) {
  const int N = s.N, qkv = (m.H + 2 * m.G) * m.D, r = kRank, chunk = std::min(N, kLogitRows);
  const auto add = [&](const char* what, int rows, int cols, int inner, const char* stored, bool accumulate = false,
                       Kind out = Kind::storage) {
    cases.push_back(matmul_case(s, f, fmt::format("{} {}", m.name, what), rows, cols, inner, stored, accumulate, out));
  };
  add("qkv", N, qkv, m.C, "NT");
  add("o", N, m.C, m.H * m.D, "NT", true);
  add("gate_up", N, 2 * m.F, m.C, "NT");
  add("down", N, m.C, m.F, "NT", true);
  add("gate_up, dx", N, m.C, 2 * m.F, "NN");
  add("down, dx", N, m.F, m.C, "NN");
  add("head", chunk, m.V, m.C, "NT", false, Kind::f32);
  // An adapter of rank r on a layer C -> F: u = x·Aᵀ, y += u·Bᵀ; z = dy·B, dB += dyᵀ·u, dA += zᵀ·x, dx += z·A.
  add("LoRA x·A", N, r, m.C, "NT");
  add("LoRA u·B", N, m.F, r, "NT", true);
  add("LoRA dy·B", N, r, m.F, "NN");
  add("LoRA dB", m.F, r, N, "TN", true, Kind::f32);
  add("LoRA dA", r, m.C, N, "TN", true, Kind::f32);
  add("LoRA dx", N, m.C, r, "NN", true);
}

// The same with a weight in NF4 with nested scales, and what makes and decodes one.
void add_quantized(std::vector<BenchCase>& cases, test::Random& random, const Sizes& s, DType f, const ModelShape& m) {
  const Kind type = f == DType::f32 ? Kind::f32 : f == DType::bf16 ? Kind::bf16 : Kind::f16;
  const auto part = [](int rows) { return test::QuantizedShape::Part{WeightCode::nf4, rows, kQuantBlock, true}; };
  const auto add = [&](const char* what, int N, const test::QuantizedShape& w, bool backward) {
    const OpCase c = test::quantized_matmul(
        random, {.N = N,
                 .w = w,
                 .type = type,
                 .out = type,
                 .scratch = s.cuda ? Matmul<float>::kCudaScratch : Matmul<float>::scratch_floats(s.threads)});
    int rows = 0;
    for (const auto& p : w.parts) rows += p.rows;
    cases.push_back(
        bench_case(s, fmt::format("{} {} nf4 {} x {} x {}", m.name, what, N, backward ? w.cols : rows, backward ? rows : w.cols),
                   f, c, backward ? c.backward : c.forward));
  };
  const test::QuantizedShape qkv{{part(m.H * m.D), part(m.G * m.D), part(m.G * m.D)}, m.C}, gate_up{{part(m.F), part(m.F)}, m.C},
      down{{part(m.C)}, m.F};
  add("qkv", s.N, qkv, false);
  add("gate_up", s.N, gate_up, false);
  add("down", s.N, down, false);
  add("gate_up, dx", s.N, gate_up, true);
  add("down, dx", s.N, down, true);
  add("gate_up", 1, gate_up, false);
  add("gate_up", 8, gate_up, false);
  const int rows = std::min(2 * m.F, static_cast<int>(QuantizedMatmul::kCudaPiece / 2) / m.C);
  const OpCase piece = test::dequantize(random, gate_up, {0, rows, 0, m.C}, type),
               encode = test::quantize(int64_t{m.F} * m.C, WeightCode::nf4, kQuantBlock, 1, type);
  cases.push_back(bench_case(s, fmt::format("{} nf4 {} x {}", m.name, rows, m.C), f, piece, piece.forward));
  cases.push_back(bench_case(s, fmt::format("{} nf4 {} x {}", m.name, m.F, m.C), f, encode, encode.forward));
}

// Documents of seq_len tokens and what remains.
std::vector<int> documents(int N, int seq_len) {
  std::vector<int> lengths;
  for (int begin = 0; begin < N; begin += seq_len) lengths.push_back(std::min(N - begin, seq_len));
  return lengths;
}
// f(i) for each i below n.
template <class F>
std::vector<double> list(int n, const F& f) {
  std::vector<double> values;
  for (int i = 0; i < n; i++) values.push_back(f(i));
  return values;
}

}  // namespace

BenchCase copy_ceiling(const Sizes& s) {
  const OpCase c = test::copy(s.copied);
  return bench_case(s, c.shape, DType::f32, c, c.forward);
}
BenchCase matmul_ceiling(const Sizes& s, DType f) {
  const ModelShape& m = s.models.back();
  return matmul_case(s, f, std::string(m.name) + " gate_up", s.N, 2 * m.F, m.C, "NT");
}

std::vector<BenchCase> all_cases(const Sizes& s, DType f) {
  std::vector<BenchCase> cases;
  test::Random random(7);
  const auto add = [&](const std::string& shape, const OpCase& c, const test::Pass& pass) {
    cases.push_back(bench_case(s, shape, f, c, pass));
  };
  const int N = s.N;
  for (const ModelShape& m : s.models) {
    add_linear(cases, s, f, m);
    add_quantized(cases, random, s, f, m);
    for (int seq_len : {s.seq_len, s.seq_len / 2}) {
      const OpCase c = with_values(test::attention({documents(N, seq_len), m.H, m.G, m.D, 0, 0, s.cuda, s.threads}), "lse", {8});
      const std::string shape = fmt::format("{} N {} S {} H {} G {} D {}", m.name, N, seq_len, m.H, m.G, m.D);
      add(shape, c, c.forward);
      if (m.D == 128 && seq_len == 4096 && f != DType::f32) cases.back().least_tflops = 250;
      add(shape, c, c.backward);
    }
    // Bound by memory, all of them.
    const std::string shape = fmt::format("{} N {} C {}", m.name, N, m.C), wide = fmt::format("{} N {} F {}", m.name, N, m.F);
    const OpCase norm = with_values(test::rmsnorm(N, m.C, false, 1), "rstd", {1}), swiglu = test::swiglu(N, m.F, 1);
    add(shape, norm, norm.forward);
    add(shape, norm, norm.backward);
    // Turned again and again: by an angle, so that it neither grows nor shrinks.
    OpCase rope = test::rope(random, N, m.H + m.G, m.D, m.G * m.D, s.seq_len);
    rope = with_values(with_values(std::move(rope), "cos", {0.6}), "sin", {0.8});
    rope = with_values(std::move(rope), "positions", list(N, [&](int n) { return n % s.seq_len; }));
    add(fmt::format("{} N {} heads {} D {}", m.name, N, m.H + m.G, m.D), rope, rope.forward);
    add(wide, swiglu, swiglu.forward);
    add(wide, swiglu, swiglu.backward);
    const OpCase embedding = test::embedding(random, N, m.C, m.V, Kind::storage);
    add(shape, embedding, embedding.forward);
  }
  const ModelShape &first = s.models.front(), &last = s.models.back();
  const OpCase decode = test::attention_decode(std::vector<int>(8, s.seq_len), last.H, last.G, last.D, s.seq_len, 0, 0);
  add(fmt::format("{} B 8 capacity {}", last.name, s.seq_len), decode, decode.forward);
  const OpCase qk_norm = with_values(
      test::qk_norm({.N = N, .H = last.H, .G = last.G, .D = last.D, .gap = last.G * last.D, .trained = false}), "rstd", {1});
  const std::string heads = fmt::format("{} N {} heads {} D {}", last.name, N, last.H + last.G, last.D);
  add(heads, qk_norm, qk_norm.forward);
  add(heads, qk_norm, qk_norm.backward);

  // What depends on the rows alone, at one model's sizes.
  const int C = first.C, R = N / 2, rows = std::min(N, kLogitRows);
  const std::string shape = fmt::format("{} N {} C {}", first.name, N, C), some = fmt::format("R {} C {}", R, C);
  const OpCase embedding = test::embedding(random, N, C, first.V, Kind::storage), table = test::rope_table(s.seq_len, first.D);
  const OpCase gather = with_values(test::gather_scatter(random, N, C, R), "rows", list(R, [](int r) { return 2 * r; }));
  const OpCase bias = test::bias(N, C), dropout = test::dropout(N, C, 0.1, false, 1);
  add(shape, embedding, embedding.backward);
  add(table.shape, table, table.forward);
  add(some, gather, gather.forward);
  add(some, gather, gather.backward);
  add(shape, bias, bias.forward);
  add(shape, bias, bias.backward);
  add(shape, dropout, dropout.forward);
  for (const Kind logits : {Kind::acc, Kind::storage}) {
    const bool in_16_bits = logits == Kind::storage;
    if (in_16_bits && f == DType::f32) continue;
    const OpCase loss = with_values(test::cross_entropy(random, rows, last.V, 1, 0, false, logits), "targets",
                                    test::random_integers(random, rows, 0, last.V - 1));  // each row has one
    add(fmt::format("{} rows {} V {}{}", last.name, rows, last.V, in_16_bits ? " in 16 bits" : ""), loss, loss.backward);
  }

  // Over the flat range of trained values. What is float whatever the type is has rows of its own.
  const OpCase cast = test::cast(s.trained), squares = test::sum_of_squares(s.trained),
               adamw = test::adamw(s.trained, 10, 0.01, 1);
  add(cast.shape, cast, cast.forward);
  for (const OpCase& c : {squares, adamw}) cases.push_back(bench_case(s, cast.shape, DType::f32, c, c.forward));
  constexpr int64_t kTensor = 1 << 16;
  const std::vector<int64_t> tensors(static_cast<size_t>(std::max<int64_t>(1, s.trained / kTensor)), kTensor);
  const OpCase adamw8bit = test::adamw8bit(random, {.tensors = tensors, .t = 10, .weight_decay = 0.01});
  cases.push_back(bench_case(s, adamw8bit.shape, DType::f32, adamw8bit, adamw8bit.forward));
  return cases;
}

}  // namespace tll::bench
