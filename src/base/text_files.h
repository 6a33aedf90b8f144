// The small files of a model by name: those of a directory, or texts that stand for them.
#pragma once

#include <concepts>
#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "src/base/file.h"

namespace tll {

class TextFiles {
 public:
  template <std::convertible_to<const std::filesystem::path&> Directory>
  TextFiles(const Directory& directory) : of_(directory) {}
  // Texts that were made of a file, which messages name.
  TextFiles(std::filesystem::path of, std::map<std::string, std::string> texts)
      : of_(std::move(of)), made_(true), texts_(std::move(texts)) {}

  bool has(const std::string& name) const { return made_ ? texts_.contains(name) : std::filesystem::exists(of_ / name); }
  // Of a file that is there.
  std::string read(const std::string& name) const { return made_ ? texts_.at(name) : read_file(of_ / name); }
  // What messages call the file.
  std::string where(const std::string& name) const { return made_ ? of_.string() + ", as a " + name : (of_ / name).string(); }

 private:
  std::filesystem::path of_;
  bool made_ = false;
  std::map<std::string, std::string> texts_;
};

}  // namespace tll
