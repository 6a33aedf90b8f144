#include "src/commands/best_values.h"

#include "src/base/file.h"
#include "src/commands/save.h"
#include "src/files/adapter.h"
#include "src/train/checkpoint.h"

namespace tll {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInCheckpoint = "best.safetensors";

// Nobody writes into these files: they are replaced as a whole.
void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code failed;
  fs::create_hard_link(from, to, failed);
  if (failed) fs::copy_file(from, to);
}

}  // namespace

BestValues::BestValues(const fs::path& output, bool whole_model)
    : output_(output),
      directory_(output / kBestValues),
      values_(whole_model ? kModelFiles[0] : kAdapterTensors),
      settings_(whole_model ? kModelFiles[1] : kAdapterSettings) {}

void BestValues::write(const std::function<void(const fs::path&)>& write_values) const {
  const fs::path temporary = output_ / fmt::format(".{}.tmp", kBestValues);
  try {
    fs::remove_all(temporary);
    fs::create_directory(temporary);
    write_values(temporary);
    flush_directory(temporary);
    replace_directory(temporary, directory_);
  } catch (...) {
    std::error_code none;
    fs::remove_all(temporary, none);
    throw;
  }
  flush_directory(output_);
}

void BestValues::add_to_checkpoint(const fs::path& checkpoint) const {
  link_or_copy(directory_ / values_, checkpoint / kInCheckpoint);
}

bool BestValues::are_in(const fs::path& checkpoint) { return fs::exists(checkpoint / kInCheckpoint); }

void BestValues::take_from_checkpoint(const fs::path& checkpoint) const {
  write([&](const fs::path& directory) {
    link_or_copy(checkpoint / kInCheckpoint, directory / values_);
    fs::copy_file(checkpoint / settings_, directory / settings_);
  });
}

void BestValues::remove() const {
  std::error_code none;
  for (const char* name : {values_, settings_}) fs::remove(directory_ / name, none);
  fs::remove(directory_, none);  // not if something else is in it
}

}  // namespace tll
