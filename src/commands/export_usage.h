// How other programs load what `export` wrote.
#pragma once

#include <string>
#include <vector>

#include "src/commands/export.h"

namespace tll {

// A program, and the line to type for it, of a shell or of Python.
struct Usage {
  std::string program;  // "transformers", "vLLM", "llama.cpp", "Ollama"
  std::string how;
};
std::vector<Usage> usages(const Options& options, const ModelSource& source, const AdapterSource& adapter,
                          const Exported& exported);

}  // namespace tll
