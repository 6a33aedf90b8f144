#include "data/tokenize.h"

#include <algorithm>

#include "data/dataset.h"
#include "src/base/check.h"

namespace tll {
namespace {

using Ids = std::vector<int32_t>;

// The tokens of `piece`, the end of `text`. `before` are the tokens of the text before it.
Ids encode_after(const Tokenizer& tokenizer, std::span<const int32_t> before, const std::string& text, std::string_view piece) {
  const Ids whole = tokenizer.encode(text);
  if (whole.size() >= before.size() && std::equal(before.begin(), before.end(), whole.begin())) {
    return {whole.begin() + std::ptrdiff_t(before.size()), whole.end()};
  }
  for (const bool without_space : {false, true}) {
    if (without_space && !piece.starts_with(' ')) break;
    const Ids ids = tokenizer.encode(piece.substr(without_space));
    Ids all(before.begin(), before.end());
    all.insert(all.end(), ids.begin(), ids.end());
    if (tokenizer.decode(all) == text) return ids;
  }
  bad_file(
      "the tokenizer joins the end of a prompt with the answer behind it, and no encoding of the answer {} alone decodes to "
      "that text; use a model with another tokenizer",
      in_quotes(piece));
}

// No labels: not trained.
void append(Tokens& out, std::span<const int32_t> ids, std::span<const int32_t> labels) {
  out.ids.insert(out.ids.end(), ids.begin(), ids.end());
  out.labels.insert(out.labels.end(), labels.begin(), labels.end());
  out.labels.resize(out.ids.size(), kNotTrained);
}

}  // namespace

Tokens tokenize(const Tokenizer* tokenizer, std::span<const Span> spans) {
  Tokens out;
  bool prompt_ended = false;
  std::string text;  // the neighbouring texts so far,
  size_t begin = 0;  // and where their tokens begin
  const auto end_of_texts = [&] {
    begin = out.ids.size();
    text.clear();
  };
  if (!spans.empty() && spans[0].is_text() && tokenizer->adds_bos()) append(out, Ids{*tokenizer->bos()}, {});
  if (tokenizer) tokenizer->check_model_has(out.ids);
  end_of_texts();
  for (auto span = spans.begin(); span != spans.end();) {
    if (!span->is_text()) {
      append(out, span->ids, span->labels);
      end_of_texts();
      ++span;
      continue;
    }
    // Neighbours that are trained alike are one piece, up to one that EOS follows.
    const bool trained = span->trained;
    bool ends_text = false;
    const size_t start = text.size();
    for (; span != spans.end() && span->is_text() && span->trained == trained && !ends_text; ++span) {
      text += span->text;
      ends_text = span->ends_text;
    }
    if (ends_text && !tokenizer->eos()) {
      bad_file("the tokenizer has no end-of-text token (eos), so an answer's end cannot be trained");
    }
    if (trained && !prompt_ended) out.prompt_tokens = int32_t(out.ids.size());
    prompt_ended |= trained;
    const std::string_view piece = std::string_view(text).substr(start);
    Ids ids = encode_after(*tokenizer, std::span(out.ids).subspan(begin), text, piece);
    if (ends_text) ids.push_back(*tokenizer->eos());
    tokenizer->check_model_has(ids);
    const bool blank = piece.find_first_not_of(" \t\r\n") == std::string_view::npos;
    append(out, ids, std::span(ids).first(trained && !blank ? ids.size() : 0));
    if (ends_text) end_of_texts();
  }
  return out;
}

std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt) {
  const Span span{.text = std::string(prompt)};
  return tokenize(&tokenizer, {&span, 1}).ids;
}

}  // namespace tll
