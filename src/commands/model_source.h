// Which model a command works on: its directory, config and tokenizer.
#pragma once

#include <memory>

#include "src/files/config.h"
#include "src/options/options.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// The model that the options name; the demo model if they name none.
struct ModelSource {
  std::filesystem::path directory;  // empty: there is only a config.json
  std::filesystem::path config_file;
  bool random = false;  // random weights: nothing is loaded
  LlamaConfig config;
  std::unique_ptr<Tokenizer> tokenizer;  // null: the directory has none, or it is not needed
  std::vector<int32_t> eos;              // ids that end a generated text
};
enum class TokenizerNeed { none, wanted, required };  // wanted: data may come as token ids, then a directory without one will do
ModelSource open_model(const Options& options, TokenizerNeed need);

// data/demo beside the working directory or beside the program. Error (kExitBadFile) if it is in neither.
std::filesystem::path demo_directory();

}  // namespace tll
