#include "data/tokenize.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "data/dataset.h"
#include "src/base/check.h"
#include "tokenizer/utf8.h"

namespace tll {
namespace {

using Ids = std::vector<int32_t>;

// The tokens of `piece`, the end of `text`. `before` are the tokens of the text before it. In markup special tokens are found.
Ids encode_after(const Tokenizer& tokenizer, std::span<const int32_t> before, const std::string& text, std::string_view piece,
                 bool markup) {
  const auto encode = [&](std::string_view part) {
    const TextPart whole{part, true};
    return markup ? tokenizer.encode_parts({&whole, 1}).ids : tokenizer.encode(part);
  };
  const Ids whole = encode(text);
  if (whole.size() >= before.size() && std::equal(before.begin(), before.end(), whole.begin())) {
    return {whole.begin() + std::ptrdiff_t(before.size()), whole.end()};
  }
  for (const bool without_space : {false, true}) {
    if (without_space && !piece.starts_with(' ')) break;
    const Ids ids = encode(piece.substr(without_space));
    Ids all(before.begin(), before.end());
    all.insert(all.end(), ids.begin(), ids.end());
    if (tokenizer.decode(all, !markup) == text) return ids;
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

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// Whether a span stays when the turns before `first_turn` leave.
bool stays(const Span& span, int32_t first_turn) {
  if (span.turn < 0 || span.turn > first_turn) return true;
  return span.turn == first_turn && !(span.between_turns && first_turn > 0);
}

// Spans of one text: the texts of a conversation without those of turns before `first_turn`, up to span `end`.
struct OneText {
  std::vector<TextPart> parts;
  std::vector<const Span*> spans;
  PlacedTokens tokens;

  OneText(const Tokenizer& tokenizer, std::span<const Span> all, int32_t first_turn, size_t end) {
    for (const Span& s : all.first(end)) {
      if (!stays(s, first_turn)) continue;
      TLL_CHECK(s.is_text() && !s.ends_text, "a span of one text must be text, with its end mark in it");
      parts.push_back({s.text, s.markup});
      spans.push_back(&s);
    }
    tokens = tokenizer.encode_parts(parts);
    tokenizer.check_model_has(tokens.ids);
  }

  // Where the bytes of token i end. A token without a byte of its own goes with the byte behind it.
  size_t token_end(size_t i) const {
    const size_t begin = tokens.begins[i];
    return std::max<size_t>(begin + 1, i + 1 < tokens.begins.size() ? tokens.begins[i + 1] : 0);
  }

  // Trained answers that are blank, and whether all are. Of a trained turn the answer is what is not markup. Where the answers'
  // own texts are (parse_special), it is what stands there besides special tokens.
  std::pair<int32_t, bool> blank_answers(const Tokenizer& tokenizer, TrainOn train_on, bool parse_special) const {
    int32_t answers = 0, blank = 0;
    const auto is_blank_answer = [&](size_t begin, size_t end) {
      std::string text;
      for (size_t s = begin; s < end; ++s) text += parse_special || !spans[s]->markup ? spans[s]->text : "";
      if (!parse_special) return is_blank(text);
      return is_blank(tokenizer.decode(tokenizer.encode_parts(std::vector<TextPart>{{text, true}}).ids));
    };
    for (size_t begin = 0, end; begin < spans.size(); begin = end) {
      for (end = begin + 1; end < spans.size() && spans[end]->trained == spans[begin]->trained;) ++end;
      if (!spans[begin]->trained) continue;
      if (train_on == TrainOn::kLastAnswer) answers = blank = 0;
      ++answers;
      blank += is_blank_answer(begin, end);
    }
    return {blank, blank == answers};
  }

  Tokens labelled(TrainOn train_on) const {
    Tokens out{tokens.ids, Ids(tokens.ids.size(), kNotTrained)};
    size_t answer = 0;  // first token of the answer that is labelled
    for (size_t s = 0, begin = 0, next = 0; s < spans.size(); begin += spans[s++]->text.size()) {
      const size_t end = begin + spans[s]->text.size();
      if (!spans[s]->trained || begin == end) continue;
      while (next < tokens.ids.size() && token_end(next) <= begin) ++next;
      // Spans that follow one another are one answer.
      if (s == 0 || !spans[s - 1]->trained) {
        if (train_on == TrainOn::kLastAnswer) std::fill(out.labels.begin(), out.labels.end(), kNotTrained);
        answer = next;
      }
      for (size_t t = next; t < tokens.ids.size() && tokens.begins[t] < end; ++t) out.labels[t] = tokens.ids[t];
    }
    out.prompt_tokens = int32_t(answer);
    if (train_on == TrainOn::kAll && !out.ids.empty()) {
      out.labels = out.ids;
      out.labels[0] = kNotTrained;
    }
    return out;
  }
};

// Whether the trained answer stands in the text that may be shortened.
bool shows_answer(std::span<const Span> spans, std::span<const std::string> answers) {
  return !answers.empty() && std::any_of(spans.begin(), spans.end(), [&](const Span& s) {
    return s.may_shorten && s.text.find(answers[0]) != std::string::npos;
  });
}

// Where each code point of the text begins, and the text's end.
std::vector<size_t> code_point_begins(std::string_view text) {
  std::vector<size_t> begins;
  begins.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_continuation(text[i])) begins.push_back(i);
  }
  begins.push_back(text.size());
  return begins;
}

// Tokenises and shortens the samples of one set of options.
class SampleTokenizer {
 public:
  SampleTokenizer(const Sample& sample, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options)
      : sample_(sample), file_(file), tokenizer_(tokenizer), options_(options) {}

  TokenizedSample run() {
    const std::vector<Span>& spans = sample_.spans;
    std::optional<OneText> whole;
    if (sample_.one_text) whole.emplace(*tokenizer_, spans, 0, spans.size());
    Tokens tokens = whole ? label(*whole) : tokenize(tokenizer_, spans, options_.train_on);
    out_.needed_tokens = int64_t(tokens.ids.size());
    const bool empty = count_targets(tokens.labels) == 0;
    if (empty && sample_.part_of_trained_row && !options_.allow_empty) {
      out_.untrained_part = true;
      return std::move(out_);
    }
    if (empty && !options_.allow_empty) refuse_empty();
    out_.empty = empty;
    if (sample_.plain_text) {
      divide(tokens);
      return std::move(out_);
    }
    const auto any = [&](auto&& holds) { return std::any_of(spans.begin(), spans.end(), holds); };
    const bool has_cut = any([](const Span& s) { return s.may_shorten; });
    if (too_long(tokens) && !has_cut && (whole || any([](const Span& s) { return s.turn >= 0; }))) {
      tokens = without_turns(whole ? &whole->tokens : nullptr, empty);
    } else if (too_long(tokens) && has_cut && options_.long_samples == LongSamples::kCut) {
      out_.shortened = true;
      tokens = cut(std::move(tokens));
    }
    if (too_long(tokens) && options_.long_samples == LongSamples::kRefuse) refuse_long();
    if (too_long(tokens)) {
      out_.refused = kTooLong;
    } else if (!empty && count_targets(tokens.labels) == 0) {
      out_.refused = kAnswerCut;
    } else {
      out_.documents.push_back(std::move(tokens));
    }
    return std::move(out_);
  }

 private:
  size_t limit() const { return size_t(options_.max_tokens); }
  bool too_long(const Tokens& tokens) const { return tokens.ids.size() > limit(); }

  std::string place() const {
    return sample_.id.empty() ? fmt::format("{}: {}", file_, sample_.where)
                              : fmt::format("{}: {} (id {})", file_, sample_.where, in_quotes(sample_.id));
  }

  [[noreturn]] void refuse_empty() const {
    const auto any = [&](auto&& holds) { return std::any_of(sample_.spans.begin(), sample_.spans.end(), holds); };
    const char* why = !any([](const Span& s) { return s.is_text(); }) ? "no label behind the first token is trained"
                      : any([](const Span& s) { return s.trained; })  ? "its answer is empty"
                                                                      : "it has no assistant's turn that is trained";
    bad_file("{} trains nothing: {}; mend or remove it, or keep such samples with --allow-empty", place(), why);
  }

  [[noreturn]] void refuse_long() const {
    bad_file(
        "{} has {} tokens, more than --seq-len {}; give --seq-len {} or more, or let such samples be cut or left out with "
        "--long cut or --long drop",
        place(), out_.needed_tokens, options_.max_tokens, out_.needed_tokens);
  }

  // A last document of one token would train nothing: it gets one from the document before.
  void divide(const Tokens& whole) {
    const size_t size = whole.ids.size();
    for (size_t begin = 0, end; begin < size; begin = end) {
      end = std::min(size, begin + limit());
      if (size - end == 1 && end - begin > 2) --end;
      const auto part = [&](const Ids& ids) {
        return Ids(ids.begin() + std::ptrdiff_t(begin), ids.begin() + std::ptrdiff_t(end));
      };
      out_.documents.push_back({part(whole.ids), part(whole.labels)});
    }
  }

  // A model that learns the end mark alone learns to say nothing: where all answers are blank, nothing is trained.
  Tokens label(const OneText& text) {
    Tokens out = text.labelled(options_.train_on);
    if (options_.train_on == TrainOn::kAll) return out;
    const auto [blank, all] = text.blank_answers(*tokenizer_, options_.train_on, options_.parse_special);
    out_.empty_answers = all ? 0 : blank;
    if (all) std::fill(out.labels.begin(), out.labels.end(), kNotTrained);
    return out;
  }

  Tokens encode(std::span<const Span> spans) {
    if (sample_.one_text) return label(OneText(*tokenizer_, spans, 0, spans.size()));
    return tokenize(tokenizer_, spans, options_.train_on);
  }

  // The spans before `end`, without those of the turns before `first`.
  Tokens from_turn(int32_t first, size_t end) {
    const std::vector<Span>& spans = sample_.spans;
    if (sample_.one_text) return label(OneText(*tokenizer_, spans, first, end));
    std::vector<Span> staying;
    std::copy_if(spans.begin(), spans.begin() + std::ptrdiff_t(end), std::back_inserter(staying),
                 [&](const Span& s) { return stays(s, first); });
    return tokenize(tokenizer_, staying, options_.train_on);
  }

  void cut_end(Tokens& tokens) {
    out_.end_lost = std::any_of(tokens.labels.begin() + std::ptrdiff_t(limit()), tokens.labels.end(),
                                [](int32_t label) { return label != kNotTrained; });
    tokens.ids.resize(limit());
    tokens.labels.resize(limit());
    if (size_t(tokens.prompt_tokens) >= limit()) tokens.prompt_tokens = 0;  // nothing of the answer is left
  }

  // A conversation without its first turns, and without the last ones if they train nothing. `whole` are the tokens of them all,
  // if they are one text.
  Tokens without_turns(const PlacedTokens* whole, bool empty) {
    const std::vector<Span>& spans = sample_.spans;
    int32_t last = -1, last_trained = -1;
    for (const Span& s : spans) {
      last = std::max(last, s.turn);
      if (s.trained || empty || options_.train_on == TrainOn::kAll) last_trained = std::max(last_trained, s.turn);
    }
    size_t end = spans.size();
    if (last_trained < last) {
      while (end > 0 && spans[end - 1].turn != last_trained) --end;
    }
    // A first guess from the tokens of each turn. At the seams they may become more or fewer.
    int32_t guess = 0;
    if (whole && last_trained > 0) {
      std::vector<size_t> count(size_t(last_trained) + 1);
      size_t length = 0, bytes = 0;
      for (size_t s = 0; s < end; ++s) {
        bytes += spans[s].text.size();
        for (; length < whole->ids.size() && whole->begins[length] < bytes; ++length) {
          if (spans[s].turn >= 0 && spans[s].turn <= last_trained) ++count[size_t(spans[s].turn)];
        }
      }
      for (; guess < last_trained && length > limit(); ++guess) length -= count[size_t(guess)];
    }
    // Without the turns before `low` it is too long, and without those before `high` it fits. The guess's neighbours come first.
    const int32_t last_first = std::max(last_trained, 0);
    int32_t low = end == spans.size() ? 0 : -1, high = last_first + 1;
    Tokens out;
    int32_t blank = 0;
    for (int32_t first = std::max(guess, low + 1); high - low > 1;) {
      Tokens tried = from_turn(first, end);
      (too_long(tried) ? low : high) = first;
      if (!too_long(tried)) out = std::move(tried), blank = out_.empty_answers;
      first = low == guess ? guess + 1 : high == guess ? guess - 1 : low;
      if (first <= low || first >= high) first = low + (high - low) / 2;
    }
    const bool fits = high <= last_first;
    if (fits) out_.empty_answers = blank;
    if (!fits) {
      out = from_turn(last_first, end);
      out_.needed_tokens = int64_t(out.ids.size());
      if (options_.long_samples != LongSamples::kCut) return out;
    }
    out_.shortened = true;
    out_.turns_left_out = (fits ? high : last_first) + last - last_trained;
    if (!fits) cut_end(out);
    return out;
  }

  // Cuts the end of the span that may be shortened, so that the tokens are no more than max_tokens. If the other spans alone have
  // more, the answer's end is cut in a chat template; otherwise the result has more. `whole` are the tokens before the cut.
  Tokens cut(Tokens whole) {
    std::vector<Span> spans = sample_.spans;
    const auto cut = std::find_if(spans.begin(), spans.end(), [](const Span& s) { return s.may_shorten; });
    if (cut->is_text()) {
      Tokens out = cut_text(spans, *cut, int64_t(whole.ids.size()));
      // A question without its evidence would teach the model to invent.
      out_.evidence_lost = shows_answer(sample_.spans, sample_.answers) && !shows_answer(spans, sample_.answers);
      if (sample_.one_text && too_long(out)) {
        out_.needed_tokens = int64_t(out.ids.size());
        cut_end(out);
      }
      return out;
    }
    const size_t size = cut->ids.size(), kept = size - std::min(size, whole.ids.size() - limit());
    cut->ids.resize(kept);
    cut->labels.resize(kept);
    return tokenize(tokenizer_, spans, options_.train_on);
  }

  // `cut` is the one of `spans` that may be shortened.
  Tokens cut_text(std::vector<Span>& spans, Span& cut, int64_t whole_length) {
    const int64_t max_tokens = options_.max_tokens;
    const std::string text = std::move(cut.text);
    const std::vector<size_t> begins = code_point_begins(text);
    const auto keep = [&](int64_t code_points) { cut.text.assign(text, 0, begins[size_t(code_points)]); };
    keep(0);
    Tokens best = encode(spans);
    // `low` code points fit, and `high` do not. The share of the tokens that are still free says where to look between them.
    constexpr int64_t kSlack = 3;  // the search ends when no more tokens are free
    int64_t low = 0, low_length = int64_t(best.ids.size());
    int64_t high = int64_t(begins.size()) - 1, high_length = whole_length;
    for (int tries = 1; high - low > 1 && low_length + kSlack < max_tokens; ++tries) {
      // Every third try is in the middle: the density of tokens can mislead.
      const int64_t step = tries % 3 == 0
                               ? (high - low) / 2
                               : (max_tokens - low_length) * (high - low) / std::max<int64_t>(1, high_length - low_length);
      const int64_t middle = low + std::clamp<int64_t>(step, 1, high - low - 1);
      keep(middle);
      Tokens tried = encode(spans);
      const int64_t length = int64_t(tried.ids.size());
      (length <= max_tokens ? low : high) = middle;
      (length <= max_tokens ? low_length : high_length) = length;
      if (length <= max_tokens) best = std::move(tried);
    }
    keep(low);
    return best;
  }

  const Sample& sample_;
  const std::string& file_;
  const Tokenizer* tokenizer_;
  const PrepareOptions& options_;
  TokenizedSample out_;
};

}  // namespace

Tokens tokenize(const Tokenizer* tokenizer, std::span<const Span> spans, TrainOn train_on) {
  Tokens out;
  std::string text;    // the neighbouring texts so far,
  size_t begin = 0;    // and where their tokens begin
  bool markup = true;  // all of them are
  const auto end_of_texts = [&] {
    begin = out.ids.size();
    text.clear();
    markup = true;
  };
  // Labels of texts, not those of ids.
  const auto label = [&](size_t from, size_t to, bool trained) {
    for (size_t t = from; t < to; ++t) out.labels[t] = trained ? out.ids[t] : kNotTrained;
  };
  size_t last_begin = 0, last_end = 0;  // of the last trained text
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
      markup &= span->markup;
      ends_text = span->ends_text;
    }
    if (ends_text && !tokenizer->eos()) {
      bad_file("the tokenizer has no end-of-text token (eos), so an answer's end cannot be trained");
    }
    const std::string_view piece = std::string_view(text).substr(start);
    Ids ids = encode_after(*tokenizer, std::span(out.ids).subspan(begin), text, piece, markup);
    if (ends_text) ids.push_back(*tokenizer->eos());
    tokenizer->check_model_has(ids);
    const size_t from = out.ids.size();
    append(out, ids, {});
    if (trained && train_on == TrainOn::kLastAnswer) label(last_begin, last_end, false);
    if (trained) {
      out.prompt_tokens = int32_t(from);
      last_begin = from, last_end = out.ids.size();
    }
    const bool all = train_on == TrainOn::kAll;
    if (all || (trained && !is_blank(piece))) label(all ? std::max<size_t>(from, 1) : from, out.ids.size(), true);
    if (ends_text) end_of_texts();
  }
  return out;
}

Tokens tokenize_as_one_text(const Tokenizer& tokenizer, std::span<const Span> spans, TrainOn train_on) {
  return OneText(tokenizer, spans, 0, spans.size()).labelled(train_on);
}

TokenizedSample tokenize_sample(const Sample& sample, const std::string& file, const Tokenizer* tokenizer,
                                const PrepareOptions& options) {
  return SampleTokenizer(sample, file, tokenizer, options).run();
}

bool count_sample(PrepareReport& report, const TokenizedSample& sample, Split split) {
  report.untrained_parts += sample.untrained_part;
  if (sample.untrained_part) return false;
  report.empty += sample.empty;
  // For the score every question counts.
  const std::string& refused =
      sample.refused.empty() && sample.evidence_lost && split == Split::kTrain ? kAnswerCut : sample.refused;
  if (!refused.empty()) {
    ++report.refused[refused];
    report.shortest_refused =
        report.shortest_refused ? std::min(report.shortest_refused, sample.needed_tokens) : sample.needed_tokens;
    return false;
  }
  report.truncated += sample.shortened;
  report.turns_left_out += sample.turns_left_out;
  report.ends_lost += sample.end_lost;
  report.empty_answers += sample.empty_answers;
  return true;
}

std::vector<int32_t> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt) {
  const Span span{.text = std::string(prompt)};
  return tokenize(&tokenizer, {&span, 1}).ids;
}

}  // namespace tll
