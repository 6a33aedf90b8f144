// Counts calls of operator new in a test program. Include it from any number of test files: the definitions are weak, so they
// merge, and they replace the library's (a sanitizer's may be stronger: then nothing is counted).
// oneDNN allocates in every matmul that it runs, where the processor has bf16 instructions. Those calls are not counted.
#pragma once

#include <link.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace tll {
inline std::atomic<int64_t> allocations{0};

struct AddressRange {
  uintptr_t begin = 0, end = 0;
};
// Where oneDNN's library is mapped; empty where it is not.
inline AddressRange onednn_range() {
  AddressRange range;
  const auto look = [](dl_phdr_info* library, size_t, void* found) {
    if (!std::strstr(library->dlpi_name, "libdnnl")) return 0;
    AddressRange& r = *static_cast<AddressRange*>(found);
    r.begin = library->dlpi_addr;
    for (int i = 0; i < library->dlpi_phnum; i++)
      if (const auto& part = library->dlpi_phdr[i]; part.p_type == PT_LOAD && r.begin + part.p_vaddr + part.p_memsz > r.end)
        r.end = r.begin + part.p_vaddr + part.p_memsz;
    return 1;
  };
  dl_iterate_phdr(look, &range);
  return range;
}
inline void count_allocation(const void* caller) {
  static const AddressRange onednn = onednn_range();
  const auto address = reinterpret_cast<uintptr_t>(caller);
  if (address < onednn.begin || address >= onednn.end) ++allocations;
}

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
  tll::count_allocation(__builtin_return_address(0));
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// A sanitizer's would not go with the delete below.
TLL_REPLACES_LIBRARY void* operator new(size_t size, const std::nothrow_t&) noexcept {
  tll::count_allocation(__builtin_return_address(0));
  return std::malloc(size);
}
TLL_REPLACES_LIBRARY void operator delete(void* memory) noexcept { std::free(memory); }
TLL_REPLACES_LIBRARY void operator delete(void* memory, size_t) noexcept { std::free(memory); }
