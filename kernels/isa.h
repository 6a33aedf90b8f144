// The instruction sets that the kernels are compiled for: the one place that knows the processor's architecture.
//
// `base` runs on every processor of the architecture. It holds the oracle types and uses no fused multiply-add, so that a formula
// is rounded as it is written. The others are plain C++ too; the makefiles give the compiler the instructions that it may use.
#pragma once

#include <cstdint>

#if !defined(__linux__)
#error this program runs on Linux (on Windows inside WSL)
#elif defined(__x86_64__)
#define TLL_ISAS(do) \
  do (base, "x86-64") do(avx2, "avx2") do(avx512, "avx512")
#elif defined(__aarch64__)
#define TLL_ISAS(do) \
  do (base, "arm64") do(neon, "neon")
#else
#error this program needs an x86-64 or arm64 processor
#endif

namespace tll {

#define TLL_ISA_ENTRY(isa, name) isa,
enum class Isa : uint8_t { TLL_ISAS(TLL_ISA_ENTRY) };
#define TLL_ISA_VALUE(isa, name) Isa::isa,
inline constexpr Isa kIsas[] = {TLL_ISAS(TLL_ISA_VALUE)};  // each of them has what those before it have
#ifdef TLL_ISA
inline constexpr Isa kIsa = Isa::TLL_ISA;
#endif

Isa best_isa();  // the best that this processor supports (x86-64-v3 → avx2, x86-64-v4 → avx512)
const char* isa_name(Isa);

}  // namespace tll
