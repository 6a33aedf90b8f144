// What `--train full` leaves for other programs: a whole model that transformers loads.
#pragma once

#include <filesystem>

#include "src/files/safetensors.h"
#include "src/model/llama.h"

namespace tll {

// model.safetensors in this type, and config.json with that type named.
void save_model(const std::filesystem::path& directory, const std::filesystem::path& config_file,
                const std::vector<NamedTensor>& tensors, const float* values, FileDtype dtype);

// The tokenizer's files and generation_config.json, whichever exist.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace tll
