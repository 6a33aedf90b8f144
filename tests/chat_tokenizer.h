// A tokenizer for tests of conversations: ChatML's marks are tokens in markup.
#pragma once

#include <string>
#include <vector>

#include "tests/fake_tokenizer.h"

namespace tll {

// Bytes, and two marks that are tokens in markup. The end mark is the padding, too, and EOS.
class ChatTokenizer : public FakeTokenizer {
 public:
  static constexpr int32_t kBegin = 1, kEnd = 2;
  ChatTokenizer() : FakeTokenizer({"ab", "Ja"}) {
    pad_ = kEnd;
    added_tokens_ = {{.id = kBegin, .content = "<|im_start|>", .special = true},
                     {.id = kEnd, .content = "<|im_end|>", .special = true}};
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const override {
    std::string out;
    for (const int32_t& id : ids) {
      const bool special = id == kBegin || id == kEnd;
      if (special && !skip_special) out += id == kBegin ? "<|im_start|>" : "<|im_end|>";
      if (!special) out += FakeTokenizer::decode({&id, 1});
    }
    return out;
  }

  PlacedTokens encode_parts(std::span<const TextPart> parts) const override {
    PlacedTokens out;
    size_t at = 0;
    std::string text;
    const auto flush = [&] {
      PlacedTokens plain = FakeTokenizer::encode_parts(std::vector<TextPart>{{text, false}});
      for (size_t i = 0; i < plain.ids.size(); ++i) {
        out.ids.push_back(plain.ids[i]);
        out.begins.push_back(uint32_t(at - text.size()) + plain.begins[i]);
      }
      text.clear();
    };
    for (const TextPart& part : parts) {
      for (size_t i = 0; i < part.text.size();) {
        const bool begins = part.markup && part.text.substr(i).starts_with("<|im_start|>");
        const bool ends = part.markup && part.text.substr(i).starts_with("<|im_end|>");
        if (!begins && !ends) {
          text += part.text[i++];
          ++at;
          continue;
        }
        flush();
        out.ids.push_back(begins ? kBegin : kEnd);
        out.begins.push_back(uint32_t(at));
        const size_t size = begins ? 12 : 10;
        i += size;
        at += size;
      }
    }
    flush();
    return out;
  }
};

}  // namespace tll
