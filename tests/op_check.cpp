#include <omp.h>

#include <algorithm>

#include "kernels/cuda_device.h"
#include "tests/op_case.h"

namespace tll::test {
namespace {

template <class Visit>
void for_each_live(const TensorSpec& spec, const Visit& visit) {
  for (int64_t r = 0; r < spec.rows; r++)
    for (int64_t c = 0; c < spec.width; c++) visit(r * spec.stride() + c);
}

const TensorSpec* find(const OpCase& op, const std::string& name) {
  const auto found = std::find_if(op.tensors.begin(), op.tensors.end(), [&](const TensorSpec& s) { return s.name == name; });
  return found == op.tensors.end() ? nullptr : &*found;
}
// Where element e lies, counted without gaps.
int64_t place(const TensorSpec& spec, int64_t e) { return e / spec.width * spec.stride() + e % spec.width; }

Tensors make_tensors(const OpCase& op, DType type, const Values& initial, const Device& device = {}, size_t alignment = 0,
                     const std::string& but_not = {}) {
  Tensors t{type, {}};
  for (const TensorSpec& spec : op.tensors) {
    const size_t align = spec.name != but_not ? alignment : 0;
    Tensor& tensor = t.tensors.try_emplace(spec.name, spec, dtype_for(spec.kind, type), device, align).first->second;
    const auto found = initial.find(spec.name);
    if (found != initial.end()) for_each_live(spec, [&](int64_t i) { tensor.set(i, found->second[static_cast<size_t>(i)]); });
  }
  return t;
}

// Forward and, if asked, backward; then says what else than the results is wrong.
std::string execute(const OpCase& op, Tensors& t, const Device& device, bool backward) {
  std::map<std::string, std::vector<std::byte>> before;
  for (const TensorSpec& spec : op.tensors)
    if (spec.role == Role::input || spec.role == Role::constant) before[spec.name] = t.at(spec.name).contents();
  omp_set_num_threads(device.threads);
  for (auto& [name, tensor] : t.tensors) tensor.upload();
  try {
    op.forward(t, device);
    if (backward && op.backward) op.backward(t, device);
    for (auto& [name, tensor] : t.tensors) tensor.download();
  } catch (const Error& error) {  // a kernel failed
    return fmt::format("{}: {}", error.what(), cuda_faults(device));
  }
  if (device.kind == DeviceKind::cuda)
    if (const std::string faults = cuda_faults(device); !faults.empty()) return faults;
  for (const TensorSpec& spec : op.tensors) {
    if (!t.at(spec.name).intact()) return "wrote outside " + spec.name;
    if (before.contains(spec.name) && before[spec.name] != t.at(spec.name).contents()) return "changed its input " + spec.name;
  }
  return {};
}

bool same_results(const OpCase& op, const Tensors& a, const Tensors& b) {
  return std::all_of(op.tensors.begin(), op.tensors.end(), [&](const TensorSpec& spec) {
    return !spec.written() || a.tensors.at(spec.name).contents() == b.tensors.at(spec.name).contents();
  });
}

double unit_roundoff(DType type) {
  switch (type) {
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    case DType::f64:
      return 0x1p-53;
    default:
      return 0x1p-24;
  }
}

// The reference is itself computed in double: twice the roundings when double is compared with it.
// Tensor cores cut their sums instead of rounding them: at most 1.4 · 2^-24 a product (Fasi et al. 2021; Xie et al. 2025).
double tolerance_of(const Tolerance& tolerance, DType type, DType tensor_type, bool cuda) {
  if (type == DType::f64) return 2 * (tolerance.acc + tolerance.storage + 1) * 0x1p-53;
  const double acc = tolerance.acc * (cuda ? 1.4 : 1), storage = tolerance.storage + (cuda ? tolerance.tensor_core : 0);
  return acc * 0x1p-24 + (tensor_type != DType::f32 ? storage * unit_roundoff(tensor_type) : 0);
}

// Keeps, of all tensors, the error that is nearest to its tolerance.
void keep_worst(double error, double tolerance, double& worst_error, double& worst_tolerance) {
  const auto ratio = [](double e, double t) { return e == 0 ? 0.0 : e / t; };
  if (worst_tolerance == 0 || !(ratio(error, tolerance) <= ratio(worst_error, worst_tolerance)))
    worst_error = error, worst_tolerance = tolerance;
}

// The largest |x - expected| / magnitude over a tensor's elements; infinite where an element is not even a number.
double relative_error(const TensorSpec& spec, const Tensor& tensor, const std::vector<double>& expected,
                      const std::vector<double>& magnitude) {
  // Below its least normal number the spacing of fp16 grows no finer; of the other types that range is out of reach.
  const double least = tensor.dtype() == DType::f16 ? 0x1p-14 : 0;
  double worst = 0;
  for_each_live(spec, [&](int64_t i) {
    const double x = tensor.get(i).real(), e = expected[static_cast<size_t>(i)];
    const bool same = x == e || (std::isnan(x) && std::isnan(e));  // where NaN is what is expected
    const double difference = same ? 0 : std::abs(x - e), m = std::max(std::abs(magnitude[static_cast<size_t>(i)]), least);
    const double error = difference == 0 ? 0 : difference / m;
    worst = error <= worst ? worst : (std::isnan(error) ? INFINITY : error);
  });
  return worst;
}

std::vector<double> contents_as_double(const TensorSpec& spec, const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(spec.count()));
  for (size_t i = 0; i < values.size(); i++) values[i] = tensor.get(static_cast<int64_t>(i)).real();
  return values;
}

// Compares all that a run wrote. Outputs are held against the definition; gradients, and what the definition does not give,
// against the run in double (null when this is the run in double).
void compare(const OpCase& op, const Tensors& t, const Reference& reference, const Tensors* exact, bool cuda, Row& row) {
  for (const TensorSpec& spec : op.tensors) {
    if (!spec.written()) continue;
    const bool defined = reference.value.contains(spec.name);
    if (!defined && !exact) continue;
    const auto& expected = defined ? reference.value.at(spec.name) : contents_as_double(spec, exact->tensors.at(spec.name));
    const auto& magnitude = reference.magnitude.contains(spec.name) ? reference.magnitude.at(spec.name) : expected;
    const Tensor& tensor = t.tensors.at(spec.name);
    const double tolerance = tolerance_of(reference.tolerance.at(spec.name), t.type, tensor.dtype(), cuda);
    const double error = relative_error(spec, tensor, expected, magnitude);
    if (!(error <= tolerance) && row.problem.empty())
      row.problem = fmt::format("{} differs by {:.2g} of its magnitude, more than {:.2g}", spec.name, error, tolerance);
    if (spec.role == Role::gradient)
      keep_worst(error, tolerance, row.backward_error, row.backward_tolerance);
    else
      keep_worst(error, tolerance, row.forward_error, row.forward_tolerance);
  }
}

// ---- the complex step: f'(x) = Im f(x + ih) / h for tiny h, with no subtraction and so no cancellation -------------------

constexpr double kStep = 1e-30, kOracleTolerance = 1e-12;

// d/dε of the cotangents' product with the outputs, when the input moves by ε·direction.
double complex_step(const OpCase& op, const Values& initial, const TensorSpec& input, const std::vector<double>& direction) {
  Tensors t = make_tensors(op, DType::c128, initial);
  Tensor& x = t.at(input.name);
  for_each_live(input, [&](int64_t i) {
    x.set(i, {initial.at(input.name)[static_cast<size_t>(i)], kStep * direction[static_cast<size_t>(i)]});
  });
  op.forward(t, Device{.isa = Isa::base, .threads = 2});
  double sum = 0;
  for (const TensorSpec& spec : op.tensors) {
    if (spec.role != Role::output || !find(op, "d" + spec.name)) continue;
    // Output and cotangent may have different gaps: an element is (row, column).
    const TensorSpec& cotangent = *find(op, "d" + spec.name);
    const Tensor &y = t.at(spec.name), &dy = t.at(cotangent.name);
    for (int64_t e = 0; e < spec.rows * spec.width; e++)
      sum += dy.get(place(cotangent, e)).real() * (y.get(place(spec, e)).imag() / kStep);
  }
  return sum;
}

void check_gradient(const OpCase& op, const Values& initial, const Tensors& run, const TensorSpec& input, Random& random,
                    Row& row) {
  const TensorSpec* spec = find(op, "d" + input.name);
  TLL_CHECK(spec && spec->role == Role::gradient && spec->rows == input.rows && spec->width == input.width,
            "{} has no gradient of {}", op.op, input.name);
  std::vector<double> gradient = contents_as_double(*spec, run.tensors.at(spec->name));
  if (spec->accumulates)
    for_each_live(*spec, [&](int64_t i) { gradient[static_cast<size_t>(i)] -= initial.at(spec->name)[static_cast<size_t>(i)]; });
  double largest = spec->accumulates ? 1 : 0;  // what was there before has been subtracted, with its roundings
  for_each_live(*spec, [&](int64_t i) { largest = std::max(largest, std::abs(gradient[static_cast<size_t>(i)])); });
  const int64_t elements = input.rows * input.width;
  constexpr int kDirections = 2, kSingles = 8;
  for (int probe = 0; probe < kDirections + kSingles && elements > 0; probe++) {
    std::vector<double> direction(static_cast<size_t>(input.count()), 0.0);
    double expected = 0, scale = 0;
    const auto move = [&](int64_t e, double by) {
      direction[static_cast<size_t>(place(input, e))] = by;
      expected += by * gradient[static_cast<size_t>(place(*spec, e))];
      scale += std::abs(by) * largest;
    };
    if (probe < kDirections) {
      std::normal_distribution<double> normal;
      for (int64_t e = 0; e < elements; e++) move(e, normal(random));
    } else {
      move(probe == kDirections       ? 0
           : probe == kDirections + 1 ? elements - 1
                                      : std::uniform_int_distribution<int64_t>(0, elements - 1)(random),
           1);
    }
    const double found = complex_step(op, initial, input, direction), difference = std::abs(found - expected);
    const double error = difference == 0 ? 0 : difference / scale;
    if (!(error <= kOracleTolerance) && row.problem.empty())
      row.problem = fmt::format("{} is {:.17g}, the complex step is {:.17g}", spec->name, expected, found);
    keep_worst(std::isnan(error) ? INFINITY : error, kOracleTolerance, row.backward_error, row.backward_tolerance);
  }
}

Row row_of(const OpCase& op, std::string dtype, std::string device) {
  Row row;
  row.op = op.op, row.shape = op.shape, row.dtype = std::move(dtype), row.device = std::move(device);
  row.has_backward = static_cast<bool>(op.backward);
  return row;
}

}  // namespace

Values initial_values(const OpCase& op, DType type) {
  Random random(op.seed);
  Values initial;
  for (const TensorSpec& spec : op.tensors) {
    if (spec.role == Role::scratch || (spec.written() && !spec.accumulates)) continue;
    std::vector<double> values = spec.values;
    if (values.empty()) {
      std::normal_distribution<double> normal(0, spec.sigma);
      values.resize(static_cast<size_t>(spec.count()));
      for (double& v : values) v = normal(random);
    }
    TLL_CHECK(values.size() == static_cast<size_t>(spec.count()), "{} of {}: {} values", spec.name, op.op, values.size());
    Tensor rounded({.name = spec.name, .role = spec.role, .width = spec.count()}, dtype_for(spec.kind, type));
    for (size_t i = 0; i < values.size(); i++) {
      rounded.set(static_cast<int64_t>(i), values[i]);
      values[i] = rounded.get(static_cast<int64_t>(i)).real();
    }
    initial[spec.name] = std::move(values);
  }
  return initial;
}

Row check_oracle(const OpCase& op) {
  Row row = row_of(op, dtype_name(DType::f64), "cpu");
  const Values initial = initial_values(op, DType::f64);
  Tensors run = make_tensors(op, DType::f64, initial);
  row.problem = execute(op, run, Device{.isa = Isa::base, .threads = 2}, true);
  Reference reference;
  op.reference(initial, reference);
  compare(op, run, reference, nullptr, false, row);
  Random random(op.seed);
  if (op.backward)
    for (const TensorSpec& spec : op.tensors)
      if (spec.role == Role::input) check_gradient(op, initial, run, spec, random, row);
  return row;
}

Row check_on(const OpCase& op, DType type, const TestDevice& device) {
  Row row = row_of(op, op.dtype_label.empty() ? dtype_name(type) : op.dtype_label, device.name);
  const Device& gpu = device.variants.front();
  if (gpu.kind == DeviceKind::cuda && gpu.arch < 800 && op.tensor_cores && type == DType::bf16) {
    row.skipped = fmt::format("sm_{} has no tensor cores for bf16", gpu.arch / 10);
    return row;
  }
  const Values initial = initial_values(op, type);
  Reference reference;
  op.reference(initial, reference);
  Tensors exact{DType::f64, {}};
  if (op.oracle) {
    exact = make_tensors(op, DType::f64, initial);
    execute(op, exact, Device{.isa = Isa::base, .threads = 2}, true);
  }
  for (const Device& variant : device.variants) {
    // On CUDA the second run has other addresses: alignment may change how a kernel moves data, but not the results.
    const bool cuda = variant.kind == DeviceKind::cuda;
    Tensors first = make_tensors(op, type, initial, variant, cuda ? 64 : 0),
            again = make_tensors(op, type, initial, variant, cuda ? op.alignment : 0);
    const std::string broken = execute(op, first, variant, true);
    if (!broken.empty() && row.problem.empty()) row.problem = broken;
    compare(op, first, reference, op.oracle ? &exact : nullptr, cuda, row);
    const std::string broken_again = execute(op, again, variant, true);
    if (!broken_again.empty() && row.problem.empty()) row.problem = broken_again;
    if (!same_results(op, first, again) && row.problem.empty()) row.problem = "two runs differ";
    for (const TensorSpec& spec : op.tensors) {
      if (!cuda || !op.each_misaligned) break;
      Tensors t = make_tensors(op, type, initial, variant, 64, spec.name);
      const std::string broken_alone = execute(op, t, variant, true);
      if (!broken_alone.empty() && row.problem.empty()) row.problem = fmt::format("{} misaligned: {}", spec.name, broken_alone);
      if (!same_results(op, first, t) && row.problem.empty()) row.problem = spec.name + " misaligned: other results";
    }
    for (int threads : {1, kMostThreads}) {
      if (!op.same_bits_any_threads || cuda) break;
      Device other = variant;
      other.threads = threads;
      Tensors t = make_tensors(op, type, initial);
      execute(op, t, other, true);
      if (!same_results(op, first, t) && row.problem.empty())
        row.problem = fmt::format("{} threads and {} differ", variant.threads, threads);
    }
    for (int order = 1; order < device.orders && row.problem.empty(); order++) {
      device.choose_order(order);
      Tensors t = make_tensors(op, type, initial, variant, order % 2 == 0 ? 64 : op.alignment);
      row.problem = execute(op, t, variant, true);
      if (row.problem.empty() && !same_results(op, first, t)) row.problem = "the results follow the order of threads";
      if (!row.problem.empty()) row.problem += fmt::format(" in order {}", order);
      device.choose_order(0);
    }
    if (!row.problem.empty()) {
      row.problem += fmt::format(" on {}", variant_name(device, variant));
      break;
    }
  }
  return row;
}

std::vector<Row> check(const OpCase& op, const std::vector<TestDevice>& devices) {
  std::vector<Row> rows;
  if (op.oracle) rows.push_back(check_oracle(op));
  for (const TestDevice& device : devices) {
    const bool cuda = device.variants.front().kind == DeviceKind::cuda;
    if (!cuda && !op.cpu) continue;
    std::vector<DType> types = op.dtypes;
    if (cuda && std::count(types.begin(), types.end(), DType::bf16)) types.push_back(DType::f16);
    for (DType type : types) rows.push_back(check_on(op, type, device));
  }
  return rows;
}

}  // namespace tll::test
