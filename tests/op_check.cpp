#include <algorithm>
#include <optional>

#include "kernels/bf16_instructions.h"
#include "src/base/parallel.h"
#include "tests/op_tensor.h"

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

const Device kOneCore{.isa = Isa::base, .threads = 2};  // where the oracle types run

class Run : public Tensors {
 public:
  Run(const OpCase& op, DType storage, const Values& initial, const Device& on = kOneCore, size_t alignment = 0,
      const std::string& but_not = {})
      : Tensors(storage, on) {
    for (const TensorSpec& spec : op.tensors) {
      const size_t align = spec.name != but_not ? alignment : 0;
      Tensor& tensor = tensors_.try_emplace(spec.name, spec, dtype_for(spec.kind, type), device, align).first->second;
      const auto found = initial.find(spec.name);
      if (found != initial.end()) for_each_live(spec, [&](int64_t i) { tensor.set(i, found->second[static_cast<size_t>(i)]); });
    }
  }
  Tensor& tensor(const std::string& name) {
    const auto found = tensors_.find(name);
    TLL_CHECK(found != tensors_.end(), "the case has no tensor {}", name);
    return found->second;
  }
  Matrix at(const std::string& name) override { return tensor(name).matrix(); }
  void copy(const std::string& to, const std::string& from) override { tensor(to).copy_from(tensor(from)); }
  void launch(const Launch& op) override { op.run(device); }

  // Forward and, if asked, backward; then says what else than the results is wrong.
  std::string execute(const OpCase& op, bool backward = true) {
    std::map<std::string, std::vector<std::byte>> before;
    for (const TensorSpec& spec : op.tensors)
      if (spec.role == Role::input || spec.role == Role::constant) before[spec.name] = tensor(spec.name).contents();
    set_cpu_threads(device.threads);
    for (auto& [name, tensor] : tensors_) tensor.upload();
    try {
      op.forward(*this);
      if (backward && op.backward) op.backward(*this);
      for (auto& [name, tensor] : tensors_) tensor.download();
    } catch (const Error& error) {  // a kernel failed
      return fmt::format("{}: {}", error.what(), cuda_faults(device));
    }
    if (device.kind == DeviceKind::cuda)
      if (const std::string faults = cuda_faults(device); !faults.empty()) return faults;
    for (const TensorSpec& spec : op.tensors) {
      if (!tensor(spec.name).intact()) return "wrote outside " + spec.name;
      if (before.contains(spec.name) && before[spec.name] != tensor(spec.name).contents())
        return "changed its input " + spec.name;
    }
    return {};
  }

 private:
  std::map<std::string, Tensor> tensors_;
};

bool same_results(const OpCase& op, Run& a, Run& b) {
  return std::all_of(op.tensors.begin(), op.tensors.end(), [&](const TensorSpec& spec) {
    return !spec.written() || a.tensor(spec.name).contents() == b.tensor(spec.name).contents();
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
double tolerance_of(const Tolerance& tolerance, DType type, DType tensor_type, const Device& device) {
  const bool cuda = device.kind == DeviceKind::cuda;
  const bool rounds = cuda || (device.isa == kIsaWithBf16 && bf16_instructions() != Bf16Instructions::none);
  if (type == DType::f64) return 2 * (tolerance.acc + tolerance.storage + 1) * 0x1p-53;
  const double acc = tolerance.acc * (cuda ? 1.4 : 1), storage = tolerance.storage + (rounds ? tolerance.tensor_core : 0);
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
void compare(const OpCase& op, Run& t, const Reference& reference, Run* exact, Row& row) {
  for (const TensorSpec& spec : op.tensors) {
    if (!spec.written()) continue;
    const bool defined = reference.value.contains(spec.name);
    if (!defined && !exact) continue;
    const auto& expected = defined ? reference.value.at(spec.name) : contents_as_double(spec, exact->tensor(spec.name));
    const auto& magnitude = reference.magnitude.contains(spec.name) ? reference.magnitude.at(spec.name) : expected;
    const Tensor& tensor = t.tensor(spec.name);
    const double tolerance = tolerance_of(reference.tolerance.at(spec.name), t.type, tensor.dtype(), t.device);
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
  Run t(op, DType::c128, initial);
  Tensor& x = t.tensor(input.name);
  for_each_live(input, [&](int64_t i) {
    x.set(i, {initial.at(input.name)[static_cast<size_t>(i)], kStep * direction[static_cast<size_t>(i)]});
  });
  op.forward(t);
  double sum = 0;
  for (const TensorSpec& spec : op.tensors) {
    if (spec.role != Role::output || !find(op, "d" + spec.name)) continue;
    // Output and cotangent may have different gaps: an element is (row, column).
    const TensorSpec& cotangent = *find(op, "d" + spec.name);
    const Tensor &y = t.tensor(spec.name), &dy = t.tensor(cotangent.name);
    for (int64_t e = 0; e < spec.rows * spec.width; e++)
      sum += dy.get(place(cotangent, e)).real() * (y.get(place(spec, e)).imag() / kStep);
  }
  return sum;
}

void check_gradient(const OpCase& op, const Values& initial, Run& run, const TensorSpec& input, Random& random, Row& row) {
  const TensorSpec* spec = find(op, "d" + input.name);
  TLL_CHECK(spec && spec->role == Role::gradient && spec->rows == input.rows && spec->width == input.width,
            "{} has no gradient of {}", op.op, input.name);
  std::vector<double> gradient = contents_as_double(*spec, run.tensor(spec->name));
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

// The initial values of inputs, constants and += tensors: as the storage type holds them.
Values initial_values(const OpCase& op, DType type) {
  Random random(op.seed);
  Values initial;
  for (const TensorSpec& spec : op.tensors) {
    if (spec.role == Role::scratch || (spec.written() && !spec.accumulates)) continue;
    std::vector<double>& values = initial[spec.name];
    values.resize(static_cast<size_t>(spec.count()));
    TLL_CHECK(spec.values.size() <= std::max<size_t>(1, values.size()), "{} of {}: {} values", spec.name, op.op,
              spec.values.size());
    std::normal_distribution<double> normal(0, spec.sigma);
    std::byte stored[sizeof(complex)];
    const DType dtype = dtype_for(spec.kind, type);
    for (size_t i = 0; i < values.size(); i++) {
      store_value(stored, dtype, spec.values.empty() ? normal(random) : spec.values[i % spec.values.size()]);
      values[i] = load_value(stored, dtype).real();
    }
  }
  return initial;
}

Row check_oracle(const OpCase& op) {
  Row row = row_of(op, dtype_name(DType::f64), "cpu");
  const Values initial = initial_values(op, DType::f64);
  Run run(op, DType::f64, initial);
  row.problem = run.execute(op);
  Reference reference;
  op.reference(initial, reference);
  compare(op, run, reference, nullptr, row);
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
  std::optional<Run> exact;
  if (op.oracle) exact.emplace(op, DType::f64, initial).execute(op);
  const auto note = [&](const std::string& problem) {
    if (row.problem.empty()) row.problem = problem;
  };
  for (const Device& variant : device.variants) {
    // On CUDA the second run has other addresses: alignment may change how a kernel moves data, but not the results.
    const bool cuda = variant.kind == DeviceKind::cuda;
    Run first(op, type, initial, variant, cuda ? 64 : 0), again(op, type, initial, variant, cuda ? op.alignment : 0);
    note(first.execute(op));
    compare(op, first, reference, exact ? &*exact : nullptr, row);
    note(again.execute(op));
    if (!same_results(op, first, again)) note("two runs differ");
    for (const TensorSpec& spec : op.tensors) {
      if (!cuda || !op.each_misaligned) break;
      Run t(op, type, initial, variant, 64, spec.name);
      if (const std::string broken = t.execute(op); !broken.empty()) note(fmt::format("{} misaligned: {}", spec.name, broken));
      if (!same_results(op, first, t)) note(spec.name + " misaligned: other results");
    }
    for (int threads : {1, kMostThreads}) {
      if (cuda) break;
      Device other = variant;
      other.threads = threads;
      Run t(op, type, initial, other);
      t.execute(op);
      if (!same_results(op, first, t)) note(fmt::format("{} threads and {} differ", variant.threads, threads));
    }
    for (int order = 1; order < device.orders && row.problem.empty(); order++) {
      device.choose_order(order);
      Run t(op, type, initial, variant, order % 2 == 0 ? 64 : op.alignment);
      note(t.execute(op));
      if (!same_results(op, first, t)) note("the results follow the order of threads");
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

}  // namespace

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
