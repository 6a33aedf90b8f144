// Names of addresses from the program's own symbol table, and source lines from its debug information (through addr2line).
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

// The function that contains this address, demangled, without its parameters. Empty: unknown.
std::string function_name(const void* address);

// Bytes of the __shared__ arrays that the kernel itself declares. (Those of functions that it calls become known as it runs.)
size_t static_shared_bytes(const void* kernel);

// The source lines of the call that returns to this address, innermost inlined function first. Empty: no debug information.
const std::vector<SourceLine>& source_lines(const void* return_address);
// The innermost of these lines outside the emulator's headers.
SourceLine source_line(const void* return_address);
// The innermost of these lines in a .cu file; if there is none, source_line.
SourceLine kernel_line(const void* return_address);
// Whether two addresses are the same call in the source, inlined along the same path. (A compiler may duplicate a call.)
bool same_source(const void* a, const void* b);

// A thread_local variable. __shared__ arrays are thread_local.
struct ThreadLocalSymbol {
  size_t offset, bytes;  // in the program's TLS block
  std::string mangled;
};
const std::vector<ThreadLocalSymbol>& thread_local_symbols();  // sorted by offset
std::string demangle(const std::string& mangled);
uintptr_t program_base();       // where the program is loaded
bool is_constant(uintptr_t a);  // in the program's read-only segments: a table of constants

// The program's TLS block of this thread.
struct Span {
  uintptr_t base = 0;
  size_t bytes = 0;
};
Span thread_local_block();

}  // namespace emulator
