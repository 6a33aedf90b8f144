// Rows that carry token ids, {"input_ids": [...]}, as tokenizers, `datasets` and TRL write them.
//
//   labels            -100 or the token to predict, as in a Dataset. Without labels every token is a target
//   attention_mask    0: padding, at either end of a document. It is left out, and positions begin behind it
//   completion_mask   1: a target, 0: none
//   assistant_masks   the same; a target of both is one
//   position_ids      count up from 0 in each document of a packed row, which they so divide; or are the indices in a padded row
//   seq_lengths       lengths of the documents of a packed row, padding included
//
// The first token of a document is never a target. Each list has one element for each token, seq_lengths excepted. Lists that
// contradict each other are refused: trained labels where a mask is 0, position_ids that do not fit seq_lengths.
// Source of the keys' meanings: transformers' data collators and prepare_fa_kwargs_from_position_ids; trl's SFTTrainer.
#include <algorithm>
#include <iterator>
#include <numeric>

#include "data/example_reader.h"
#include "data/sample.h"
#include "src/base/check.h"

namespace tll {
namespace {

using Integers = std::vector<int64_t>;

constexpr const char* kMasks[] = {"completion_mask", "assistant_masks"};

// Columns of other trainers that say what is trained, or what attends to what.
constexpr std::string_view kNotImplemented[] = {
    "label_ids",     "target_ids",   "targets",          "segment_ids",        "sequence_ids",     "document_ids",
    "doc_ids",       "cu_seqlens",   "cu_seq_lens",      "cu_seq_lens_q",      "seq_lens",         "seq_idx",
    "inputs_embeds", "pixel_values", "chosen_input_ids", "rejected_input_ids", "weight",           "weights",
    "sample_weight", "loss_weight",  "loss_weights",     "token_weights",      "decoder_input_ids"};

// One row as it is read.
class TokenRow {
 public:
  TokenRow(const Place& row, int32_t vocab_size)
      : row_(row), where_(row.name()), limit_(vocab_size > 0 ? vocab_size : INT32_MAX) {
    if (!row.value.is_object() || !row.value.contains("input_ids"))
      bad_file("{}: expected an object with \"input_ids\", found {}", where_, shown(row.value));
    refuse_unknown();
    ids_ = list("input_ids", id_form(false), INT32_MIN, INT32_MAX);
    if (ids_.empty()) bad_file("{}: input_ids is empty; a document has at least one token", where_);
    attention_ = tokens_list("attention_mask", "0 or 1", 0, 1);
    positions_ = tokens_list("position_ids", "a position", 0, INT32_MAX);
    labels_ = tokens_list("labels", id_form(true), INT32_MIN, INT32_MAX);
    labelled_ = !labels_.empty();
    if (!labelled_) labels_ = ids_;
    for (size_t t = 0; t < ids_.size(); ++t) {
      if (attention_.empty() || attention_[t]) continue;
      if (labelled_ && labels_[t] != kNotTrained) contradict(t, "attention_mask");
      ids_[t] = 0, labels_[t] = kNotTrained;  // no matter which id the padding has
    }
    for (const char* key : kMasks) {
      const Integers mask = tokens_list(key, "0 or 1", 0, 1);
      for (size_t t = 0; t < mask.size(); ++t) {
        if (mask[t]) continue;
        if (labelled_ && t > 0 && labels_[t] != kNotTrained) contradict(t, key);
        labels_[t] = kNotTrained;
      }
    }
    check_ids();
  }

  // The row's documents without their padding.
  std::vector<Span> documents() const {
    std::vector<Span> out;
    const Integers ends = document_ends();
    for (size_t d = 0; d < ends.size(); ++d) {
      const auto all = size_t(d ? ends[d - 1] : 0);
      size_t begin = all, end = size_t(ends[d]);
      while (begin < end && is_padding(begin)) ++begin;
      while (end > begin && is_padding(end - 1)) --end;
      if (begin == end) continue;
      check_document(all, begin, end);
      Span& span = out.emplace_back(Span{.may_shorten = true});
      span.ids.assign(ids_.begin() + std::ptrdiff_t(begin), ids_.begin() + std::ptrdiff_t(end));
      span.labels.assign(labels_.begin() + std::ptrdiff_t(begin), labels_.begin() + std::ptrdiff_t(end));
      if (!labelled_) span.labels[0] = kNotTrained;
    }
    if (out.empty()) bad_file("{}: attention_mask is 0 everywhere, so the row has no token", where_);
    return out;
  }

  int64_t padding() const { return std::count(attention_.begin(), attention_.end(), 0); }

 private:
  bool is_padding(size_t t) const { return !attention_.empty() && !attention_[t]; }

  std::string id_form(bool label) const { return fmt::format("a token id from 0 to {}{}", limit_ - 1, label ? " or -100" : ""); }

  void refuse_unknown() const {
    for (const auto& [key, value] : row_.value.items()) {
      const auto is = [&key = key](std::string_view name) { return name == key; };
      const bool mask = (key.ends_with("_mask") || key.ends_with("_masks")) && key != "attention_mask" &&
                        key != "special_tokens_mask" && std::none_of(std::begin(kMasks), std::end(kMasks), is);
      if (value.is_null() || !(mask || std::any_of(std::begin(kNotImplemented), std::end(kNotImplemented), is))) continue;
      bad_file(
          "{}: key {} is not implemented, and may change what is trained; say what is trained by \"labels\" (-100: not trained), "
          "and remove this key",
          where_, in_quotes(key));
    }
  }

  // The whole numbers of a list.
  Integers list(const char* key, std::string_view expected, int64_t least, int64_t most) const {
    const Json& array = row_.value[key];
    if (!array.is_array()) bad_file("{}: {}: expected a list, found {}", where_, key, shown(array));
    Integers out;
    out.reserve(array.size());
    for (size_t i = 0; i < array.size(); ++i) {
      const Json& element = array[i];
      const bool fits = element.is_number_integer() && !(element.is_number_unsigned() && element.get<uint64_t>() > INT64_MAX);
      const int64_t value = element.is_boolean() ? int64_t(element.get<bool>()) : fits ? element.get<int64_t>() : INT64_MIN;
      if (value < least || value > most || (element.is_boolean() && most != 1)) {
        bad_file("{}: {}[{}]: expected {}, found {}{}", where_, key, i, expected, shown(element),
                 element.is_array() ? " (a batch dimension? write each of its lists as a row)" : "");
      }
      out.push_back(value);
    }
    return out;
  }

  // A list of one element for each token; empty: the row has none.
  Integers tokens_list(const char* key, std::string_view expected, int64_t least, int64_t most) const {
    if (!row_.has(key)) return {};
    Integers out = list(key, expected, least, most);
    if (out.size() != ids_.size()) {
      bad_file("{}: {} has {} elements and input_ids {}; they must be as many", where_, key, out.size(), ids_.size());
    }
    return out;
  }

  [[noreturn]] void contradict(size_t t, const char* mask) const {
    bad_file("{}: labels[{}] is trained and {}[{}] is 0; make them agree, or remove one of the two", where_, t, mask, t);
  }

  void check_ids() const {
    for (size_t t = 0; t < ids_.size(); ++t) {
      const auto check = [&](const char* key, int64_t id, bool label) {
        if ((id >= 0 && id < limit_) || (label && id == kNotTrained)) return;
        bad_file("{}: {}[{}]: expected {}, found {}", where_, key, t, id_form(label), id);
      };
      check("input_ids", ids_[t], false);
      if (labelled_) check("labels", labels_[t], true);
    }
  }

  // Where each document ends, padding included.
  Integers document_ends() const {
    const int64_t size = int64_t(ids_.size());
    if (row_.has("seq_lengths")) {
      Integers ends = list("seq_lengths", "a length of at least 1", 1, INT32_MAX);
      std::partial_sum(ends.begin(), ends.end(), ends.begin());
      const int64_t sum = ends.empty() ? 0 : ends.back();
      if (sum != size) bad_file("{}: seq_lengths add up to {}, and input_ids has {} elements", where_, sum, size);
      return ends;
    }
    Integers ends;
    bool begun = false;
    for (int64_t t = 0; t < int64_t(positions_.size()); ++t) {
      if (is_padding(size_t(t))) continue;
      if (begun && positions_[size_t(t)] == 0) ends.push_back(t);
      begun = true;
    }
    ends.push_back(size);
    return ends;
  }

  // `all` is where the document begins with its padding.
  void check_document(size_t all, size_t begin, size_t end) const {
    for (size_t t = begin; t < end; ++t) {
      if (is_padding(t)) {
        bad_file("{}: attention_mask[{}] is 0 between tokens that are 1; only padding at the ends of a document can be left out",
                 where_, t);
      }
      if (positions_.empty()) continue;
      const int64_t position = positions_[t];
      const int64_t expected = t > begin ? positions_[t - 1] + 1 : position == 0 ? 0 : int64_t(begin - all);
      if (position != expected) {
        bad_file("{}: position_ids[{}]: expected {}, found {}; positions count up from 0 in each document", where_, t, expected,
                 position);
      }
    }
  }

  const Place& row_;
  std::string where_;
  int64_t limit_;  // ids are below it
  Integers ids_, attention_, positions_, labels_;
  bool labelled_ = false;
};

class TokenRowReader : public ExampleReader {
 public:
  TokenRowReader(uint64_t seed, int32_t vocab_size) : seed_(seed), vocab_size_(vocab_size) {}

  void read(const Place& place, std::vector<Example>& out) override {
    const TokenRow row(place, vocab_size_);
    unknown_.meet(place.value, place.name());
    std::vector<Span> documents = row.documents();
    if (const int64_t padding = row.padding()) {
      findings_.note("padding left out where attention_mask is 0: {0} in all", padding, 0, place.where);
    }
    if (documents.size() > 1) {
      findings_.note("packed rows, {0} in all, divided into {1} documents", 1, int64_t(documents.size()), place.where);
    }
    const bool trains =
        std::any_of(documents.begin(), documents.end(), [](const Span& s) { return count_targets(s.labels) > 0; });
    for (size_t d = 0; d < documents.size(); ++d) {
      Example e{.kind = ExampleKind::kTokens, .where = place.where};
      if (documents.size() > 1) e.where += fmt::format(", document {}", d + 1);
      e.part_of_trained_row = documents.size() > 1 && trains;
      e.subgroup = group_key(documents[d].ids, seed_);
      e.ids = std::move(documents[d].ids);
      e.labels = std::move(documents[d].labels);
      out.push_back(std::move(e));
    }
  }

  SourceFindings findings() const override {
    SourceFindings all = findings_;
    unknown_.count_into(all.unknown_keys);
    return all;
  }

 private:
  uint64_t seed_;
  int32_t vocab_size_;
  SourceFindings findings_;
  UnknownKeys unknown_{
      {"input_ids", "labels", "attention_mask", "completion_mask", "assistant_masks", "position_ids", "seq_lengths"}};
};

}  // namespace

std::unique_ptr<ExampleReader> token_row_reader(uint64_t seed, int32_t vocab_size) {
  return std::make_unique<TokenRowReader>(seed, vocab_size);
}

}  // namespace tll
