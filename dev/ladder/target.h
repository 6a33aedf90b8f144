// What the ladder runs on: a GPU (on_gpu.cpp) or the emulator (on_emulator.cpp), chosen when linking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tll::ladder::target {

inline constexpr int kVariants = 3;
// Returns the architecture, 750 … 1200. The emulator takes that of the variant, at least least_arch, and a random order of
// threads.
int choose(int variant, uint64_t seed, int least_arch);
bool measures_time();  // false: times would say nothing about a GPU

void name(const void* p, size_t bytes, const char* tensor);  // names device memory from here on
void forget(const void* p);

std::vector<std::string> faults();  // since the last call; a GPU finds none
// Bytes of named tensors that kernels requested since the last call; a cp.async counts once. -1: unknown.
int64_t bytes_asked_for();

}  // namespace tll::ladder::target
