// Small tokenizers in GGUF files, beside a tensor of one element.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/gguf_bytes.h"
#include "tests/tokenizer_fixtures.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/utf8.h"

namespace tll {

// 0 <|end|>, 1 <|begin|> (control), 2 <tool> (user-defined), 3 + b the byte b, and from kGgufFirstMerged on what merges make, but
// ĠWORD, which no merge makes.
inline constexpr int kGgufFirstMerged = 259;
inline std::string spelled(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) append_utf8(out, kByteAlphabet.character[static_cast<uint8_t>(byte)]);
  return out;
}
inline GgufBytes gguf_bpe(std::string_view pre) {
  GgufBytes g;
  std::vector<std::string> tokens = {"<|end|>", "<|begin|>", "<tool>"};
  std::vector<int32_t> types = {3, 3, 4};
  for (int b = 0; b < 256; b++) tokens.push_back(spelled(std::string(1, static_cast<char>(b))));
  for (const char* token : {"he", "\n\n", "12", " WORD"}) tokens.push_back(spelled(token));
  tokens.emplace_back("[PAD263]");
  types.resize(tokens.size() - 1, 1), types.push_back(5);
  g.text("general.architecture", "llama");
  g.text("tokenizer.ggml.model", "gpt2");
  if (!pre.empty()) g.text("tokenizer.ggml.pre", pre);
  g.texts("tokenizer.ggml.tokens", tokens);
  g.i32s("tokenizer.ggml.token_type", types);
  g.texts("tokenizer.ggml.merges", {"h e", spelled("\n") + " " + spelled("\n"), "1 2"});
  g.u32("tokenizer.ggml.bos_token_id", 1);
  g.u32("tokenizer.ggml.eos_token_id", 0);
  g.tensor("token_embd.weight", {1, 1}, GgufType::F32, std::string(4, '\0'));
  return g;
}
// SmallSentencePiece, in GGUF.
inline GgufBytes gguf_pieces() {
  GgufBytes g;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  for (int b = 0; b < 256; b++) tokens.push_back(fmt::format("<0x{:02X}>", b)), types.push_back(6), scores.push_back(0);
  for (const char* piece : SmallSentencePiece::kPieces) {
    tokens.emplace_back(piece), types.push_back(1);
    scores.push_back(-static_cast<float>(tokens.size() - 260));
  }
  g.text("general.architecture", "llama");
  g.text("tokenizer.ggml.model", "llama");
  g.texts("tokenizer.ggml.tokens", tokens);
  g.i32s("tokenizer.ggml.token_type", types);
  g.f32s("tokenizer.ggml.scores", scores);
  g.tensor("token_embd.weight", {1, 1}, GgufType::F32, std::string(4, '\0'));
  return g;
}

}  // namespace tll
