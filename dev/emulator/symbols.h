// Names for addresses: from the program's own symbol table, and source lines from its debug information (through addr2line).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

struct SourceLine {
  std::string function, file;
  int line = 0;
};

// The function that holds this address, demangled without its parameters; empty: unknown.
std::string function_name(const void* address);

// The bytes of the __shared__ arrays that the kernel itself declares. (Those of functions that it calls show when it runs.)
size_t static_shared_bytes(const void* kernel);

// Where a call that returns to this address was made, innermost inlined function first; empty: no debug information.
const std::vector<SourceLine>& source_lines(const void* return_address);
// One line of it that a reader looks for: the innermost that is not in the emulator's headers.
SourceLine source_line(const void* return_address);
// The innermost line of it in a .cu file, which called what source_line tells; the same where there is none.
SourceLine kernel_line(const void* return_address);
// Two calls of the same source line (a compiler may copy a call), inlined along the same path.
bool same_source(const void* a, const void* b);

// A thread_local variable, which is where __shared__ arrays are.
struct ThreadLocalSymbol {
  size_t offset, bytes;  // in the program's block of thread_local variables
  std::string mangled;
};
const std::vector<ThreadLocalSymbol>& thread_local_symbols();  // by offset
std::string demangle(const std::string& mangled);
uintptr_t program_base();       // where the program is loaded
bool is_constant(uintptr_t a);  // in the program's read-only segments: a table of constants

// This thread's block of the program's thread_local variables.
struct Span {
  uintptr_t base = 0;
  size_t bytes = 0;
};
Span thread_local_block();

}  // namespace emulator
