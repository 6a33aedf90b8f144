// OUTPUT/best: the trained values whose validation loss is the lowest so far, in the form that OUTPUT has at the end. They are
// written when they are found, so a run that is killed leaves them too.
//
// A checkpoint holds those that were the best at its step, since a resumed run may be at an earlier step than the killed one was:
// best.safetensors, a second name of the file in OUTPUT/best where the file system has such names, else a copy.
#pragma once

#include <filesystem>
#include <functional>

namespace tll {

class BestValues {
 public:
  // `whole_model`: model.safetensors and config.json; else an adapter's files.
  BestValues(const std::filesystem::path& output, bool whole_model);

  const std::filesystem::path& directory() const { return directory_; }
  // `write_values(directory)` writes both files. If it fails, what was the best before stays.
  void write(const std::function<void(const std::filesystem::path&)>& write_values) const;
  void add_to_checkpoint(const std::filesystem::path& checkpoint) const;
  static bool are_in(const std::filesystem::path& checkpoint);
  // Makes those of a checkpoint the best ones. Its settings are those of the checkpoint itself.
  void take_from_checkpoint(const std::filesystem::path& checkpoint) const;
  void remove() const;

 private:
  std::filesystem::path output_, directory_;
  const char *values_, *settings_;  // names of the files
};

}  // namespace tll
