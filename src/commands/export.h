// What `export` writes, for tests too.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "src/commands/source.h"

namespace tll {

struct Exported {
  std::filesystem::path directory;      // in which the files are
  std::vector<std::string> files;       // those with tensors first
  std::vector<std::string> notes = {};  // what a user should know, one line each
};

// Each writes what --output names. What is there already stays as it is until the new files are whole. Error (kExitUsage) if
// something is there and --overwrite was not given, or if it would be the model or adapter that is exported; Stopped
// (src/base/phase.h) if a signal asked to stop, and nothing is left of what was begun.

// merged: safetensors in the model's type, with config.json and the tokenizer's files, as transformers' save_pretrained writes
// them. A quantised model becomes a dense one.
Exported export_merged(const Options&, const ModelSource&, const AdapterSource&);

// bnb-4bit: what transformers' save_pretrained writes of a model that bitsandbytes quantised while it was loaded
// (src/files/quantization.h). Error (kExitBadFile) for a weight that is not finite.
Exported export_bnb_4bit(const Options&, const ModelSource&, const AdapterSource&);

// gguf: the whole model in one file, as llama.cpp's converter has it, with matrices of --gguf-type.
Exported export_gguf(const Options&, const ModelSource&, const AdapterSource&);

// gguf-adapter: the adapter alone, in F32, for llama.cpp's --lora and Ollama's ADAPTER.
Exported export_gguf_adapter(const Options&, const ModelSource&, const AdapterSource&);

}  // namespace tll
