// Runs kernels as nvcc wrote them (PTX) on the CPU. What an instruction does is what NVIDIA's "PTX ISA" manual says of it.
// Nothing here knows the kernels, their sources, or dev/emulator.
//
//  - Every thread has its own program counter. Of a warp, the lanes with the least one run together, so they meet again where
//    nvcc's layout of branches lets them. Instructions for a whole warp wait for all lanes of their mask, and barriers for all
//    threads of the block.
//  - cp.async copies when the issuing thread waits for it: as late as it may. Until then its destination holds NaN.
//  - wgmma computes when its warp waits for it, and until then its accumulators hold NaN. warpgroup.h says more.
//  - A Fault ends the launch: an address outside of every tensor or of the block's shared memory, a misaligned access, an
//    instruction for a whole warp that part of it executes, a deadlock, an instruction that is not known here.
//  - A report does not: shared memory that is read before it was written or before its copy was waited for; two warps, or two
//    lanes of one, that access it with no barrier in between; memory that is read as constant and written.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ptx {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Extent {
  unsigned x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

// Memory that kernels may access: every access must lie within one of these ranges.
void add_memory(const void* base, size_t bytes);
void remove_memory(const void* base, size_t bytes);  // the ranges that begin there

struct Parameter {
  size_t offset, bytes;
};
struct Kernel;

// One PTX text, from its .version on. It lives until the program ends.
struct Module;
Module& load(const std::string& text);
int architecture(const Module&);  // of its .target: 75, 90, …

Kernel* find(Module&, const std::string& name);  // mangled; null: none
const std::vector<Parameter>& parameters(const Kernel&);
size_t static_shared(Kernel&);  // bytes
void launch(Kernel&, Extent grid, Extent block, size_t dynamic_shared, const std::vector<uint8_t>& arguments);

std::string take_reports();  // since the last call, one a line
std::string statistics();    // what was launched, one kernel a line; a line with totals first

struct Options {
  uint64_t seed = 0;   // 0: blocks and warps run in order. Else in an order by chance, and warps take turns at any instruction
  int workers = 0;     // threads that run blocks; 0: one for each core
  std::string report;  // a file for statistics(), written when the program ends
  std::string target;  // "90" or "90a": which PTX is taken where there are several; empty: the newest
};
Options& options();  // at first those of the environment variable TLL_PTX_SIM

}  // namespace ptx
