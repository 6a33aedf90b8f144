#include "src/report/memory_probe.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// The bytes of a line "Name:   123 kB".
int64_t status_bytes(const char* text, const char* name) {
  const char* line = std::strstr(text, name);
  return line == nullptr ? 0 : std::strtoll(line + std::strlen(name), nullptr, 10) * 1024;
}

// Reads a file under /proc or /sys, whose size is not known beforehand; "" if it is not there.
std::string read_virtual_file(const fs::path& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The number in a file; nothing if the file is not there or says "max".
std::optional<int64_t> read_number(const fs::path& path) {
  const std::string text = read_virtual_file(path);
  char* end = nullptr;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  if (end == text.c_str()) return std::nullopt;
  return value;
}

// The number after a name in a file of "name number" lines, or 0.
int64_t read_stat(const fs::path& path, const std::string& name) {
  std::istringstream lines(read_virtual_file(path));
  std::string key;
  for (int64_t value; lines >> key >> value;) {
    if (key == name) return value;
  }
  return 0;
}

// The directories of this process's control group and of the groups above it, for a version-1 controller or, with "", for
// version 2. In a container the path may not exist below the mount; then the mount itself is the group.
std::vector<fs::path> group_directories(const fs::path& root, const std::string& controller) {
  std::istringstream lines(read_virtual_file(root / "proc/self/cgroup"));
  const fs::path mount = root / "sys/fs/cgroup" / controller;
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string wanted = "," + controller + ",";
    if (controller.empty() ? controllers != ",," : controllers.find(wanted) == std::string::npos) continue;
    std::vector<fs::path> directories = {mount};
    for (const fs::path& part : fs::path(line.substr(second + 1)).relative_path())
      directories.push_back(directories.back() / part);
    return directories;
  }
  return {};
}

struct GroupFiles {
  const char* controller;
  const char* limit;
  const char* usage;
  const char* cache;  // the line of memory.stat with the page cache that is reclaimed first
};
constexpr GroupFiles kVersions[] = {{"", "memory.max", "memory.current", "inactive_file"},
                                    {"memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}};

// The control group's quota of processor time, in processors; nothing without a quota.
std::optional<double> quota(const fs::path& root) {
  std::optional<double> least;
  const auto keep = [&](double share) { least = std::min(least.value_or(share), share); };
  for (const fs::path& directory : group_directories(root, "")) {
    double time = 0, period = 0;
    if (std::istringstream(read_virtual_file(directory / "cpu.max")) >> time >> period && period > 0) keep(time / period);
  }
  for (const fs::path& directory : group_directories(root, "cpu")) {
    const auto time = read_number(directory / "cpu.cfs_quota_us"), period = read_number(directory / "cpu.cfs_period_us");
    if (time && period && *time > 0 && *period > 0) keep(static_cast<double>(*time) / static_cast<double>(*period));
  }
  return least;
}

}  // namespace

ProcessMemory process_memory() {
  char text[8192];
  size_t size = 0;
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  for (ssize_t got; size < sizeof text - 1 && (got = read(file, text + size, sizeof text - 1 - size)) > 0;) size += got;
  close(file);
  text[size] = '\0';
  return {status_bytes(text, "\nVmRSS:"), status_bytes(text, "\nVmHWM:")};
}

MachineMemory machine_memory(const fs::path& root) {
  const std::string info = read_virtual_file(root / "proc/meminfo");
  MachineMemory memory = {status_bytes(info.c_str(), "MemTotal:"), status_bytes(info.c_str(), "MemAvailable:")};
  const int64_t machine_total = memory.total;
  for (const GroupFiles& files : kVersions) {
    for (const fs::path& directory : group_directories(root, files.controller)) {
      const int64_t limit = read_number(directory / files.limit).value_or(kNoLimit);
      if (limit >= machine_total) continue;  // version 1 writes "no limit" as a huge number
      const int64_t used = read_number(directory / files.usage).value_or(0) - read_stat(directory / "memory.stat", files.cache);
      memory.total = std::min(memory.total, limit);
      memory.available = std::min(memory.available, std::max<int64_t>(0, limit - std::max<int64_t>(0, used)));
    }
  }
  return memory;
}

Processor processor(const fs::path& root) {
  cpu_set_t allowed;
  const bool affinity_known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  Processor found;
  int threads = 0;
  std::istringstream lines(read_virtual_file(root / "proc/cpuinfo"));
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const std::string value = colon + 2 <= line.size() ? line.substr(colon + 2) : "";
    if (key == "processor") {
      const int number = std::atoi(value.c_str());
      threads += !affinity_known || (number < CPU_SETSIZE && CPU_ISSET(number, &allowed));
    }
    if (key == "model name") found.model = value;
    if ((key == "flags" || key == "Features") && found.features.empty()) {  // on x86-64 and on arm64
      static constexpr std::string_view kFeatures[] = {
          "avx2",     "fma",      "f16c",     "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
          "amx_tile", "amx_bf16", "amx_int8", "asimd",   "sve",      "sve2",        "bf16",        "i8mm"};
      const std::string words = " " + value + " ";
      for (std::string_view feature : kFeatures) {
        if (words.find(" " + std::string(feature) + " ") == std::string::npos) continue;
        if (!found.features.empty()) found.features += ' ';
        found.features += feature;
      }
    }
  }
  if (found.model.empty()) found.model = "unnamed processor";  // arm64 has no such line
  found.threads = std::max(1, threads);
  if (const auto share = quota(root)) found.threads = std::clamp(static_cast<int>(std::ceil(*share)), 1, found.threads);
  return found;
}

}  // namespace tll
