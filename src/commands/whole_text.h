// The text of a data set as one text, for its perplexity with --stride.
#pragma once

#include <cstdint>
#include <vector>

#include "data/data_options.h"
#include "src/options/options.h"
#include "tokenizer/tokenizer.h"

namespace tll {

// A text file as it is (CRLF is LF); texts of rows, and files of a folder, joined by an empty line, as Hugging Face's guide joins
// them. Tokenised as transformers' tokenizer(text) does: special tokens in the text are ids, and the tokenizer's own are added.
// The whole text is held in memory. Error (kExitUsage) if the data are not text; kExitBadFile if the text has more than 1 GiB, or
// less than two tokens.
std::vector<int32_t> whole_text_tokens(const Options& options, const Tokenizer& tokenizer, const PrepareOptions& prepare);

}  // namespace tll
