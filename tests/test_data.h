// The optional real files.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tll {

inline std::filesystem::path test_data(const std::string& name) {
  const char* directory = std::getenv("TLL_TEST_DATA");
  return std::filesystem::path(directory ? directory : "../shared/data") / name;
}

}  // namespace tll
