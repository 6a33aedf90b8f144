// A directory for one test, removed with all that is in it.
#pragma once

#include <filesystem>
#include <string>

#include "src/base/check.h"

namespace tll {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "tll_test_XXXXXX").string();
    TLL_CHECK(::mkdtemp(name.data()), "no directory {}", name);
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace tll
