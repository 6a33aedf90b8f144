// Shapes of published models, so that a run can be planned before anything is downloaded.
//
// Source: the config.json of each model on the Hub; the numbers of parameters that follow are those published
// (tests/known_models_test.cpp).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/files/config.h"

namespace tll {

struct KnownModel {
  std::string name;    // as the Hub writes it: "meta-llama/Llama-3.2-1B"
  LlamaConfig config;  // the sizes; no frequencies of rope, no token ids
};

// In upper or lower case, and also without the owner: "llama-3.2-1b". Nothing: no such model is known.
std::optional<KnownModel> known_model(std::string_view name);

// Every name, as the Hub writes it.
const std::vector<std::string_view>& known_model_names();

}  // namespace tll
