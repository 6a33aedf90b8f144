// A tokenizer that could be read must encode and decode: every id is one of its own, and no text makes it fail but with an Error.
#pragma once

#include <string>
#include <vector>

#include "dev/fuzz/fuzz.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace tll::fuzz {

inline void use(const Tokenizer& tokenizer) {
  static const std::string kTexts[] = {"",
                                       "hello hello",
                                       "  a  12\n\nhell\xC3\xA9 it's",
                                       "ab abc <s> <|end|> \xF0\x9F\x98\x80",
                                       std::string(60, 'l'),
                                       std::string(40, ' ') + "\u2581\u2581a",
                                       std::string("\0\xFF", 2)};
  check_lines(tokenizer.warnings());
  for (const std::string& text : kTexts) {
    completes([&] {
      const std::vector<int32_t> ids = tokenizer.encode_with_special(text);
      for (const int32_t id : ids) TLL_CHECK(id >= 0 && id < tokenizer.vocab_size(), "id {} of {}", id, tokenizer.vocab_size());
      for (const bool skip_special : {false, true})
        TLL_CHECK(find_invalid_utf8(tokenizer.decode(ids, skip_special)) == std::string::npos, "decoded text is not UTF-8");
      StreamDecoder stream(tokenizer);
      for (const int32_t id : ids) stream.push(id);
      stream.finish();
    });
    completes([&] {
      const std::string_view front = std::string_view(text).substr(0, text.size() / 2),
                             back = std::string_view(text).substr(front.size());
      const PlacedTokens parts = tokenizer.encode_parts(std::vector<TextPart>{{front, true}, {back, false}});
      TLL_CHECK(parts.begins.size() == parts.ids.size(), "{} places of {} tokens", parts.begins.size(), parts.ids.size());
      for (const uint32_t begin : parts.begins)
        TLL_CHECK(begin < text.size(), "a token begins at {} of {} bytes", begin, text.size());
      const bool same = tokenizer.encode_parts(std::vector<TextPart>{{text, false}}).ids == tokenizer.encode(text);
      TLL_CHECK(same, "a text alone has other tokens");
    });
  }
  for (int32_t id = 0; id < std::min(tokenizer.vocab_size(), 16); ++id) completes([&] { tokenizer.decode({&id, 1}, false); });
}

// The file is in memory, alone in a directory.
inline void load_and_use(const char* name, std::string_view bytes) {
  static const TemporaryDirectory directory;
  put(directory / name, bytes);
  use(*Tokenizer::load(directory));
}

}  // namespace tll::fuzz
