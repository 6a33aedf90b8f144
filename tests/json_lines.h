// JSONL files, as a run's metrics are.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "src/base/json.h"

namespace tll {

// One value a line.
inline std::vector<Json> json_lines(const std::filesystem::path& path) {
  std::vector<Json> found;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) found.push_back(parse_json(line, path.string()));
  return found;
}

}  // namespace tll
