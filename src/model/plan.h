// How a plan is printed: groups of tensors, the five categories, and their sum.
#pragma once

#include <string>
#include <vector>

#include "src/model/arena.h"

namespace tll {

// One line per group ("layers.*.qkv" stands for all layers), then the categories with their shares, then the total.
std::string plan_table(const Arena& arena);
// The `count` groups that take most, a line each: "4.94 GiB  34 %  layers.*.gate_up (parameters)".
std::vector<std::string> largest_groups(const Arena& arena, size_t count);
// The categories and the total in one line: what a training run prints before it allocates.
std::string plan_line(const Arena& arena);

}  // namespace tll
