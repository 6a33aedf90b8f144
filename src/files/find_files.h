// Where the model or adapter is that a user names, and what was named instead.
#pragma once

#include <filesystem>
#include <string>

namespace tll {

// The directory with config.json, or a GGUF file. The path may also be a model's name on the Hub, ORG/NAME, or its directory in
// the Hub's cache (models--ORG--NAME): then it is the snapshot that refs/main names. The cache is where huggingface_hub has it:
// HF_HUB_CACHE, HF_HOME/hub, or ~/.cache/huggingface/hub. Error (kExitBadFile) that says what else the path is, such as a GGUF
// file, an adapter or a name on the Hub, and what to do.
std::filesystem::path find_model(const std::filesystem::path& path);

// The directory with both files of an adapter; the path may also be a name on the Hub, as for a model. Error (kExitBadFile) that
// says what else the path is.
std::filesystem::path find_adapter(const std::filesystem::path& path);

// The name on the Hub, ORG/NAME, of a model that was named so, or that lies in the Hub's cache; empty: not known.
std::string hub_name_of(const std::filesystem::path& path);

}  // namespace tll
