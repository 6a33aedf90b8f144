// Small kernels for tests, as nvcc would write them: 64 threads, an array in shared memory, 256 words of input and of output.
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "dev/ptx_sim/ptx_sim.h"

namespace ptx::test {

inline constexpr size_t kWords = 256;

// Before a body runs: %rd1, %rd2 input and output, %r1 the thread, %r2 = 4 · thread, %rd4 and %rd5 this thread's words of them,
// %r4 the array of 1024 bytes, %r5 this thread's word of it.
inline std::string kernel_text(const std::string& body, const std::string& before = "") {
  return R"(
.version 9.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
)" + before +
         R"(
.visible .entry kernel(
	.param .u64 kernel_param_0,
	.param .u64 kernel_param_1
)
.maxntid 64, 1, 1
{
	.reg .pred %p<9>;
	.reg .b16 %rs<9>;
	.reg .b32 %r<40>;
	.reg .f32 %f<40>;
	.reg .b64 %rd<20>;
	.reg .f64 %fd<9>;
	.shared .align 16 .b8 array[1024];
	.loc	1 7 3
	ld.param.u64 %rd1, [kernel_param_0];
	ld.param.u64 %rd2, [kernel_param_1];
	cvta.to.global.u64 %rd1, %rd1;
	mov.u32 %r1, %tid.x;
	shl.b32 %r2, %r1, 2;
	mul.wide.u32 %rd3, %r1, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
	mov.u32 %r4, array;
	add.s32 %r5, %r4, %r2;
)" + body +
         R"(
	ret;
}
	.file	1 "/src/small.cu"
)";
}

struct Outcome {
  std::string reports;  // with the fault, if there was one
  std::vector<uint32_t> out;
};
inline std::vector<uint32_t> counting() {  // 0, 1, 2, …
  std::vector<uint32_t> in(kWords);
  std::iota(in.begin(), in.end(), 0u);
  return in;
}

inline Outcome run_text(const std::string& text, std::vector<uint32_t> in = counting(), unsigned threads = 64,
                        unsigned blocks = 1, size_t dynamic_shared = 0) {
  alignas(16) static uint32_t input[kWords], output[kWords];
  std::copy(in.begin(), in.end(), input);
  std::fill_n(output, kWords, 0u);
  add_memory(input, sizeof(input)), add_memory(output, sizeof(output));
  const uint64_t pointers[] = {reinterpret_cast<uint64_t>(input), reinterpret_cast<uint64_t>(output)};
  const auto* bytes = reinterpret_cast<const uint8_t*>(pointers);
  take_reports();
  Outcome outcome;
  try {
    Kernel* kernel = find(load(text), "kernel");
    launch(*kernel, {blocks}, {threads}, dynamic_shared, {bytes, bytes + sizeof(pointers)});
  } catch (const Fault& fault) {
    outcome.reports = fault.what();
  }
  outcome.reports += take_reports();
  outcome.out.assign(output, output + kWords);
  remove_memory(input, sizeof(input)), remove_memory(output, sizeof(output));
  return outcome;
}
inline Outcome run_body(const std::string& body, std::vector<uint32_t> in = counting()) {
  return run_text(kernel_text(body), in);
}

}  // namespace ptx::test
