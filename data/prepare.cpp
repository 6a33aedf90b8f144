// From a file to a Dataset. A squad.bin is opened. Of any other file the format reads the samples, of which a Dataset is built:
// some are held out, long ones are cut, and some are refused.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <unordered_set>

#include "data/foreign_file.h"
#include "data/row_file.h"
#include "data/squad.h"
#include "data/squad_bin.h"
#include "data/token_rows.h"
#include "data/tokenize.h"
#include "src/base/check.h"
#include "src/base/file.h"
#include "src/base/phase.h"

namespace tll {
namespace {

Dataset checked(Dataset data, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options) {
  if (tokenizer && !data.tokenizer_fingerprint.empty() && data.tokenizer_fingerprint != tokenizer->fingerprint()) {
    bad_file("{}: prepared with another tokenizer ({}) than the model's ({}); run `prepare` again with this --model", file,
             data.tokenizer_fingerprint, tokenizer->fingerprint());
  }
  if (options.vocab_size > 0 && data.vocab_size > options.vocab_size) {
    bad_file("{}: holds token ids below {}, and the model has {}; run `prepare` again with this --model", file, data.vocab_size,
             options.vocab_size);
  }
  if (data.documents.empty()) bad_file("{}: there is no sample in this file", file);
  for (const Document& d : data.documents) {
    if (d.length > options.max_tokens && !options.any_length) {
      bad_file(
          "{}: document {} has {} tokens, more than --seq-len {}; give --seq-len {} or more, or run `prepare` again with this "
          "one",
          file, &d - data.documents.data(), d.length, options.max_tokens, data.max_tokens);
    }
  }
  data.set_tokenizer(tokenizer);
  return data;
}

bool is_prepared_file(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return false;
  char begin[8] = {};
  std::ifstream(path).read(begin, sizeof begin);
  return is_prepared({begin, sizeof begin});
}

// The first row tells the format.
SampleSet read_samples(std::string_view text, const std::string& file, const PrepareOptions& options) {
  refuse_no_json(text, file);
  const RowFile rows(text, file);
  if (rows.empty()) bad_file("{}: there is no sample in this file", file);
  if (is_squad_row(rows.first())) return squad_samples(read_squad(rows), options);
  if (is_token_row(rows.first())) return read_token_rows(rows, options);
  refuse_unknown_rows(rows);
}

// Holds out a share of the groups, those with the smallest keys. If the share is less than half a group, subgroups are held out
// instead. If there is only one of those, nothing is.
std::vector<Split> split_samples(const std::vector<Sample>& samples, double share) {
  const auto distinct = [&](uint64_t Sample::*key) {
    std::vector<uint64_t> keys;
    for (const Sample& s : samples) keys.push_back(s.*key);
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  };
  uint64_t Sample::*key = &Sample::group;
  std::vector<uint64_t> keys = distinct(key);
  if (keys.size() < 2 || std::llround(share * double(keys.size())) < 1) keys = distinct(key = &Sample::subgroup);
  std::vector<Split> split(samples.size(), Split::kTrain);
  if (share <= 0 || keys.size() < 2) return split;
  const size_t held_out = std::clamp<size_t>(size_t(std::llround(share * double(keys.size()))), 1, keys.size() - 1);
  for (size_t i = 0; i < split.size(); ++i) {
    if (samples[i].*key < keys[held_out]) split[i] = Split::kValidation;
  }
  return split;
}

void append(Dataset& data, Sample sample, const Tokens& tokens, Split split, const Tokenizer* tokenizer) {
  data.report.unanswerable_trained += data.unanswerable_trained && sample.answers.empty();
  Document facts{.prompt_tokens = tokens.prompt_tokens, .split = split, .question = sample.question};
  facts.answer_trained = tokenizer && sample.answers.size() == 1 && tokens.prompt_tokens > 0 &&
                         trained_answer(*tokenizer, tokens.ids, tokens.labels, tokens.prompt_tokens) == sample.answers[0];
  if (facts.answer_trained) sample.answers.clear();
  data.add(tokens.ids, tokens.labels, facts, {std::move(sample.id), std::move(sample.title), std::move(sample.answers)});
}

void count_repeated_ids(Dataset& data) {
  PrepareReport& report = data.report;
  std::unordered_set<std::string> ids;
  for (const Document& d : data.documents) {
    std::string id = data.id_of(d);
    if (id.empty() || ids.insert(id).second) continue;
    if (report.repeated_ids++ == 0) report.first_repeated_id = std::move(id);
  }
}

}  // namespace

Dataset build_dataset(SampleSet set, const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options) {
  if (set.of_text && !tokenizer) {
    bad_file("{}: questions need a tokenizer, and the model has none; give a directory with one by --model", file);
  }
  Dataset data = std::move(set.known);
  if (set.of_text) data.tokenizer_fingerprint = tokenizer->fingerprint();
  data.vocab_size = options.vocab_size;
  data.max_tokens = options.max_tokens;
  PrepareReport& r = data.report;
  const std::vector<Split> splits = split_samples(set.samples, options.valid_split);
  int32_t largest_id = 0;
  Phase phase("tokenising", int64_t(splits.size()));
  for (size_t i = 0; i < splits.size(); ++i, phase.advance()) {
    Sample& sample = set.samples[i];
    r.unanswerable_left_out += sample.left_out;
    if (sample.left_out) continue;
    const TokenizedSample tokenized = tokenize_sample(sample, file, tokenizer, options);
    if (!count_sample(r, tokenized, splits[i])) continue;
    for (const Tokens& tokens : tokenized.documents) {
      // Ids of the tokenizer. Formats check the ids that they read.
      const int32_t largest = *std::max_element(tokens.ids.begin(), tokens.ids.end());
      if (set.of_text && largest >= data.vocab_size) {
        bad_file("{}: {}: the tokenizer makes token id {}, and the model has ids below {}; they do not belong together", file,
                 sample.where, largest, data.vocab_size);
      }
      largest_id = std::max({largest_id, largest, *std::max_element(tokens.labels.begin(), tokens.labels.end())});
      append(data, sample, tokens, splits[i], tokenizer);
    }
  }
  if (set.samples.empty()) bad_file("{}: there is no sample in this file", file);
  if (data.documents.empty()) bad_file("{}: no sample is left to train on: {}", file, r.left_out_text(options.max_tokens));
  if (data.vocab_size == 0) data.vocab_size = 1 + largest_id;
  data.set_tokenizer(tokenizer);
  count_repeated_ids(data);
  data.count_documents();
  return data;
}

Dataset load_dataset(const std::filesystem::path& path, const Tokenizer* tokenizer, const PrepareOptions& options) {
  refuse_no_file(path);
  const std::string file = path.string();
  if (is_prepared_file(path)) return checked(PreparedFile::open(path), file, tokenizer, options);
  const std::string text = read_file(path);
  if (is_prepared(text)) return checked(parse_dataset(text, file), file, tokenizer, options);
  if (options.max_tokens < 2) fail(kExitUsage, "--seq-len must be at least 2, not {}", options.max_tokens);
  if (!(options.valid_split >= 0 && options.valid_split < 1)) {
    fail(kExitUsage, "--valid-split must be at least 0 and below 1, not {}", options.valid_split);
  }
  PrepareOptions known = options;
  if (known.vocab_size <= 0) known.vocab_size = tokenizer ? tokenizer->vocab_size() : 0;
  return build_dataset(read_samples(text, file, known), file, tokenizer, known);
}

}  // namespace tll
