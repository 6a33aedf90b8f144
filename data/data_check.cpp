#include "data/data_check.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>
#include <set>

#include "data/loader.h"
#include "data/template.h"
#include "src/base/phase.h"
#include "src/base/units.h"

namespace tll {
namespace {

constexpr size_t kMarkTokens = 16;  // no mark takes more when it is spelled out, with the white space behind it

// How an answer ends. A tokenizer that does not have a mark's token spells it out.
class EndMarks {
 public:
  EndMarks(const Tokenizer* tokenizer, std::span<const int32_t> end_ids)
      : tokenizer_(tokenizer), ids_(end_ids.begin(), end_ids.end()) {
    if (!tokenizer) return;
    ids_.insert(tokenizer->end_ids().begin(), tokenizer->end_ids().end());
    if (tokenizer->eos()) ids_.insert(*tokenizer->eos());
    for (const std::string_view mark : marks_) {
      if (const auto id = tokenizer->special_id(mark)) ids_.insert(*id);
    }
  }

  bool known() const { return tokenizer_ || !ids_.empty(); }

  bool ends_in_mark(std::span<const int32_t> run) const {
    if (ids_.contains(run.back())) return true;
    if (!tokenizer_) return run.size() > 1 && ids_.contains(run[run.size() - 2]);  // white space of one token behind it
    const std::string text = tokenizer_->decode(run.last(std::min(run.size(), kMarkTokens)), false);
    const size_t end = text.find_last_not_of(" \t\r\n");
    if (end == std::string::npos) return false;
    const std::string_view visible = std::string_view(text).substr(0, end + 1);
    return std::any_of(marks_.begin(), marks_.end(), [&](std::string_view mark) { return visible.ends_with(mark); });
  }

 private:
  const std::vector<std::string_view> marks_ = all_end_marks();
  const Tokenizer* tokenizer_;
  std::set<int32_t> ids_;
};

// Runs of trained tokens of a document.
void count_answers(DataCheck& out, const Dataset& data, const Document& d, const EndMarks& marks) {
  const std::span<const int32_t> tokens = data.tokens_of(d);
  for (int32_t begin = 1, end; begin < d.length; begin = end + 1) {
    for (end = begin; end < d.length && data.label(d, end) != kNotTrained;) ++end;
    if (end == begin) continue;
    ++out.answers;
    out.ends_trained += marks.ends_in_mark(tokens.subspan(size_t(begin), size_t(end - begin)));
  }
}

// The lowest bit says whether the document is for validation.
uint64_t document_key(const Dataset& data, const Document& d) {
  const std::span<const int32_t> tokens = data.tokens_of(d);
  return (XXH3_64bits(tokens.data(), tokens.size_bytes()) & ~uint64_t(1)) | uint64_t(d.split == Split::kValidation);
}

void count_duplicates(DataCheck& out, std::vector<uint64_t> keys) {
  std::sort(keys.begin(), keys.end());
  for (size_t begin = 0, end; begin < keys.size(); begin = end) {
    size_t held_out = 0;
    for (end = begin; end < keys.size() && keys[end] >> 1 == keys[begin] >> 1; ++end) held_out += keys[end] & 1;
    out.duplicates += int64_t(end - begin - 1);
    if (held_out < end - begin) out.in_both_splits += int64_t(held_out);
  }
}

double percent(int64_t part, int64_t whole) { return whole ? 100.0 * double(part) / double(whole) : 0; }

// 100 % is all, and nothing else.
std::string share(int64_t part, int64_t whole) {
  if (part == whole) return "100 %";
  return fmt::format("{:.1f} %", std::min(percent(part, whole), 99.9));
}

}  // namespace

int32_t DataCheck::length_at(double wanted) const {
  int64_t seen = 0;
  for (const auto& [length, count] : lengths) {
    seen += count;
    if (double(seen) >= wanted * double(samples)) return length;
  }
  return 0;
}

std::vector<DataCheck::LengthClass> DataCheck::classes() const {
  std::vector<LengthClass> out;
  auto next = lengths.begin();
  int64_t power = 16;
  for (int64_t from = 1; next != lengths.end();) {
    const int64_t to = from <= seq_len && seq_len < power ? seq_len : power;
    LengthClass c{int32_t(from), int32_t(std::min<int64_t>(to, INT32_MAX)), 0};
    for (; next != lengths.end() && next->first <= c.to; ++next) c.samples += next->second;
    if (c.samples > 0 || !out.empty()) out.push_back(c);
    from = to + 1;
    if (to == power) power *= 2;
  }
  return out;
}

std::vector<std::string> DataCheck::warnings() const {
  std::vector<std::string> out;
  const int64_t partly = samples - fully_trained - untrained;
  if (target_tokens == 0) out.push_back("nothing is trained: every label is masked");
  if (ends_known && partly > 0 && ends_trained < answers) {
    out.push_back(fmt::format(
        "{} of {} answers are trained without an end mark: a model learns from them not to stop{}", Count{answers - ends_trained},
        Count{answers}, report.ends_lost ? fmt::format("; {} of them were cut at --seq-len", Count{report.ends_lost}) : ""));
  }
  if (untrained > 0 && target_tokens > 0) {
    out.push_back(fmt::format("{} of {} train nothing", Count{untrained}, Counted{samples, "sample"}));
  }
  if (target_tokens > 0 && trained_share() < 0.01) {
    out.push_back(fmt::format("only {:.2f} % of the tokens are trained: are the answers where the format has them?",
                              percent(target_tokens, tokens)));
  }
  if (partly > 0 && trained_share() > 0.95) {
    out.push_back(fmt::format("{} of the tokens are trained, so next to nothing is a prompt", share(target_tokens, tokens)));
  }
  const int64_t all = samples + report.refused_total();
  if (report.truncated * 10 > all) {
    out.push_back(fmt::format("{} of the samples were shortened to --seq-len; a larger one keeps them whole",
                              share(report.truncated, all)));
  }
  if (report.refused_total() * 10 > all) {
    out.push_back(
        fmt::format("{} of the samples were left out, being too long for --seq-len", share(report.refused_total(), all)));
  }
  if (in_both_splits > 0) {
    out.push_back(fmt::format("{} of {} have the tokens of a training sample: the loss on them will look better than it is",
                              Count{in_both_splits}, Counted{samples - train_samples, "validation sample"}));
  }
  if (double_bos > 0) {
    out.push_back(fmt::format("{} of {} begin with BOS twice: the data bring it, and the tokenizer adds another",
                              Count{double_bos}, Counted{samples, "sample"}));
  }
  return out;
}

Json DataCheck::json() const {
  Json list = Json::array();
  for (const LengthClass& c : classes()) list.push_back({{"from", c.from}, {"to", c.to}, {"samples", c.samples}});
  Json out = {{"samples", samples},
              {"train_samples", train_samples},
              {"validation_samples", samples - train_samples},
              {"tokens", tokens},
              {"target_tokens", target_tokens},
              {"trained_share", trained_share()},
              {"answers", answers},
              {"ends_trained", nullptr},
              {"duplicates", duplicates},
              {"in_both_splits", in_both_splits},
              {"empty", untrained + report.empty_answers},
              {"truncated", report.truncated},
              {"turns_left_out", report.turns_left_out},
              {"ends_lost", report.ends_lost},
              {"dropped", report.refused_total()},
              {"double_bos", double_bos},
              {"lengths",
               {{"shortest", length_at(0)},
                {"median", length_at(0.5)},
                {"p95", length_at(0.95)},
                {"longest", length_at(1)},
                {"mean", samples ? double(tokens) / double(samples) : 0},
                {"classes", list}}},
              {"packing", nullptr},
              {"warnings", warnings()}};
  if (ends_known) out["ends_trained"] = ends_trained;
  if (packed_rows > 0)
    out["packing"] = {{"seq_len", seq_len}, {"rows", packed_rows}, {"rows_without", train_samples}, {"tokens", train_tokens}};
  return out;
}

std::string DataCheck::text() const {
  std::string out = fmt::format("{} ({} train, {} validation), {}\n", Counted{samples, "sample"}, Count{train_samples},
                                Count{samples - train_samples}, Counted{tokens, "token"});
  const auto line = [&](const char* name, const std::string& what) { out += fmt::format("{:<12}{}\n", name, what); };
  line("trained", fmt::format("{} of the tokens ({}), in {}", share(target_tokens, tokens), Count{target_tokens},
                              Counted{answers, "answer"}));
  line("ends", !ends_known ? "not known: there is no tokenizer, and the model names no end mark"
                           : fmt::format("{} of the answers are trained with their end mark ({})", share(ends_trained, answers),
                                         Count{ends_trained}));
  line("lengths", fmt::format("{} to {} tokens, half of the samples up to {}, 95 % up to {}", Count{length_at(0)},
                              Count{length_at(1)}, Count{length_at(0.5)}, Count{length_at(0.95)}));
  int64_t most = 1;
  for (const LengthClass& c : classes()) most = std::max(most, c.samples);
  for (const LengthClass& c : classes()) {
    constexpr int64_t kBar = 40;
    const std::string bar(size_t((c.samples * kBar + most - 1) / most), '#');
    out += fmt::format("{:>12} - {:<9}{:<{}} {}\n", fmt::format("{}", Count{c.from}), fmt::format("{}", Count{c.to}), bar, kBar,
                       Count{c.samples});
  }
  if (packed_rows > 0) {
    const auto padding = [&](int64_t rows) { return share(rows * seq_len - train_tokens, rows * seq_len); };
    line("packing", fmt::format("{} of {} tokens instead of {}: {} padding instead of {}", Counted{packed_rows, "row"},
                                Count{seq_len}, Count{train_samples}, padding(packed_rows), padding(train_samples)));
  }
  line("duplicates",
       fmt::format("{}{}", Count{duplicates}, in_both_splits ? fmt::format(", {} in both splits", Count{in_both_splits}) : ""));
  line("empty", fmt::format("{}", Counted{untrained + report.empty_answers, "answer"}));
  line("shortened", fmt::format("{}{}{}", Counted{report.truncated, "sample"},
                                report.turns_left_out ? fmt::format(", {} left out", Counted{report.turns_left_out, "turn"}) : "",
                                report.ends_lost ? fmt::format(", {} cut in the last answer", Count{report.ends_lost}) : ""));
  line("left out", fmt::format("{}", Counted{report.refused_total(), "sample"}));
  return out;
}

DataCheck check_data(const Dataset& data, const Tokenizer* tokenizer, std::span<const int32_t> end_ids, int32_t seq_len) {
  DataCheck out;
  out.samples = int64_t(data.documents.size());
  out.report = data.report;
  const EndMarks marks(tokenizer, end_ids);
  out.ends_known = marks.known();
  const std::optional<int32_t> bos = tokenizer ? tokenizer->bos() : std::nullopt;
  std::vector<uint64_t> keys;
  keys.reserve(data.documents.size());
  Phase phase("checking", out.samples);
  for (const Document& d : data.documents) {
    const std::span<const int32_t> tokens = data.tokens_of(d);
    const bool train = d.split == Split::kTrain;
    out.train_samples += train;
    out.train_tokens += train ? d.length : 0;
    out.tokens += d.length;
    out.target_tokens += d.target_tokens;
    out.untrained += d.target_tokens == 0;
    out.fully_trained += d.target_tokens > 0 && d.target_tokens == d.length - 1;
    out.double_bos += bos && d.length > 1 && tokens[0] == *bos && tokens[1] == *bos;
    ++out.lengths[d.length];
    count_answers(out, data, d, marks);
    keys.push_back(document_key(data, d));
    phase.advance();
  }
  count_duplicates(out, std::move(keys));
  out.seq_len = std::max(seq_len, out.length_at(1));
  if (out.train_samples > 0) {
    out.packed_rows = Loader(data, {.rows = 1, .seq_len = out.seq_len, .packing = true, .shuffle = true}).rows_per_epoch();
  }
  return out;
}

}  // namespace tll
