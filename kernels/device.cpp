#include "kernels/device.h"

#include <cstring>

namespace tll {

Isa best_isa() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return Isa::avx2;
  return Isa::base;
}

const char* isa_name(Isa isa) {
  constexpr const char* names[] = {"x86-64", "avx2", "avx512"};
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
