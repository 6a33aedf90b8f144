#include "kernels/device.h"

#include <chrono>
#include <cstring>
#include <iterator>

namespace tll {
namespace {

double steady_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

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

ProfileScope::ProfileScope(Profile* profile, const char* op, Cost cost) {
  if (!profile) return;
  line = &profile->line(op);
  line->calls++;
  line->cost.bytes += cost.bytes;
  line->cost.flops += cost.flops;
  start = steady_seconds();
}
ProfileScope::~ProfileScope() {
  if (line) line->seconds += steady_seconds() - start;
}

}  // namespace tll
