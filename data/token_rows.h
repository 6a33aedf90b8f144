// Rows that carry token ids, {"input_ids": [...]}, as tokenizers, `datasets` and TRL write them.
//
//   labels            -100 or the token to predict, as in a Dataset. Without labels every token is a target
//   attention_mask    0: padding, at either end of a document. It is left out, and positions begin behind it
//   completion_mask   1: a target, 0: none
//   assistant_masks   the same; a target of both is one
//   position_ids      count up from 0 in each document of a packed row, which they so divide; or are the indices in a padded row
//   seq_lengths       lengths of the documents of a packed row, padding included
//
// The first token of a document is never a target. Each list has one element for each token, seq_lengths excepted. Lists that
// contradict each other are refused: trained labels where a mask is 0, position_ids that do not fit seq_lengths.
// Source of the keys' meanings: transformers' data collators and prepare_fa_kwargs_from_position_ids; trl's SFTTrainer.
#pragma once

#include "data/example_reader.h"
#include "data/row_file.h"
#include "data/sample.h"

namespace tll {

// Each document is a sample of one span of ids, and a group of its own. Error (kExitBadFile), with the place, for a row that is
// not as above, an id that is not below options.vocab_size (if that is not 0), or a key that would change what is computed and is
// not known.
SampleSet read_token_rows(const RowFile& file, const PrepareOptions& options);
inline bool is_token_row(const Json& row) { return row.is_object() && row.contains("input_ids"); }

}  // namespace tll
