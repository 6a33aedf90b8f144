// One document for people: its text with the trained part marked, and the same as JSON.
#include "data/dataset.h"
#include "src/base/check.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

struct Segment {
  std::string text;
  bool trained;
};

// Runs of trained and untrained tokens. A run's text is what the tokens up to its end decode to, without what the tokens before
// it decode to. Decoded alone, a run would lose the space that SentencePiece drops at the start of a text.
std::vector<Segment> segments(const Dataset& data, const Document& document, const Tokenizer& tokenizer) {
  const std::span<const int32_t> tokens = data.tokens_of(document), labels = data.labels_of(document);
  const auto trained = [&](size_t t) { return t > 0 && labels[t] != kNotTrained; };
  std::vector<Segment> out;
  std::string before;
  for (size_t begin = 0, end; begin < tokens.size(); begin = end) {
    for (end = begin + 1; end < tokens.size() && trained(end) == trained(begin);) ++end;
    std::string text = tokenizer.decode(tokens.first(end), false);
    // A run that ends inside a character changes the text before it as well.
    size_t same = 0;
    while (same < before.size() && same < text.size() && before[same] == text[same]) ++same;
    while (same > 0 && same < text.size() && (uint8_t(text[same]) & 0xC0) == 0x80) --same;
    out.push_back({text.substr(same), trained(begin)});
    before = std::move(text);
  }
  return out;
}

// Control characters, except newline and tab, would act on the terminal: they become \xNN.
std::string visible(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = read_code_point(text, i);
    const bool control = (c.value < 0x20 && c.value != '\n' && c.value != '\t') || (c.value >= 0x7F && c.value < 0xA0);
    if (control) {
      out += fmt::format("\\x{:02x}", uint32_t(c.value));
    } else {
      append_utf8(out, c.value);
    }
    i += c.bytes;
  }
  return out;
}

const Document& document_at(const Dataset& data, int64_t index) {
  if (index < 0 || index >= int64_t(data.documents.size())) {
    fail(kExitUsage, "there is no sample {}: the data set has {}, counted from 0", index, data.documents.size());
  }
  return data.documents[size_t(index)];
}

const char* split_name(Split split) { return split == Split::kTrain ? "train" : "validation"; }

}  // namespace

std::string show_text(const Dataset& data, int64_t index, const Tokenizer& tokenizer, bool color) {
  const Document& d = document_at(data, index);
  std::string out = fmt::format("sample {} ({}{}{}): {} tokens, {} trained\n", index, split_name(d.split),
                                d.id.empty() ? "" : ", ", visible(d.id), d.length, d.target_tokens);
  for (const Segment& s : segments(data, d, tokenizer)) {
    if (s.trained) out += color ? "\x1b[1;32m«" : "«";
    out += visible(s.text);
    if (s.trained) out += color ? "»\x1b[0m" : "»";
  }
  return out + "\n";
}

Json show_json(const Dataset& data, int64_t index, const Tokenizer& tokenizer) {
  const Document& d = document_at(data, index);
  Json parts = Json::array();
  for (const Segment& s : segments(data, d, tokenizer)) parts.push_back({{"text", s.text}, {"trained", s.trained}});
  const std::span<const int32_t> tokens = data.tokens_of(d), labels = data.labels_of(d);
  return {{"index", index},
          {"id", d.id},
          {"title", d.title},
          {"split", split_name(d.split)},
          {"tokens", std::vector<int32_t>(tokens.begin(), tokens.end())},
          {"labels", std::vector<int32_t>(labels.begin(), labels.end())},
          {"target_tokens", d.target_tokens},
          {"prompt_tokens", d.prompt_tokens},
          {"answers", d.answers},
          {"segments", parts}};
}

}  // namespace tll
