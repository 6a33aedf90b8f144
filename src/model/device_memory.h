// Memory of a device, for code that runs on either device. On the CPU, the device's memory is the host's.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda_device.h"

namespace tll {

inline bool on_host(const Device& device) { return device.kind == DeviceKind::cpu; }

// Enqueued: `from` must stay unchanged until synchronize().
inline void upload(const Device& device, void* to, const void* from, size_t bytes) {
  if (device.dry) return pass_link_time(device, "upload", static_cast<double>(bytes));
  if (!on_host(device)) return copy_to_cuda(device, to, from, bytes);
  if (to != from) std::memcpy(to, from, bytes);
}
// Enqueued: `to` is valid after synchronize().
inline void download(const Device& device, void* to, const void* from, size_t bytes) {
  if (device.dry) return pass_link_time(device, "download", static_cast<double>(bytes));
  if (!on_host(device)) return copy_from_cuda(device, to, from, bytes);
  if (to != from) std::memcpy(to, from, bytes);
}
inline void copy_within(const Device& device, void* to, const void* from, size_t bytes) {
  if (device.dry) return pass_time(device, "copy", {.bytes = 2 * static_cast<double>(bytes)});
  if (!on_host(device)) return copy_within_cuda(device, to, from, bytes);
  std::memcpy(to, from, bytes);
}
inline void set_zero(const Device& device, void* memory, size_t bytes) {
  if (device.dry) return pass_time(device, "set_zero", {.bytes = static_cast<double>(bytes)});
  if (!on_host(device)) return cuda_fill(device, memory, 0, bytes);
  std::memset(memory, 0, bytes);
}
// Waits for everything enqueued. Error (kExitFault) if the emulator has found faults.
inline void synchronize(const Device& device) {
  if (device.dry || on_host(device)) return;
  cuda_synchronize(device);
  if (const std::string faults = cuda_faults(device); !faults.empty()) fail(kExitFault, "{}", faults);
}

// Events, as in cuda_device.h; of a dry run they are the time at which they were recorded.
inline void* open_event(const Device& device) { return device.dry ? new double(0) : cuda_open_event(device); }
inline void close_event(const Device& device, void* event) {
  device.dry ? delete static_cast<double*>(event) : cuda_close_event(device, event);
}
inline void record_event(const Device& device, void* event) {
  if (!device.dry) return cuda_record_event(device, event);
  *static_cast<double*>(event) = *static_cast<double*>(device.stream);
}
inline void come_after(const Device& device, void* event) {
  if (!device.dry) return cuda_come_after(device, event);
  double& clock = *static_cast<double*>(device.stream);
  clock = std::max(clock, *static_cast<double*>(event));
}

// A device that its destructor closes. As a member it is declared before everything that uses it, so it is closed last.
struct OpenDevice : Device {
  OpenDevice() = default;
  ~OpenDevice() {
    if (stream) close_cuda_device(*this);
  }
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;
  void open(int index = 0) { static_cast<Device&>(*this) = open_cuda_device(index); }
};

// Memory of the device that the host reads: on the CPU in place, on CUDA as a copy, for which the constructor waits.
template <class T>
class HostCopy {
 public:
  HostCopy(const Device& device, const T* data, int64_t count) : data_(data) {
    if (on_host(device)) return;
    copy_.resize(static_cast<size_t>(count));
    download(device, copy_.data(), data, copy_.size() * sizeof(T));
    synchronize(device);
    data_ = copy_.data();
  }
  const T* data() const { return data_; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  std::vector<T> copy_;
  const T* data_;
};

// The same of numbers in fp32, bf16 or fp16, as floats: a copy unless they are floats of the host.
class HostFloats {
 public:
  HostFloats(const Device& device, const void* data, DType dtype, int64_t count)
      : stored_(device, static_cast<const std::byte*>(data), count * static_cast<int64_t>(dtype_bytes(dtype))) {
    if (dtype == DType::f32) return;
    floats_.resize(static_cast<size_t>(count));
    with_storage_type(dtype, [&](auto type) {
      const auto* from = reinterpret_cast<const decltype(type)*>(stored_.data());
      for (size_t i = 0; i < floats_.size(); i++) floats_[i] = to_acc(from[i]);
    });
  }
  const float* data() const { return floats_.empty() ? reinterpret_cast<const float*>(stored_.data()) : floats_.data(); }
  const float& operator[](int64_t i) const { return data()[i]; }

 private:
  HostCopy<std::byte> stored_;
  std::vector<float> floats_;
};

// Writes floats to memory of the device that holds `dtype`, rounded to nearest. Waits.
inline void upload_floats(const Device& device, void* to, DType dtype, const float* from, size_t count) {
  if (dtype == DType::f32) {
    upload(device, to, from, count * sizeof(float));
    return synchronize(device);
  }
  with_storage_type(dtype, [&](auto type) {
    std::vector<decltype(type)> rounded(count);
    for (size_t i = 0; i < count; i++) rounded[i] = from_acc<decltype(type)>(from[i]);
    upload(device, to, rounded.data(), count * sizeof(type));
    synchronize(device);
  });
}

// Names a part of a step for NVIDIA's profilers.
class NamedRange {
 public:
  NamedRange(const Device& device, const char* name) : named_(!on_host(device) && !device.dry) {
    if (named_) cuda_begin_range(name);
  }
  ~NamedRange() {
    if (named_) cuda_end_range();
  }
  NamedRange(const NamedRange&) = delete;
  NamedRange& operator=(const NamedRange&) = delete;

 private:
  bool named_;
};

}  // namespace tll
