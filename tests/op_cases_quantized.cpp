// Cases of the ops on quantised matrices. Codes and decoded values are exact; products are matmul's.
#include "kernels/row_stride.h"
#include "tests/op_cases.h"
#include "tests/op_tensor.h"

namespace tll::test {
namespace {

constexpr double kFp4Book[16] = {0, 0.005208333,  0.66666667,  1,  0.33333333,  0.5,  0.16666667,  0.25,
                                 0, -0.005208333, -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25};

std::vector<double> signed_map() {
  float map[256];
  dynamic_map(true, map);
  return {map, map + 256};
}
int64_t blocks_of(int64_t count, int block) { return (count + block - 1) / block; }
float times(double a, double b) { return static_cast<float>(a * b); }  // of floats: exact in double, rounded here

// Tensors of the parts, named by their index.
void add_matrix(OpCase& c, Random& random, const QuantizedShape& w) {
  const auto fill = [&](const std::string& name, Kind kind, int64_t width, std::vector<double> values, double sigma = 1) {
    c.tensors.push_back(
        {.name = name, .role = Role::constant, .kind = kind, .width = width, .sigma = sigma, .values = std::move(values)});
  };
  const auto scales = [&](int64_t n) {
    std::vector<double> values(static_cast<size_t>(std::min<int64_t>(n, 1009)));
    for (size_t i = 0; i < values.size(); i++)
      values[i] = i % 31 == 30 ? 0 : i % 37 == 36 ? 0x1p-140 : between(random, 1, 4000) / 3e4;
    return values;
  };
  for (size_t i = 0; i < w.parts.size(); i++) {
    const QuantizedShape::Part& p = w.parts[i];
    const std::string n = std::to_string(i);
    const int64_t count = static_cast<int64_t>(p.rows) * w.cols, blocks = blocks_of(count, p.block);
    const bool nibbles = p.code == WeightCode::nf4 || p.code == WeightCode::fp4;
    c.shape += fmt::format(" {}{}", p.rows,
                           p.code == WeightCode::dense  ? " dense"
                           : p.code == WeightCode::int8 ? " int8"
                           : p.code == WeightCode::nf4  ? " nf4"
                                                        : " fp4");
    if (p.code == WeightCode::dense) {
      fill("codes" + n, p.dense, count, {});
      continue;
    }
    c.shape += fmt::format("/{}{}", p.block, p.nested ? " nested" : "");
    const int64_t bytes = nibbles ? (count + 1) / 2 : count;
    fill("codes" + n, Kind::u8, bytes, random_integers(random, std::min<int64_t>(bytes, 4099), 0, 255));
    if (p.nested) {
      fill("scale_codes" + n, Kind::u8, blocks, random_integers(random, std::min<int64_t>(blocks, 1009), 0, 255));
      fill("nested_absmax" + n, Kind::always_f32, blocks_of(blocks, kNestedBlock), scales(blocks_of(blocks, kNestedBlock)));
      fill("nested_offset" + n, Kind::always_f32, 1, {between(random, 1, 1000) / 3e4});
      fill("nested_map" + n, Kind::always_f32, kNestedBlock, signed_map());
    } else {
      fill("scales" + n, Kind::always_f32, blocks, scales(blocks));
    }
    if (nibbles) {
      std::vector<double> book(kNf4Book, kNf4Book + 16);
      if (p.code == WeightCode::fp4) book.assign(kFp4Book, kFp4Book + 16);
      fill("book" + n, Kind::always_f32, 16, book);
    }
  }
}
QuantizedMatrix matrix_of(Tensors& t, const QuantizedShape& w) {
  QuantizedMatrix m{.part_count = static_cast<int>(w.parts.size()), .cols = w.cols};
  for (size_t i = 0; i < w.parts.size(); i++) {
    const QuantizedShape::Part& from = w.parts[i];
    const std::string n = std::to_string(i);
    QuantizedPart& p = m.parts[i];
    const Matrix codes = t["codes" + n];
    p = {.code = from.code,
         .dtype = codes.dtype,
         .first_row = m.rows,
         .rows = from.rows,
         .block = from.block,
         .codes = codes.data};
    if (from.nested) {
      p.scale_codes = t["scale_codes" + n];
      p.nested_absmax = t["nested_absmax" + n], p.nested_offset = t["nested_offset" + n], p.nested_map = t["nested_map" + n];
    } else if (from.code != WeightCode::dense) {
      p.scales = t["scales" + n];
    }
    if (from.code == WeightCode::nf4 || from.code == WeightCode::fp4) p.book = t["book" + n];
    m.rows += from.rows;
  }
  return m;
}
// W by its definition, each element rounded to `type`.
std::vector<double> decoded(const Values& in, const QuantizedShape& w, DType type) {
  std::vector<double> all;
  for (size_t i = 0; i < w.parts.size(); i++) {
    const QuantizedShape::Part& p = w.parts[i];
    const auto at = [&](const char* name, int64_t index) { return in.at(name + std::to_string(i))[static_cast<size_t>(index)]; };
    for (int64_t e = 0; e < static_cast<int64_t>(p.rows) * w.cols; e++) {
      float value;
      if (p.code == WeightCode::dense) {
        value = static_cast<float>(at("codes", e));
      } else {
        const int64_t b = e / p.block;
        const float scale = p.nested ? times(at("nested_map", static_cast<int64_t>(at("scale_codes", b))),
                                             at("nested_absmax", b / kNestedBlock)) +
                                           static_cast<float>(at("nested_offset", 0))
                                     : static_cast<float>(at("scales", b));
        if (p.code == WeightCode::int8) {
          value = times(static_cast<int8_t>(static_cast<uint8_t>(at("codes", e))), scale);
        } else {
          const int pair = static_cast<int>(at("codes", e / 2));
          value = times(at("book", e % 2 ? pair % 16 : pair / 16), scale);
        }
      }
      std::byte stored[4];
      store_value(stored, type, value);
      all.push_back(load_value(stored, type).real());
    }
  }
  return all;
}
int rows_of(const QuantizedShape& w) {
  int rows = 0;
  for (const auto& p : w.parts) rows += p.rows;
  return rows;
}
const char* name(Kind k) { return k == Kind::f32 ? "fp32" : k == Kind::bf16 ? "bf16" : "fp16"; }

}  // namespace

OpCase quantize(int64_t n, WeightCode code, int block, double sigma, Kind in) {
  const bool int8 = code == WeightCode::int8;
  OpCase c{.op = "quantize", .shape = fmt::format("{} {}/{} x{}", n, int8 ? "int8" : "nf4", block, sigma), .oracle = false};
  const int64_t blocks = blocks_of(n, block);
  c.tensors = {{.name = "x", .role = Role::constant, .kind = in, .width = n, .sigma = sigma},
               {.name = "codes", .role = Role::output, .kind = Kind::u8, .width = int8 ? n : (n + 1) / 2},
               {.name = "scales", .role = Role::output, .kind = Kind::always_f32, .width = blocks},
               {.name = "not_finite", .role = Role::output, .kind = Kind::i32, .accumulates = true, .values = {3}}};
  c.forward = [=](Tensors& t) {
    const Matrix x = t["x"], codes = t["codes"];
    t.run(QuantizeBlocks{codes.data, t["scales"], x.data, t["not_finite"], n, x.dtype, code, block});
  };
  c.reference = [=](const Values& given, Reference& r) {
    const std::vector<double>& x = given.at("x");
    std::vector<double>&codes = r.value["codes"], &scales = r.value["scales"];
    int bad = 3;
    std::vector<int> all;
    for (int64_t first = 0; first < n; first += block) {
      const int64_t end = std::min<int64_t>(n, first + block);
      float largest = 0;
      for (int64_t i = first; i < end; i++)
        if (std::isfinite(x[i])) largest = std::max(largest, static_cast<float>(std::abs(x[i])));
      const float scale = int8 ? largest / 127 : largest, inverse = 1.0f / std::max(largest, 1e-38f);
      scales.push_back(scale);
      for (int64_t i = first; i < end; i++) {
        const float v = std::isfinite(x[i]) ? static_cast<float>(x[i]) : 0.0f;
        bad += !std::isfinite(x[i]);
        if (int8) {
          const float q = scale > 0 ? std::nearbyint(v / scale) : 0.0f;
          codes.push_back(static_cast<uint8_t>(static_cast<int8_t>(std::clamp(q, -127.0f, 127.0f))));
        } else {
          int k = 0;
          while (k < 15 && times(v, inverse) > (kNf4Book[k] + kNf4Book[k + 1]) / 2) k++;
          all.push_back(k);
        }
      }
    }
    if (n % 2) all.push_back(7);
    for (size_t i = 0; !int8 && i + 1 < all.size(); i += 2) codes.push_back(all[i] * 16 + all[i + 1]);
    r.value["not_finite"] = {static_cast<double>(bad)};
    r.tolerance = {{"codes", {}}, {"scales", {}}, {"not_finite", {}}};
  };
  return c;
}

OpCase quantize_scales(int64_t blocks) {
  OpCase c{.op = "quantize_scales", .shape = fmt::format("{}", blocks), .dtypes = {DType::f32}, .oracle = false};
  std::vector<double> scales(static_cast<size_t>(std::min<int64_t>(blocks, 1009)));
  for (size_t i = 0; i < scales.size(); i++) scales[i] = 0.02 + 0.01 * std::sin(1.7 * static_cast<double>(i * i));
  const int64_t nested = blocks_of(blocks, kNestedBlock);
  c.tensors = {{.name = "scales", .role = Role::constant, .kind = Kind::always_f32, .width = blocks, .values = scales},
               {.name = "map", .role = Role::constant, .kind = Kind::always_f32, .width = kNestedBlock, .values = signed_map()},
               {.name = "codes", .role = Role::output, .kind = Kind::u8, .width = blocks},
               {.name = "absmax", .role = Role::output, .kind = Kind::always_f32, .width = nested},
               {.name = "offset", .role = Role::output, .kind = Kind::always_f32}};
  c.forward = [=](Tensors& t) { t.run(QuantizeScales{t["codes"], t["absmax"], t["offset"], t["scales"], t["map"], blocks}); };
  c.reference = [=](const Values& in, Reference& r) {
    const std::vector<double>&x = in.at("scales"), &map = in.at("map");
    double sum = 0;
    for (double s : x) sum += s;
    // Rounded to float: the order of a sum in double shows in none of these.
    const float offset = static_cast<float>(sum / static_cast<double>(blocks));
    r.value["offset"] = {offset};
    for (int64_t first = 0; first < blocks; first += kNestedBlock) {
      const int64_t end = std::min<int64_t>(blocks, first + kNestedBlock);
      float largest = 0;
      for (int64_t i = first; i < end; i++) largest = std::max(largest, std::abs(static_cast<float>(x[i]) - offset));
      r.value["absmax"].push_back(largest);
      for (int64_t i = first; i < end; i++) {
        // The library's search: steps from the middle, then the midpoint with the neighbour on that side.
        const float v = largest > 0 ? times(static_cast<float>(x[i]) - offset, 1.0f / largest) : 0.0f;
        int pivot = 127, upper = 255, lower = 0;
        for (int step = 64; step > 0; step /= 2) {
          const bool up = v > static_cast<float>(map[pivot]);
          (up ? lower : upper) = pivot;
          pivot += up ? step : -step;
        }
        const bool up = v > static_cast<float>(map[pivot]);
        const int other = up ? upper : lower;
        const float middle = 0.5f * (static_cast<float>(map[pivot]) + static_cast<float>(map[other]));
        const int code = up ? (v > middle ? other : pivot) : (v < middle ? other : pivot);
        r.value["codes"].push_back(largest > 0 ? code : 0);
      }
    }
    r.tolerance = {{"codes", {}}, {"absmax", {}}, {"offset", {}}};
  };
  return c;
}

OpCase dequantize(Random& random, const QuantizedShape& w, const WindowShape& window, Kind out) {
  OpCase c{.op = "dequantize", .shape = fmt::format("{} x {}:", rows_of(w), w.cols), .oracle = false};
  add_matrix(c, random, w);
  c.shape += fmt::format("; {}+{} x {}+{}", window.first_row, window.rows, window.first_col, window.cols);
  c.dtypes = {DType::f32}, c.dtype_label = name(out);
  c.tensors.push_back(
      {.name = "y", .role = Role::output, .kind = out, .rows = window.rows, .width = window.cols, .gap = window.gap});
  c.forward = [=](Tensors& t) { t.run(Dequantize{t["y"], matrix_of(t, w), window.first_row, window.first_col}); };
  c.reference = [=](const Values& in, Reference& r) {
    const std::vector<double> all = decoded(in, w, dtype_for(out, DType::f32));
    std::vector<double>& y = r.value["y"];
    for (int i = 0; i < window.rows; i++)
      for (int j = 0; j < window.cols + window.gap; j++)
        y.push_back(j < window.cols ? all[static_cast<size_t>(window.first_row + i) * w.cols + window.first_col + j] : 0);
    r.tolerance["y"] = {};
  };
  return c;
}

OpCase quantized_matmul(Random& random, const QuantizedMatmulShape& p) {
  const QuantizedShape& w = p.w;
  const int N = p.N, rows = rows_of(w), cols = w.cols, R = p.extra;
  OpCase c{
      .op = "quantized_matmul", .shape = fmt::format("{} x {} x {}:", N, rows, cols), .cpu = p.cpu && R == 0, .oracle = false};
  add_matrix(c, random, w);
  if (p.accumulate) c.shape += " +=";
  if (p.residual) c.shape += " + addend";
  if (R > 0) c.shape += fmt::format(" extra {}", R);
  if (p.piece >= 0) c.shape += fmt::format(" piece {}", p.piece);
  c.dtype_label = fmt::format("{}={}", name(p.type), name(p.out));
  c.dtypes = {DType::f32};
  const int64_t scratch = p.scratch ? p.scratch : Matmul<float>::scratch_floats(2), gap = p.gap;
  const DType type = dtype_for(p.type, DType::f32);
  const auto piece_bytes = [=](DeviceKind kind) {
    const int64_t usual = QuantizedMatmul::piece_bytes(kind, type, rows + R, aligned_row(cols + R, type));
    if (p.piece == 0 && kind == DeviceKind::cuda) return usual;
    return p.piece >= 0 && usual > 0 ? p.piece : usual;
  };
  const auto more = [&](TensorSpec spec) { c.tensors.push_back(std::move(spec)); };
  more({.name = "x", .role = Role::input, .kind = p.type, .rows = N, .width = cols + R, .gap = gap});
  more({.name = "y", .role = Role::output, .kind = p.out, .rows = N, .width = rows, .gap = 2 * gap, .accumulates = p.accumulate});
  more({.name = "dy", .role = Role::constant, .kind = p.type, .rows = N, .width = rows + R, .gap = gap});
  // Of x's columns that belong to W. What a gradient is called would be compared with that of all of x.
  const char* dx_name = R > 0 ? "to_x" : "dx";
  const Role dx_role = R > 0 ? Role::saved : Role::gradient;
  more({.name = dx_name, .role = dx_role, .kind = p.out, .rows = N, .width = cols, .accumulates = p.accumulate});
  if (R > 0) {
    more({.name = "columns", .role = Role::constant, .kind = p.type, .rows = rows, .width = R, .gap = gap});
    more({.name = "rows", .role = Role::constant, .kind = p.type, .rows = R, .width = cols, .gap = gap});
  }
  more({.name = "scratch", .role = Role::scratch, .kind = Kind::always_f32, .width = scratch});
  more({.name = "piece",
        .role = Role::scratch,
        .kind = p.type,
        .width = piece_bytes(DeviceKind::cuda) / static_cast<int64_t>(dtype_bytes(type))});
  if (p.residual) more({.name = "addend", .role = Role::constant, .kind = p.out, .rows = N, .width = rows, .gap = 2 * gap});
  const auto multiply = [=](Tensors& t, const char* out, const char* a, bool transposed, const void* addend) {
    QuantizedMatmul op{.out = t[out],
                       .a = t[a],
                       .w = matrix_of(t, w),
                       .transposed = transposed,
                       .accumulate = p.accumulate || addend,
                       .scratch = {t["scratch"], scratch},
                       .addend = addend};
    if (R > 0) op.extra = t[transposed ? "columns" : "rows"];
    op.piece_size = piece_bytes(t.device.kind);
    if (op.piece_size > 0) op.piece = static_cast<Matrix>(t["piece"]).data;
    t.run(op);
  };
  c.forward = [=](Tensors& t) {
    const void* addend = nullptr;
    if (p.residual) addend = static_cast<Matrix>(t["addend"]).data;
    multiply(t, "y", "x", true, addend);
  };
  c.backward = [=](Tensors& t) { multiply(t, dx_name, "dy", false, nullptr); };
  c.reference = [=](const Values& in, Reference& r) {
    const std::vector<double> all = decoded(in, w, type), &x = in.at("x"), &dy = in.at("dy");
    const int64_t sx = cols + R + gap, sy = rows + 2 * gap, sdy = rows + R + gap;
    auto &y = r.value["y"], &my = r.magnitude["y"], &dx = r.value[dx_name], &mdx = r.magnitude[dx_name];
    const auto before = [&](const char* name, int64_t count) {
      return in.contains(name) ? in.at(name) : std::vector<double>(static_cast<size_t>(std::max<int64_t>(count, 0)), 0.0);
    };
    y = before(p.residual ? "addend" : "y", (N - 1) * sy + rows), dx = before(dx_name, static_cast<int64_t>(N) * cols);
    my = absolute(y), mdx = absolute(dx);
    for (int64_t n = 0; n < N; n++)
      for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < cols; k++) {
          const double weight = all[i * cols + k], forward = x[n * sx + k] * weight, back = dy[n * sdy + i] * weight;
          y[n * sy + i] += forward, my[n * sy + i] += std::abs(forward);
          dx[n * cols + k] += back, mdx[n * cols + k] += std::abs(back);
        }
    for (int64_t n = 0; n < N; n++)
      for (int64_t e = 0; e < R; e++) {
        for (int64_t i = 0; i < rows; i++) {
          const double forward = x[n * sx + cols + e] * in.at("columns")[i * (R + gap) + e];
          y[n * sy + i] += forward, my[n * sy + i] += std::abs(forward);
        }
        for (int64_t k = 0; k < cols; k++) {
          const double back = dy[n * sdy + rows + e] * in.at("rows")[e * (cols + gap) + k];
          dx[n * cols + k] += back, mdx[n * cols + k] += std::abs(back);
        }
      }
    // As of matmul.
    r.tolerance["y"] = {cols + R + 3.0, 1};
    r.tolerance[dx_name] = {rows + R + 3.0, 1};
  };
  return c;
}

void add_quantized_cases(std::vector<OpCase>& cases, Random& random) {
  const WeightCode nf4 = WeightCode::nf4, fp4 = WeightCode::fp4, int8 = WeightCode::int8, dense = WeightCode::dense;
  const Kind f32 = Kind::f32, b16 = Kind::bf16, h16 = Kind::f16;
  for (WeightCode code : {nf4, int8}) {
    for (int64_t n : {0, 1, 63, 64, 65, 1000, 1537}) cases.push_back(quantize(n, code, 64, 0.05));
    for (int block : {32, 128, 256, 512, 1024, 2048, 4096}) cases.push_back(quantize(between(random, 1, 9000), code, block, 1));
    for (double sigma : {0.0, 1e-39, 1e-30, 1e30}) cases.push_back(quantize(200, code, 64, sigma));
    OpCase special = quantize(333, code, 64, 1);
    special.shape += " special";
    cases.push_back(with_values(special, "x", {0.25, NAN, -3, INFINITY, -INFINITY, -0.0, 1e-42, 7, 1.5, -1.5, 2.5}));
    // A block's values, whose largest is 1, at the thresholds of NF4; a scale of 190 / 127 of the least float, which is rounded.
    std::vector<double> thresholds{1};
    for (int i = 0; i < 15; i++) thresholds.push_back((kNf4Book[i] + kNf4Book[i + 1]) / 2);
    const std::vector<double> tiny{190 * 0x1p-149, -190 * 0x1p-149, 63 * 0x1p-149};
    for (const auto& [what, values] :
         {std::pair{"constant", std::vector<double>{1}}, {"thresholds", thresholds}, {"tiny", tiny}}) {
      cases.push_back(with_values(quantize(128, code, 64, 1), "x", values));
      cases.back().shape += fmt::format(" {}", what);
    }
  }
  for (int64_t blocks : {1, 2, 255, 256, 257, 300, 5000}) cases.push_back(quantize_scales(blocks));
  cases.push_back(with_values(quantize_scales(100000), "scales", {0.1}));  // all are the mean
  cases.back().shape += " equal";

  const QuantizedShape qkv{{{nf4, 12, 64, true}, {nf4, 5, 64}, {dense, 7}}, 37};
  const QuantizedShape mixed{{{int8, 9, 32}, {fp4, 3, 128, true}, {nf4, 20, 4096}}, 45};
  const QuantizedShape aligned{{{nf4, 24, 64, true}, {nf4, 16, 32}, {int8, 40, 64}}, 72};
  const QuantizedShape uneven{{{int8, 6, 40}, {nf4, 10, 24}, {dense, 4, 64, false, f32}}, 40};
  const QuantizedShape halves{{{dense, 3, 64, false, h16}, {nf4, 2000, 64, true}}, 24};  // several nested blocks
  for (Kind out : {f32, b16, h16}) {
    const auto add = [&](const QuantizedShape& w, const WindowShape& window) {
      cases.push_back(dequantize(random, w, window, out));
      cases.back().cpu = true;
    };
    for (const QuantizedShape& w : {qkv, mixed, aligned, uneven}) {
      add(w, {0, rows_of(w), 0, w.cols});
      add(w, {3, rows_of(w) - 5, 0, w.cols, 8});   // by rows
      add(w, {0, rows_of(w), 8, w.cols - 16, 4});  // by columns
      add(w, {1, rows_of(w) - 2, 3, w.cols - 5, 3});
    }
    add(qkv, {0, 24, 0, 37, 3});  // rows that begin anywhere in a byte, to aligned ones
    add(aligned, {0, 80, 4, 64});
    add(halves, {0, 2003, 0, 24});
    add(qkv, {13, 1, 36, 1});
    add(aligned, {0, 80, 71, 1, 1});
    add(qkv, {2, 0, 0, 37});
    cases.push_back(
        misaligned_in_turn(dequantize(random, {{{nf4, 6, 64}, {int8, 5, 64, true}, {dense, 4}}, 64}, {0, 15, 0, 64}, out)));
  }
  for (Kind type : {f32, b16, h16})
    for (Kind out : {type, f32}) {
      const bool cpu = type != h16;
      const auto add = [&](QuantizedMatmulShape p) {
        p.type = type, p.out = out, p.cpu = cpu;
        cases.push_back(quantized_matmul(random, p));
      };
      for (int N : {1, 3, 8, 9, 33}) {
        add({.N = N, .w = qkv, .gap = N % 3});
        add({.N = N, .w = mixed, .accumulate = true});
        add({.N = N, .w = aligned, .residual = true, .gap = 8});
      }
      add({.N = 20, .w = uneven});
      if (out == type) {
        add({.N = 3, .w = qkv, .extra = 8});
        add({.N = 33, .w = aligned, .residual = true, .gap = 8, .extra = 16});
        add({.N = 12, .w = halves, .piece = 150000, .extra = 24});
        add({.N = 9, .w = uneven, .gap = 1, .extra = 5});
      }
      add({.N = 4, .w = uneven});
      add({.N = 0, .w = qkv});
      add({.N = 12, .w = halves});
      add({.N = 12, .w = halves, .residual = true, .piece = 150000});
      add({.N = 17, .w = {{{nf4, 300, 64, true}, {nf4, 100, 64, true}}, 200}, .accumulate = true, .piece = 70000});
      if (out != type || type == f32) break;
    }
  // Rows longer than a warp reads at once.
  for (int cols : {600, 601})
    cases.push_back(quantized_matmul(random, {.N = 5, .w = {{{nf4, 20, 64, true}, {int8, 9}}, cols}, .type = b16, .out = b16}));
  // Several panels and blocks of the packed GEMM.
  cases.push_back(quantized_matmul(random, {.N = 70, .w = {{{nf4, 90, 64, true}, {int8, 70}}, 600}}));
  cases.push_back(quantized_matmul(random, {.N = 70, .w = {{{nf4, 90, 64, true}, {int8, 70}}, 600}, .type = b16, .piece = 0}));
  cases.push_back(quantized_matmul(random, {.N = 10, .w = {{{nf4, 40, 64}}, 4200}, .type = b16, .out = b16, .piece = 0}));
}

}  // namespace tll::test
