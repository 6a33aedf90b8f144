#include "kernels/device.h"

#include <cstring>
#include <iterator>

namespace tll {

Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return Isa::avx2;
  return Isa::base;
#else
  return kIsas[std::size(kIsas) - 1];  // every arm64 processor has NEON with fused multiply-add
#endif
}

const char* isa_name(Isa isa) {
#define TLL_ISA_NAME(isa, name) name,
  constexpr const char* names[] = {TLL_ISAS(TLL_ISA_NAME)};
  return names[static_cast<int>(isa)];
}

ProfileLine& Profile::line(const char* op) {
  for (ProfileLine& l : lines) {
    if (!l.op) l.op = op;
    if (l.op == op || std::strcmp(l.op, op) == 0) return l;
  }
  check_failed("profile has a line for every op", __FILE__, __LINE__, op);
}

}  // namespace tll
