// Cases of matmul: all transposes and types, with its input and weight gradients formed as a linear layer forms them.
#include "kernels/join_adapters.h"
#include "kernels/matmul.h"
#include "tests/op_cases.h"

namespace tll::test {

OpCase matmul(const MatmulShape& p) {
  const int64_t rows = p.size.rows, cols = p.size.cols, inner = p.size.inner;
  OpCase c{.op = "matmul", .shape = fmt::format("{} x {} x {}", rows, cols, inner)};
  c.shape += fmt::format(" {}{}{}", p.ta ? "T" : "N", p.tb ? "T" : "N", p.accumulate ? " +=" : "");
  if (p.residual) c.shape += " + addend";
  if (p.alpha != 1) c.shape += fmt::format(" alpha {}", p.alpha);
  if (p.small_scratch) c.shape += " blocks";
  if (p.pitch) c.shape += p.integers ? " padded integers" : " padded";
  const auto name = [](Kind k) { return k == Kind::f32 ? "fp32" : k == Kind::bf16 ? "bf16" : "fp16"; };
  c.dtype_label = fmt::format("{}.{}={}", name(p.types.a), name(p.types.b), name(p.types.out));
  c.dtypes = {DType::f32};
  c.cpu = p.cpu, c.alignment = p.alignment;
  c.each_misaligned = p.integers != nullptr;  // others have other bits where cuBLASLt does not serve them
  const int64_t a_rows = p.ta ? inner : rows, a_cols = p.ta ? rows : inner, b_rows = p.tb ? cols : inner,
                b_cols = p.tb ? inner : cols;
  const int64_t scratch = p.scratch ? p.scratch : Matmul<float>::scratch_floats(p.small_scratch ? 1 : 2);
  const auto gap = [&](int64_t width, int gaps) {
    return p.pitch ? (width + p.pitch - 1) / p.pitch * p.pitch - width : int64_t{gaps} * p.gap;
  };
  const int64_t sa = a_cols + gap(a_cols, 1), sb = b_cols + gap(b_cols, 2), sy = cols + gap(cols, 1), sdy = cols + gap(cols, 3),
                sda = a_cols + gap(a_cols, 0), sdb = b_cols + gap(b_cols, 1);
  const Kind da = p.types.a == Kind::bf16 || !p.cpu ? p.types.a : Kind::f32;
  c.tensors = {{.name = "a", .role = Role::input, .kind = p.types.a, .rows = a_rows, .width = a_cols, .gap = sa - a_cols},
               {.name = "b", .role = Role::input, .kind = p.types.b, .rows = b_rows, .width = b_cols, .gap = sb - b_cols},
               {.name = "y",
                .role = Role::output,
                .kind = p.types.out,
                .rows = rows,
                .width = cols,
                .gap = sy - cols,
                .accumulates = p.accumulate},
               {.name = "dy", .role = Role::constant, .kind = p.types.out, .rows = rows, .width = cols, .gap = sdy - cols},
               {.name = "da",
                .role = Role::gradient,
                .kind = da,
                .rows = a_rows,
                .width = a_cols,
                .gap = sda - a_cols,
                .accumulates = p.accumulate},
               {.name = "db",
                .role = Role::gradient,
                .kind = Kind::f32,
                .rows = b_rows,
                .width = b_cols,
                .gap = sdb - b_cols,
                .accumulates = true},
               {.name = "scratch", .role = Role::scratch, .kind = Kind::always_f32, .width = scratch}};
  if (p.residual)
    c.tensors.push_back(
        {.name = "addend", .role = Role::constant, .kind = p.types.out, .rows = rows, .width = cols, .gap = sy - cols});
  if (p.integers)
    for (TensorSpec& spec : c.tensors)
      if (spec.role == Role::input || spec.accumulates || spec.name == "addend")
        spec.values = random_integers(*p.integers, spec.count(), -2, 2);
  const auto multiply = [=](auto f, Tensors& t, const char* out, ConstMatrix a, ConstMatrix b, bool accumulate,
                            const void* addend = nullptr) {
    t.run(Matmul<acc_t<decltype(f)>>{.out = t[out],
                                     .a = a,
                                     .b = b,
                                     .alpha = p.alpha,
                                     .accumulate = accumulate,
                                     .scratch = {t["scratch"], scratch},
                                     .addend = addend});
  };
  const auto operand = [](Tensors& t, const char* name, bool transposed) {
    const Matrix stored = t[name];
    return transposed ? stored.t() : stored;
  };
  c.forward = typed([=](auto f, Tensors& t) {
    const void* addend = nullptr;
    if (p.residual) addend = t["addend"];
    multiply(f, t, "y", operand(t, "a", p.ta), operand(t, "b", p.tb), p.accumulate || p.residual, addend);
  });
  c.backward = typed([=](auto f, Tensors& t) {
    // dA = dY·Bᵀ and dB = Aᵀ·dY; of a transposed operand the transpose: dAᵀ = B·dYᵀ, dBᵀ = dYᵀ·A.
    const Matrix a = operand(t, "a", p.ta), b = operand(t, "b", p.tb), dy = t["dy"];
    p.ta ? multiply(f, t, "da", b, dy.t(), p.accumulate) : multiply(f, t, "da", dy, b.t(), p.accumulate);
    p.tb ? multiply(f, t, "db", dy.t(), a, true) : multiply(f, t, "db", a.t(), dy, true);
  });
  if (!p.backward) {  // the gradients' sizes would cost too much
    c.backward = {}, c.oracle = false;
    std::erase_if(c.tensors, [](const TensorSpec& s) { return s.role == Role::gradient; });
  }
  c.reference = [=](const Values& in, Reference& r) {
    auto &y = r.value["y"], &my = r.magnitude["y"], &ma = r.magnitude["da"], &mb = r.magnitude["db"];
    const auto before = [&](const char* name, int64_t count) {
      return in.contains(name) ? in.at(name) : std::vector<double>(static_cast<size_t>(count), 0.0);
    };
    y = before(p.residual ? "addend" : "y", (rows - 1) * sy + cols), my = y, ma = before("da", a_rows * sda),
    mb = before("db", (b_rows - 1) * sdb + b_cols);
    for (auto* v : {&my, &ma, &mb}) *v = absolute(*v);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < cols; j++) {
        const double dy = in.at("dy")[i * sdy + j];
        for (int64_t k = 0; k < inner; k++) {
          const double a = in.at("a")[p.ta ? k * sa + i : i * sa + k], b = in.at("b")[p.tb ? j * sb + k : k * sb + j];
          y[i * sy + j] += p.alpha * a * b, my[i * sy + j] += std::abs(p.alpha * a * b);
          ma[p.ta ? k * sda + i : i * sda + k] += std::abs(p.alpha * b * dy);
          mb[p.tb ? j * sdb + k : k * sdb + j] += std::abs(p.alpha * a * dy);
        }
      }
    // A sum of `inner` products in any order, alpha, and +=; instructions that multiply bf16 add pairs, which is no worse.
    r.tolerance["y"] = {inner + 3.0, 1};
    r.tolerance["da"] = {cols + 3.0, 1};
    r.tolerance["db"] = {rows + 3.0, 1};
  };
  return c;
}

// Ranges of 5 rows and rank 2, 8 rows and rank 3, …, with as many rows between them that have no adapter.
static OpCase join_adapters(int in, int ranges, int gap, Kind value, Kind out) {
  struct Range {
    int first_row, rows, first_rank, rank;
  };
  std::vector<Range> list;
  int rows = 1, rank = 0;
  for (int i = 0; i < ranges; i++) {
    list.push_back({rows, 5 + 3 * i, rank, 2 + i});
    rows += list.back().rows + 2, rank += list.back().rank;
  }
  OpCase c{.op = "join_adapters", .shape = fmt::format("in {} ranges {} gap {}", in, ranges, gap)};
  c.dtypes = {DType::f32}, c.oracle = false, c.cpu = out != Kind::f16;
  const auto name = [](Kind k) { return k == Kind::f32 ? "fp32" : k == Kind::bf16 ? "bf16" : "fp16"; };
  c.dtype_label = fmt::format("{}={}", name(value), name(out));
  c.tensors = {{.name = "a_value", .role = Role::constant, .kind = value, .rows = rank, .width = in},
               {.name = "a", .role = Role::output, .kind = out, .rows = rank, .width = in, .gap = gap},
               {.name = "b", .role = Role::output, .kind = out, .rows = rows, .width = rank, .gap = 2 * gap}};
  for (int i = 0; i < ranges; i++)
    c.tensors.push_back(
        {.name = fmt::format("b{}", i), .role = Role::constant, .kind = value, .rows = list[i].rows, .width = list[i].rank});
  const float scales[] = {2, 0.3f, 1};
  c.forward = [=](Tensors& t) {
    JoinAdapters op{.a = t["a"], .b = t["b"], .a_value = t["a_value"], .range_count = ranges};
    for (int i = 0; i < ranges; i++) op.ranges[i] = {t[fmt::format("b{}", i)], list[i].first_row, list[i].first_rank, scales[i]};
    t.run(op);
  };
  c.reference = [=](const Values& in_values, Reference& r) {
    auto &a = r.value["a"], &b = r.value["b"];
    a.resize(static_cast<size_t>((rank - 1) * (in + gap) + in)),
        b.resize(static_cast<size_t>((rows - 1) * (rank + 2 * gap) + rank));
    for (int i = 0; i < rank; i++)
      for (int k = 0; k < in; k++) a[i * (in + gap) + k] = in_values.at("a_value")[i * in + k];
    for (int i = 0; i < ranges; i++)
      for (int n = 0; n < list[i].rows; n++)
        for (int k = 0; k < list[i].rank; k++)
          b[(list[i].first_row + n) * (rank + 2 * gap) + list[i].first_rank + k] =
              double{scales[i]} * in_values.at(fmt::format("b{}", i))[n * list[i].rank + k];
    r.tolerance["a"] = {0, 1};
    r.tolerance["b"] = {1, 1};  // the product, and its type
  };
  return c;
}

void add_linear_cases(std::vector<OpCase>& cases, Random& random) {
  const auto add = [&](const MatmulShape& p) { cases.push_back(matmul(p)); };
  const Kind f32 = Kind::f32, b16 = Kind::bf16, h16 = Kind::f16;
  for (Kind k : {f32, b16, h16}) {
    const bool cpu = k != h16;
    add({.size = {70, 37, 21}, .types = {k, k, k}, .cpu = cpu, .gap = 3, .residual = true});
    add({.size = {5, 40, 64}, .types = {k, k, k}, .alpha = 0.5, .cpu = cpu, .residual = true});
    add({.size = {130, 136, 136},
         .types = {k, k, k},
         .cpu = cpu,
         .backward = false,
         .pitch = 8,
         .alignment = 16,
         .residual = true});
    add({.size = {33, 40, 600}, .types = {k, k, k}, .cpu = cpu, .backward = false, .residual = true});
  }
  const std::vector<int> odd{1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 37, 64, 67};
  const std::vector<double> alphas{1, 0.5, -1.7};
  const std::pair<Kind, Kind> operands[] = {{f32, f32}, {b16, b16}, {f32, b16}, {f32, h16}, {b16, h16}, {b16, f32}};
  for (const auto& [a, b] : operands)
    for (Kind out : {f32, b16})
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          for (bool accumulate : {false, true}) {
            MatmulShape p{
                .size = {pick(random, odd), pick(random, odd), pick(random, odd)}, .types = {a, b, out}, .ta = ta, .tb = tb};
            p.alpha = pick(random, alphas), p.accumulate = accumulate, p.gap = between(random, 0, 3);
            // A narrow result cut along both its columns and the sum needs the full scratch.
            p.small_scratch = between(random, 0, 1) && !(ta && tb && (out == b16 || a == b16));
            add(p);
          }
  for (Kind k : {f32, b16}) {
    add({.size = {0, 3, 5}, .types = {k, k, k}});
    add({.size = {12, 3, 0}, .types = {k, k, k}});  // zeros
    add({.size = {12, 3, 0}, .types = {k, k, k}, .accumulate = true});
    add({.size = {1, 1, 1}, .types = {k, k, k}});
  }
  add({.size = {19, 509, 12}, .types = {b16, b16}, .small_scratch = true});
  add({.size = {67, 33, 131}, .types = {b16, b16, b16}});
  add({.size = {16, 131, 61}, .types = {b16, b16}, .ta = true, .tb = false, .accumulate = true, .small_scratch = true});
  // CUDA: fp16 results; every tiling of the tensor cores (narrow, flat, small, large), full and with edges; split-K.
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      add({.size = {70, 67, 45}, .types = {h16, h16, h16}, .ta = ta, .tb = tb, .accumulate = ta, .cpu = false, .gap = 5});
      add({.size = {130, 16, 64}, .types = {h16, h16, h16}, .ta = ta, .tb = tb, .alpha = 0.5, .cpu = false});
      add({.size = {16, 160, 1056}, .types = {b16, b16}, .ta = ta, .tb = tb, .accumulate = true});
    }
  add({.size = {33, 40, 600}, .gap = 1});
  add({.size = {33, 40, 600}, .cpu = false, .backward = false, .scratch = 33 * 40 + 7});
  // Rows of whole vectors, split-K parts that are not; results in rows that are none.
  add({.size = {16, 37, 1050}, .types = {b16, b16}, .backward = false, .gap = 6});
  // The gradient of an adapter that is kept in bf16.
  for (Kind k : {f32, b16})
    add({.size = {16, 160, 1056}, .types = {k, k, b16}, .ta = true, .tb = false, .accumulate = true, .backward = false});
  for (int rows : {3, 40}) cases.push_back(misaligned_in_turn(matmul({.size = {rows, 48, 64}, .types = {b16, b16}})));
  add({.size = {1000, 1032, 40}, .types = {b16, b16, b16}, .backward = false});
  // The large tiling for every layout and type: the fewest tiles that choose it, full ones and edges. In bf16 chunks of eight are
  // inside as a whole, four steps along inner; in fp16 some are cut, two steps.
  using Size = decltype(MatmulShape::size);
  const std::pair<bool, bool> layouts[] = {{false, false}, {false, true}, {true, false}};
  for (Kind k : {b16, h16})
    for (const auto& [ta, tb] : layouts)
      add({.size = k == b16 ? Size{136, 31 * 128 + 8, 104} : Size{130, 31 * 128 + 2, 33},
           .types = {k, k},
           .ta = ta,
           .tb = tb,
           .cpu = false,
           .backward = false,
           .pitch = 8,
           .alignment = 16});
  // A narrow result, six steps along inner.
  for (const auto& [ta, tb] : layouts)
    add({.size = {200, 24, 328},
         .types = {b16, b16, b16},
         .ta = ta,
         .tb = tb,
         .accumulate = true,
         .cpu = false,
         .backward = false,
         .pitch = 8,
         .alignment = 16});
  add({.size = {31, 130, 33}, .types = {h16, h16}, .ta = true, .tb = false, .cpu = false, .backward = false});  // flat
  for (int rows : {1, 8, 9, 24, 25})  // the dot products of few rows, and the first sizes beyond them
    for (Kind b : {f32, b16, h16}) add({.size = {rows, 37, 129}, .types = {b == f32 ? f32 : b16, b}, .gap = 5});
  // On a CPU: few rows, or few columns that are turned into them; operands are read where they lie.
  for (Kind k : {f32, b16})
    for (Kind out : {f32, k})
      for (bool ta : {false, true}) {
        add({.size = {29, 147, 133}, .types = {k, k, out}, .ta = ta, .tb = false, .alpha = -1.7, .accumulate = true, .gap = 3});
        add({.size = {48, 130, 64}, .types = {k, k, out}, .ta = ta, .tb = false, .residual = true});
        add({.size = {150, 21, 133}, .types = {k, k, out}, .ta = ta, .tb = false, .alpha = 0.5, .accumulate = true, .gap = 1});
      }
  add({.size = {9, 40, 4200}, .types = {b16, b16, b16}, .backward = false, .residual = true});
  add({.size = {130, 66, 6200}, .backward = false, .residual = true});  // more of A than is packed at once

  // What cuBLASLt serves where it is there (kernels/cublas_lt.h): every layout and pair of types, no size a multiple of anything;
  // the three matmuls of a linear layer; the first sizes and strides that it does not serve.
  const std::pair<Kind, Kind> large[] = {{f32, f32}, {b16, b16}, {b16, f32}, {h16, h16}, {h16, f32}};
  MatmulShape p{.size = {131, 157, 149}, .backward = false, .pitch = 8, .alignment = 16};
  for (bool ta : {false, true})
    for (bool tb : {false, true})
      for (const auto& [type, out] : large) {
        p.ta = ta, p.tb = tb, p.types = {type, type, out}, p.cpu = type != h16;
        p.accumulate = !p.accumulate, p.alpha = pick(random, alphas);
        add(p);
      }
  for (Kind out : {b16, f32}) add({.size = {128, 136, 144}, .types = {b16, b16, out}, .pitch = 8, .alignment = 16});
  // Addresses of the second run are odd, so that the library does not serve them, and sums are exact: the same bits.
  for (bool ta : {false, true})
    add({.size = {133, 130, 150},
         .types = {b16, b16},
         .ta = ta,
         .tb = !ta,
         .accumulate = true,
         .backward = false,
         .pitch = 8,
         .integers = &random});
  add({.size = {128, 136, 130}, .types = {b16, b16, b16}, .backward = false, .pitch = 8, .integers = &random, .residual = true});
  add({.size = {130, 131, 129}, .types = {b16, b16}, .backward = false, .gap = 1});
  add({.size = {127, 128, 128}, .types = {b16, b16}, .backward = false, .pitch = 8});
  for (const auto& [value, out] :
       {std::pair(Kind::f32, Kind::bf16), {Kind::bf16, Kind::bf16}, {Kind::f32, Kind::f32}, {Kind::f32, Kind::f16}})
    for (int ranges : {1, 2, 3}) cases.push_back(join_adapters(ranges == 2 ? 300 : 17, ranges, ranges - 1, value, out));
}

}  // namespace tll::test
