// What a user may choose about data: the words of --format, --template, --train-on and --long, and what reading a data set needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tll {

// Words of --format, in the order of data_format_names(). csv and parquet say what kind of file it is; its columns then say
// what the rows are.
enum class DataFormat : uint32_t { kAuto, kSquad, kAlpaca, kDolly, kPrompt, kMessages, kShareGpt, kText, kCsv, kParquet, kIds };
const std::vector<std::string_view>& data_format_names();

// Words of --template, in the order of template_names().
//   kSquad, kAlpaca     forms of instructions, with EOS behind the answer
//   kNone               prompt and answer as they are, and EOS
//   kChatml             ChatML without a system text of its own; kSmollm2 and kQwen25 have one
//   kMistral            v1, as published last; kMistral01 and kMixtral are the forms published before it, without a system
//                       text; kMistral3 is v3, and kMistralNemo v3 with the tokenizer tekken
//   kPhi35              Phi-3's, without the mark of an empty system text
// The others are chat templates of the model families of these names.
enum class TemplateName : uint32_t {
  kAuto,
  kSquad,
  kChatml,
  kSmollm2,
  kQwen25,
  kQwen3,
  kLlama2,
  kLlama3,
  kLlama31,
  kMistral,
  kMistral01,
  kMixtral,
  kMistral3,
  kMistralNemo,
  kPhi3,
  kPhi35,
  kZephyr,
  kAlpaca,
  kNone
};
const std::vector<std::string_view>& template_names();

// Words of --train-on and --long, in this order.
enum class TrainOn : uint32_t { kAnswers, kLastAnswer, kAll };
const std::vector<std::string_view>& train_on_names();
enum class Unanswerable : uint32_t { kSkip = 0, kTrain = 1 };  // left out and counted, or trained as kNoAnswer
enum class LongSamples : uint32_t { kCut, kDrop, kRefuse };    // longer than max_tokens, when no turn can leave any more
const std::vector<std::string_view>& long_samples_names();

struct PrepareOptions {
  int32_t max_tokens = 1024;  // of one document, BOS and EOS included (--seq-len)
  LongSamples long_samples = LongSamples::kCut;
  Unanswerable unanswerable = Unanswerable::kSkip;
  double valid_split = 0;    // share of the groups (of the subgroups, if groups are too few) held out, 0 <= f < 1
  uint64_t seed = 42;        // chooses which
  bool allow_empty = false;  // keep samples that train nothing, instead of refusing the set
  bool any_length = false;   // a squad.bin may hold documents longer than max_tokens (to look at, not to run)
  int32_t threads = 0;       // 0: every core that this process may use
  int32_t vocab_size = 0;    // of the model, for ids that come without a tokenizer; 0: the tokenizer's

  DataFormat format = DataFormat::kAuto;
  std::vector<std::string> columns = {};  // "prompt=question"
  TemplateName template_name = TemplateName::kAuto;
  std::string model_template = {};  // the model's own chat_template, as its files have it; empty: it has none
  std::string system = {};          // of conversations that have no system text; empty: as the template has it
  std::string template_date = "26 Jul 2024";
  TrainOn train_on = TrainOn::kAnswers;
  bool parse_special = false;  // special tokens spelled out in users' texts are ids
};

}  // namespace tll
