#include "dev/ptx_sim/reports.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>

namespace ptx {
namespace {

struct Reports {
  std::mutex mutex;
  std::map<std::string, uint64_t> times;
};
Reports& reports() {
  static auto& all = *new Reports;  // lives until the program has ended
  return all;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = text ? text : name;
  std::free(text);
  for (size_t at; (at = result.find("(anonymous namespace)::")) != std::string::npos;) result.erase(at, 23);
  return result;
}

}  // namespace

void add_report(const std::string& text) {
  const std::lock_guard lock(reports().mutex);
  reports().times[text]++;
}

std::string take_reports() {
  const std::lock_guard lock(reports().mutex);
  std::string all;
  for (const auto& [text, times] : reports().times)
    all += text + (times > 1 ? " (" + std::to_string(times) + " times)" : "") + "\n";
  reports().times.clear();
  return all;
}

std::string place_text(const Kernel& kernel, uint32_t instruction) {
  const SourceLine& line = kernel.lines[instruction];
  const auto file = kernel.module->files.find(line.file);
  std::string text = "'" + kernel.text[instruction] + "'";
  if (file != kernel.module->files.end()) text += " of " + file->second + ":" + std::to_string(line.line);
  return text + " in " + demangled(kernel.name);
}

std::string statistics() {
  std::string each;
  uint64_t kernels = 0, launched = 0, launches = 0, instructions = 0, mma = 0, ran = 0, lines = 0;
  for (const auto& module : modules())
    for (const auto& [name, kernel] : module->kernels) {
      // Where an architecture lacks what a kernel needs, it is a trap and no more.
      const bool trap = kernel.body.find("trap;") != std::string::npos && kernel.body.find("ld.") == std::string::npos;
      if (trap && !kernel.launches) continue;
      uint64_t executed = 0;
      for (size_t i = 0; i < kernel.executed.size(); i++) {
        executed += kernel.executed[i] > 0;
        if (kernel.text[i].starts_with("mma.") || kernel.text[i].starts_with("wgmma.mma_async.")) mma += kernel.executed[i];
      }
      kernels++, launched += kernel.launches > 0, launches += kernel.launches, instructions += kernel.instructions;
      ran += executed, lines += kernel.code.size();
      each += std::to_string(kernel.launches) + " launches, " + std::to_string(kernel.instructions) + " instructions of warps, " +
              std::to_string(executed) + " of " + std::to_string(kernel.code.size()) + " lines: " + demangled(name) + "\n";
    }
  return std::to_string(launched) + " of " + std::to_string(kernels) + " kernels launched, " + std::to_string(launches) +
         " launches, " + std::to_string(instructions) + " instructions of warps (" + std::to_string(mma) + " mma), " +
         std::to_string(ran) + " of " + std::to_string(lines) + " lines of PTX ran\n" + each;
}

}  // namespace ptx
