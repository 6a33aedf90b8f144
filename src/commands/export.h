// What `export` writes, for tests too.
#pragma once

#include <cstdint>

#include "src/commands/source.h"

namespace tll {

// bnb-4bit: what transformers' save_pretrained writes of a model that bitsandbytes quantised while it was loaded
// (src/files/quantization.h), config.json and the tokenizer's files included. No file has more than `most_in_file` bytes of
// tensors, unless one module has: 5 GB, as on the Hub. Returns the names of the files of tensors. Error (kExitUsage) if --output
// holds a model, without --overwrite; (kExitBadFile) for a weight that is not finite.
std::vector<std::string> export_bnb_4bit(const Options&, const ModelSource&, const AdapterSource&,
                                         uint64_t most_in_file = 5'000'000'000);

}  // namespace tll
