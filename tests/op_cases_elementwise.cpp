// Cases of the glue and of the optimizer: bias, gather and scatter, dropout, casts, AdamW, the sum of squares.
#include <bit>
#include <limits>
#include <numeric>

#include "kernels/adamw.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "kernels/update.h"
#include "tests/op_cases.h"

namespace tll::test {

OpCase bias(int N, int C) {
  OpCase c{.op = "bias", .shape = fmt::format("N {} C {}", N, C)};
  c.tensors = {{.name = "bias", .role = Role::input, .width = C},
               {.name = "out", .role = Role::output, .rows = N, .width = C, .accumulates = true},
               {.name = "dout", .role = Role::constant, .rows = N, .width = C},
               {.name = "dbias", .role = Role::gradient, .kind = Kind::acc, .width = C, .accumulates = true}};
  c.forward = typed([=]<class F>(F, Tensors& t) { t.run(BiasForward<F>{t["out"], t["bias"], N, C, t["out"].stride}); });
  c.backward = typed([=]<class F>(F, Tensors& t) { t.run(BiasBackward<F>{t["dbias"], t["dout"], N, C}); });
  c.reference = [=](const Values& in, Reference& r) {
    auto& m = r.magnitude["dbias"] = absolute(in.at("dbias"));
    for (int i = 0; i < N * C; i++) {
      r.value["out"].push_back(in.at("out")[i] + in.at("bias")[i % C]);
      m[i % C] += std::abs(in.at("dout")[i]);
    }
    r.tolerance["out"] = {1, 1};
    r.tolerance["dbias"] = {1.0 * N, 0};
  };
  return c;
}

// Gather forward; its gradient is the scatter of the output's into zeros.
OpCase gather_scatter(Random& random, int N, int C, int R, bool missing) {
  OpCase c{.op = "gather_scatter", .shape = fmt::format("N {} C {} R {}", N, C, R)};
  std::vector<double> rows(static_cast<size_t>(N));
  for (int n = 0; n < N; n++) rows[n] = n;
  std::shuffle(rows.begin(), rows.end(), random);
  rows.resize(static_cast<size_t>(R));
  for (size_t r = 1; missing && r < rows.size(); r += 2) rows[r] = -1;  // no row
  c.tensors = {{.name = "x", .role = Role::input, .rows = N, .width = C},
               {.name = "rows", .role = Role::constant, .kind = Kind::i32, .width = R, .values = rows},
               {.name = "y", .role = Role::output, .rows = R, .width = C},
               {.name = "dy", .role = Role::constant, .rows = R, .width = C},
               {.name = "dx", .role = Role::gradient, .rows = N, .width = C, .accumulates = true, .values = {0}}};
  c.forward = typed([=]<class F>(F, Tensors& t) {
    t.run(GatherRows<F>{t["y"], t["x"], t["rows"], R, C, t["y"].stride, t["x"].stride});
  });
  c.backward = typed([=]<class F>(F, Tensors& t) {
    t.run(ScatterRows<F>{t["dx"], t["dy"], t["rows"], R, C, t["dx"].stride, t["dy"].stride});
  });
  c.reference = [=](const Values& in, Reference& r) {
    for (int row = 0; row < R; row++)
      for (int i = 0; i < C; i++) {
        const double from = in.at("rows")[row];
        r.value["y"].push_back(from < 0 ? 0 : in.at("x")[static_cast<size_t>(from) * C + i]);
      }
    r.tolerance["y"] = r.tolerance["dx"] = {0, 0};  // copies
  };
  return c;
}

OpCase dropout(int N, int C, double p, bool accumulate, uint64_t key, bool with_step, int first_row) {
  OpCase c{.op = "dropout",
           .shape = fmt::format("N {} C {} p {}{}{}{}", N, C, p, accumulate ? " +=" : "", with_step ? " step key" : "",
                                first_row > 0 ? fmt::format(" from row {}", first_row) : "")};
  const double step = 1.25;  // any bits will do
  const uint64_t mask_key = with_step ? mix64(std::bit_cast<uint64_t>(step) + key) : key;
  c.tensors = {{.name = "x", .role = Role::input, .rows = N, .width = C},
               {.name = "y", .role = Role::output, .rows = N, .width = C, .accumulates = accumulate},
               {.name = "dy", .role = Role::constant, .rows = N, .width = C},
               {.name = "dx", .role = Role::gradient, .rows = N, .width = C, .accumulates = true},
               {.name = "step", .role = Role::constant, .kind = Kind::always_f64, .values = {step}}};
  const auto drop = [=](const char* out, const char* in, bool add) {
    return typed([=]<class F>(F, Tensors& t) {
      const uint64_t* step_key = with_step ? static_cast<const uint64_t*>(t["step"].data) : nullptr;
      t.run(Dropout<F>{t[out], t[in], N, C, p, key, add, step_key, first_row, t[out].stride, t[in].stride});
    });
  };
  c.forward = drop("y", "x", accumulate);
  c.backward = drop("dx", "dy", true);
  c.reference = [=](const Values& in, Reference& r) {
    // Which elements stay is the op's own choice (its statistics have a test); it must be the same in every type.
    std::vector<double> ones(static_cast<size_t>(first_row + N) * C, 1.0), mask = ones;
    run(Device{.isa = Isa::base}, Dropout<double>{mask.data(), ones.data(), first_row + N, C, p, mask_key, false});
    mask.erase(mask.begin(), mask.begin() + static_cast<ptrdiff_t>(first_row) * C);
    const double rounded = std::min(std::round(p * 65536), 65535.0) / 65536;
    for (size_t i = 0; i < mask.size(); i++) {
      const double kept = mask[i] == 0 ? 0 : 1 / (1 - rounded), before = accumulate ? in.at("y")[i] : 0;
      r.value["y"].push_back(before + in.at("x")[i] * kept);
      r.magnitude["y"].push_back(std::abs(before) + std::abs(in.at("x")[i]) * kept);
      r.magnitude["dx"].push_back(std::abs(in.at("dx")[i]) + std::abs(in.at("dy")[i]) * kept);
    }
    r.tolerance["y"] = r.tolerance["dx"] = {3, 1};  // 1/(1-p), the product, the sum
  };
  return c;
}

OpCase cast(int64_t n) {
  OpCase c{.op = "cast", .shape = fmt::format("n {}", n)};
  c.tensors = {{.name = "in", .role = Role::constant, .kind = Kind::acc, .width = n},
               {.name = "out", .role = Role::output, .width = n}};
  c.forward = typed([=]<class F>(F, Tensors& t) { t.run(CastFromMaster<F>{t["out"], t["in"], n}); });
  c.reference = [](const Values& in, Reference& r) {
    r.value["out"] = in.at("in");
    r.tolerance["out"] = {0, 1};
  };
  return c;
}

OpCase copy(int64_t n) {
  OpCase c{.op = "copy", .shape = fmt::format("n {}", n)};
  c.tensors = {{.name = "in", .role = Role::constant, .width = n}, {.name = "out", .role = Role::output, .width = n}};
  c.forward = typed([=]<class F>(F, Tensors& t) { t.run(Copy<F>{t["out"], t["in"], n}); });
  c.reference = [](const Values& in, Reference& r) {
    r.value["out"] = in.at("in");
    r.tolerance["out"] = {0, 0};
  };
  return c;
}

OpCase copy_rows(int N, int C) {
  OpCase c{.op = "copy_rows", .shape = fmt::format("N {} C {}", N, C)};
  c.tensors = {{.name = "x", .role = Role::constant, .rows = N, .width = C},
               {.name = "out", .role = Role::output, .rows = N, .width = C}};
  c.forward = typed([=]<class F>(F, Tensors& t) { t.run(CopyRows<F>{t["out"], t["x"], N, C, t["out"].stride, t["x"].stride}); });
  c.reference = [](const Values& in, Reference& r) {
    r.value["out"] = in.at("x");
    r.tolerance["out"] = {0, 0};
  };
  return c;
}

TensorSpec factors_spec(const AdamWFactors& f) {
  return {.name = "factors",
          .role = Role::constant,
          .kind = Kind::always_f32,
          .width = sizeof(AdamWFactors) / sizeof(float),
          .values = {f.apply, f.decay, f.step, f.root, f.grad_scale, f.alpha, f.c2}};
}

OpCase adamw(int64_t n, int64_t t_step, double weight_decay, double grad_scale, double grad_size, Kind type) {
  OpCase c{.op = "adamw", .shape = fmt::format("n {} t {} decay {}", n, t_step, weight_decay)};
  const double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const DType dtype = dtype_for(type, DType::f32);
  c.dtypes = {DType::f32}, c.dtype_label = dtype_name(dtype), c.oracle = false;
  TensorSpec v{.name = "v", .role = Role::output, .kind = Kind::f32, .width = n, .accumulates = true}, m = v;
  m.name = "m";
  for (int i = 0; i < std::min<int64_t>(n, 7); i++) v.values.push_back(1e-3 * (1 + i));
  if (t_step == 1) m.values = v.values = {0};
  c.tensors = {{.name = "param", .role = Role::output, .kind = type, .width = n, .accumulates = true},
               m,
               v,
               {.name = "grad", .role = Role::constant, .kind = type, .width = n, .sigma = grad_size},
               factors_spec(t_step > 0 ? adamw_factors(static_cast<double>(t_step), lr, beta1, beta2, weight_decay, grad_scale)
                                       : AdamWFactors{0, 1, 0, 1, 0, 0, 1})};
  c.forward = [=](Tensors& t) {
    t.run(AdamW{.param = t["param"].data,
                .m = t["m"],
                .v = t["v"],
                .grad = t["grad"].data,
                .dtype = dtype,
                .factors = static_cast<const AdamWFactors*>(t["factors"].data),
                .n = n,
                .beta1 = beta1,
                .beta2 = beta2,
                .eps = eps});
  };
  c.reference = [=](const Values& in, Reference& r) {
    if (t_step == 0) {
      for (const char* name : {"param", "m", "v"}) r.value[name] = in.at(name), r.tolerance[name] = {0, 0};
      return;
    }
    const double c1 = 1 - std::pow(beta1, t_step), c2 = 1 - std::pow(beta2, t_step);
    for (size_t i = 0; i < in.at("grad").size(); i++) {
      const double g = in.at("grad")[i] * grad_scale, m0 = in.at("m")[i], p0 = in.at("param")[i];
      const double m1 = beta1 * m0 + (1 - beta1) * g, v1 = beta2 * in.at("v")[i] + (1 - beta2) * g * g;
      const double below = std::sqrt(v1 / c2) + eps, m_size = std::abs(beta1 * m0) + std::abs((1 - beta1) * g);
      r.value["m"].push_back(m1), r.magnitude["m"].push_back(m_size);
      r.value["v"].push_back(v1);
      r.value["param"].push_back(p0 * (1 - lr * weight_decay) - lr / c1 * m1 / below);
      r.magnitude["param"].push_back(std::abs(p0) + lr / c1 * m_size / below);
    }
    // Each of g, the betas and their complements is rounded once; then products and sums, all terms counted with their sign off.
    r.tolerance["m"] = {6, 0};
    r.tolerance["v"] = {8, 0};       // g enters twice
    r.tolerance["param"] = {20, 1};  // m's 6, half of v's 8, and ten more operations
  };
  return c;
}

OpCase sum_of_squares(int64_t n, Kind type) {
  OpCase c{.op = "sum_of_squares", .shape = fmt::format("n {}", n)};
  const DType dtype = dtype_for(type, DType::f32);
  c.dtypes = {DType::f32}, c.dtype_label = dtype_name(dtype), c.oracle = false;
  c.tensors = {{.name = "x", .role = Role::constant, .kind = type, .width = n},
               {.name = "out", .role = Role::output, .kind = Kind::always_f64},
               {.name = "partial", .role = Role::scratch, .kind = Kind::always_f64, .width = SumOfSquares::blocks(n)}};
  c.forward = [=](Tensors& t) {
    t.run(SumOfSquares{.partial = t["partial"], .x = t["x"].data, .n = n, .dtype = dtype});
    t.run(AddDoubles{.out = t["out"], .x = t["partial"], .order = nullptr, .n = SumOfSquares::blocks(n)});
  };
  c.reference = [](const Values& in, Reference& r) {
    long double sum = 0;
    for (double x : in.at("x")) sum += static_cast<long double>(x) * x;
    r.value["out"] = {static_cast<double>(sum)};
    // Squares of floats are exact in double, and positive: only a block's and the blocks' sums round, in double.
    r.tolerance["out"] = {0, 1.0 * std::min<double>(static_cast<double>(in.at("x").size()), SumOfSquares::kBlock) + 8};
  };
  return c;
}

static OpCase add_parts(int count, int64_t n, Kind type = Kind::f32) {
  OpCase c{.op = "add_parts", .shape = fmt::format("count {} n {}", count, n)};
  const DType dtype = dtype_for(type, DType::f32);
  c.dtypes = {DType::f32}, c.dtype_label = dtype_name(dtype), c.oracle = false;
  c.tensors = {{.name = "parts", .role = Role::constant, .kind = type, .rows = count, .width = n},
               {.name = "sum", .role = Role::output, .kind = type, .width = n, .accumulates = true}};
  c.forward = [=](Tensors& t) {
    t.run(AddParts{.sum = t["sum"].data, .parts = t["parts"].data, .count = count, .n = n, .dtype = dtype});
  };
  c.reference = [=](const Values& in, Reference& r) {
    for (size_t i = 0; i < static_cast<size_t>(n); i++) {
      double sum = in.at("sum")[i];
      for (size_t part = 0; part < static_cast<size_t>(count); part++) {
        const float exact = static_cast<float>(sum) + static_cast<float>(in.at("parts")[part * static_cast<size_t>(n) + i]);
        sum = with_storage_type(dtype, [&](auto as) { return to_acc(from_acc<decltype(as)>(exact)); });
      }
      r.value["sum"].push_back(sum);
    }
    r.tolerance["sum"] = {0, 0};  // its roundings and their order are what it means
  };
  return c;
}

static OpCase add_doubles(Random& random, int64_t n) {
  OpCase c{.op = "add_doubles", .shape = fmt::format("n {} in an order", n)};
  c.dtypes = {DType::f32}, c.dtype_label = "fp64", c.oracle = false;
  std::vector<double> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  order.resize(static_cast<size_t>(n) - 1);  // one is not named
  c.tensors = {{.name = "x", .role = Role::constant, .kind = Kind::always_f64, .width = n},
               {.name = "order", .role = Role::constant, .kind = Kind::i32, .width = n - 1, .values = order},
               {.name = "out", .role = Role::output, .kind = Kind::always_f64}};
  c.forward = [=](Tensors& t) { t.run(AddDoubles{.out = t["out"], .x = t["x"], .order = t["order"], .n = n - 1}); };
  c.reference = [=](const Values& in, Reference& r) {
    long double sum = 0, size = 0;
    for (double i : in.at("order"))
      sum += in.at("x")[static_cast<size_t>(i)], size += std::abs(in.at("x")[static_cast<size_t>(i)]);
    r.value["out"] = {static_cast<double>(sum)}, r.magnitude["out"] = {static_cast<double>(size)};
    r.tolerance["out"] = {0, static_cast<double>(n)};  // a rounding in double for each term
  };
  return c;
}

static OpCase add_up(int n) {
  OpCase c{.op = "add_up", .shape = fmt::format("n {}", n)};
  c.dtypes = {DType::f32}, c.oracle = false;
  c.tensors = {{.name = "x", .role = Role::constant, .kind = Kind::f32, .width = n},
               {.name = "sum", .role = Role::output, .kind = Kind::always_f64, .accumulates = true}};
  c.forward = [=](Tensors& t) { t.run(AddUp<float>{.sum = t["sum"], .x = t["x"], .n = n}); };
  c.reference = [=](const Values& in, Reference& r) {
    long double sum = in.at("sum")[0], size = std::abs(in.at("sum")[0]);
    for (double x : in.at("x")) sum += x, size += std::abs(x);
    r.value["sum"] = {static_cast<double>(sum)}, r.magnitude["sum"] = {static_cast<double>(size)};
    r.tolerance["sum"] = {0, n + 2.0};  // a rounding in double for each term
  };
  return c;
}

// What kernels/update.h says, in other words: of the norm and the loss come whether the step counts and its factors.
static OpCase update_decision(double loss, double norm, double clip, double updates, double loss_scale, double steady,
                              bool scales) {
  OpCase c{
      .op = "update_decision",
      .shape = fmt::format("loss {} norm {} clip {} t {} scale {} steady {}", loss, norm, clip, updates, loss_scale, steady)};
  const double lr = 2e-3, beta1 = 0.9, beta2 = 0.999, decay = 0.1, norm_squared = norm * loss_scale * norm * loss_scale;
  c.dtypes = {DType::f32}, c.dtype_label = "fp64", c.oracle = false;
  c.tensors = {
      {.name = "state",
       .role = Role::output,
       .kind = Kind::always_f64,
       .width = kStepStateDoubles,
       .accumulates = true,
       .values = {lr, loss_scale / 7, loss, norm_squared, 0, 0, updates, loss_scale, steady}},
      {.name = "factors", .role = Role::output, .kind = Kind::always_f32, .width = sizeof(AdamWFactors) / sizeof(float)}};
  c.forward = [=](Tensors& t) {
    t.run(UpdateDecision{.state = static_cast<StepState*>(t["state"].data),
                         .factors = static_cast<AdamWFactors*>(t["factors"].data),
                         .beta1 = beta1,
                         .beta2 = beta2,
                         .weight_decay = decay,
                         .clip = clip,
                         .scale_losses = scales});
  };
  c.reference = [=](const Values&, Reference& r) {
    const bool counts = std::isfinite(loss) && std::isfinite(norm);
    const double t = updates + counts;
    const double factor = clip > 0 && norm + 1e-6 > clip ? clip / (norm + 1e-6) : 1;
    double scale = loss_scale, since = steady;
    if (scales) {
      since = counts ? steady + 1 : 0;
      if (!counts) scale = std::max(1.0, scale / 2);
      if (since == 2000) scale = std::min(16777216.0, scale * 2), since = 0;
    }
    r.value["state"] = {lr, loss_scale / 7, loss, norm_squared, norm, counts ? 0.0 : 1.0, t, scale, since};
    if (counts)
      r.value["factors"] = {1,
                            1 - lr * decay,
                            lr / (1 - std::pow(beta1, t)),
                            1 / std::sqrt(1 - std::pow(beta2, t)),
                            factor / loss_scale,
                            -lr * std::sqrt(1 - std::pow(beta2, t)) / (1 - std::pow(beta1, t)),
                            std::sqrt(1 - std::pow(beta2, t))};
    else
      r.value["factors"] = {0, 1, 0, 1, 0, 0, 1};
    r.tolerance["state"] = {0, 2};       // the root of a product
    r.tolerance["factors"] = {1.01, 0};  // computed in double, rounded once
  };
  return c;
}

void add_elementwise_cases(std::vector<OpCase>& cases, Random& random) {
  const double inf = std::numeric_limits<double>::infinity();
  constexpr int64_t kBlock = SumOfSquares::kBlock;
  add(cases, {bias(0, 3), bias(1, 1), bias(33, 131), bias(5, 136), bias(between(random, 1, 40), between(random, 1, 200))});
  add(cases, {gather_scatter(random, 3, 5, 0), gather_scatter(random, 1, 1, 1), gather_scatter(random, 41, 67, 13),
              gather_scatter(random, 9, 64, 5), gather_scatter(random, 17, between(random, 1, 70), 17),
              gather_scatter(random, 41, 24, 13, true), gather_scatter(random, 9, 67, 6, true)});
  for (double p : {0.0, 0.1, 0.5, 0.9})
    for (bool accumulate : {false, true})
      add(cases, {dropout(between(random, 1, 20), between(random, 1, 80), p, accumulate, random())});
  add(cases, {dropout(9, 40, 0.3, false, 5, true), dropout(9, 37, 0.3, true, 5, true, 11)});
  for (int n : {0, 1, 37, 1000}) add(cases, {cast(n)});
  for (int n : {0, 1, 1000}) add(cases, {copy(n)});
  for (int64_t t : {1, 2, 1000})
    for (double decay : {0.0, 0.1}) add(cases, {adamw(between(random, 1, 1000), t, decay, decay == 0 ? 1 : 0.37)});
  add(cases, {adamw(67, 0, 0.1, 1), adamw(67, 1, 0, 1, 1e-8)});  // gradients so small that eps matters
  for (Kind type : {Kind::bf16, Kind::f16})
    add(cases, {misaligned_in_turn(adamw(71, 3, 0.1, 0.37, 0.1, type)), sum_of_squares(kBlock + 5, type)});
  add(cases, {add_up(0), add_up(1), add_up(700)});
  add(cases, {add_doubles(random, 2), add_doubles(random, 700)});
  add(cases, {add_parts(0, 5), add_parts(1, 0), add_parts(1, 1), add_parts(3, 37), add_parts(2, 2064)});
  for (Kind type : {Kind::f32, Kind::bf16, Kind::f16})
    add(cases,
        {misaligned_in_turn(add_parts(1, 4101, type)), misaligned_in_turn(add_parts(4, 136, type)), add_parts(3, 71, type)});
  add(cases, {update_decision(2.5, 0.5, 1, 0, 1, 0, false), update_decision(2.5, 3.0, 1, 41, 1, 0, false),
              update_decision(2.5, 3.0, 0, 41, 1, 0, false), update_decision(2.5, inf, 1, 41, 1, 0, false),
              update_decision(std::nan(""), 3.0, 1, 41, 1, 0, false), update_decision(2.5, 3.0, 1, 41, 1024, 5, true),
              update_decision(2.5, 3.0, 1, 41, 1024, 1999, true), update_decision(2.5, inf, 1, 41, 1024, 1999, true),
              update_decision(2.5, inf, 1, 41, 1, 7, true), update_decision(2.5, 3.0, 1, 41, 16777216, 1999, true)});
  // 257 blocks: more than the threads that add their sums.
  for (int64_t n : {int64_t{0}, int64_t{1}, kBlock, 3 * kBlock + 5, 256 * kBlock + 1}) add(cases, {sum_of_squares(n)});
  // More than one block of a grid, and more rows than the grid has.
  add(cases, {bias(3, 2051), bias(2050, 2), gather_scatter(random, 5, 2061, 3), cast(4099), adamw(2501, 3, 0.1, 0.37),
              dropout(33, 131, 0.3, true, random()), dropout(33, 132, 0.3, true, random())});
  add(cases, {copy_rows(0, 3), copy_rows(37, 16), copy_rows(41, 13), with_gaps(copy_rows(300, 48), {{"out", 8}, {"x", 16}}),
              with_gaps(copy_rows(7, 16), {{"x", 3}}), with_gaps(copy_rows(7, 13), {{"out", 3}, {"x", 11}}),
              misaligned_in_turn(with_gaps(copy_rows(5, 64), {{"out", 16}, {"x", 8}}))});
  add(cases, {with_gaps(gather_scatter(random, 9, 64, 5, true), {{"x", 8}, {"y", 16}, {"dy", 24}, {"dx", 32}}),
              with_gaps(gather_scatter(random, 11, 13, 6), {{"x", 1}, {"y", 2}, {"dy", 3}, {"dx", 4}})});
  add(cases, {with_gaps(bias(5, 136), {{"out", 24}}), with_gaps(bias(7, 64), {{"out", 3}}),
              with_gaps(dropout(9, 40, 0.3, true, 5, true, 11), {{"x", 8}, {"y", 16}, {"dy", 24}, {"dx", 32}}),
              with_gaps(dropout(9, 37, 0.3, false, 5, true), {{"x", 1}, {"y", 2}, {"dy", 3}, {"dx", 4}})});
  // More columns than a block has, and more rows than the grid has.
  add(cases, {dropout(3, 4100, 0.3, true, random()), dropout(2050, 5, 0.3, false, random())});
  // Rows whose last word has fewer elements than columns.
  for (const int C : {1, 3, 18, 23}) add(cases, {dropout(41, C, 0.3, true, random(), true, 7)});
  add(cases, {dropout(11, 12, 0.3, true, random(), true, 3), dropout(3, 516, 0.3, false, random(), true, 5)});
  for (const OpCase& c :
       {bias(3, 64), gather_scatter(random, 5, 64, 3), cast(64), dropout(2, 64, 0.5, true, random()), adamw(64, 3, 0.1, 0.37)})
    add(cases, {misaligned_in_turn(c)});
}

}  // namespace tll::test
