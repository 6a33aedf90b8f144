#include "tests/op_case.h"

#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda_device.h"

namespace tll::test {
namespace {

// What lies around the data. Around what an op only reads it is NaN, so that reading too far shows in the results; around what
// it writes it is something else, so that copying the one to the other shows too.
std::byte redzone(const TensorSpec& spec) { return spec.written() ? std::byte{0xa5} : std::byte{0xff}; }
constexpr size_t kZone = 64;

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

}  // namespace

DType dtype_for(Kind kind, DType type) {
  const bool oracle = type == DType::f64 || type == DType::c128;
  switch (kind) {
    case Kind::storage:
      return type;
    case Kind::acc:
      return oracle ? type : DType::f32;
    case Kind::f32:
      return oracle ? type : DType::f32;
    case Kind::bf16:
      return oracle ? type : DType::bf16;
    case Kind::f16:
      return oracle ? type : DType::f16;
    case Kind::always_f32:
      return DType::f32;
    case Kind::always_f64:
      return DType::f64;
    case Kind::i32:
      return DType::i32;
  }
  __builtin_unreachable();
}

Tensor::Tensor(const TensorSpec& spec, DType dtype, const Device& device, size_t alignment)
    : spec_(spec),
      dtype_(dtype),
      device_(device),
      offset_(kZone + (alignment ? alignment % kZone : dtype_bytes(dtype))),
      size_(static_cast<size_t>(spec.count()) * dtype_bytes(dtype)),
      bytes_(offset_ + size_ + kZone, redzone(spec)) {
  const size_t row = static_cast<size_t>(spec.width) * dtype_bytes(dtype),
               step = static_cast<size_t>(spec.stride()) * dtype_bytes(dtype);
  for (int64_t r = 0; r < spec.rows; r++) std::memset(host() + static_cast<size_t>(r) * step, 0xff, row);  // NaN until written
  if (device_.kind == DeviceKind::cuda) {
    device_memory_ = static_cast<std::byte*>(cuda_allocate(device_, bytes_.size()));
    TLL_CHECK(device_memory_, "{} bytes on the GPU", bytes_.size());
  } else {
    poison(true);
  }
}
Tensor::~Tensor() {
  if (device_memory_)
    cuda_free(device_, device_memory_);
  else
    poison(false);
}
// Redzones are copied as well, so the tensor has its name between the copies only.
void Tensor::upload() {
  if (!device_memory_) return;
  cuda_synchronize(device_);
  cuda_forget_tensors(device_, device_memory_);
  copy_to_cuda(device_, device_memory_, bytes_.data(), bytes_.size());
  cuda_synchronize(device_);
  cuda_name_tensor(device_, device_memory_ + offset_, size_, spec_.name);
}
void Tensor::download() {
  if (!device_memory_) return;
  cuda_synchronize(device_);
  cuda_forget_tensors(device_, device_memory_);
  copy_from_cuda(device_, bytes_.data(), device_memory_, bytes_.size());
  cuda_synchronize(device_);
}
void Tensor::poison(bool on) {
  if (on) {
    ASAN_POISON_MEMORY_REGION(bytes_.data(), offset_);
    ASAN_POISON_MEMORY_REGION(bytes_.data() + offset_ + size_, kZone);
  } else {
    ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), bytes_.size());
  }
}

void Tensor::set(int64_t i, complex value) {
  std::byte* at = host() + static_cast<size_t>(i) * dtype_bytes(dtype_);
  const double x = value.real();
  switch (dtype_) {
    case DType::f32:
      return store(at, static_cast<float>(x));
    case DType::bf16:
      return store(at, round_to_bf16(static_cast<float>(x)));
    case DType::f16:
      return store(at, round_to_half(static_cast<float>(x)));
    case DType::f64:
      return store(at, x);
    case DType::c128:
      return store(at, value);
    case DType::i32:
      return store(at, static_cast<int32_t>(x));
    default:
      TLL_CHECK(false, "{}", dtype_name(dtype_));
  }
}
complex Tensor::get(int64_t i) const {
  const std::byte* at = bytes_.data() + offset_ + static_cast<size_t>(i) * dtype_bytes(dtype_);
  switch (dtype_) {
    case DType::f32:
      return load<float>(at);
    case DType::bf16:
      return to_acc(load<bf16>(at));
    case DType::f16:
      return to_acc(load<half>(at));
    case DType::f64:
      return load<double>(at);
    case DType::c128:
      return load<complex>(at);
    case DType::i32:
      return load<int32_t>(at);
    default:
      TLL_CHECK(false, "{}", dtype_name(dtype_));
  }
  __builtin_unreachable();
}
void Tensor::copy_from(const Tensor& other) {
  TLL_CHECK(dtype_ == other.dtype_ && spec_.rows == other.spec_.rows && spec_.width == other.spec_.width, "{} from {}",
            spec_.name, other.spec_.name);
  const size_t e = dtype_bytes(dtype_);
  for (int64_t r = 0; r < spec_.rows; r++)
    std::memcpy(host() + static_cast<size_t>(r * spec_.stride()) * e,
                other.bytes_.data() + other.offset_ + static_cast<size_t>(r * other.spec_.stride()) * e,
                static_cast<size_t>(spec_.width) * e);
  upload();
}
bool Tensor::intact() {
  const auto untouched = [&](const std::byte* from, size_t count) {
    return std::all_of(from, from + count, [&](std::byte b) { return b == redzone(spec_); });
  };
  if (!device_memory_) poison(false);
  const size_t e = dtype_bytes(dtype_);
  bool ok = untouched(bytes_.data(), offset_) && untouched(bytes_.data() + offset_ + size_, kZone);
  for (int64_t r = 0; r + 1 < spec_.rows; r++)
    ok = ok && untouched(host() + static_cast<size_t>(r * spec_.stride() + spec_.width) * e, static_cast<size_t>(spec_.gap) * e);
  if (!device_memory_) poison(true);
  return ok;
}
std::vector<std::byte> Tensor::contents() const {
  const auto first = bytes_.begin() + static_cast<ptrdiff_t>(offset_);
  return {first, first + static_cast<ptrdiff_t>(size_)};
}

Tensor& Tensors::at(const std::string& name) {
  const auto found = tensors.find(name);
  TLL_CHECK(found != tensors.end(), "the case has no tensor {}", name);
  return found->second;
}

std::vector<double> random_integers(Random& random, int64_t count, int low, int high) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = between(random, low, high);
  return values;
}

namespace {
OpCase changed(OpCase c, const std::string& tensor, const std::string& how, const std::function<void(TensorSpec&)>& change) {
  for (TensorSpec& spec : c.tensors)
    if (spec.name == tensor) change(spec);
  c.shape += how;
  return c;
}
}  // namespace
OpCase with_sigma(OpCase c, const std::string& tensor, double sigma) {
  return changed(std::move(c), tensor, fmt::format(" x{}", sigma), [&](TensorSpec& spec) { spec.sigma = sigma; });
}
OpCase with_mean(OpCase c, const std::string& tensor, double mean, Random& random) {
  return changed(std::move(c), tensor, fmt::format(" {:+}", mean), [&](TensorSpec& spec) {
    std::normal_distribution<double> normal(mean, 1);
    spec.values.resize(static_cast<size_t>(spec.count()));
    for (double& v : spec.values) v = normal(random);
  });
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::base, Isa::avx2, Isa::avx512})
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
  for (OpCase& c : cases) c.seed = random();
  return cases;
}

}  // namespace tll::test
