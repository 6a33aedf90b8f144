#include "tests/op_case.h"

#include <algorithm>

#include "kernels/cuda_device.h"

namespace tll::test {

DType dtype_for(Kind kind, DType type) {
  constexpr DType kFixed[] = {DType::f32, DType::f32, DType::f32, DType::bf16, DType::f16,
                              DType::f32, DType::f64, DType::i32, DType::u8};
  const bool oracle = type == DType::f64 || type == DType::c128;
  return kind == Kind::storage || (oracle && kind < Kind::always_f32) ? type : kFixed[static_cast<int>(kind)];
}

std::vector<double> random_integers(Random& random, int64_t count, int low, int high) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = between(random, low, high);
  return values;
}

OpCase misaligned_in_turn(OpCase c) {
  c.each_misaligned = true;
  return c;
}
namespace {
TensorSpec& spec_of(OpCase& c, const std::string& tensor) {
  const auto found = std::find_if(c.tensors.begin(), c.tensors.end(), [&](const TensorSpec& s) { return s.name == tensor; });
  TLL_CHECK(found != c.tensors.end(), "{} has no tensor {}", c.op, tensor);
  return *found;
}
}  // namespace
OpCase with_values(OpCase c, const std::string& tensor, std::vector<double> values) {
  spec_of(c, tensor).values = std::move(values);
  return c;
}
OpCase with_sigma(OpCase c, const std::string& tensor, double sigma) {
  spec_of(c, tensor).sigma = sigma;
  c.shape += fmt::format(" x{}", sigma);
  return c;
}
// The definition is of rows without gaps.
OpCase with_gaps(OpCase c, const std::map<std::string, int64_t>& gaps) {
  std::vector<TensorSpec> gapped;
  for (const auto& [name, gap] : gaps) {
    TensorSpec& spec = spec_of(c, name);
    TLL_CHECK(spec.gap == 0 && (spec.values.empty() || spec.written()), "{} of {}", name, c.op);
    spec.gap = gap;
    gapped.push_back(spec);
    c.shape += fmt::format(" {}+{}", name, gap);
  }
  c.reference = [gapped, whole = std::move(c.reference)](const Values& in, Reference& r) {
    const auto each_row = [](const TensorSpec& spec, const std::vector<double>& from, size_t from_stride, size_t to_stride) {
      const size_t width = static_cast<size_t>(spec.width);
      std::vector<double> to(spec.rows == 0 ? 0 : static_cast<size_t>(spec.rows - 1) * to_stride + width);
      for (size_t row = 0; row < static_cast<size_t>(spec.rows); row++)
        for (size_t i = 0; i < width; i++) to[row * to_stride + i] = from[row * from_stride + i];
      return to;
    };
    Values without = in;
    for (const TensorSpec& s : gapped)
      if (const auto found = without.find(s.name); found != without.end())
        found->second = each_row(s, found->second, static_cast<size_t>(s.stride()), static_cast<size_t>(s.width));
    whole(without, r);
    for (const TensorSpec& s : gapped)
      for (Values* results : {&r.value, &r.magnitude})
        if (const auto found = results->find(s.name); found != results->end() && !found->second.empty())
          found->second = each_row(s, found->second, static_cast<size_t>(s.width), static_cast<size_t>(s.stride()));
  };
  return c;
}
OpCase with_mean(OpCase c, const std::string& tensor, double mean, Random& random) {
  std::normal_distribution<double> normal(mean, 1);
  std::vector<double> values(static_cast<size_t>(spec_of(c, tensor).count()));
  for (double& v : values) v = normal(random);
  c.shape += fmt::format(" {:+}", mean);
  return with_values(std::move(c), tensor, std::move(values));
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kIsas)
    if (isa <= best_isa()) isas.push_back(isa);
  return isas;
}
std::string variant_name(const TestDevice& device, const Device& variant) {
  return variant.kind == DeviceKind::cpu ? fmt::format("{} ({})", device.name, isa_name(variant.isa)) : device.name;
}
std::vector<TestDevice> devices_here() {
  TestDevice cpu{"cpu", {}};
  for (Isa isa : supported_isas()) cpu.variants.push_back(Device{.isa = isa, .threads = 2});
  std::vector<TestDevice> found{cpu};
  if (cuda_device_count() > 0) {
    static const Device cuda = open_cuda_device();
    TLL_CHECK(cuda.blas || !cuda_emulated(), "the emulator's cuBLASLt did not open");
    if (const std::string problem = cuda_properties(cuda).no_wgmma; !problem.empty())
      fail(kExitFault, "attention would run in other kernels than those of this GPU: {}", problem);
    found.push_back({cuda_backend(), {cuda}});
  }
  return found;
}

std::vector<OpCase> all_cases(uint64_t seed) {
  std::vector<OpCase> cases;
  Random random(seed);
  add_model_cases(cases, random);
  add_attention_cases(cases, random);
  add_linear_cases(cases, random);
  add_elementwise_cases(cases, random);
  add_adamw8bit_cases(cases, random);
  add_quantized_cases(cases, random);
  for (OpCase& c : cases) c.seed = random();
  return cases;
}

}  // namespace tll::test
