// What a test sets and reads: the emulated GPU, the order of threads, named tensors, and the faults found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "emulator/fault.h"
#include "emulator/types.h"

namespace emulator {

// How mma adds up. exact: a sum in double, rounded once. hardware: as measured on GPUs, products cut toward zero to a common
// exponent in blocks of k (8 of them and 24 bits before sm_90, 16 and 25 bits from there on).
enum class MmaSum { exact, hardware };

struct Options {
  int arch = 800;     // 750, 800, 860, 890, 900, 1000 or 1200: limits, and which instructions exist
  uint64_t seed = 1;  // of the order of threads, blocks and streams
  int workers = 2;    // threads of the operating system that run the blocks of a launch
  MmaSum mma = MmaSum::exact;
  size_t device_bytes = size_t{1} << 30;  // of device memory, as cudaMemGetInfo tells
  bool races = true;  // look for data races; without, memory use falls from 10 times the tensors' size to 2 times
  bool print = true;  // faults, to the standard error, as they are found
  // Registers of a thread, by the kernel's name as reports tell it. A block that needs more of them than the architecture has is
  // refused. read_registers fills it.
  std::map<std::string, int> registers{};
};
// Not to be changed while something is enqueued. The environment variable TLL_EMULATOR sets them at start, as "arch=750 seed=3
// workers=1 print=0 mma=hardware mib=4096registers=FILE" (any of them).
Options& options();

// Reads what dev/check_spills.sh, or nvcc with -Xptxas -v and c++filt after it, has printed: the registers of kernels for
// Options::arch. Returns how many kernels it found; 0 as well where there is no such file.
size_t read_registers(const std::string& file);

const char* fault_name(Fault fault);

struct Place {
  std::string file;  // as the compiler was given it; empty: no debug information
  int line = 0;
};
struct Report {
  Fault fault{};
  std::string message{};  // one line with all that follows
  std::string kernel{};
  uint3 block{}, thread{};
  std::string tensor{};    // or the shared array
  Place place{}, other{};  // other: the earlier access of a race, the other barrier
};

// The faults found since the last call. A faulty launch stops at its first one, and the next wait for its stream returns an
// error; then the emulator can be used again.
std::vector<Report> take_reports();

// For the end of a program: prints those of them that Options::print has not printed to the standard error, one a line, and
// returns how many there were. Like take_reports, it hands out each fault once. What was not waited for has not run.
size_t print_reports();

// A tensor within memory from cudaMalloc. Once an allocation holds one, its bytes outside of all of them are out of bounds.
// Names of an allocation end with it.
void name_tensor(const void* p, size_t bytes, const std::string& name);
void forget_tensors(const void* allocation);

// Tells whether memory was written since it was allocated; pass the result of a host computation that a kernel may read.
bool is_written(const void* p, size_t bytes);

struct Counters {
  uint64_t launches = 0, blocks = 0, switches = 0, accesses = 0;  // accesses to shared and device memory
};
Counters counters();

}  // namespace emulator
