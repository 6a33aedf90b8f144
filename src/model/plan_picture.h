// A plan as a picture (SVG): the phases of a run from left to right, memory from the bottom up, each tensor a box over its life.
#pragma once

#include <string>

#include "src/model/arena.h"

namespace tll {

// Tensors too small to be named stand together in one box with their neighbours of the same life and category. The peak is
// marked. No fonts or other files are needed, and it can be printed.
std::string plan_picture(const Arena& arena, const std::string& title);

}  // namespace tll
