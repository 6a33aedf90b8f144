// The first word of an instruction, such as "mad.lo.s32", taken apart.
#pragma once

#include <string>
#include <vector>

#include "dev/ptx_sim/instruction.h"

namespace ptx {

Type type_of(const std::string& word);  // none: it is no type

struct Mnemonic {
  std::string op;
  std::vector<Type> types;
  std::vector<std::string> rest;  // modifiers that nobody took yet
  explicit Mnemonic(const std::string& word);
  bool take(const std::string& modifier);
  std::string take_one(const std::vector<std::string>& modifiers);  // the one of these that is there; empty: none
};

// What runs an instruction, or null if it belongs to another of these. They take the modifiers that they know.
Handler float_handler(Mnemonic& m, Instruction& i);
Handler integer_handler(Mnemonic& m, Instruction& i);
Handler convert_handler(Mnemonic& m, Instruction& i);
Handler data_handler(Mnemonic& m, Instruction& i);                                      // mov, selp, setp, predicates
Handler memory_handler(Mnemonic& m, Instruction& i);                                    // ld, st, atom, cp.async
Handler warp_handler(Mnemonic& m, Instruction& i);                                      // barriers, shfl, vote, ldmatrix, mma
Handler warpgroup_handler(Mnemonic& m, Instruction& i);                                 // wgmma but mma_async, fence.proxy.async
Handler warpgroup_multiply_handler(Mnemonic& m, Instruction& i, WarpgroupMultiply& w);  // wgmma.mma_async; sets what m says of w

}  // namespace ptx
