// Cases of AdamW with 8-bit moments, all of which are exact.
#include <bit>
#include <limits>

#include "kernels/adamw8bit.h"
#include "kernels/quantized.h"
#include "tests/op_cases.h"

namespace tll::test {

// The rule of kernels/adamw8bit.h in other words, to the bit: codes are found by looking at all 256.
namespace {

struct Moments {
  std::vector<float> m, v;
  std::vector<double> m_codes, v_codes;
  float m_absmax = 0, v_absmax = 0;
};
int nearest_of_all(const float* map, float x) {
  int code = 0;
  for (int i = 0; i < 255; i++) {
    const float middle = (map[i] + map[i + 1]) * 0.5f;
    if (x > middle || (x == middle && i % 2 == 1)) code = i + 1;
  }
  return code;
}
// n gradients from g, already scaled; the codes of before.
Moments new_moments(const float* maps, const double* g, int64_t n, const double* m_codes, const double* v_codes, double m_absmax,
                    double v_absmax, bool guard) {
  const float beta1 = 0.9f, beta2 = 0.999f, *signs = maps, *sizes = maps + 256;
  Moments now;
  for (int64_t i = 0; i < n; i++) {
    const float x = static_cast<float>(g[i]), a1 = static_cast<float>(m_absmax), a2 = static_cast<float>(v_absmax);
    const float m = signs[static_cast<int>(m_codes[i])] * a1 * beta1, v = sizes[static_cast<int>(v_codes[i])] * a2 * beta2;
    now.m.push_back(std::isfinite(x) ? std::fma(x, 1.0f - beta1, m) : 0.0f);
    now.v.push_back(std::isfinite(x) ? std::fma(x, x * (1.0f - beta2), v) : 0.0f);
    now.m_absmax = std::max(now.m_absmax, std::abs(now.m.back())), now.v_absmax = std::max(now.v_absmax, now.v.back());
  }
  for (int64_t i = 0; i < n; i++) {
    const float m = now.m[static_cast<size_t>(i)], v = now.v[static_cast<size_t>(i)];
    int code = nearest_of_all(signs, now.m_absmax > 0 ? m * (1.0f / now.m_absmax) : 0.0f);
    if (std::signbit(m) && code > 126) code--;
    if (m > 0 && code < 127) code++;
    now.m_codes.push_back(code);
    code = nearest_of_all(sizes, now.v_absmax > 0 ? v * (1.0f / now.v_absmax) : 0.0f);
    now.v_codes.push_back(guard && v > 0 ? std::max(code, 1) : code);
  }
  return now;
}

}  // namespace

OpCase adamw8bit(Random& random, const Adamw8bitShape& s) {
  constexpr int64_t kBlock = AdamW8bit::kBlock, kFewest = AdamW8bit::kFewest;
  constexpr double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const DType dtype = dtype_for(s.type, DType::f32);
  std::vector<TrainedSpan> spans;
  std::vector<double> words;  // of the spans: the bits of their 64-bit integers
  int64_t n = 0, blocks = 0, code_blocks = 0;
  for (const bool codes : {true, false}) {
    n = 0;
    for (const int64_t count : s.tensors) {
      if ((count >= kFewest) == codes) {
        spans.push_back({n, n, count, blocks});
        blocks += (count + kBlock - 1) / kBlock;
        for (const int64_t word : {n, n, count, spans.back().first_block}) words.push_back(std::bit_cast<double>(word));
      }
      n += count;
    }
    if (codes) code_blocks = blocks;
  }
  const int64_t first = s.first, many = s.blocks > 0 ? s.blocks : blocks;
  OpCase c{.op = "adamw8bit",
           .shape = fmt::format("{} tensors n {} t {} decay {}{}{}{}", s.tensors.size(), n, s.t, s.weight_decay,
                                s.guard ? "" : " no guard", s.odd_gradients ? " odd" : "",
                                s.blocks > 0 ? fmt::format(" blocks {}+{}", s.first, s.blocks) : "")};
  c.dtypes = {DType::f32}, c.dtype_label = dtype_name(dtype), c.oracle = false, c.alignment = 8;
  const int64_t held = std::max<int64_t>(code_blocks - first, 0), floats = blocks - code_blocks;
  TensorSpec m_codes{
      .name = "m_codes", .role = Role::output, .kind = Kind::u8, .rows = held, .width = kBlock, .accumulates = true};
  TensorSpec m_absmax{.name = "m_absmax", .role = Role::output, .kind = Kind::always_f32, .width = held, .accumulates = true};
  TensorSpec m{.name = "m", .role = Role::output, .kind = Kind::always_f32, .rows = floats, .width = kBlock, .accumulates = true};
  TensorSpec v_codes = m_codes, v_absmax = m_absmax, v = m;
  v_codes.name = "v_codes", v_absmax.name = "v_absmax", v.name = "v";
  for (TensorSpec* state : {&m_codes, &v_codes, &m_absmax, &v_absmax, &m, &v}) state->values.assign(1, 0.0);
  if (s.t > 1) {
    // Where all blocks are whole a pattern is enough, which costs no memory at the sizes of a model.
    const bool patterned = std::all_of(s.tensors.begin(), s.tensors.end(), [](int64_t count) { return count % kBlock == 0; });
    const int64_t drawn = patterned ? std::min<int64_t>(held * kBlock, 4093) : held * kBlock;
    m_codes.values = random_integers(random, drawn, 0, 255), v_codes.values = random_integers(random, drawn, 0, 255);
    m_absmax.values = {0.02, 0.013, 0.5}, v_absmax.values = {5e-4, 1e-3};
    if (held < 3) m_absmax.values = {0.02}, v_absmax.values = {5e-4};
    if (floats > 0) m.values = {0.01, -0.02, 0.003}, v.values = {1e-4, 2e-4};
    for (const TrainedSpan& span :
         patterned ? std::vector<TrainedSpan>() : spans) {  // what is beyond the end of a tensor stays 0
      const int64_t end = (span.first_block - first) * kBlock + span.count, whole = (end + kBlock - 1) / kBlock * kBlock;
      for (int64_t i = std::max<int64_t>(end, 0); i < whole && i < held * kBlock; i++)
        m_codes.values[static_cast<size_t>(i)] = v_codes.values[static_cast<size_t>(i)] = 0;
    }
  }
  TensorSpec grad{.name = "grad", .role = Role::constant, .kind = s.type, .width = n, .sigma = 0.1};
  if (s.odd_gradients) {
    std::normal_distribution<double> normal(0, 1e-3);
    const double inf = std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < n; i++)
      grad.values.push_back(i / kBlock % 5 == 3 || i % 7 == 0 ? 0.0
                            : i % 101 == 5                    ? -0.0
                            : i % 97 == 9                     ? normal(random) * 1e3
                            : i % 11 == 2                     ? normal(random) * 1e-3
                            : i % 997 == 500                  ? (i % 2 ? inf : std::nan(""))
                                                              : normal(random));
  }
  const AdamWFactors factors = s.t > 0 ? adamw_factors(static_cast<double>(s.t), lr, beta1, beta2, s.weight_decay, s.grad_scale)
                                       : AdamWFactors{0, 1, 0, 1, 0, 0, 1};
  std::vector<float> maps(512);
  dynamic_map(true, maps.data()), dynamic_map(false, maps.data() + 256);
  c.tensors = {
      {.name = "param", .role = Role::output, .kind = s.type, .width = n, .accumulates = true, .sigma = 0.05},
      grad,
      m_codes,
      v_codes,
      m_absmax,
      v_absmax,
      m,
      v,
      {.name = "spans",
       .role = Role::constant,
       .kind = Kind::always_f64,
       .width = static_cast<int64_t>(words.size()),
       .values = words},
      {.name = "maps", .role = Role::constant, .kind = Kind::always_f32, .width = 512, .values = {maps.begin(), maps.end()}},
      factors_spec(factors)};
  c.forward = [=](Tensors& t) {
    t.run(AdamW8bit{.param = t["param"].data,
                    .grad = t["grad"].data,
                    .dtype = dtype,
                    .spans = static_cast<const TrainedSpan*>(t["spans"].data),
                    .span_count = static_cast<int>(spans.size()),
                    .maps = t["maps"],
                    .factors = static_cast<const AdamWFactors*>(t["factors"].data),
                    .code_blocks = code_blocks,
                    .first = first,
                    .blocks = many,
                    .m_codes = t["m_codes"],
                    .v_codes = t["v_codes"],
                    .m_absmax = t["m_absmax"],
                    .v_absmax = t["v_absmax"],
                    .m = t["m"],
                    .v = t["v"],
                    .beta1 = beta1,
                    .beta2 = beta2,
                    .eps = eps,
                    .guard = s.guard});
  };
  c.reference = [=](const Values& in, Reference& r) {
    for (const char* name : {"param", "m_codes", "v_codes", "m_absmax", "v_absmax", "m", "v"})
      r.value[name] = in.at(name), r.tolerance[name] = {0, 0};
    if (s.t == 0) return;
    const auto rounded = [&](float x) {
      return with_storage_type(dtype, [&](auto type) { return to_acc(from_acc<decltype(type)>(x)); });
    };
    for (const TrainedSpan& span : spans)
      for (int64_t b = 0; b < (span.count + kBlock - 1) / kBlock; b++) {
        const int64_t block = span.first_block + b, at = span.offset + b * kBlock;
        if (block < first || block >= first + many) continue;
        const int64_t length = std::min(kBlock, span.count - b * kBlock);
        std::vector<double> g(in.at("grad").begin() + at, in.at("grad").begin() + at + length);
        for (double& x : g) x = static_cast<float>(x) * static_cast<float>(s.grad_scale);
        const bool codes = block < code_blocks;
        const size_t row = static_cast<size_t>(block - (codes ? first : code_blocks)), start = row * kBlock;
        Moments now;
        if (codes) {
          now = new_moments(maps.data(), g.data(), length, &in.at("m_codes")[start], &in.at("v_codes")[start],
                            in.at("m_absmax")[row], in.at("v_absmax")[row], s.guard);
          r.value["m_absmax"][row] = now.m_absmax, r.value["v_absmax"][row] = now.v_absmax;
          std::copy(now.m_codes.begin(), now.m_codes.end(), r.value["m_codes"].begin() + static_cast<ptrdiff_t>(start));
          std::copy(now.v_codes.begin(), now.v_codes.end(), r.value["v_codes"].begin() + static_cast<ptrdiff_t>(start));
        } else {
          for (size_t i = 0; i < g.size(); i++) {
            const float x = static_cast<float>(g[i]), before = static_cast<float>(in.at("m")[start + i]);
            const float grown = (1.0f - 0.9f) * x, squared = x * x, square = (1.0f - 0.999f) * squared;
            now.m.push_back(std::fma(before, 0.9f, grown));
            now.v.push_back(std::fma(static_cast<float>(in.at("v")[start + i]), 0.999f, square));
            r.value["m"][start + i] = now.m.back(), r.value["v"][start + i] = now.v.back();
          }
        }
        for (size_t i = 0; i < g.size(); i++) {
          if (codes && !std::isfinite(g[i])) continue;
          double& p = r.value["param"][static_cast<size_t>(at) + i];
          const float below = std::fma(factors.c2, static_cast<float>(eps), std::sqrt(now.v[i])), quotient = now.m[i] / below;
          const float moved = rounded(std::fma(factors.alpha, quotient, static_cast<float>(p)));
          p = rounded(moved * factors.decay);
        }
      }
  };
  return c;
}

void add_adamw8bit_cases(std::vector<OpCase>& cases, Random& random) {
  const std::vector<int64_t> tensors = {4133, 300, 4096, 4095, 1};
  add(cases, {adamw8bit(random, {.tensors = tensors, .t = 1}), adamw8bit(random, {.tensors = tensors, .t = 0}),
              adamw8bit(random, {.tensors = tensors, .weight_decay = 0.1, .grad_scale = 0.37}),
              adamw8bit(random, {.tensors = tensors, .weight_decay = 0.1, .odd_gradients = true}),
              adamw8bit(random, {.tensors = {5000}, .t = 1, .guard = false, .odd_gradients = true}),
              adamw8bit(random, {.tensors = {4096, 4096}, .t = 1000, .weight_decay = 0.1}),
              adamw8bit(random, {.tensors = tensors, .first = 3, .blocks = 19}),
              adamw8bit(random, {.tensors = tensors, .first = 33, .blocks = 2}), adamw8bit(random, {.tensors = {}})});
  std::vector<int64_t> many;
  for (int i = 0; i < 40; i++) many.push_back(between(random, 1, 300));
  add(cases, {adamw8bit(random, {.tensors = many})});
  for (Kind type : {Kind::bf16, Kind::f16})
    add(cases, {misaligned_in_turn(
                   adamw8bit(random, {.tensors = {4101, 30, 64}, .weight_decay = 0.1, .grad_scale = 0.37, .type = type}))});
  add(cases, {misaligned_in_turn(adamw8bit(random, {.tensors = {4096, 64}}))});
}

}  // namespace tll::test
