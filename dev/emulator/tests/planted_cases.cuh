// How planted cases are written.
#pragma once

#include "dev/emulator/tests/planted.h"
#include "kernels/cuda_utils.cuh"

namespace planted {

using emulator::Fault;
using Faults = std::vector<Fault>;

inline const Faults kRace{Fault::race}, kUnordered{Fault::race, Fault::uninitialised}, kOutside{Fault::out_of_bounds},
    kUnwritten{Fault::uninitialised}, kMisaligned{Fault::misaligned}, kInFlight{Fault::copy_in_flight}, kBarrier{Fault::barrier},
    kCollective{Fault::collective}, kLaunch{Fault::launch}, kArithmetic{Fault::arithmetic}, kHost{Fault::host}, kWrongValues{};

struct Registered {
  explicit Registered(Case c) { cases().push_back(std::move(c)); }
};

}  // namespace planted

// A case that is the function name(bug, memory).
#define TLL_HOST_CASE(name, first_arch, faults) const Registered name##_case{{#name, name, first_arch, faults}};
// A case that launches name_kernel<bug>.
#define TLL_CASE(name, first_arch, faults, grid, block, shared, ...)                                          \
  void name(bool bug, Memory& m) {                                                                            \
    tll::launch(bug ? name##_kernel<true> : name##_kernel<false>, grid, block, shared, nullptr, __VA_ARGS__); \
  }                                                                                                           \
  TLL_HOST_CASE(name, first_arch, faults)
