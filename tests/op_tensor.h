// One tensor of a checked case in memory, between its redzones; its elements are NaN until they are set. For a CUDA device it
// lies there as well, with its redzones: upload() before ops run, download() afterwards; all else works on the host's copy.
#pragma once

#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda_device.h"
#include "tests/op_case.h"

namespace tll::test {

// f(T{}) for the element type T of a dtype.
template <class F>
auto with_element(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(half{});
    case DType::f64:
      return f(double{});
    case DType::c128:
      return f(complex{});
    case DType::u8:
      return f(uint8_t{});
    default:
      return f(int32_t{});
  }
}
// A value stored as `dtype`, and read back.
inline void store_value(std::byte* at, DType dtype, complex value) {
  with_element(dtype, [&]<class T>(T) {
    T stored;
    if constexpr (std::is_same_v<T, complex>)
      stored = value;
    else if constexpr (std::is_same_v<T, double> || std::is_integral_v<T>)
      stored = static_cast<T>(value.real());
    else
      stored = from_acc<T>(static_cast<float>(value.real()));
    std::memcpy(at, &stored, sizeof(T));
  });
}
inline complex load_value(const std::byte* at, DType dtype) {
  return with_element(dtype, [&]<class T>(T) -> complex {
    T stored;
    std::memcpy(&stored, at, sizeof(T));
    if constexpr (std::is_integral_v<T>)
      return static_cast<double>(stored);
    else
      return to_acc(stored);
  });
}

class Tensor {
 public:
  // Aligned to 64 bytes, or to a smaller power of two and no more. 0: to its elements, the most that an op may count on.
  Tensor(const TensorSpec& spec, DType dtype, const Device& device = {}, size_t alignment = 0)
      : spec_(spec),
        dtype_(dtype),
        element_(dtype_bytes(dtype)),
        device_(device),
        offset_(kZone + (alignment ? alignment % kZone : element_)),
        size_(static_cast<size_t>(spec.count()) * element_),
        bytes_(offset_ + size_ + kZone, redzone()) {
    for (int64_t r = 0; r < spec.rows; r++) std::memset(row(r), 0xff, row_bytes());  // NaN until written
    if (device_.kind == DeviceKind::cuda) {
      device_memory_ = static_cast<std::byte*>(cuda_allocate(device_, bytes_.size()));
      TLL_CHECK(device_memory_, "{} bytes on the GPU", bytes_.size());
    } else {
      poison(true);
    }
  }
  ~Tensor() {
    if (device_memory_)
      cuda_free(device_, device_memory_);
    else
      poison(false);
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  DType dtype() const { return dtype_; }
  Matrix matrix() {  // what ops get
    return {(device_memory_ ? device_memory_ : bytes_.data()) + offset_, dtype_, static_cast<int>(spec_.rows),
            static_cast<int>(spec_.width), spec_.stride()};
  }
  void set(int64_t i, complex value) { store_value(at(i), dtype_, value); }
  complex get(int64_t i) const { return load_value(bytes_.data() + offset_ + static_cast<size_t>(i) * element_, dtype_); }
  // Redzones are copied as well, so the tensor has its name between the copies only.
  void upload() {
    if (!device_memory_) return;
    cuda_synchronize(device_);
    cuda_forget_tensors(device_, device_memory_);
    copy_to_cuda(device_, device_memory_, bytes_.data(), bytes_.size());
    cuda_synchronize(device_);
    cuda_name_tensor(device_, device_memory_ + offset_, size_, spec_.name);
  }
  void download() {
    if (!device_memory_) return;
    cuda_synchronize(device_);
    cuda_forget_tensors(device_, device_memory_);
    copy_from_cuda(device_, bytes_.data(), device_memory_, bytes_.size());
    cuda_synchronize(device_);
  }
  void copy_from(Tensor& other) {  // the same spec up to role, the same dtype
    TLL_CHECK(dtype_ == other.dtype_ && spec_.rows == other.spec_.rows && spec_.width == other.spec_.width, "{} from {}",
              spec_.name, other.spec_.name);
    for (int64_t r = 0; r < spec_.rows; r++) std::memcpy(row(r), other.row(r), row_bytes());
    upload();
  }
  bool intact() {  // redzones and gaps hold what they held at first
    const auto untouched = [&](const std::byte* from, size_t count) {
      return std::all_of(from, from + count, [&](std::byte b) { return b == redzone(); });
    };
    if (!device_memory_) poison(false);
    bool ok = untouched(bytes_.data(), offset_) && untouched(at(0) + size_, kZone);
    for (int64_t r = 0; r + 1 < spec_.rows; r++)
      ok = ok && untouched(row(r) + row_bytes(), static_cast<size_t>(spec_.gap) * element_);
    if (!device_memory_) poison(true);
    return ok;
  }
  std::vector<std::byte> contents() const {  // without redzones
    const auto first = bytes_.begin() + static_cast<ptrdiff_t>(offset_);
    return {first, first + static_cast<ptrdiff_t>(size_)};
  }

 private:
  // What lies around the data. Around what an op only reads it is NaN, so that reading too far shows in the results; around what
  // it writes it is something else, so that copying the one to the other shows too.
  std::byte redzone() const { return spec_.written() ? std::byte{0xa5} : std::byte{0xff}; }
  static constexpr size_t kZone = 64;
  std::byte* at(int64_t i) { return bytes_.data() + offset_ + static_cast<size_t>(i) * element_; }
  std::byte* row(int64_t r) { return at(r * spec_.stride()); }
  size_t row_bytes() const { return static_cast<size_t>(spec_.width) * element_; }
  void poison(bool on) {
    if (on) {
      ASAN_POISON_MEMORY_REGION(bytes_.data(), offset_);
      ASAN_POISON_MEMORY_REGION(bytes_.data() + offset_ + size_, kZone);
    } else {
      ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), bytes_.size());
    }
  }
  TensorSpec spec_;
  DType dtype_;
  size_t element_;
  Device device_;
  std::byte* device_memory_ = nullptr;
  size_t offset_, size_;
  std::vector<std::byte> bytes_;
};

}  // namespace tll::test
