// Whether another process of this machine still runs, and how it ended.
#pragma once

#include <cstdint>
#include <string>

namespace tll {

// Tells a process from a later one with the same number.
struct ProcessIdentity {
  int32_t pid = 0;
  uint64_t started = 0;    // clock ticks since the machine's start
  uint64_t numbering = 0;  // the namespace that `pid` is a number of

  static ProcessIdentity self();
  static ProcessIdentity of_child(int32_t pid);  // one that was not waited for
};

// A process that is dead but not waited for has ended too. One whose number belongs to another namespace (a container beside
// this one) cannot be seen, and counts as running.
bool has_ended(const ProcessIdentity& process);

// Of a child that has ended, without waiting for it: its wait status plus one. 0: it runs, or is no child of this process.
int32_t ended_child(int32_t pid);
// "killed by signal 9", "exit code 3"
std::string how_ended(int32_t status_plus_one);
bool ended_with_code(int32_t status_plus_one, int code);

}  // namespace tll
