// What the ladder runs on: a GPU (on_gpu.cpp) or the emulator (on_emulator.cpp), chosen when linking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tll::ladder::target {

inline constexpr int kVariants = 3;
// The architecture, 750 … 1200. The emulator takes one of its kVariants, at least least_arch, and a random order of threads.
int choose(int variant, uint64_t seed, int least_arch);
bool measures_time();  // false: seconds would say nothing about a GPU

void name(const void* p, size_t bytes, const char* tensor);  // device memory, for what follows
void forget(const void* p);

std::vector<std::string> faults();  // since the last call; a GPU finds none
// Bytes of named tensors that kernels asked for since the last call, a copy by cp.async once; nothing known: -1.
int64_t bytes_asked_for();

}  // namespace tll::ladder::target
