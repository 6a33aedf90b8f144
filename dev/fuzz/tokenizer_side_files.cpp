// Covers: tokenizer/side_files.cpp
#include "dev/fuzz/mutate.h"
#include "dev/fuzz/use_tokenizer.h"
#include "tests/tokenizer_fixtures.h"

namespace tll::fuzz {

constexpr const char* kWords[] = {"bos_token",
                                  "eos_token",
                                  "pad_token",
                                  "unk_token",
                                  "add_bos_token",
                                  "add_eos_token",
                                  "add_prefix_space",
                                  "added_tokens_decoder",
                                  "additional_special_tokens",
                                  "content",
                                  "special",
                                  "normalized",
                                  "single_word",
                                  "lstrip",
                                  "rstrip",
                                  "tokenizer_class",
                                  "LlamaTokenizer",
                                  "legacy",
                                  "chat_template",
                                  "model_max_length",
                                  "<s>",
                                  "</s>",
                                  "<x>",
                                  "hello",
                                  "0",
                                  "16",
                                  "272",
                                  "300",
                                  "bos_token_id",
                                  "eos_token_id",
                                  "pad_token_id"};

std::string mutated(const std::string& bytes, Random& random) { return mutated_json(bytes, random, kWords); }

// The same text stands for each of the files beside a tokenizer, of a tokenizer.json, of a tokenizer.model, and of one
// with an UNUSED piece and a character that occurs only inside a piece.
void read(std::string_view bytes) {
  static const TemporaryDirectory json, model, unused;
  static const bool once = [] {
    put(json / "tokenizer.json", small_json().dump());
    put(model / "tokenizer.model", SmallSentencePiece{.byte_fallback = false}.content());
    put(unused / "tokenizer.model", SmallSentencePiece{.unused = 8, .more_pieces = piece_field("xy", -20, 1)}.content());
    return true;
  }();
  (void)once;
  for (const TemporaryDirectory* directory : {&json, &model, &unused}) {
    for (const char* name :
         {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "config.json"}) {
      put(*directory / name, bytes);
      completes([&] { use(*Tokenizer::load(*directory)); });
      std::filesystem::remove(*directory / name);
    }
  }
}

}  // namespace tll::fuzz
