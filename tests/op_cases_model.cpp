// Cases of the ops around the linear layers: embedding, RMSNorm, rotary embedding, SwiGLU, cross entropy.
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/qk_norm.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "tests/op_cases.h"

namespace tll::test {

static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

OpCase embedding(Random& random, int N, int C, int V, Kind table, int padding) {
  OpCase c{.op = "embedding", .shape = fmt::format("N {} C {} V {}", N, C, V)};
  const char* names[] = {"storage", "acc", "fp32", "bf16", "fp16"};
  c.shape += fmt::format(" table {}", names[static_cast<int>(table)]);
  if (padding >= 0) c.shape += fmt::format(" padding {}", padding), c.oracle = false;  // by definition not the gradient
  c.tensors = {
      {.name = "table", .role = Role::input, .kind = table, .rows = V, .width = C},
      {.name = "ids", .role = Role::constant, .kind = Kind::i32, .width = N, .values = random_integers(random, N, 0, V - 1)},
      {.name = "out", .role = Role::output, .rows = N, .width = C},
      {.name = "dout", .role = Role::constant, .rows = N, .width = C},
      {.name = "dtable", .role = Role::gradient, .kind = Kind::acc, .rows = V, .width = C, .accumulates = true}};
  c.forward = typed([=]<class F>(F, Tensors& t) {
    t.run(EmbeddingForward<F>{t["out"], t["table"], t["table"].dtype, t["ids"], N, C, V});
  });
  c.backward = typed([=]<class F>(F, Tensors& t) {
    t.run(EmbeddingBackward<F>{t["dtable"], t["dout"], t["ids"], N, C, V, padding, t["dout"].stride});
  });
  c.reference = [=](const Values& in, Reference& r) {
    auto& out = r.value["out"];
    auto& sums = r.magnitude["dtable"] = absolute(in.at("dtable"));
    std::vector<double> gradient = in.at("dtable");
    for (int n = 0; n < N; n++) {
      const size_t row = static_cast<size_t>(in.at("ids")[static_cast<size_t>(n)]) * C;
      for (size_t e = 0; e < static_cast<size_t>(C); e++) {
        out.push_back(in.at("table")[row + e]);
        if (in.at("ids")[static_cast<size_t>(n)] == padding) continue;
        sums[row + e] += std::abs(in.at("dout")[static_cast<size_t>(n) * C + e]);
        gradient[row + e] += in.at("dout")[static_cast<size_t>(n) * C + e];
      }
    }
    if (padding >= 0) r.value["dtable"] = gradient;
    r.tolerance["out"] = {0, 1};           // a copy, rounded if the table's type is wider
    r.tolerance["dtable"] = {1.0 * N, 0};  // at most N additions
  };
  return c;
}

OpCase rmsnorm(int N, int C, bool trained_weight, double sigma) {
  OpCase c{.op = "rmsnorm", .shape = fmt::format("N {} C {}", N, C)};
  const double eps = 1e-5;
  c.tensors = {{.name = "x", .role = Role::input, .rows = N, .width = C, .sigma = sigma},
               {.name = "w", .role = trained_weight ? Role::input : Role::constant, .width = C},
               {.name = "out", .role = Role::output, .rows = N, .width = C},
               {.name = "rstd", .role = Role::saved, .kind = Kind::acc, .width = N},
               {.name = "dout", .role = Role::constant, .rows = N, .width = C},
               {.name = "dx", .role = Role::gradient, .rows = N, .width = C, .accumulates = true}};
  if (trained_weight)
    c.tensors.push_back({.name = "dw", .role = Role::gradient, .kind = Kind::acc, .width = C, .accumulates = true});
  else
    c.shape += " frozen";
  c.forward = typed([=]<class F>(F, Tensors& t) {
    t.run(RmsnormForward<F>{
        .out = t["out"], .rstd = t["rstd"], .x = t["x"], .w = t["w"], .N = N, .C = C, .eps = eps, .out_stride = t["out"].stride});
  });
  c.backward = typed([=]<class F>(F, Tensors& t) {
    acc_t<F>* dw = nullptr;
    if (trained_weight) dw = t["dw"];
    t.run(RmsnormBackward<F>{.dx = t["dx"],
                             .dw = dw,
                             .dout = t["dout"],
                             .x = t["x"],
                             .w = t["w"],
                             .rstd = t["rstd"],
                             .N = N,
                             .C = C,
                             .dx_stride = t["dx"].stride});
  });
  c.reference = [=](const Values& in, Reference& r) {
    const auto &x = in.at("x"), &w = in.at("w"), &dy = in.at("dout");
    auto &out = r.value["out"], &rstd = r.value["rstd"], &mx = r.magnitude["dx"], &mw = r.magnitude["dw"];
    if (trained_weight) mw = absolute(in.at("dw"));
    for (size_t n = 0; n < static_cast<size_t>(N); n++) {
      const double* row = &x[n * static_cast<size_t>(C)];
      double squares = 0, dot = 0;
      for (int i = 0; i < C; i++) squares += row[i] * row[i], dot += std::abs(dy[n * C + i] * w[i] * row[i]);
      const double s = 1 / std::sqrt(squares / C + eps);
      rstd.push_back(s);
      for (int i = 0; i < C; i++) {
        const size_t e = n * static_cast<size_t>(C) + static_cast<size_t>(i);
        out.push_back(w[i] * row[i] * s);
        mx.push_back(std::abs(in.at("dx")[e]) + std::abs(s * dy[e] * w[i]) + s * s * s / C * dot * std::abs(row[i]));
        if (trained_weight) mw[i] += std::abs(dy[e] * row[i] * s);
      }
    }
    // The squares are positive: C + 1 roundings of their sum at most, halved by the root, then four operations.
    const double root = 0.5 * (C + 1) + 4;
    r.tolerance["rstd"] = {root, 0};
    r.tolerance["out"] = {root + 2, 2};          // x·rstd and ·w are both rounded to Float
    r.tolerance["dx"] = {3 * root + C + 12, 1};  // rstd³ · (a sum of C) · x, and the += at the end
    r.tolerance["dw"] = {root + 2 + N, 0};
  };
  return c;
}

OpCase qk_norm(const QkNormShape& s) {
  OpCase c{.op = "qk_norm", .shape = fmt::format("N {} H {} G {} D {} gap {}", s.N, s.H, s.G, s.D, s.gap)};
  c.shape += s.in_place ? " in place" : s.trained ? "" : " frozen";
  const double eps = 1e-5;
  const int N = s.N, H = s.H, G = s.G, D = s.D, width = (H + G) * D, stride = width + s.gap;
  const int out_gap = s.in_place ? s.gap : 2 * s.gap, out_stride = width + out_gap;
  const bool trained = s.trained && !s.in_place;
  const Role weight = trained ? Role::input : Role::constant;
  c.tensors = {{.name = "x", .role = Role::input, .rows = N, .width = width, .gap = s.gap, .sigma = s.sigma},
               {.name = "w_q", .role = weight, .width = D},
               {.name = "w_k", .role = weight, .width = D},
               {.name = "out", .role = Role::output, .rows = N, .width = width, .gap = out_gap}};
  if (!s.in_place) {
    c.tensors.push_back({.name = "rstd", .role = Role::saved, .kind = Kind::acc, .rows = N, .width = H + G});
    c.tensors.push_back({.name = "dout", .role = Role::constant, .rows = N, .width = width, .gap = s.gap});
    c.tensors.push_back({.name = "dx", .role = Role::gradient, .rows = N, .width = width, .gap = s.gap});
  }
  if (trained)
    for (const char* name : {"dw_q", "dw_k"})
      c.tensors.push_back({.name = name, .role = Role::gradient, .kind = Kind::acc, .width = D, .accumulates = true});
  if (trained)
    c.tensors.push_back(
        {.name = "scratch", .role = Role::scratch, .kind = Kind::always_f32, .width = QkNormBackward<float>::cuda_scratch(D)});
  c.forward = typed([=]<class F>(F, Tensors& t) {
    const F* x = t["x"];
    acc_t<F>* rstd = nullptr;
    if (s.in_place) {
      t.copy("out", "x");
      x = t["out"];
    } else {
      rstd = t["rstd"];
    }
    t.run(QkNormForward<F>{.out = t["out"],
                           .rstd = rstd,
                           .x = x,
                           .w_q = t["w_q"],
                           .w_k = t["w_k"],
                           .N = N,
                           .H = H,
                           .G = G,
                           .D = D,
                           .out_stride = out_stride,
                           .x_stride = stride,
                           .eps = eps});
  });
  if (!s.in_place)
    c.backward = typed([=]<class F>(F, Tensors& t) {
      acc_t<F>*dw_q = nullptr, *dw_k = nullptr;
      float* scratch = nullptr;
      if (trained) dw_q = t["dw_q"], dw_k = t["dw_k"], scratch = t["scratch"];
      t.copy("dx", "dout");
      t.run(QkNormBackward<F>{.d = t["dx"],
                              .dw_q = dw_q,
                              .dw_k = dw_k,
                              .x = t["x"],
                              .w_q = t["w_q"],
                              .w_k = t["w_k"],
                              .rstd = t["rstd"],
                              .scratch = scratch,
                              .N = N,
                              .H = H,
                              .G = G,
                              .D = D,
                              .stride = stride,
                              .x_stride = stride});
    });
  c.reference = [=](const Values& in, Reference& r) {
    const auto& x = in.at("x");
    auto &out = r.value["out"], &rstd = r.value["rstd"], &mx = r.magnitude["dx"];
    const auto count = [&](int row) { return N == 0 ? 0 : static_cast<size_t>(N - 1) * row + width; };
    out.resize(count(out_stride)), mx.resize(count(stride));
    if (trained)
      for (const char* name : {"dw_q", "dw_k"}) r.magnitude[name] = absolute(in.at(name));
    for (int n = 0; n < N; n++)
      for (int h = 0; h < H + G; h++) {
        const double* w = in.at(h < H ? "w_q" : "w_k").data();
        const size_t at = static_cast<size_t>(n) * stride + h * D;
        double squares = 0, dot = 0;
        for (int i = 0; i < D; i++) squares += x[at + i] * x[at + i];
        const double rs = 1 / std::sqrt(squares / D + eps);
        rstd.push_back(rs);
        for (int i = 0; i < D; i++) out[static_cast<size_t>(n) * out_stride + h * D + i] = w[i] * x[at + i] * rs;
        if (s.in_place) continue;
        const double* dy = in.at("dout").data() + at;
        for (int i = 0; i < D; i++) dot += std::abs(dy[i] * w[i] * x[at + i]);
        for (int i = 0; i < D; i++) {
          mx[at + i] = std::abs(rs * dy[i] * w[i]) + rs * rs * rs / D * dot * std::abs(x[at + i]);
          if (trained) r.magnitude[h < H ? "dw_q" : "dw_k"][i] += std::abs(dy[i] * x[at + i] * rs);
        }
      }
    // As of rmsnorm, with D in place of C; a weight's gradient is a sum over all its heads.
    const double root = 0.5 * (D + 1) + 4;
    r.tolerance["rstd"] = {root, 0};
    r.tolerance["out"] = {root + 2, 2};
    r.tolerance["dx"] = {3 * root + D + 12, 1};
    r.tolerance["dw_q"] = {root + 2 + 1.0 * N * H, 0};
    r.tolerance["dw_k"] = {root + 2 + 1.0 * N * G, 0};
  };
  return c;
}

OpCase rope(Random& random, int N, int heads, int D, int gap, int positions, int rotary) {
  const int R = rotary > 0 ? rotary : D;
  OpCase c{.op = "rope", .shape = fmt::format("N {} heads {} D {} R {} gap {}", N, heads, D, R, gap)};
  const int stride = heads * D + gap;
  c.tensors = {{.name = "x", .role = Role::input, .rows = N, .width = heads * D, .gap = gap},
               {.name = "cos", .role = Role::constant, .kind = Kind::acc, .rows = positions, .width = R / 2},
               {.name = "sin", .role = Role::constant, .kind = Kind::acc, .rows = positions, .width = R / 2},
               {.name = "positions",
                .role = Role::constant,
                .kind = Kind::i32,
                .width = N,
                .values = random_integers(random, N, 0, positions - 1)},
               {.name = "y", .role = Role::output, .rows = N, .width = heads * D, .gap = gap},
               {.name = "dy", .role = Role::constant, .rows = N, .width = heads * D, .gap = gap},
               {.name = "dx", .role = Role::gradient, .rows = N, .width = heads * D, .gap = gap}};
  const auto turn = [=](const char* to, const char* from, bool backward) {
    return typed([=]<class F>(F, Tensors& t) {
      t.copy(to, from);
      t.run(Rope<F>{t[to], t["cos"], t["sin"], t["positions"], N, heads, D, R, stride, backward});
    });
  };
  c.forward = turn("y", "x", false);
  c.backward = turn("dx", "dy", true);
  c.reference = [=](const Values& in, Reference& r) {
    auto &y = r.value["y"], &my = r.magnitude["y"], &mx = r.magnitude["dx"];
    for (auto* v : {&y, &my, &mx}) v->resize(in.at("x").size());
    for (int n = 0; n < N; n++)
      for (int h = 0; h < heads; h++)
        for (int i = 0; i < D; i++) {
          const size_t place = static_cast<size_t>(n) * stride + h * D + i;
          if (i >= R) {  // as it was
            y[place] = in.at("x")[place];
            my[place] = std::abs(y[place]), mx[place] = std::abs(in.at("dy")[place]);
            continue;
          }
          const int other = i < R / 2 ? i + R / 2 : i - R / 2;
          const size_t angle = static_cast<size_t>(in.at("positions")[n]) * (R / 2) + i % (R / 2);
          const double cosine = in.at("cos")[angle], sine = in.at("sin")[angle];
          const size_t at = place, with = static_cast<size_t>(n) * stride + h * D + other;
          const double* x = in.at("x").data();
          const double* dy = in.at("dy").data();
          y[at] = x[at] * cosine + (i < R / 2 ? -1 : 1) * x[with] * sine;
          my[at] = std::abs(x[at] * cosine) + std::abs(x[with] * sine);
          mx[at] = std::abs(dy[at] * cosine) + std::abs(dy[with] * sine);
        }
    r.tolerance["y"] = r.tolerance["dx"] = {2, 1};  // a product and a sum
  };
  return c;
}

OpCase rope_table(int P, int D, float scale) {
  OpCase c{.op = "rope_table", .shape = fmt::format("P {} D {}", P, D)};
  if (scale != 1) c.shape += fmt::format(" scale {}", scale);
  std::vector<double> frequencies;
  for (int i = 0; i < D / 2; i++) frequencies.push_back(std::pow(10000.0, -2.0 * i / D));
  c.tensors = {{.name = "inv_freq", .role = Role::constant, .kind = Kind::always_f32, .width = D / 2, .values = frequencies},
               {.name = "cos", .role = Role::output, .kind = Kind::acc, .rows = P, .width = D / 2},
               {.name = "sin", .role = Role::output, .kind = Kind::acc, .rows = P, .width = D / 2}};
  c.forward = typed([=]<class F>(F, Tensors& t) { t.run(RopeTable<F>{t["cos"], t["sin"], t["inv_freq"], P, D, scale}); });
  c.reference = [=](const Values& in, Reference& r) {
    for (int p = 0; p < P; p++)
      for (int i = 0; i < D / 2; i++) {
        const float angle = static_cast<float>(p) * static_cast<float>(in.at("inv_freq")[i]);  // in float, by definition
        r.value["cos"].push_back(std::cos(static_cast<double>(angle)) * double(scale));
        r.value["sin"].push_back(std::sin(static_cast<double>(angle)) * double(scale));
      }
    r.tolerance["cos"] = r.tolerance["sin"] = {scale == 1 ? 1.0 : 2.0, 0};  // a rounding, and a product
  };
  return c;
}

OpCase swiglu(int N, int F, double sigma, bool in_place) {
  OpCase c{.op = "swiglu", .shape = fmt::format("N {} F {} gates x{}{}", N, F, sigma, in_place ? " in place" : "")};
  c.tensors = {{.name = "gate_up", .role = Role::input, .rows = N, .width = 2 * F, .sigma = sigma},
               {.name = "act", .role = Role::output, .rows = N, .width = F},
               {.name = "dact", .role = Role::constant, .rows = N, .width = F},
               {.name = "act_again", .role = Role::saved, .rows = N, .width = F},
               {.name = "dgate_up", .role = Role::gradient, .rows = N, .width = 2 * F}};
  c.forward = typed([=]<class Float>(Float, Tensors& t) {
    t.run(SwigluForward<Float>{t["act"], t["gate_up"], N, F, t["act"].stride, t["gate_up"].stride});
  });
  c.backward = typed([=]<class Float>(Float, Tensors& t) {
    t.copy("dgate_up", "gate_up");
    if (in_place) t.copy("act_again", "dact");
    t.run(SwigluBackward<Float>{t["act_again"], t["dgate_up"], t[in_place ? "act_again" : "dact"], N, F, t["act_again"].stride,
                                t["dgate_up"].stride});
  });
  c.reference = [=](const Values& in, Reference& r) {
    constexpr double kTiny = 1e-29;  // float's exponential stops at e^±88: what is smaller is noise, of 1e-36 after tolerance
    auto &act = r.value["act"], &ma = r.magnitude["act"], &mg = r.magnitude["dgate_up"];
    mg.resize(in.at("gate_up").size());
    for (int n = 0; n < N; n++)
      for (int i = 0; i < F; i++) {
        const size_t gate = static_cast<size_t>(n) * 2 * F + i, up = gate + F;
        const double a = in.at("gate_up")[gate], b = in.at("gate_up")[up], d = in.at("dact")[static_cast<size_t>(n) * F + i];
        act.push_back(a * sigmoid(a) * b);
        ma.push_back(std::abs(act.back()) + kTiny * (1 + std::abs(a * b)));
        // 1 - σ cancels where σ is near 1, so its rounding is relative to 1.
        mg[gate] = std::abs(d * b) * (sigmoid(a) * (1 + std::abs(a)) + kTiny * (1 + a * a));
        mg[up] = std::abs(d * a) * (sigmoid(a) + kTiny);
      }
    r.value["act_again"] = act, r.magnitude["act_again"] = ma;
    // The exponential is good to 2 ulp, 4 roundings; sum, quotient, products: 12 at most, 8 more where σ is used twice.
    // In 16 bits CUDA's exponential is off by |gate|·2^-24 more, and another 0.23 of that from log2 e: 2^-17.2 at gate -88, below
    // which e^-gate is infinite. That is 1.4 % of fp16's roundoff, and twice as much where σ is used twice.
    r.tolerance["act"] = r.tolerance["act_again"] = {12, 1.02};
    r.tolerance["dgate_up"] = {20, 1.03};
  };
  return c;
}

OpCase cross_entropy(Random& random, int rows, int V, double sigma, int gap, bool in_place, Kind type) {
  OpCase c{.op = "cross_entropy", .shape = fmt::format("rows {} V {} logits x{}{}", rows, V, sigma, in_place ? " in place" : "")};
  if (type == Kind::storage) c.shape += " in 16 bits", c.dtypes = {DType::bf16};  // what is rounded is what all see
  const double scale = 0.25;                                                      // exact in every type
  std::vector<double> targets = random_integers(random, rows, 0, V - 1);
  for (size_t r = 2; r < targets.size(); r += 3) targets[r] = -1;
  c.tensors = {{.name = "logits", .role = Role::input, .kind = type, .rows = rows, .width = V, .gap = gap, .sigma = sigma},
               {.name = "targets", .role = Role::constant, .kind = Kind::i32, .width = rows, .values = targets},
               {.name = "scale", .role = Role::constant, .kind = Kind::always_f64, .values = {scale}},
               {.name = "losses", .role = Role::output, .kind = Kind::acc, .width = rows},
               {.name = "dlosses", .role = Role::constant, .kind = Kind::acc, .width = rows, .values = {scale}},
               {.name = "losses_again", .role = Role::saved, .kind = Kind::acc, .width = rows},
               {.name = "work", .role = Role::scratch, .kind = type, .rows = rows, .width = V, .gap = gap},
               {.name = "dlogits", .role = Role::gradient, .rows = rows, .width = V, .gap = gap}};
  const auto with = [=](const char* losses, bool gradient) {
    return typed([=]<class F>(F, Tensors& t) {
      const bool aliased = gradient && in_place;
      if (aliased) t.copy("work", "logits");
      const Place logits = t[aliased ? "work" : "logits"];
      F* dlogits = nullptr;
      if (gradient) dlogits = aliased ? static_cast<F*>(logits.data) : t["dlogits"];
      const int64_t stride = (V + gap) * (aliased ? static_cast<int64_t>(dtype_bytes(logits.dtype) / sizeof(F)) : 1);
      t.run(CrossEntropy<F>{.logits = logits,
                            .logits_dtype = logits.dtype,
                            .logits_stride = V + gap,
                            .losses = t[losses],
                            .targets = t["targets"],
                            .dlogits = dlogits,
                            .dlogits_stride = stride,
                            .scale = t["scale"],
                            .rows = rows,
                            .V = V});
      F* apart = t["dlogits"];
      for (int r = 0; aliased && r < rows; r++) t.run(Copy<F>{.out = apart + r * (V + gap), .in = dlogits + r * stride, .n = V});
    });
  };
  c.forward = with("losses", false);
  c.backward = with("losses_again", true);
  c.reference = [=](const Values& in, Reference& r) {
    auto &loss = r.value["losses"], &ml = r.magnitude["losses"], &mz = r.magnitude["dlogits"];
    mz.assign(static_cast<size_t>(rows) * static_cast<size_t>(V + gap), 0.0);
    if (rows > 0) mz.resize(mz.size() - static_cast<size_t>(gap));
    for (size_t n = 0; n < static_cast<size_t>(rows); n++) {
      const double* z = &in.at("logits")[n * static_cast<size_t>(V + gap)];
      const int target = static_cast<int>(in.at("targets")[n]);
      if (target < 0) {
        loss.push_back(0), ml.push_back(0);
        continue;
      }
      long double sum = 0;
      for (int v = 0; v < V; v++) sum += std::exp(static_cast<long double>(z[v]));
      const double lse = std::isinf(sum) ? NAN : static_cast<double>(std::log(sum));  // a logit is infinite
      double most = 0;
      for (int v = 0; v < V; v++) most = std::max(most, std::abs(z[v]));
      loss.push_back(lse - z[target]);
      ml.push_back(1 + most + std::abs(lse));
      // Float's exponential is 0 below e^-87 (1e-38, or 1e-30 times the tolerance). The exponent z - lse has the absolute error
      // of lse, which is a relative error of e^(z - lse).
      for (int v = 0; v < V; v++)
        mz[n * static_cast<size_t>(V + gap) + static_cast<size_t>(v)] =
            scale * ((v == target) + (std::exp(z[v] - lse) + 1e-30) * (1 + most + std::abs(lse)));
    }
    r.value["losses_again"] = loss, r.magnitude["losses_again"] = ml;
    r.tolerance["losses"] = r.tolerance["losses_again"] = {V + 8.0, 0};  // a sum of V positive terms of 2 ulp, a logarithm
    r.tolerance["dlogits"] = {V + 16.0, 1};                              // and another exponential
  };
  return c;
}

// What a batch of rows is cut down to: those with a target.
static OpCase list_targets(Random& random, int N, double share, int spare) {
  OpCase c{.op = "list_targets", .shape = fmt::format("N {} {} % of rows, {} spare", N, 100 * share, spare)};
  std::vector<double> targets(static_cast<size_t>(N), -1.0);
  int count = 0;
  for (double& t : targets)
    if (std::uniform_real_distribution<double>()(random) < share) t = between(random, 0, 1000), count++;
  const int capacity = count + spare;
  // Something else than -1 before, which memory that nobody wrote would be taken for.
  const auto written = [=](const char* name) {
    return TensorSpec{
        .name = name, .role = Role::output, .kind = Kind::i32, .width = capacity, .accumulates = true, .values = {7}};
  };
  c.tensors = {{.name = "targets", .role = Role::constant, .kind = Kind::i32, .width = N, .values = targets},
               written("rows"),
               written("row_targets")};
  c.dtypes = {DType::f32}, c.dtype_label = "int32", c.oracle = false;
  c.forward = [=](Tensors& t) {
    t.run(ListTargets<float>{
        .rows = t["rows"], .row_targets = t["row_targets"], .targets = t["targets"], .N = N, .capacity = capacity});
  };
  c.reference = [=](const Values& in, Reference& r) {
    auto &rows = r.value["rows"], &row_targets = r.value["row_targets"];
    for (int n = 0; n < N; n++)
      if (in.at("targets")[static_cast<size_t>(n)] >= 0)
        rows.push_back(n), row_targets.push_back(in.at("targets")[static_cast<size_t>(n)]);
    rows.resize(static_cast<size_t>(capacity), -1.0), row_targets.resize(static_cast<size_t>(capacity), -1.0);
    r.tolerance["rows"] = r.tolerance["row_targets"] = {0, 0};
  };
  return c;
}

void add_model_cases(std::vector<OpCase>& cases, Random& random) {
  const auto odd = [&] { return pick<int>(random, {1, 2, 3, 5, 7, 13, 16, 17, 31, 33, 64, 65, 97, 128, 131}); };
  for (Kind table : {Kind::f32, Kind::bf16, Kind::f16}) {
    add(cases, {embedding(random, 1, 1, 1, table), embedding(random, 37, 70, 11, table)});  // ids repeat
    add(cases, {embedding(random, odd(), odd(), odd(), table)});
  }
  add(cases, {embedding(random, 0, 5, 3, Kind::f32), embedding(random, 35, 520, 9, Kind::bf16)});
  add(cases, {rmsnorm(0, 5, true, 1), rmsnorm(1, 1, true, 1), rmsnorm(3, 576, false, 1), rmsnorm(5, 257, true, 100),
              rmsnorm(5, 65, true, 1e-3), rmsnorm(2, 2056, true, 1), rmsnorm(2, 8200, true, 1)});  // 1e-3: eps matters
  for (int i = 0; i < 4; i++) add(cases, {rmsnorm(odd(), odd(), i % 2 == 0, 1)});
  for (int D : {64, 80, 96, 128, 256}) {  // 8, 16 and 32 lanes a head on CUDA
    add(cases, {qk_norm({.N = 5, .H = 3, .G = 1, .D = D, .gap = D}), qk_norm({.N = 3, .H = 2, .G = 2, .D = D, .trained = false}),
                qk_norm({.N = 3, .H = 2, .G = 1, .D = D, .gap = 8, .in_place = true})});
  }
  for (int D : {1, 6, 20, 36, 67}) {
    add(cases, {qk_norm({.N = 7, .H = 3, .G = 1, .D = D, .gap = 3}),
                qk_norm({.N = 7, .H = 1, .G = 1, .D = D, .gap = 1, .in_place = true})});
  }
  add(cases, {qk_norm({.N = 0, .H = 2, .G = 1, .D = 8}), qk_norm({.N = 0, .H = 2, .G = 1, .D = 8, .trained = false}),
              qk_norm({.N = 2, .H = 1, .G = 1, .D = 40, .sigma = 1e-3}),  // eps matters
              qk_norm({.N = 2, .H = 1, .G = 1, .D = 40, .sigma = 100}),
              qk_norm({.N = 3, .H = 1, .G = 1, .D = 12, .gap = 8}),  // rows of whole vectors, heads not
              qk_norm({.N = 700, .H = 8, .G = 1, .D = 4})});         // more heads than the parts of a sum take at once
  add(cases, {rope(random, 0, 1, 2, 0), rope(random, 1, 1, 2, 0), rope(random, 7, 3, 64, 64), rope(random, 5, 2, 20, 3)});
  for (int i = 0; i < 3; i++) add(cases, {rope(random, odd(), between(random, 1, 5), 2 * odd(), between(random, 0, 9))});
  add(cases, {rope_table(1, 2), rope_table(700, 12), rope_table(33, 64), rope_table(33, 12, 1.25f)});
  add(cases,
      {swiglu(0, 3, 1), swiglu(1, 1, 1), swiglu(3, 67, 1), swiglu(3, 128, 2), swiglu(3, 67, 1, true), swiglu(3, 128, 2, true)});
  add(cases, {swiglu(5, 131, 60)});  // gates far beyond where the sigmoid is 0 or 1
  for (int i = 0; i < 3; i++) add(cases, {swiglu(odd(), odd(), 2)});
  add(cases, {cross_entropy(random, 0, 5, 1), cross_entropy(random, 1, 1, 1), cross_entropy(random, 3, 1000, 1),
              cross_entropy(random, 2, 5003, 5)});
  add(cases, {cross_entropy(random, 7, 259, 40)});  // one logit has nearly all the probability
  for (int i = 0; i < 3; i++) add(cases, {cross_entropy(random, odd(), odd(), 3, i * 4)});
  for (int V : {7, 2051, 16384 + 4100}) add(cases, {cross_entropy(random, 3, V, 3, 0, true)});  // a tile of CUDA's is 16,384
  add(cases, {cross_entropy(random, 3, 2 * 16384 + 5, 3, 3), cross_entropy(random, 3, 259, 3, 5, true)});
  // Logits in 16 bits, of which a tile is 32,768. Their rows are aligned where V + gap is a multiple of 8.
  for (const auto& [V, gap] : {std::pair(1, 0), {7, 1}, {259, 5}, {2051, 2}, {4104, 0}, {32768 + 4100, 4}, {2 * 32768 + 5, 3}})
    for (const bool in_place : {false, true}) add(cases, {cross_entropy(random, 3, V, 3, gap, in_place, Kind::storage)});
  add(cases, {cross_entropy(random, 0, 5, 1, 0, false, Kind::storage), cross_entropy(random, 7, 259, 40, 5, true, Kind::storage),
              with_mean(cross_entropy(random, 3, 65, 1, 7, false, Kind::storage), "logits", -300, random)});
  add(cases, {list_targets(random, 0, 1, 3), list_targets(random, 1, 1, 0), list_targets(random, 1024, 1, 0),
              list_targets(random, 2600, 0.3, 70), list_targets(random, 1100, 0, 5)});
  add(cases, {embedding(random, 29, 6, 5, Kind::f32, 2)});
  add(cases, {embedding(random, 3, 1100, 2, Kind::bf16)});  // more columns than a pass has
  // A part of each head is turned: in whole vectors, in broken ones, and in whole ones of heads that are not.
  for (const auto& [D, R] : {std::pair(24, 16), {96, 72}, {20, 12}, {20, 16}, {6, 2}})
    add(cases, {rope(random, 5, 3, D, D == 24 ? 0 : 3, 50, R)});
  add(cases, {rope(random, 3, 40, 64, 8)});              // more work than a block has threads
  add(cases, {rope(random, 4, 2, 24, 0)});               // rows of whole vectors, halves of broken ones
  add(cases, {swiglu(2, 1100, 1), swiglu(8195, 1, 1)});  // more columns than a block has, and more rows than a grid
  add(cases, {with_mean(cross_entropy(random, 3, 65, 1), "logits", -300, random)});  // no e^logit is above 0
  for (const Kind type : {Kind::acc, Kind::storage})
    for (const double value : {NAN, INFINITY}) {
      OpCase broken = with_mean(cross_entropy(random, 3, 65, 1, 0, false, type), "logits", 0, random);
      for (TensorSpec& spec : broken.tensors)
        if (spec.name == "logits") spec.values[70] = value;
      broken.shape += fmt::format(" {}", value), broken.oracle = false;
      add(cases, {broken});
    }
  // Rows of whole vectors in 16 bits, up in the middle of one.
  add(cases, {with_gaps(swiglu(5, 12, 1), {{"act", 4}, {"dact", 4}, {"act_again", 4}})});
  // Rows with room behind their columns, aligned and not.
  for (const int gap : {16, 3}) {
    add(cases,
        {with_gaps(embedding(random, 29, 40, 5, Kind::f32), {{"dout", gap}}), with_gaps(rmsnorm(5, 64, true, 1), {{"out", gap}}),
         with_gaps(rmsnorm(5, 2056, false, 1), {{"out", gap}, {"dx", gap + 8}}),
         with_gaps(rmsnorm(3, 4104, false, 1), {{"out", gap}, {"dx", gap + 8}})});
    for (const bool in_place : {false, true})
      add(cases, {with_gaps(swiglu(5, 72, 1, in_place),
                            {{"act", gap}, {"dact", gap}, {"act_again", gap}, {"gate_up", 8}, {"dgate_up", 8}})});
  }
  for (const OpCase& c : {embedding(random, 5, 64, 3, Kind::f32), rmsnorm(2, 64, true, 1),
                          qk_norm({.N = 2, .H = 2, .G = 1, .D = 64}), rope(random, 2, 2, 64, 0), swiglu(2, 64, 1),
                          cross_entropy(random, 2, 64, 1, 8), cross_entropy(random, 2, 64, 1, 8, false, Kind::storage)})
    add(cases, {misaligned_in_turn(c)});
}

}  // namespace tll::test
