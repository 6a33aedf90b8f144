// What an exported model is called.
#pragma once

#include <string>

#include "src/commands/source.h"
#include "src/files/gguf_writer.h"

namespace tll {

// "SmolLM2-135M" of HuggingFaceTB/SmolLM2-135M, which --base-name says, or the place in the Hub's cache; where neither does, the
// name of the model's directory, or of its file without an ending.
std::string model_name(const Options& options, const ModelSource& source);
// The adapter's directory; empty: there is none.
std::string adapter_name(const Options& options);
// The name of a file in GGUF's convention: "smollm2-135m-squad-adapter-Q8_0.gguf".
std::string gguf_file_name(const Options& options, const ModelSource& source, const std::string& ending);

// general.architecture, general.type, general.name, and where the model is from, if its name on the Hub is known.
void add_general(GgufMetadata& metadata, const Options& options, const ModelSource& source, const std::string& type);

}  // namespace tll
