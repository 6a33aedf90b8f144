// Rows that carry token ids, as JSON lines: {"input_ids": [...], "labels": [...]}, with the labels of Hugging Face. Without
// labels every token behind the first is trained.
#pragma once

#include <string>
#include <string_view>

#include "data/sample.h"
#include "src/base/json.h"

namespace tll {

inline bool is_token_row(const Json& row) { return row.is_object() && row.contains("input_ids"); }

// Each row is a sample of one span of ids, and a group of its own. `name` is the file's name in messages. Error (kExitBadFile),
// with the line, for a row that is not as above, or an id that is not below options.vocab_size (if that is not 0).
SampleSet read_token_rows(std::string_view text, const std::string& name, const PrepareOptions& options);

}  // namespace tll
