// The data set in memory, and its report.
#include "data/dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <numeric>

#include "data/squad.h"
#include "data/squad_bin.h"
#include "src/base/check.h"
#include "src/base/phase.h"
#include "src/base/units.h"

namespace tll {
namespace {

// A reason of PrepareReport::refused, all of which are about --seq-len, with the word that leads to it.
std::string at_limit(const std::string& reason) { return reason + (reason == "too long" ? " for" : " at"); }

}  // namespace

void PrepareReport::add(const PrepareReport& later) {
  for (int64_t PrepareReport::*count :
       {&PrepareReport::samples, &PrepareReport::tokens, &PrepareReport::target_tokens, &PrepareReport::train_samples,
        &PrepareReport::validation_samples, &PrepareReport::truncated, &PrepareReport::turns_left_out, &PrepareReport::ends_lost,
        &PrepareReport::empty_answers, &PrepareReport::unanswerable_left_out, &PrepareReport::unanswerable_trained,
        &PrepareReport::empty, &PrepareReport::offset_mismatches, &PrepareReport::untrained_parts}) {
    this->*count += later.*count;
  }
  for (const auto& [reason, count] : later.refused) refused[reason] += count;
  if (later.shortest_refused) {
    shortest_refused = shortest_refused ? std::min(shortest_refused, later.shortest_refused) : later.shortest_refused;
  }
}

int64_t PrepareReport::refused_total() const {
  return std::accumulate(refused.begin(), refused.end(), int64_t(0), [](int64_t sum, const auto& r) { return sum + r.second; });
}

Json PrepareReport::json() const {
  return {{"samples", samples},
          {"tokens", tokens},
          {"target_tokens", target_tokens},
          {"train_samples", train_samples},
          {"validation_samples", validation_samples},
          {"truncated", truncated},
          {"turns_left_out", turns_left_out},
          {"ends_lost", ends_lost},
          {"empty_answers", empty_answers},
          {"refused", refused_total()},
          {"refused_by_reason", refused},
          {"unanswerable_left_out", unanswerable_left_out},
          {"unanswerable_trained", unanswerable_trained},
          {"empty", empty},
          {"offset_mismatches", offset_mismatches}};
}

std::vector<std::string> PrepareReport::notes() const {
  std::vector<std::string> out;
  const auto note = [&](int64_t count, const char* what, const std::string& more) {
    if (count) out.push_back(fmt::format("{}{}", Counted{count, what}, more));
  };
  note(unanswerable_left_out, "unanswerable question", " left out (--unanswerable train keeps them)");
  note(unanswerable_trained, "unanswerable question", fmt::format(" trained as \"{}\"", kNoAnswer));
  note(truncated, "sample",
       turns_left_out ? fmt::format(" shortened to --seq-len: {} left out", Counted{turns_left_out, "turn"})
                      : " shortened to --seq-len");
  note(ends_lost, "conversation", " cut in the last answer, so its end mark is not trained");
  note(empty_answers, "answer", " empty");
  for (const auto& [reason, count] : refused) note(count, "sample", fmt::format(" refused: {} --seq-len", at_limit(reason)));
  note(untrained_parts, "document", " of packed rows left out: nothing in them is trained");
  note(empty, "sample", " without a trained token kept");
  note(repeated_ids, "sample",
       fmt::format(" with the id of an earlier one (the first such id is {})", in_quotes(first_repeated_id)));
  out.insert(out.end(), file_notes.begin(), file_notes.end());
  return out;
}

std::string PrepareReport::text() const {
  std::string out = fmt::format("{} ({} train, {} validation), {}, {} of them trained\n", Counted{samples, "sample"},
                                Count{train_samples}, Count{validation_samples}, Counted{tokens, "token"}, Count{target_tokens});
  for (const std::string& line : notes()) out += line + "\n";
  return out;
}

std::string PrepareReport::left_out_text(int32_t max_tokens) const {
  std::string reasons, advice;
  const auto add = [](std::string& list, const char* separator, const std::string& item) {
    list += (list.empty() ? "" : separator) + item;
  };
  for (const auto& [reason, count] : refused)
    add(reasons, ", ", fmt::format("{} {} --seq-len {}", count, at_limit(reason), max_tokens));
  if (unanswerable_left_out) add(reasons, ", ", fmt::format("{} unanswerable", unanswerable_left_out));
  if (shortest_refused) add(advice, ", or ", fmt::format("give --seq-len {} or more", shortest_refused));
  if (unanswerable_left_out) add(advice, ", or ", "train unanswerable questions too with --unanswerable train");
  return advice.empty() ? reasons : reasons + "; " + advice;
}

int32_t count_targets(std::span<const int32_t> labels) {
  if (labels.empty()) return 0;
  return int32_t(labels.size() - 1) - int32_t(std::count(labels.begin() + 1, labels.end(), kNotTrained));
}

std::vector<int32_t> Dataset::labels_of(const Document& d) const {
  tokens_of(d);
  std::vector<int32_t> out(size_t(d.length));
  for (int32_t t = 0; t < d.length; ++t) out[size_t(t)] = label(d, t);
  return out;
}

void Dataset::check_all() const {
  Phase phase("checking data", int64_t(file_ ? file_->chunks() : 0));
  for (uint64_t c = 0; file_ && c < file_->chunks(); ++c, phase.advance()) file_->check_chunk(c);
}

void Dataset::check(const Document& d) const { file_->check_tokens(d); }

DocumentTexts Dataset::texts_of(const Document& d) const {
  if (d.strings < 0) return {};
  if (file_) return file_->texts(uint64_t(d.strings));
  return *read_texts(std::string_view(own_strings_.data(), own_strings_.size()).substr(size_t(d.strings)));
}

std::string Dataset::id_of(const Document& d) const { return texts_of(d).id; }
std::string Dataset::title_of(const Document& d) const { return texts_of(d).title; }

std::string trained_answer(const Tokenizer& tokenizer, std::span<const int32_t> tokens, std::span<const int32_t> labels,
                           int32_t prompt_tokens) {
  const auto begin = size_t(prompt_tokens);
  size_t end = begin;
  while (end < tokens.size() && labels[end] != kNotTrained) ++end;
  return std::string(trimmed(tokenizer.decode(tokens.subspan(begin, end - begin))));
}

std::vector<std::string> Dataset::answers_of(const Document& d, const Tokenizer* tokenizer) const {
  if (!d.answer_trained) return texts_of(d).answers;
  if (!tokenizer) return {};
  return {trained_answer(*tokenizer, tokens_of(d), labels_of(d), d.prompt_tokens)};
}

void Dataset::add(std::span<const int32_t> tokens, std::span<const int32_t> labels, Document facts, const DocumentTexts& texts) {
  TLL_CHECK(!file_ && tokens.size() == labels.size() && !tokens.empty(), "{} tokens and {} labels", tokens.size(), labels.size());
  const size_t begin = own_tokens_.size();
  facts.begin = int64_t(begin), facts.length = int32_t(tokens.size()), facts.target_tokens = count_targets(labels);
  facts.strings = -1;
  const bool stored = !texts.id.empty() || !texts.title.empty() || !texts.answers.empty();
  if (stored) facts.strings = int64_t(own_strings_.size()), append_texts(own_strings_, texts);
  own_tokens_.insert(own_tokens_.end(), tokens.begin(), tokens.end());
  own_trained_.resize((own_tokens_.size() + 7) / 8);
  bool differ = false;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] == tokens[t]) own_trained_[(begin + t) / 8] |= uint8_t(1 << (begin + t) % 8);
    differ |= labels[t] != tokens[t] && labels[t] != kNotTrained;
  }
  tokens_ = own_tokens_.data(), trained_ = own_trained_.data();
  if (differ && own_labels_.empty()) {
    for (const Document& d : own_documents_) {
      const std::vector<int32_t> before = labels_of(d);
      own_labels_.insert(own_labels_.end(), before.begin(), before.end());
    }
  }
  if (differ || !own_labels_.empty()) own_labels_.insert(own_labels_.end(), labels.begin(), labels.end());
  own_documents_.push_back(facts);
  documents = own_documents_;
  labels_ = own_labels_.empty() ? nullptr : own_labels_.data();
}

int64_t Dataset::count(Split split) const {
  return std::count_if(documents.begin(), documents.end(), [&](const Document& d) { return d.split == split; });
}

void Dataset::count_documents() {
  report.samples = int64_t(documents.size());
  report.tokens = report.target_tokens = 0;
  for (const Document& d : documents) report.tokens += d.length, report.target_tokens += d.target_tokens;
  report.train_samples = count(Split::kTrain);
  report.validation_samples = report.samples - report.train_samples;
}

uint64_t document_hash(std::span<const int32_t> tokens, std::span<const int32_t> labels) {
  return XXH3_64bits_withSeed(labels.data(), labels.size_bytes(), XXH3_64bits(tokens.data(), tokens.size_bytes()));
}

uint64_t chained_hash(uint64_t before, uint64_t next) {
  const uint64_t both[2] = {before, next};
  return XXH3_64bits(both, sizeof both);
}

uint64_t Dataset::tokens_hash() const {
  if (file_) return file_->tokens_hash();
  uint64_t hash = 0;
  for (const Document& d : documents) hash = chained_hash(hash, document_hash(tokens_of(d), labels_of(d)));
  return hash;
}

uint64_t Dataset::content_hash() const {
  uint64_t hash = tokens_hash();
  for (const Document& d : documents) hash = chained_hash(hash, uint64_t(d.length) << 1 | uint64_t(d.split));
  return hash;
}

}  // namespace tll
