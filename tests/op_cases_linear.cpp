// Cases of the matrix product: all transposes and types, with its input and weight gradients formed as a linear layer forms them.
#include "kernels/matmul.h"
#include "tests/op_case.h"

namespace tll::test {
namespace {

struct Product {
  int rows, cols, inner;
  bool ta = false, tb = true;
  Kind a = Kind::f32, b = Kind::f32, out = Kind::f32;
  double alpha = 1;
  bool accumulate = false, small_scratch = false, cpu = true, backward = true;
  int gap = 0;
  int pitch = 0;               // not 0: rows are padded to a multiple of so many elements, and there is no other gap
  size_t alignment = 0;        // OpCase::alignment
  Random* integers = nullptr;  // of small integers, whose sums are exact in any order
  int64_t scratch = 0;         // floats, other than an op gets; only CUDA does with fewer
  bool residual = false;       // y = addend + …
};

OpCase matmul(const Product& p) {
  OpCase c{.op = "matmul", .shape = fmt::format("{} x {} x {}", p.rows, p.cols, p.inner)};
  c.shape += fmt::format(" {}{}{}", p.ta ? "T" : "N", p.tb ? "T" : "N", p.accumulate ? " +=" : "");
  if (p.residual) c.shape += " + addend";
  if (p.alpha != 1) c.shape += fmt::format(" alpha {}", p.alpha);
  if (p.small_scratch) c.shape += " blocks";
  if (p.pitch) c.shape += p.integers ? " padded integers" : " padded";
  const auto name = [](Kind k) { return k == Kind::f32 ? "fp32" : k == Kind::bf16 ? "bf16" : "fp16"; };
  c.dtype_label = fmt::format("{}.{}={}", name(p.a), name(p.b), name(p.out));
  c.dtypes = {DType::f32};
  c.cpu = p.cpu, c.alignment = p.alignment;
  c.each_misaligned = p.integers != nullptr;  // others have other bits where cuBLASLt does not serve them
  c.same_bits_any_threads = false;            // oneDNN may cut the inner dimension
  const int64_t rows = p.rows, cols = p.cols, inner = p.inner;
  const int64_t a_rows = p.ta ? inner : rows, a_cols = p.ta ? rows : inner, b_rows = p.tb ? cols : inner,
                b_cols = p.tb ? inner : cols;
  const int64_t scratch = p.scratch ? p.scratch : Matmul<float>::scratch_floats(p.small_scratch ? 1 : 2);
  const auto gap = [&](int64_t width, int gaps) {
    return p.pitch ? (width + p.pitch - 1) / p.pitch * p.pitch - width : int64_t{gaps} * p.gap;
  };
  const int64_t sa = a_cols + gap(a_cols, 1), sb = b_cols + gap(b_cols, 2), sy = cols + gap(cols, 1), sdy = cols + gap(cols, 3),
                sda = a_cols + gap(a_cols, 0), sdb = b_cols + gap(b_cols, 1);
  const Kind da = p.a == Kind::bf16 || !p.cpu ? p.a : Kind::f32;
  c.tensors = {{.name = "a", .role = Role::input, .kind = p.a, .rows = a_rows, .width = a_cols, .gap = sa - a_cols},
               {.name = "b", .role = Role::input, .kind = p.b, .rows = b_rows, .width = b_cols, .gap = sb - b_cols},
               {.name = "y",
                .role = Role::output,
                .kind = p.out,
                .rows = rows,
                .width = cols,
                .gap = sy - cols,
                .accumulates = p.accumulate},
               {.name = "dy", .role = Role::constant, .kind = p.out, .rows = rows, .width = cols, .gap = sdy - cols},
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
    c.tensors.push_back({.name = "addend", .role = Role::constant, .kind = p.out, .rows = rows, .width = cols, .gap = sy - cols});
  if (p.integers)
    for (TensorSpec& spec : c.tensors)
      if (spec.role == Role::input || spec.accumulates || spec.name == "addend")
        spec.values = random_integers(*p.integers, spec.count(), -2, 2);
  const auto multiply = [=](auto f, Tensors& t, const Device& d, const char* out, ConstMatrix a, ConstMatrix b, bool accumulate,
                            const void* addend = nullptr) {
    run(d, Matmul<acc_t<decltype(f)>>{.out = t.at(out).matrix(),
                                      .a = a,
                                      .b = b,
                                      .alpha = p.alpha,
                                      .accumulate = accumulate,
                                      .scratch = {t.ptr<float>("scratch"), scratch},
                                      .addend = addend});
  };
  const auto operand = [](Tensors& t, const char* name, bool transposed) {
    const Matrix stored = t.at(name).matrix();
    return transposed ? stored.t() : stored;
  };
  c.forward = typed([=](auto f, Tensors& t, const Device& d) {
    multiply(f, t, d, "y", operand(t, "a", p.ta), operand(t, "b", p.tb), p.accumulate || p.residual,
             p.residual ? t.at("addend").data() : nullptr);
  });
  c.backward = typed([=](auto f, Tensors& t, const Device& d) {
    // dA = dY·Bᵀ and dB = Aᵀ·dY; of a transposed operand the transpose: dAᵀ = B·dYᵀ, dBᵀ = dYᵀ·A.
    const Matrix a = operand(t, "a", p.ta), b = operand(t, "b", p.tb), dy = t.at("dy").matrix();
    p.ta ? multiply(f, t, d, "da", b, dy.t(), p.accumulate) : multiply(f, t, d, "da", dy, b.t(), p.accumulate);
    p.tb ? multiply(f, t, d, "db", dy.t(), a, true) : multiply(f, t, d, "db", a.t(), dy, true);
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
    for (auto* v : {&my, &ma, &mb})
      for (double& x : *v) x = std::abs(x);
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
    // A sum of `inner` products in any order, alpha, and +=; oneDNN's bf16 instructions add pairs, which is no worse.
    r.tolerance["y"] = {inner + 3.0, 1};
    r.tolerance["da"] = {cols + 3.0, 1};
    r.tolerance["db"] = {rows + 3.0, 1};
  };
  return c;
}

}  // namespace

void add_linear_cases(std::vector<OpCase>& cases, Random& random) {
  for (Kind kind : {Kind::f32, Kind::bf16, Kind::f16}) {
    const bool cpu = kind != Kind::f16;
    cases.push_back(
        matmul({.rows = 70, .cols = 37, .inner = 21, .a = kind, .b = kind, .out = kind, .cpu = cpu, .gap = 3, .residual = true}));
    cases.push_back(matmul(
        {.rows = 5, .cols = 40, .inner = 64, .a = kind, .b = kind, .out = kind, .alpha = 0.5, .cpu = cpu, .residual = true}));
    cases.push_back(matmul({.rows = 130,
                            .cols = 136,
                            .inner = 136,
                            .a = kind,
                            .b = kind,
                            .out = kind,
                            .cpu = cpu,
                            .backward = false,
                            .pitch = 8,
                            .alignment = 16,
                            .residual = true}));
    cases.push_back(matmul({.rows = 33,
                            .cols = 40,
                            .inner = 600,
                            .a = kind,
                            .b = kind,
                            .out = kind,
                            .cpu = cpu,
                            .backward = false,
                            .residual = true}));
  }
  const std::vector<int> odd{1, 2, 3, 5, 7, 8, 9, 13, 16, 17, 31, 37, 64, 67};
  const std::vector<double> alphas{1, 0.5, -1.7};
  const std::pair<Kind, Kind> operands[] = {{Kind::f32, Kind::f32}, {Kind::bf16, Kind::bf16}, {Kind::f32, Kind::bf16},
                                            {Kind::f32, Kind::f16}, {Kind::bf16, Kind::f16},  {Kind::bf16, Kind::f32}};
  for (const auto& [a, b] : operands)
    for (Kind out : {Kind::f32, Kind::bf16})
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          for (bool accumulate : {false, true}) {
            Product p{.rows = pick(random, odd),
                      .cols = pick(random, odd),
                      .inner = pick(random, odd),
                      .ta = ta,
                      .tb = tb,
                      .a = a,
                      .b = b,
                      .out = out};
            p.alpha = pick(random, alphas), p.accumulate = accumulate, p.gap = between(random, 0, 3);
            // A narrow result cut along both its columns and the sum needs the full scratch.
            p.small_scratch = between(random, 0, 1) && !(ta && tb && (out == Kind::bf16 || a == Kind::bf16));
            cases.push_back(matmul(p));
          }
  for (Kind type : {Kind::f32, Kind::bf16}) {
    cases.push_back(matmul({.rows = 0, .cols = 3, .inner = 5, .a = type, .b = type, .out = type}));
    cases.push_back(matmul({.rows = 12, .cols = 3, .inner = 0, .a = type, .b = type, .out = type}));  // zeros
    cases.push_back(matmul({.rows = 12, .cols = 3, .inner = 0, .a = type, .b = type, .out = type, .accumulate = true}));
    cases.push_back(matmul({.rows = 1, .cols = 1, .inner = 1, .a = type, .b = type, .out = type}));
  }
  cases.push_back(matmul({.rows = 19, .cols = 509, .inner = 12, .a = Kind::bf16, .b = Kind::bf16, .small_scratch = true}));
  cases.push_back(matmul({.rows = 67, .cols = 33, .inner = 131, .a = Kind::bf16, .b = Kind::bf16, .out = Kind::bf16}));
  cases.push_back(matmul({.rows = 16,
                          .cols = 131,
                          .inner = 61,
                          .ta = true,
                          .tb = false,
                          .a = Kind::bf16,
                          .b = Kind::bf16,
                          .accumulate = true,
                          .small_scratch = true}));
  // CUDA: fp16 results; every tiling of the tensor cores (narrow, flat, small, large), full and with edges; sums that are cut.
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      const Kind h = Kind::f16;
      cases.push_back(matmul({.rows = 70,
                              .cols = 67,
                              .inner = 45,
                              .ta = ta,
                              .tb = tb,
                              .a = h,
                              .b = h,
                              .out = h,
                              .accumulate = ta,
                              .cpu = false,
                              .gap = 5}));
      cases.push_back(matmul(
          {.rows = 130, .cols = 16, .inner = 64, .ta = ta, .tb = tb, .a = h, .b = h, .out = h, .alpha = 0.5, .cpu = false}));
      cases.push_back(matmul(
          {.rows = 16, .cols = 160, .inner = 1056, .ta = ta, .tb = tb, .a = Kind::bf16, .b = Kind::bf16, .accumulate = true}));
    }
  cases.push_back(matmul({.rows = 33, .cols = 40, .inner = 600, .gap = 1}));
  cases.push_back(matmul({.rows = 33, .cols = 40, .inner = 600, .cpu = false, .backward = false, .scratch = 33 * 40 + 7}));
  // Rows of whole vectors, parts of a cut sum that are not; results in rows that are none.
  cases.push_back(matmul({.rows = 16, .cols = 37, .inner = 1050, .a = Kind::bf16, .b = Kind::bf16, .backward = false, .gap = 6}));
  for (int rows : {3, 40})
    cases.push_back(misaligned_in_turn(matmul({.rows = rows, .cols = 48, .inner = 64, .a = Kind::bf16, .b = Kind::bf16})));
  cases.push_back(
      matmul({.rows = 1000, .cols = 1032, .inner = 40, .a = Kind::bf16, .b = Kind::bf16, .out = Kind::bf16, .backward = false}));
  for (int rows : {1, 8, 9})  // the dot products of generation, and the first size beyond them
    for (Kind b : {Kind::f32, Kind::bf16, Kind::f16})
      cases.push_back(
          matmul({.rows = rows, .cols = 37, .inner = 129, .a = b == Kind::f32 ? Kind::f32 : Kind::bf16, .b = b, .gap = 5}));

  // What cuBLASLt serves where it is there (kernels/cublas_lt.h): every layout and pair of types, no size a multiple of anything;
  // the three products of a linear layer; the first sizes and strides that it does not serve.
  const std::pair<Kind, Kind> large[] = {
      {Kind::f32, Kind::f32}, {Kind::bf16, Kind::bf16}, {Kind::bf16, Kind::f32}, {Kind::f16, Kind::f16}, {Kind::f16, Kind::f32}};
  Product p{.rows = 131, .cols = 157, .inner = 149, .backward = false, .pitch = 8, .alignment = 16};
  for (bool ta : {false, true})
    for (bool tb : {false, true})
      for (const auto& [type, out] : large) {
        p.ta = ta, p.tb = tb, p.a = p.b = type, p.out = out, p.cpu = type != Kind::f16;
        p.accumulate = !p.accumulate, p.alpha = pick(random, alphas);
        cases.push_back(matmul(p));
      }
  for (Kind out : {Kind::bf16, Kind::f32})
    cases.push_back(matmul(
        {.rows = 128, .cols = 136, .inner = 144, .a = Kind::bf16, .b = Kind::bf16, .out = out, .pitch = 8, .alignment = 16}));
  // Addresses of the second run are odd, so that the library does not serve them, and sums are exact: the same bits.
  for (bool ta : {false, true})
    cases.push_back(matmul({.rows = 133,
                            .cols = 130,
                            .inner = 150,
                            .ta = ta,
                            .tb = !ta,
                            .a = Kind::bf16,
                            .b = Kind::bf16,
                            .accumulate = true,
                            .backward = false,
                            .pitch = 8,
                            .integers = &random}));
  cases.push_back(matmul({.rows = 128,
                          .cols = 136,
                          .inner = 130,
                          .a = Kind::bf16,
                          .b = Kind::bf16,
                          .out = Kind::bf16,
                          .backward = false,
                          .pitch = 8,
                          .integers = &random,
                          .residual = true}));
  cases.push_back(
      matmul({.rows = 130, .cols = 131, .inner = 129, .a = Kind::bf16, .b = Kind::bf16, .backward = false, .gap = 1}));
  cases.push_back(
      matmul({.rows = 127, .cols = 128, .inner = 128, .a = Kind::bf16, .b = Kind::bf16, .backward = false, .pitch = 8}));
}

}  // namespace tll::test
