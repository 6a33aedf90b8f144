// From a file to a Dataset: questions that are tokenised here, rows that carry token ids, or a squad.bin made before.
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "data/dataset.h"
#include "data/prompt.h"
#include "data/squad.h"
#include "src/base/check.h"
#include "src/base/file.h"

namespace tll {
namespace {

constexpr const char* kTooLong = "too long";
constexpr const char* kAnswerCutOff = "answer cut off";

// Builds a Dataset document by document and counts.
class Builder {
 public:
  Builder(const std::string& file, const Tokenizer* tokenizer, const PrepareOptions& options) : file_(file), options_(options) {
    if (options.max_tokens < 2) fail(kExitUsage, "--seq-len must be at least 2, not {}", options.max_tokens);
    if (!(options.valid_split >= 0 && options.valid_split < 1)) {
      fail(kExitUsage, "--valid-split must be at least 0 and below 1, not {}", options.valid_split);
    }
    data_.vocab_size = options.vocab_size > 0 ? options.vocab_size : tokenizer ? tokenizer->vocab_size() : 0;
    data_.max_tokens = options.max_tokens;
  }

  Dataset& data() { return data_; }
  PrepareReport& report() { return data_.report; }
  void refuse(const char* reason) { ++data_.report.refused[reason]; }

  // Whether a sample that trains nothing may stay; if not, the whole set is refused.
  void keep_empty(const std::string& where, const char* why) {
    if (!options_.allow_empty) {
      bad_file("{}: {} trains nothing: {}; mend or remove it, or keep such samples with --allow-empty", file_, where, why);
    }
    ++data_.report.empty;
  }

  void add(Document document, std::span<const int32_t> tokens, std::span<const int32_t> labels) {
    document.begin = int64_t(data_.tokens.size());
    document.length = int32_t(tokens.size());
    document.target_tokens = count_targets(labels);
    data_.tokens.insert(data_.tokens.end(), tokens.begin(), tokens.end());
    data_.labels.insert(data_.labels.end(), labels.begin(), labels.end());
    PrepareReport& r = data_.report;
    ++r.samples;
    r.tokens += document.length;
    r.target_tokens += document.target_tokens;
    ++(document.split == Split::kTrain ? r.train_samples : r.validation_samples);
    data_.documents.push_back(std::move(document));
  }

  Dataset finish() {
    if (data_.documents.empty() && data_.report.refused_total() + data_.report.unanswerable_left_out == 0 &&
        !options_.allow_empty)
      bad_file("{}: there is no sample in this file", file_);
    if (data_.documents.empty() && !options_.allow_empty) {
      bad_file("{}: no sample is left to train on: {} refused, {} unanswerable left out{}", file_, data_.report.refused_total(),
               data_.report.unanswerable_left_out,
               data_.report.unanswerable_left_out ? " (train those too with --unanswerable train)" : "");
    }
    if (data_.vocab_size == 0) {
      const auto largest = std::max_element(data_.tokens.begin(), data_.tokens.end());
      const auto largest_label = std::max_element(data_.labels.begin(), data_.labels.end());
      if (largest != data_.tokens.end()) data_.vocab_size = std::max(*largest, *largest_label) + 1;
    }
    return std::move(data_);
  }

 private:
  const std::string& file_;
  const PrepareOptions& options_;
  Dataset data_;
};

// Holds out a share of the groups: those whose hashes, keyed by the seed, are smallest. Nothing if there is one group only.
std::vector<Split> split_groups(const std::vector<uint64_t>& group_of_sample, double share) {
  std::vector<uint64_t> groups = group_of_sample;
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  std::vector<Split> split(group_of_sample.size(), Split::kTrain);
  if (share <= 0 || groups.size() < 2) return split;
  const size_t held_out = std::clamp<size_t>(size_t(std::llround(share * double(groups.size()))), 1, groups.size() - 1);
  for (size_t i = 0; i < split.size(); ++i) {
    if (group_of_sample[i] < groups[held_out]) split[i] = Split::kValidation;
  }
  return split;
}

uint64_t keyed_hash(const void* bytes, size_t size, uint64_t seed) { return XXH3_64bits_withSeed(bytes, size, seed); }

// By article, so that no validation context was trained on; by context if the share is less than half an article.
std::vector<Split> split_samples(const std::vector<SquadSample>& samples, const PrepareOptions& options) {
  std::vector<uint64_t> articles, contexts;
  for (const SquadSample& s : samples) {
    articles.push_back(keyed_hash(s.title.data(), s.title.size(), options.seed));
    contexts.push_back(keyed_hash(s.context.data(), s.context.size(), options.seed));
  }
  std::vector<uint64_t> distinct = articles;
  std::sort(distinct.begin(), distinct.end());
  const auto count = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  const bool by_article = count >= 2 && std::llround(options.valid_split * double(count)) >= 1;
  return split_groups(by_article ? articles : contexts, options.valid_split);
}

// The first `code_points` of s.
std::string_view first_code_points(std::string_view s, int64_t code_points) {
  size_t end = 0;
  for (; end < s.size(); ++end) {
    if ((uint8_t(s[end]) & 0xC0) != 0x80 && code_points-- == 0) break;
  }
  return s.substr(0, end);
}

struct FittedSample {
  TokenizedSample tokenized;
  std::string_view context;  // as much of it as fits
};

// Shortens the context from its end until the document fits. Question and answer stay whole: if they alone are too long, the
// result is longer than max_tokens.
FittedSample fit(const SquadSample& sample, const std::string& answer, const PromptTemplate& form, const Tokenizer& tokenizer,
                 const PrepareOptions& options) {
  const auto tokenize = [&](std::string_view context) {
    return tokenize_sample(tokenizer, form.prompt(sample, context), form.answer(answer));
  };
  FittedSample out{tokenize(sample.context), sample.context};
  const int64_t limit = options.max_tokens;
  if (int64_t(out.tokenized.tokens.size()) <= limit || options.long_samples == LongSamples::kRefuse) return out;
  FittedSample bare{tokenize(""), ""};
  const int64_t fixed = int64_t(bare.tokenized.tokens.size());
  if (fixed > limit) return bare;
  // Between `low` code points, which fit, and `high`, which do not: the share of the tokens still free says where to look.
  constexpr int64_t kSlack = 3;  // so many tokens left free are near enough
  int64_t low = 0, low_length = fixed, high_length = int64_t(out.tokenized.tokens.size());
  int64_t high = std::count_if(sample.context.begin(), sample.context.end(), [](char c) { return (uint8_t(c) & 0xC0) != 0x80; });
  out = std::move(bare);
  for (int tries = 1; high - low > 1 && low_length + kSlack < limit; ++tries) {
    // Every third time in the middle, for a text whose density misleads.
    const int64_t step =
        tries % 3 == 0 ? (high - low) / 2 : (limit - low_length) * (high - low) / std::max<int64_t>(1, high_length - low_length);
    const int64_t middle = low + std::clamp<int64_t>(step, 1, high - low - 1);
    FittedSample tried{{}, first_code_points(sample.context, middle)};
    tried.tokenized = tokenize(tried.context);
    const int64_t length = int64_t(tried.tokenized.tokens.size());
    if (length <= limit) {
      out = std::move(tried);
      low = middle;
      low_length = length;
    } else {
      high = middle;
      high_length = length;
    }
  }
  return out;
}

Dataset prepare_squad(const SquadFile& squad, const std::string& file, const Tokenizer* tokenizer,
                      const PrepareOptions& options) {
  if (!tokenizer) bad_file("{}: questions need a tokenizer, and the model has none; give a directory with one by --model", file);
  const PromptTemplate& form = find_prompt_template(options.template_name);
  Builder builder(file, tokenizer, options);
  Dataset& data = builder.data();
  data.tokenizer_fingerprint = tokenizer->fingerprint();
  data.template_name = form.name;
  data.rules = squad.unanswerable ? SquadRules::kV2 : SquadRules::kV1;
  data.unanswerable_trained = options.unanswerable == Unanswerable::kTrain;
  data.report.offset_mismatches = squad.offset_mismatches;
  const std::vector<Split> split = split_samples(squad.samples, options);
  for (size_t i = 0; i < squad.samples.size(); ++i) {
    const SquadSample& sample = squad.samples[i];
    if (!sample.answerable() && !data.unanswerable_trained) {
      ++data.report.unanswerable_left_out;
      continue;
    }
    const std::string answer = sample.answerable() ? sample.answers[0] : std::string(kNoAnswer);
    const bool blank = answer.find_first_not_of(" \t\r\n") == std::string::npos;
    if (blank) builder.keep_empty(fmt::format("{} (id {})", sample.where, in_quotes(sample.id)), "its answer is empty");
    const FittedSample fitted = fit(sample, answer, form, *tokenizer, options);
    const std::vector<int32_t>& tokens = fitted.tokenized.tokens;
    if (int64_t(tokens.size()) > options.max_tokens) {
      builder.refuse(kTooLong);
      continue;
    }
    // Without its evidence a question would teach the model to invent; for scores every question counts.
    const bool cut = fitted.context.size() < sample.context.size();
    if (cut && split[i] == Split::kTrain && sample.answerable() && sample.context.find(answer) != std::string::npos &&
        fitted.context.find(answer) == std::string_view::npos) {
      builder.refuse(kAnswerCutOff);
      continue;
    }
    const int32_t largest = *std::max_element(tokens.begin(), tokens.end());
    if (largest >= data.vocab_size) {
      bad_file("{}: {}: the tokenizer makes token id {}, and the model has ids below {}; they do not belong together", file,
               sample.where, largest, data.vocab_size);
    }
    data.report.truncated += cut;
    data.report.unanswerable_trained += !sample.answerable();
    std::vector<int32_t> labels(tokens.size(), kNotTrained);
    if (!blank)
      std::copy(tokens.begin() + fitted.tokenized.prompt_tokens, tokens.end(), labels.begin() + fitted.tokenized.prompt_tokens);
    Document document{.prompt_tokens = fitted.tokenized.prompt_tokens, .split = split[i], .id = sample.id, .title = sample.title};
    for (const std::string& a : sample.answers) {
      if (std::find(document.answers.begin(), document.answers.end(), a) == document.answers.end()) document.answers.push_back(a);
    }
    builder.add(std::move(document), tokens, labels);
  }
  return builder.finish();
}

// One of the two arrays of a row of token ids. -100 is allowed where `labels` is set.
void read_ids(const Json& row, const char* key, bool labels, int32_t vocab_size, const std::string& where,
              std::vector<int32_t>& out) {
  const Json& array = row[key];
  if (!array.is_array()) bad_file("{}: {}: expected an array of token ids, found {}", where, key, array.type_name());
  out.clear();
  for (size_t i = 0; i < array.size(); ++i) {
    const int64_t limit = vocab_size > 0 ? vocab_size : INT32_MAX;
    const bool whole = array[i].is_number_integer() && !(array[i].is_number_unsigned() && array[i].get<uint64_t>() > INT32_MAX);
    const int64_t id = whole ? array[i].get<int64_t>() : -1;
    if (!(id >= 0 && id < limit) && !(labels && id == kNotTrained)) {
      bad_file("{}: {}[{}]: expected a token id from 0 to {}{}, found {}", where, key, i, limit - 1, labels ? " or -100" : "",
               array[i].dump());
    }
    out.push_back(int32_t(id));
  }
}

struct TokenRow {
  std::string where;
  int64_t begin, length;
};

Dataset prepare_token_rows(std::string_view text, const std::string& file, const Tokenizer* tokenizer,
                           const PrepareOptions& options) {
  Builder builder(file, tokenizer, options);
  std::vector<int32_t> tokens, labels, row_tokens, row_labels;
  std::vector<TokenRow> rows;
  std::vector<uint64_t> groups;
  for_each_line(text, [&](int64_t number, std::string_view line) {
    const std::string where = fmt::format("{}: line {}", file, number);
    const Json row = parse_json(line, where);
    if (!row.is_object() || !row.contains("input_ids")) bad_file("{}: expected an object with \"input_ids\"", where);
    read_ids(row, "input_ids", false, builder.data().vocab_size, where, row_tokens);
    if (row_tokens.empty()) bad_file("{}: input_ids is empty; a document has at least one token", where);
    if (row.contains("labels")) {
      read_ids(row, "labels", true, builder.data().vocab_size, where, row_labels);
    } else {
      row_labels = row_tokens;
      row_labels[0] = kNotTrained;
    }
    if (row_labels.size() != row_tokens.size()) {
      bad_file("{}: labels has {} elements and input_ids {}; they must be as many", where, row_labels.size(), row_tokens.size());
    }
    rows.push_back({fmt::format("line {}", number), int64_t(tokens.size()), int64_t(row_tokens.size())});
    groups.push_back(keyed_hash(row_tokens.data(), row_tokens.size() * sizeof(int32_t), options.seed));
    tokens.insert(tokens.end(), row_tokens.begin(), row_tokens.end());
    labels.insert(labels.end(), row_labels.begin(), row_labels.end());
  });
  const std::vector<Split> split = split_groups(groups, options.valid_split);
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::span<const int32_t> all_labels(labels.data() + rows[i].begin, size_t(rows[i].length));
    const size_t kept = size_t(std::min<int64_t>(rows[i].length, options.max_tokens));
    const bool cut = kept < all_labels.size();
    if (cut && options.long_samples == LongSamples::kRefuse) {
      builder.refuse(kTooLong);
      continue;
    }
    if (count_targets(all_labels) == 0) {
      builder.keep_empty(rows[i].where, "no label behind the first token is trained");
    } else if (count_targets(all_labels.first(kept)) == 0) {
      builder.refuse(kAnswerCutOff);
      continue;
    }
    builder.report().truncated += cut;
    builder.add({.split = split[i]}, {tokens.data() + rows[i].begin, kept}, all_labels.first(kept));
  }
  return builder.finish();
}

Dataset open_prepared(std::string_view bytes, const std::string& file, const Tokenizer* tokenizer,
                      const PrepareOptions& options) {
  Dataset data = parse_dataset(bytes, file);
  if (tokenizer && !data.tokenizer_fingerprint.empty() && data.tokenizer_fingerprint != tokenizer->fingerprint()) {
    bad_file("{}: prepared with another tokenizer ({}) than the model's ({}); run `prepare` again with this --model", file,
             data.tokenizer_fingerprint, tokenizer->fingerprint());
  }
  if (options.vocab_size > 0 && data.vocab_size > options.vocab_size) {
    bad_file("{}: holds token ids below {}, and the model has {}; run `prepare` again with this --model", file, data.vocab_size,
             options.vocab_size);
  }
  for (const Document& d : data.documents) {
    if (d.length > options.max_tokens && !options.any_length) {
      bad_file(
          "{}: document {} has {} tokens, more than --seq-len {}; give --seq-len {} or more, or run `prepare` again with this "
          "one",
          file, &d - data.documents.data(), d.length, options.max_tokens, data.max_tokens);
    }
  }
  return data;
}

// Whether the text is JSON lines, and if so, of which kind: its first line that is not blank is a whole object.
enum class Source { kSquadJson, kSquadLines, kTokenLines };
Source detect(std::string_view text, const std::filesystem::path& path) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const Source unknown = path.extension() == ".jsonl" ? Source::kTokenLines : Source::kSquadJson;
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || text[begin] != '{') return unknown;
  try {
    const Json row = parse_json(text.substr(begin, text.find('\n', begin) - begin), path.string());
    return is_squad_row(row) ? Source::kSquadLines : row.contains("input_ids") ? Source::kTokenLines : unknown;
  } catch (const Error&) {
    return unknown;  // an object over several lines; what is wrong with it, if anything, its own reader says
  }
}

}  // namespace

Dataset load_dataset(const std::filesystem::path& path, const Tokenizer* tokenizer, const PrepareOptions& options) {
  const std::string text = read_file(path), file = path.string();
  if (is_prepared(text)) return open_prepared(text, file, tokenizer, options);
  switch (detect(text, path)) {
    case Source::kTokenLines:
      return prepare_token_rows(text, file, tokenizer, options);
    case Source::kSquadLines:
      return prepare_squad(parse_squad_lines(text, file), file, tokenizer, options);
    case Source::kSquadJson:
      break;
  }
  return prepare_squad(parse_squad_json(text, file), file, tokenizer, options);
}

}  // namespace tll
