// A kernel as the interpreter runs it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dev/ptx_sim/ptx_sim.h"

namespace ptx {

inline constexpr int kWarp = 32;
using Lanes = uint32_t;  // a bit for each lane of a warp
inline constexpr Lanes kAllLanes = ~0u;

enum class Type : uint8_t { none, pred, b8, b16, b32, b64, u8, u16, u32, u64, s8, s16, s32, s64, f16, bf16, f32, f64 };
int bytes_of(Type type);

// Registers are kept by width: up to 32 bits, 64 bits, predicates. A constant, too, is a register that nobody writes.
enum class File : uint8_t { narrow, wide, predicate };
struct Operand {
  uint32_t index = 0;
  File file = File::narrow;
  uint8_t bits = 32;
  bool negated = false;  // of a predicate
};
struct Address {
  Operand base{0, File::predicate, 1, false};  // a predicate: there is no address
  int64_t offset = 0;
};

struct Block;
struct Instruction;
using Handler = void (*)(Block&, const Instruction&, Lanes);

// What follows an instruction. together: the lanes of a mask execute it together.
enum class Flow : uint8_t { next, branch, leave, together, barrier };

struct Instruction {
  Handler run = nullptr;
  Flow flow = Flow::next;
  bool guarded = false;
  int8_t mask_at = -1;  // together: the source that holds the mask of lanes; -1: all lanes
  uint8_t outputs = 0, inputs = 0;
  Type type = Type::none;
  char form = 0;          // which of an instruction's forms: rounding, mode of a shuffle, …
  uint8_t bytes = 0;      // memory: of one lane's access
  bool constant = false;  // memory: through the non-coherent path
  int32_t target = 0;     // of a branch
  uint32_t number = 0;    // an immediate that is no register: cp.async's size, groups that may be open
  Operand guard;
  std::array<Operand, 4> d;
  std::array<Operand, 10> s;
  std::array<Address, 2> address;
};

struct SourceLine {
  int file = 0, line = 0;
};

// wgmma.mma_async has more operands than an Instruction holds.
struct WarpgroupMultiply {
  int columns = 0;                      // N of m64nNk16
  bool half = false;                    // A and B are fp16; else bf16
  bool negated = false;                 // imm-scale-a · imm-scale-b is -1
  std::array<bool, 2> transposed = {};  // A, B: M- or N-major in shared memory
  std::vector<Operand> d, a;            // without a, A is in shared memory
  std::array<Operand, 2> descriptor;    // of A, B
  Operand scale_d;
};

enum class Special : uint8_t { tid, ntid, ctaid, nctaid, laneid, warpid };
struct SpecialRegister {
  uint32_t index;  // narrow
  Special which;
  int axis;
};

struct Kernel {
  std::string name, header, body;
  Module* module = nullptr;
  std::vector<Parameter> parameters;
  unsigned max_threads = 1024;
  // What follows is empty until decode().
  std::vector<Instruction> code;
  std::vector<std::string> text;  // of each instruction
  std::vector<SourceLine> lines;  // of each instruction
  std::vector<uint32_t> narrow;   // what each register holds at first
  std::vector<uint64_t> wide;
  std::vector<Lanes> predicates;
  size_t static_shared = 0, dynamic_at = 0;
  size_t least_shared_access = 16;  // bytes
  std::vector<SpecialRegister> specials;
  // wgmma: what its instructions are. Of each narrow register, which of theirs it is, or -1. What runs an instruction that
  // accesses one of them: its own handler is another, which calls that one.
  std::vector<WarpgroupMultiply> multiplies;
  std::vector<int32_t> watched;
  size_t watched_count = 0;
  std::vector<Handler> unwatched;
  // What happened.
  uint64_t launches = 0, instructions = 0;  // of warps
  std::vector<uint64_t> executed;           // times, of each instruction
};
void decode(Kernel& kernel);  // once

struct SharedArray {
  size_t bytes, alignment;
};
struct Module {
  int arch = 0;
  bool specific = false;  // of its .target: sm_90a, not sm_90
  std::map<int, std::string> files;
  std::map<std::string, Kernel> kernels;
  std::map<std::string, std::pair<std::string, std::string>> functions;  // header and body
  std::map<std::string, SharedArray> shared;
  std::string dynamic_shared;  // its name
  size_t dynamic_alignment = 16;
  std::map<std::string, std::unique_ptr<std::vector<uint64_t>>> tables;  // NVIDIA's constants
};
const std::vector<std::unique_ptr<Module>>& modules();

}  // namespace ptx
