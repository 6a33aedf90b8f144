// Which instructions for bf16 this processor has. Compiled for every processor, unlike what uses them.
#include "kernels/bf16_instructions.h"

#include "kernels/attention_bf16.h"
#include "kernels/matmul_bf16.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tll {
namespace {

#if defined(__x86_64__)
bool has_amx() {
  constexpr int kTileData = 18, kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM: Linux lets a process use tiles that asks for them
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return best_isa() == kIsaWithBf16 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
}
#else
bool has_amx() { return false; }
bool has_avx512_bf16() { return false; }
void multiply_bf16(const Matmul<float>&, Bf16Instructions) {}
void attend_bf16(const auto&, Bf16Instructions) {}
#endif

}  // namespace

Bf16Instructions bf16_instructions() {
  static const Bf16Instructions found = !has_avx512_bf16() ? Bf16Instructions::none
                                        : has_amx()        ? Bf16Instructions::amx
                                                           : Bf16Instructions::avx512;
  return found;
}
const char* bf16_instructions_name(Bf16Instructions with) {
  return with == Bf16Instructions::amx ? "AMX" : with == Bf16Instructions::avx512 ? "AVX-512 BF16" : "none";
}
bool cpu_has_bf16_matmul() { return bf16_instructions() != Bf16Instructions::none; }

namespace {

void check_is_there(Bf16Instructions with) {
  TLL_CHECK(with <= bf16_instructions(), "this processor has no {}", bf16_instructions_name(with));
}
template <class Op>
bool attend_if_there(const Op& op, Bf16Instructions with) {
  check_is_there(with);
  if (with == Bf16Instructions::none) return false;
  attend_bf16(op, with);
  return true;
}

}  // namespace

bool matmul_bf16(const Matmul<float>& op, Bf16Instructions with) {
  if (op.a.dtype != DType::bf16 || op.b.dtype != DType::bf16 || with == Bf16Instructions::none) return false;
  check_is_there(with);
  if (!op.scratch.data || op.scratch.size < Matmul<float>::kShared + Matmul<float>::kOwn) return false;
  multiply_bf16(op, with);
  return true;
}

bool attention_bf16(const AttentionForward<bf16>& op, Bf16Instructions with) { return attend_if_there(op, with); }
bool attention_bf16(const AttentionBackward<bf16>& op, Bf16Instructions with) { return attend_if_there(op, with); }

}  // namespace tll
