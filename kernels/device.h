// Where an op runs, and the dispatcher: run(device, op).
//
// An op is a struct whose fields are its arguments. It has check() (its preconditions), cost() (bytes moved, flops) and two
// implementations: cpu<isa>() in its .cpp, compiled once per instruction set, and cuda(device) in its .cu. Pointers are memory of
// the device that it runs on. cuda() enqueues kernels on the device's stream and returns. The same inputs give the same bits,
// whatever their alignment. cuda_device.h says which cuda() is linked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/isa.h"
#include "kernels/numeric.h"
#include "src/base/check.h"

namespace tll {

// The roofline's two numbers: the bytes and flops that any implementation of the op needs at least.
struct Cost {
  double bytes = 0, flops = 0;
};

// One line of --profile: an op's calls, seconds and total cost. The table has a fixed size, so that profiling allocates nothing.
struct ProfileLine {
  const char* op = nullptr;
  int64_t calls = 0;
  double seconds = 0;
  Cost cost;
};
struct Profile {
  static constexpr int kLines = 64;
  ProfileLine lines[kLines];
  ProfileLine& line(const char* op);
};

// What a device does at best.
struct Speed {
  double flops = 0;   // a second, of a matmul
  double bytes = 0;   // a second, of its memory
  double link = 0;    // bytes a second between the host and a GPU, each way
  double launch = 0;  // seconds that an op takes besides
};

struct Gpu;  // what the model of an op's time on a GPU knows of it; gpu_time.h

// What limits an op: bytes of memory, flops of a GEMM, instructions of a kernel of our own, or the link to the host.
enum class Bound : uint8_t { memory, arithmetic, instructions, link };

// The time that an op would take.
struct OpTime {
  const char* op = nullptr;  // its name, or what it is for
  Cost cost = {};
  double seconds = 0, gaps = 0;  // in all; of that between its launches
  int launches = 1;
  Bound bound = Bound::memory;
  double stretch = 1;  // by blocks that do not fill all SMs to the end
};

// The time that work would take, in seconds by a clock for each stream, to which Device::stream and copy_stream then point. With
// it, run() and the functions of src/model/device_memory.h count what they are asked for and do nothing.
struct DryRun {
  Speed speed;
  const Gpu* gpu = nullptr;            // null: an op takes what the roofline of `speed` says
  double seconds = 0, copied = 0;      // of the stream that computes, and of the copy stream
  std::vector<OpTime>* ops = nullptr;  // where each op is listed; null: nowhere
};

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  Isa isa = best_isa();         // cpu
  int threads = 1;              // cpu
  Profile* profile = nullptr;   // null: not timed
  DryRun* dry = nullptr;        // null: what is asked for is done
  void* stream = nullptr;       // cuda: a cudaStream_t
  void* copy_stream = nullptr;  // cuda: a second one; see cuda_device.h
  int arch = 0;                 // cuda: compute capability, 750 … 1200
  void* blas = nullptr;         // cuda: the cuBLASLt handle and the chosen algorithms; null if the library was not found
};

// See cuda_device.h; run() needs them here. cuda_synchronize waits until everything enqueued on the stream is done.
void cuda_synchronize(const Device&);
void cuda_begin_range(const char* name);
void cuda_end_range();

// Of a dry run: the device's stream is busy for so long.
inline void pass_time(const Device& device, const OpTime& time) {
  *static_cast<double*>(device.stream) += time.seconds;
  if (device.dry->ops) device.dry->ops->push_back(time);
}
inline void pass_link_time(const Device& device, const char* name, double bytes) {
  const Speed& speed = device.dry->speed;
  pass_time(device, {.op = name,
                     .cost = {.bytes = bytes},
                     .seconds = speed.launch + bytes / (speed.link > 0 ? speed.link : speed.bytes),
                     .gaps = speed.launch,
                     .bound = Bound::link});
}
// What needs no more than bytes and flops.
OpTime gpu_time(const Gpu& gpu, const char* name, Cost cost);
inline void pass_time(const Device& device, const char* name, Cost cost) {
  const DryRun& dry = *device.dry;
  if (dry.gpu) return pass_time(device, gpu_time(*dry.gpu, name, cost));
  const double memory = cost.bytes / dry.speed.bytes, arithmetic = cost.flops / dry.speed.flops;
  pass_time(device, {.op = name,
                     .cost = cost,
                     .seconds = dry.speed.launch + std::max(memory, arithmetic),
                     .gaps = dry.speed.launch,
                     .bound = memory >= arithmetic ? Bound::memory : Bound::arithmetic});
}
// Of an op by its launches; gpu_time.cpp says of which ops.
template <class Op>
OpTime gpu_time(const Gpu& gpu, const Op& op);

// Adds a call of `op`, its cost and the time until the scope ends to the profile, if there is one.
struct ProfileScope {
  ProfileScope(Profile* profile, const char* op, Cost cost);
  ~ProfileScope();
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;
  ProfileLine* line = nullptr;
  double start = 0;  // seconds of a clock that never goes back
};

// f(float{}), f(bf16{}) or f(half{}): the type of an operand that is known at run time.
template <class F>
TLL_INLINE decltype(auto) with_storage_type(DType type, const F& f) {
  TLL_CHECK(type == DType::f32 || type == DType::bf16 || type == DType::f16, "an operand in {}", dtype_name(type));
  if (type == DType::f32) return f(float{});
  if (type == DType::bf16) return f(bf16{});
  return f(half{});
}

// What a profile calls an op: its name, or what it is for where it says so.
template <class Op>
const char* op_name(const Op& op) {
  if constexpr (requires { op.role; })
    return op.role;
  else
    return Op::kName;
}

template <class Op>
void run(const Device& device, const Op& op) {
  op.check();
  if (device.dry) {
    if constexpr (!is_oracle<typename Op::Scalar>)
      if (device.dry->gpu) return pass_time(device, gpu_time(*device.dry->gpu, op));
    return pass_time(device, op_name(op), op.cost());
  }
  const ProfileScope scope(device.profile, op_name(op), device.profile ? op.cost() : Cost{});
  if constexpr (!is_oracle<typename Op::Scalar>) {
    if (device.kind == DeviceKind::cuda) {
      cuda_begin_range(op_name(op));
      op.cuda(device);
      cuda_end_range();
      if (device.profile) cuda_synchronize(device);
      return;
    }
  }
  if constexpr (is_oracle<typename Op::Scalar>) {
    op.template cpu<Isa::base>();
  } else if constexpr (!has_cpu<typename Op::Scalar>) {
    TLL_CHECK(false, "{} in {} runs on CUDA only", Op::kName, dtype_name(dtype_of<typename Op::Scalar>));
  } else {
    switch (device.isa) {
#define TLL_RUN_ISA(isa, name) \
  case Isa::isa:               \
    return op.template cpu<Isa::isa>();
      TLL_ISAS(TLL_RUN_ISA)
#undef TLL_RUN_ISA
    }
  }
}

// Instantiate an op's cpu<kIsa>() at the end of its .cpp. Only the base objects hold the oracle types, which need no fast
// instructions.
#define TLL_INSTANTIATE_TRAINING(Op)          \
  template void Op<float>::cpu<kIsa>() const; \
  template void Op<bf16>::cpu<kIsa>() const;
#define TLL_INSTANTIATE_ORACLE(Op)             \
  template void Op<double>::cpu<kIsa>() const; \
  template void Op<complex>::cpu<kIsa>() const;
// Instantiates an op's cuda() at the end of its .cu.
#define TLL_INSTANTIATE_CUDA(Op)                      \
  template void Op<float>::cuda(const Device&) const; \
  template void Op<bf16>::cuda(const Device&) const;  \
  template void Op<half>::cuda(const Device&) const;
#ifdef TLL_ORACLE
#define TLL_INSTANTIATE(Op) TLL_INSTANTIATE_TRAINING(Op) TLL_INSTANTIATE_ORACLE(Op)
#else
#define TLL_INSTANTIATE(Op) TLL_INSTANTIATE_TRAINING(Op)
#endif

}  // namespace tll
