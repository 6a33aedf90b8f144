// README.md beside a result: the model card that the Hub shows.
//
// The block between the two lines of dashes is YAML that the Hub reads (huggingface_hub's "Model Cards" guide): base_model,
// library_name, pipeline_tag, tags. What a program cannot know, such as the licence, is left to fill in, and said to be.
#pragma once

#include <filesystem>
#include <string>

#include "src/base/json.h"

namespace tll {

inline constexpr const char* kModelCard = "README.md";

// `run`: what run.json says of a run that ended.
std::string model_card(const Json& run);

// Whether the file is a card that model_card() made, which a later run may replace.
bool is_model_card(const std::filesystem::path& file);

}  // namespace tll
