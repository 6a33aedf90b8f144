// Where the model or adapter is that a user names, and what was named instead.
#pragma once

#include <filesystem>
#include <string>

namespace tll {

// The directory with config.json. That of a model in the Hub's cache (models--ORG--NAME) is the snapshot that its refs/main
// names. Error (kExitBadFile) that says what else the path is, such as a GGUF file, an adapter or a name on the Hub, and what to
// do.
std::filesystem::path find_model(const std::filesystem::path& path);

// Error (kExitBadFile) that says what else the path is, unless it is a directory with both files of an adapter.
void check_adapter_directory(const std::filesystem::path& path);

}  // namespace tll
