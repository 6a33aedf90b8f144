#include "data/sample.h"
#include "src/base/check.h"

namespace tll {
namespace {

// One of the two arrays. -100 is allowed where `labels` is set.
std::vector<int32_t> read_ids(const Json& row, const char* key, bool labels, int32_t vocab_size, const std::string& where) {
  const Json& array = row[key];
  if (!array.is_array()) bad_file("{}: {}: expected an array of token ids, found {}", where, key, array.type_name());
  std::vector<int32_t> ids;
  for (size_t i = 0; i < array.size(); ++i) {
    const int64_t limit = vocab_size > 0 ? vocab_size : INT32_MAX;
    const bool whole = array[i].is_number_integer() && !(array[i].is_number_unsigned() && array[i].get<uint64_t>() > INT32_MAX);
    const int64_t id = whole ? array[i].get<int64_t>() : -1;
    if (!(id >= 0 && id < limit) && !(labels && id == kNotTrained)) {
      bad_file("{}: {}[{}]: expected a token id from 0 to {}{}, found {}", where, key, i, limit - 1, labels ? " or -100" : "",
               array[i].dump());
    }
    ids.push_back(int32_t(id));
  }
  return ids;
}

Span read_row(const Json& row, int32_t vocab_size, const std::string& where) {
  if (!is_token_row(row)) bad_file("{}: expected an object with \"input_ids\"", where);
  Span span{.may_shorten = true, .ids = read_ids(row, "input_ids", false, vocab_size, where)};
  if (span.ids.empty()) bad_file("{}: input_ids is empty; a document has at least one token", where);
  if (row.contains("labels")) {
    span.labels = read_ids(row, "labels", true, vocab_size, where);
  } else {
    span.labels = span.ids;
    span.labels[0] = kNotTrained;
  }
  if (span.labels.size() != span.ids.size()) {
    bad_file("{}: labels has {} elements and input_ids {}; they must be as many", where, span.labels.size(), span.ids.size());
  }
  return span;
}

}  // namespace

SampleSet read_token_rows(std::string_view text, const std::string& name, const PrepareOptions& options) {
  SampleSet out;
  for_each_line(text, [&](int64_t number, std::string_view line) {
    Sample sample{.where = fmt::format("line {}", number)};
    const std::string where = fmt::format("{}: {}", name, sample.where);
    sample.spans.push_back(read_row(parse_json(line, where), options.vocab_size, where));
    sample.subgroup = group_key(sample.spans[0].ids, options.seed);
    out.samples.push_back(std::move(sample));
  });
  return out;
}

}  // namespace tll
