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
#include <span>
#include <sstream>
#include <string_view>
#include <vector>

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
constexpr std::string_view kHierarchicalLimit[] = {"hierarchical_memory_limit"};

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

// The sum of the numbers after these names in a text of "name number" lines.
int64_t sum_of(const std::string& text, std::span<const std::string_view> names) {
  std::istringstream lines(text);
  int64_t sum = 0;
  std::string key;
  for (int64_t value; lines >> key >> value;) {
    if (std::find(names.begin(), names.end(), key) != names.end()) sum += value;
  }
  return sum;
}

bool has_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

// A path of /proc/self/mountinfo, in which blanks and backslashes are octal: "\040".
fs::path read_mount_path(const std::string& text) {
  std::string path;
  for (size_t i = 0; i < text.size(); i++) {
    const bool octal = text[i] == '\\' && i + 3 < text.size();
    path += octal ? static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8)) : text[i];
    if (octal) i += 3;
  }
  return path;
}

// Where a hierarchy of control groups can be seen. `group` is the path of the group that the directory shows, as
// /proc/self/cgroup writes paths: seen from the root of this process's cgroup namespace.
struct GroupMount {
  fs::path directory;
  fs::path group;
};

// The mounts of a version-1 controller or, with "", of version 2. Both kinds may be there at once.
std::vector<GroupMount> group_mounts(const fs::path& root, const std::string& controller) {
  std::vector<GroupMount> mounts;
  std::istringstream lines(read_virtual_file(root / "proc/self/mountinfo"));
  for (std::string line; std::getline(lines, line);) {
    // id parent device root directory options tag… - type source options
    std::istringstream words(line);
    std::string word, group, directory, type, source, options;
    words >> word >> word >> word >> group >> directory;
    while (words >> word && word != "-") continue;
    words >> type >> source >> options;
    if (controller.empty() ? type == "cgroup2" : type == "cgroup" && has_word(options, controller))
      mounts.push_back({root / read_mount_path(directory).relative_path(), read_mount_path(group)});
  }
  return mounts;
}

// This process's group in the hierarchy of the controller, as /proc/self/cgroup says; nothing if it is in none.
std::optional<fs::path> own_group(const fs::path& root, const std::string& controller) {
  std::istringstream lines(read_virtual_file(root / "proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : has_word(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

// The directory `levels` below this one in which `group` is a group that this process is in; nothing if there is none.
std::optional<fs::path> find_own(const fs::path& directory, int levels, const fs::path& group) {
  std::error_code gone;
  if (levels == 0) {
    std::istringstream processes(read_virtual_file(directory / group / "cgroup.procs"));
    const auto id = std::to_string(getpid());
    const bool own = std::find(std::istream_iterator<std::string>(processes), {}, id) != std::istream_iterator<std::string>();
    return own ? std::optional(directory / group) : std::nullopt;
  }
  for (fs::directory_iterator entry(directory, gone), end; !gone && entry != end; entry.increment(gone)) {
    if (!entry->is_directory(gone)) continue;
    if (const auto found = find_own(entry->path(), levels - 1, group)) return found;
  }
  return std::nullopt;
}

// The directories of this process's group and of the groups above it that can be seen, from the top.
std::vector<fs::path> group_directories(const fs::path& root, const std::string& controller) {
  std::vector<fs::path> directories;
  const auto group = own_group(root, controller);
  if (!group) return {};
  for (const GroupMount& mount : group_mounts(root, controller)) {
    // The group as seen from the mount. If the mount's root lies above the namespace's ("/../.."), the names between are not
    // known, and the group is looked for.
    const auto [above, rest] = std::mismatch(mount.group.begin(), mount.group.end(), group->begin(), group->end());
    fs::path below;
    if (above == mount.group.end()) {
      for (auto part = rest; part != group->end(); ++part) below /= *part;
    } else if (*above == "..") {
      const auto own =
          find_own(mount.directory, static_cast<int>(std::distance(above, mount.group.end())), group->relative_path());
      if (own) below = own->lexically_relative(mount.directory);
    }
    directories.push_back(mount.directory);
    for (const fs::path& part : below) {
      if (part == ".." || part.empty()) break;  // a group outside of the mount
      directories.push_back(directories.back() / part);
    }
  }
  return directories;
}

// Where a version of control groups says what a group may use and uses.
struct MemoryFiles {
  const char* controller;
  std::vector<const char*> limits;  // version 2: beyond max processes are killed, beyond high they are slowed down
  const char* usage;
  std::vector<std::string_view> reclaimable;  // lines of memory.stat: what is given back when memory is needed,
  std::vector<std::string_view> unwritten;    // except for what must be written to disk before
};
const MemoryFiles kVersions[] = {{"",
                                  {"memory.max", "memory.high"},
                                  "memory.current",
                                  {"active_file", "inactive_file", "slab_reclaimable"},
                                  {"file_dirty", "file_writeback"}},
                                 {"memory",
                                  {"memory.limit_in_bytes"},
                                  "memory.usage_in_bytes",
                                  {"total_active_file", "total_inactive_file"},
                                  {"total_dirty", "total_writeback"}}};

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
  for (const MemoryFiles& files : kVersions) {
    const std::vector<fs::path> groups = group_directories(root, files.controller);
    for (const fs::path& group : groups) {
      // In version 1 a group may be told not to count those below it. Its limit is not theirs then.
      if (group != groups.back() && read_number(group / "memory.use_hierarchy") == 0) continue;
      const std::string stat = read_virtual_file(group / "memory.stat");
      int64_t limit = kNoLimit;
      for (const char* file : files.limits) limit = std::min(limit, read_number(group / file).value_or(kNoLimit));
      // Version 1: the least limit of this group and all above it, also of those that cannot be seen from a container.
      const int64_t least = sum_of(stat, kHierarchicalLimit);
      if (least > 0) limit = std::min(limit, least);
      if (limit >= machine_total) continue;  // version 1 writes "no limit" as a huge number
      const int64_t given_back = std::max<int64_t>(0, sum_of(stat, files.reclaimable) - sum_of(stat, files.unwritten));
      const int64_t used = read_number(group / files.usage).value_or(0) - given_back;
      memory.total = std::min(memory.total, limit);
      memory.available = std::min(memory.available, limit - std::clamp<int64_t>(used, 0, limit));
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
    if (key == "flags" && found.features.empty()) {
      static constexpr std::string_view kFeatures[] = {"avx2",     "fma",         "f16c",        "avx512f",
                                                       "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
                                                       "amx_tile", "amx_bf16",    "amx_int8"};
      const std::string words = " " + value + " ";
      for (std::string_view feature : kFeatures) {
        if (words.find(" " + std::string(feature) + " ") == std::string::npos) continue;
        if (!found.features.empty()) found.features += ' ';
        found.features += feature;
      }
    }
  }
  found.threads = std::max(1, threads);
  if (const auto share = quota(root)) found.threads = std::clamp(static_cast<int>(std::ceil(*share)), 1, found.threads);
  return found;
}

}  // namespace tll
