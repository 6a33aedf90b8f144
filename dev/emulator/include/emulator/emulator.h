// The interface for tests: options of the emulated GPU, named tensors, and the faults found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "emulator/fault.h"
#include "emulator/types.h"

struct CUstream_st;  // a stream

namespace emulator {

// How mma accumulates. exact: in double, rounded once. hardware: as measured on GPUs, products truncated to a common exponent in
// blocks of k (8 products and 24 bits before sm_90, 16 and 25 bits from there on); see mma_model.h.
enum class MmaSum { exact, hardware };

// A launch as the program asked for it.
struct LaunchShape {
  std::string kernel;  // its name as in reports
  unsigned grid[3], threads;
  size_t dynamic_shared;  // bytes
};

struct Options {
  // 750, 800, 860, 890, 900, 1000 or 1200: decides limits and which instructions exist. For one before 750 there is no code.
  int arch = 800;
  uint64_t seed = 1;  // for the order of threads, blocks and streams
  int workers = 2;    // OS threads that run the blocks of a launch
  MmaSum mma = MmaSum::exact;
  size_t device_bytes = size_t{1} << 30;  // size of device memory, as cudaMemGetInfo reports it
  int driver = 13000;                     // the CUDA version that the driver serves, as CUDA writes it; 0: there is no driver
  // As a GPU that fails. The launch of this number from now on faults, and every call after it fails; 0: none. A capture takes so
  // many operations, and the next one invalidates it; -1: all. A graph takes so much device memory for each operation.
  int failing_launch = 0, capture_limit = -1;
  size_t graph_node_bytes = 0;
  bool wrong_wgmma = false;   // as a GPU on which wgmma is other than is believed here: its products are halved
  double nccl_seconds = 120;  // after which a collective of NCCL that waits for another rank is a fault
  bool races = true;          // look for data races; without, memory use falls from 10 times the tensors' size to 2 times
  bool print = true;          // print faults to standard error when they are found
  // Registers per thread of a kernel, by its name as in reports; read_registers fills it. A launch whose blocks need more
  // registers than the architecture has is refused.
  std::map<std::string, int> registers{};
  // Where it is set, a launch that is in order is told to it and does not run.
  std::function<void(const LaunchShape&)> instead_of_running{};
};
// Do not change options while something is enqueued. The environment variable TLL_EMULATOR sets any of them at start: "arch=750
// seed=3 workers=1 print=0 mma=hardware mib=4096 driver=12020 registers=FILE".
Options& options();

// Reads the registers of kernels for Options::arch from what dev/check_spills.sh printed, or nvcc with -Xptxas -v piped through
// c++filt. Returns how many kernels it found; 0 also if there is no such file.
size_t read_registers(const std::string& file);

const char* fault_name(Fault fault);

struct Place {
  std::string file;  // as given to the compiler; empty: no debug information
  int line = 0;
};
struct Report {
  Fault fault{};
  std::string message{};  // one line with all of the following
  std::string kernel{};
  uint3 block{}, thread{};
  std::string tensor{};    // or the shared array
  Place place{}, other{};  // other: the earlier access of a race, the other barrier
};

// Ends a fault of Options::failing_launch, after which a real GPU would be of no more use to the process.
void repair_device();

// The faults found since the last call. A launch stops at its first fault, and the next wait for its stream returns an error.
// After that the emulator can be used again.
std::vector<Report> take_reports();

// For the end of a program: returns the number of faults since the last call of this or of take_reports, and prints those that
// Options::print has not printed to standard error, one per line. Operations that were not waited for have not run.
size_t print_reports();

// Names a tensor within memory from cudaMalloc. Once an allocation has a named tensor, its bytes outside all of its named tensors
// are out of bounds. Freeing the allocation removes its names.
void name_tensor(const void* p, size_t bytes, const std::string& name);
void forget_tensors(const void* allocation);
// Enqueued in a stream. A tensor that begins has a name and no written bytes; the bytes of one that has ended are out of bounds,
// until another begins there.
void begin_tensor(CUstream_st* stream, const void* p, size_t bytes, const std::string& name);
void end_tensor(CUstream_st* stream, const void* p, size_t bytes);

// Whether all these bytes are addressable and were written since they were allocated.
bool is_written(const void* p, size_t bytes);

struct Counters {
  uint64_t launches = 0, blocks = 0, switches = 0, accesses = 0;  // accesses to shared and device memory
};
Counters counters();

}  // namespace emulator
