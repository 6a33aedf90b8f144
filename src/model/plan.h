// How a plan is printed: groups of tensors, the five categories at the peak, and their sum.
#pragma once

#include <string>
#include <vector>

#include "src/model/arena.h"

namespace tll {

// "layers.12.qkv" and "resid.3" become "layers.*.qkv" and "resid.*".
std::string group_of(const std::string& name);

// One line per group of one life ("layers.*.qkv" stands for all layers), then the categories with their shares of the peak, then
// the total.
std::string plan_table(const Arena& arena);
// The `count` groups that take most at the peak, a line each: "4.94 GiB  34 %  layers.*.gate_up (parameters)".
std::vector<std::string> largest_groups(const Arena& arena, size_t count);
// The categories and the total in one line: what a training run prints before it allocates.
std::string plan_line(const Arena& arena);

}  // namespace tll
