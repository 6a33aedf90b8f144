// The chat_template of a model: a text in Jinja, known by a fingerprint of what it says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tll {

// The template as its statements, each with its words in one spelling, and the text between them that is shown. Spaces follow
// Jinja's rules with trim_blocks and lstrip_blocks, as in transformers. Comments and the kind of quotes do not count.
std::string canonical_jinja(std::string_view jinja);

// XXH3-64 of that.
uint64_t jinja_fingerprint(std::string_view jinja);

}  // namespace tll
