// Counts calls of operator new in a test program. Include it from any number of test files: the definitions are weak, so they
// merge, and they replace the library's (a sanitizer's may be stronger: then nothing is counted).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>

namespace tll {
inline std::atomic<int64_t> allocations{0};

// Whether the counter counts in this build.
inline bool allocations_are_counted() {
  const int64_t before = allocations;
  std::string(100, 'x').shrink_to_fit();
  return allocations > before;
}
}  // namespace tll

// Not inlined, for g++ would then see a free() of what it takes for the library's new.
#define TLL_REPLACES_LIBRARY __attribute__((weak, noinline))

TLL_REPLACES_LIBRARY void* operator new(size_t size) {
  ++tll::allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// A sanitizer's would not go with the delete below.
TLL_REPLACES_LIBRARY void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++tll::allocations;
  return std::malloc(size);
}
TLL_REPLACES_LIBRARY void operator delete(void* memory) noexcept { std::free(memory); }
TLL_REPLACES_LIBRARY void operator delete(void* memory, size_t) noexcept { std::free(memory); }
