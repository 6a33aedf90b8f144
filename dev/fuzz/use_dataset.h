// A data set that could be read must be trained on: it is packed into batches, shown, and written and read again.
#pragma once

#include <vector>

#include "data/loader.h"
#include "dev/fuzz/fuzz.h"
#include "tests/fake_tokenizer.h"
#include "tokenizer/utf8.h"

namespace tll::fuzz {

// Decodes to UTF-8 and refuses ids that it does not have, as tokenizers do.
class ByteTokenizer : public FakeTokenizer {
 public:
  ByteTokenizer() : FakeTokenizer({"he", "ll", " a"}, true) {}
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const override {
    check_ids(ids);
    return replace_invalid_bytes(FakeTokenizer::decode(ids, skip_special));
  }
};

inline const Tokenizer& fake_tokenizer() {
  static const ByteTokenizer tokenizer;
  return tokenizer;
}

inline void use(const Dataset& data) {
  constexpr int32_t kRows = 2, kTokens = 32;
  check_lines(data.report.notes());
  for (const Document& d : data.documents) {
    for (const int32_t id : data.tokens_of(d)) TLL_CHECK(id >= 0 && id < data.vocab_size, "token {} of {}", id, data.vocab_size);
  }
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    completes([&] {
      Loader loader(data, {.rows = kRows, .seq_len = kTokens, .grad_accum = 2, .split = split});
      std::vector<int32_t> tokens(kRows * kTokens), targets(tokens), positions(tokens), begins(tokens.size() + 1);
      BatchView batch{tokens.data(), targets.data(), positions.data(), begins.data()};
      for (int step = 0; step < 4; ++step) {
        loader.next_step();
        for (const int m : {0, 1}) loader.micro_batch(m, batch);
      }
      loader.restore(loader.state());
    });
  }
  const Dataset again = parse_dataset(dataset_bytes(data), "again");
  TLL_CHECK(again.content_hash() == data.content_hash(), "{} documents", data.documents.size());
  for (int64_t i = 0; i < std::min<int64_t>(2, std::ssize(data.documents)); ++i)
    completes([&] { show_text(data, i, fake_tokenizer(), true), show_json(data, i, fake_tokenizer()).dump(); });
}

// The file is in memory. Its name's ending helps to tell what it is.
inline void load_and_use(const char* name, std::string_view bytes, const Tokenizer* tokenizer, const PrepareOptions& options) {
  static const TemporaryDirectory directory;
  put(directory / name, bytes);
  use(load_dataset(directory / name, tokenizer, options));
}

}  // namespace tll::fuzz
