// The components of a tokenizer.json (github.com/huggingface/tokenizers), each read into the steps of a pipeline. Error
// (kExitBadFile) with the name of what is not implemented.
#pragma once

#include "tokenizer/json_node.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/side_files.h"

namespace tll {

AddedToken read_added_token(const JsonNode& node, int32_t id);  // content and flags
void read_normalizer(const JsonNode& node, PipelineParts& parts);
void read_pre_tokenizer(const JsonNode& node, PipelineParts& parts);
void read_decoder(const JsonNode& node, std::vector<DecoderStep>& steps);
void read_post_processor(const JsonNode& node, PipelineParts& parts);

}  // namespace tll
