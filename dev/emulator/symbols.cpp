#include "dev/emulator/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>

namespace emulator {
namespace {

struct Function {
  uintptr_t begin, end;
  std::string mangled;
};

struct Program {
  uintptr_t base = 0;
  std::vector<Span> constants;  // read-only segments
  std::string path, folder;     // folder: the working directory at start
  std::vector<Function> functions;
  std::vector<ThreadLocalSymbol> thread_locals;

  Program() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* self) {
          auto& p = *static_cast<Program*>(self);
          p.base = info->dlpi_addr;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const ElfW(Phdr)& h = info->dlpi_phdr[i];
            if (h.p_type == PT_LOAD && !(h.p_flags & PF_W)) p.constants.push_back({p.base + h.p_vaddr, h.p_memsz});
          }
          return 1;  // the first entry is the program
        },
        this);
    char buffer[4096];
    const ssize_t n = readlink("/proc/self/exe", buffer, sizeof(buffer));
    path.assign(buffer, n > 0 ? static_cast<size_t>(n) : 0);
    if (getcwd(buffer, sizeof(buffer))) folder = std::string(buffer) + "/";
    read_symbols();
  }

  void read_symbols() {
    std::ifstream file(path, std::ios::binary);
    const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image.data());
    if (image.size() < sizeof(*header) || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return;
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image.data() + header->e_shoff);
    for (int s = 0; s < header->e_shnum; s++) {
      if (sections[s].sh_type != SHT_SYMTAB) continue;
      const auto* symbols = reinterpret_cast<const Elf64_Sym*>(image.data() + sections[s].sh_offset);
      const char* names = image.data() + sections[sections[s].sh_link].sh_offset;
      for (size_t i = 0; i < sections[s].sh_size / sizeof(Elf64_Sym); i++) {
        const Elf64_Sym& symbol = symbols[i];
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_size == 0) continue;
        const int type = ELF64_ST_TYPE(symbol.st_info);
        if (type == STT_FUNC)
          functions.push_back({base + symbol.st_value, base + symbol.st_value + symbol.st_size, names + symbol.st_name});
        if (type == STT_TLS) thread_locals.push_back({symbol.st_value, symbol.st_size, names + symbol.st_name});
      }
    }
    std::sort(functions.begin(), functions.end(), [](const Function& a, const Function& b) { return a.begin < b.begin; });
    std::sort(thread_locals.begin(), thread_locals.end(),
              [](const ThreadLocalSymbol& a, const ThreadLocalSymbol& b) { return a.offset < b.offset; });
  }
};

const Program& program() {
  static const Program instance;
  return instance;
}

std::vector<SourceLine> ask_addr2line(uintptr_t offset) {
  char command[4352];
  std::snprintf(command, sizeof(command), "addr2line -i -f -C -e '%s' 0x%zx 2>/dev/null", program().path.c_str(),
                static_cast<size_t>(offset));
  std::vector<SourceLine> lines;
  FILE* pipe = popen(command, "r");
  if (!pipe) return lines;
  std::string text;
  char buffer[512];
  while (size_t n = fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, n);
  pclose(pipe);
  for (size_t at = 0; at < text.size();) {  // pairs: function; file:line
    const size_t end = text.find('\n', at), next = end == std::string::npos ? end : text.find('\n', end + 1);
    if (next == std::string::npos) break;
    const std::string where = text.substr(end + 1, next - end - 1);
    const size_t colon = where.rfind(':');
    SourceLine line{text.substr(at, end - at), where.substr(0, colon),
                    colon == std::string::npos ? 0 : std::atoi(where.c_str() + colon + 1)};
    if (line.file.starts_with(program().folder)) line.file.erase(0, program().folder.size());
    if (line.file.starts_with("./")) line.file.erase(0, 2);
    if (line.line > 0) lines.push_back(line);
    at = next + 1;
  }
  return lines;
}

bool is_emulator_header(const std::string& file) { return file.find("emulator/include/") != std::string::npos; }

}  // namespace

std::string demangle(const std::string& mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  const std::string name = status == 0 ? text : mangled;
  std::free(text);
  return name;
}

std::string function_name(const void* address) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(address);
  const auto& functions = program().functions;
  auto it = std::upper_bound(functions.begin(), functions.end(), a, [](uintptr_t x, const Function& f) { return x < f.begin; });
  if (it == functions.begin() || a >= (--it)->end) return "";
  std::string name = demangle(it->mangled);
  // "void tll::kernel<float, 4>(int)" → "tll::kernel<float, 4>"
  int depth = 0;
  for (size_t i = 0; i < name.size(); i++) {
    if (name[i] == '<') depth++;
    if (name[i] == '>') depth--;
    if (name[i] == '(' && depth == 0 && name.compare(i, 21, "(anonymous namespace)") != 0) {
      name.resize(i);
      break;
    }
  }
  depth = 0;
  for (size_t i = name.size(); i-- > 0;) {
    if (name[i] == '>' || name[i] == ')') depth++;
    if (name[i] == '<' || name[i] == '(') depth--;
    if (name[i] == ' ' && depth == 0) return name.substr(i + 1);
  }
  return name;
}

size_t static_shared_bytes(const void* kernel) {
  static std::mutex mutex;
  static std::map<const void*, size_t> known;
  const std::lock_guard lock(mutex);
  const auto [it, fresh] = known.try_emplace(kernel, 0);
  if (!fresh) return it->second;
  const auto a = reinterpret_cast<uintptr_t>(kernel);
  for (const Function& f : program().functions) {
    if (f.begin != a) continue;
    // A local variable of the function _Z<name> is _ZZ<name>E<its own name>.
    const std::string owner =
        "_ZZ" + (f.mangled.starts_with("_Z") ? f.mangled.substr(2) : std::to_string(f.mangled.size()) + f.mangled) + "E";
    for (const ThreadLocalSymbol& s : program().thread_locals)
      if (s.mangled.starts_with(owner)) it->second += s.bytes;
    break;
  }
  return it->second;
}

const std::vector<SourceLine>& source_lines(const void* return_address) {
  static std::mutex mutex;
  static std::map<uintptr_t, std::vector<SourceLine>> known;
  const std::lock_guard lock(mutex);
  const uintptr_t offset = reinterpret_cast<uintptr_t>(return_address) - 1 - program().base;  // in the call, not after it
  const auto [it, fresh] = known.try_emplace(offset);
  if (fresh) it->second = ask_addr2line(offset);
  return it->second;
}

SourceLine source_line(const void* return_address) {
  const auto& lines = source_lines(return_address);
  for (const SourceLine& line : lines)
    if (!is_emulator_header(line.file)) return line;
  return lines.empty() ? SourceLine{} : lines.front();
}

SourceLine kernel_line(const void* return_address) {
  for (const SourceLine& line : source_lines(return_address))
    if (line.file.ends_with(".cu")) return line;
  return source_line(return_address);
}

bool same_source(const void* a, const void* b) {
  const auto &x = source_lines(a), &y = source_lines(b);
  return !x.empty() && std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const SourceLine& p, const SourceLine& q) {
    return p.line == q.line && p.file == q.file && p.function == q.function;
  });
}

const std::vector<ThreadLocalSymbol>& thread_local_symbols() { return program().thread_locals; }
uintptr_t program_base() { return program().base; }
bool is_constant(uintptr_t a) {
  for (const Span& s : program().constants)
    if (a - s.base < s.bytes) return true;
  return false;
}

Span thread_local_block() {
  Span span;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; i++)
          if (info->dlpi_phdr[i].p_type == PT_TLS)
            *static_cast<Span*>(out) = {reinterpret_cast<uintptr_t>(info->dlpi_tls_data), info->dlpi_phdr[i].p_memsz};
        return 1;
      },
      &span);
  return span;
}

}  // namespace emulator
