// What the user asked for. One table (src/options/option_table.cpp) holds every command and option; parsing, help, the manual
// page, shell completion and run.json are made from it, and defaults are the initialisers below.
//
// On the command line `-` and `_` are equal in names, an alias is accepted wherever its name is, `--name value` and
// `--name=value` mean the same, flags need no value (`--quiet`, also `--quiet false`), and of a repeated option the last wins.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "data/data_options.h"
#include "src/base/json.h"
#include "src/files/modules.h"
#include "src/model/shards.h"
#include "src/train/optimizer_options.h"
#include "src/train/schedule.h"

namespace tll {

enum class Command {
  kTrain,
  kPlan,
  kPrepare,
  kShow,
  kEvaluate,
  kGenerate,
  kTokenize,
  kDump,
  kExport,
  kVerify,
  kHelp,
  kCompletion,
  kVersion
};
enum class DeviceOption { kAuto, kCpu, kCuda };
enum class DtypeOption { kAuto, kFp32, kBf16, kFp16, kInt8, kNf4 };  // the last two of frozen weights alone
enum class TrainMode { kLora, kFull };
enum class LogitsOption { kAuto, kFp32, k16Bit };
enum class RecomputeOption { kNone, kSelective, kFull };
enum class UnanswerableOption { kSkip, kTrain };
enum class InitOption { kPretrained, kRandom };
enum class ExportFormat { kMerged, kGguf, kGgufAdapter, kBnb4bit };
enum class GgufTypeOption { kF16, kBf16, kQ8_0, kQ4_0, kF32 };
enum class LoraStatesOption { kFp32, kBf16 };
enum class LoraGemmOption { kAuto, kJoined, kSeparate };
enum class KeepOption { kLast, kBest };
enum class SplitOption { kAuto, kTrain, kValidation, kAll };

// The word `auto` of an option that is a whole number: the program chooses.
constexpr int64_t kAutomatic = -1;

struct Options {
  Command command = Command::kTrain;
  bool command_named = false;          // false: train, because no command was typed
  std::string topic;                   // `help TOPIC` (a command, may be empty) and `completion TOPIC` (a shell)
  std::vector<std::string> arguments;  // as typed, without the program's name

  // Shared.
  std::filesystem::path model;    // empty: the demo model
  std::filesystem::path adapter;  // empty: none
  std::filesystem::path data;
  std::filesystem::path output;  // the default depends on the command
  DeviceOption device = DeviceOption::kAuto;
  DtypeOption dtype = DtypeOption::kAuto;     // activations and matmuls
  DtypeOption weights = DtypeOption::kAuto;   // frozen weights as held in memory; auto: as dtype
  LogitsOption logits = LogitsOption::kAuto;  // of a training step
  bool double_quant = true;                   // of nf4
  int64_t threads = 0;                        // 0: every core that this process may use, shared with the ranks beside it
  int64_t ranks = 1;                          // that train together
  Shard shard = Shard::none;                  // what is divided among them
  int64_t seed = 42;
  int64_t seq_len = 1024;  // tokens a row
  int64_t memory = 0;      // bytes; 0: what the machine has available
  bool quiet = false;
  bool json = false;
  bool profile = false;
  bool help = false;
  bool man = false;
  bool version = false;

  // Where the weights come from.
  InitOption init = InitOption::kPretrained;
  std::filesystem::path config;  // a config.json in place of --model (plan, random weights)

  // What is trained.
  TrainMode train = TrainMode::kLora;
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  std::vector<std::string> targets = {adaptable_names().begin(), adaptable_names().end()};  // in this order
  bool rslora = false;
  LoraStatesOption lora_states = LoraStatesOption::kFp32;  // values and gradients of the adapter
  LoraGemmOption lora_gemm = LoraGemmOption::kAuto;
  std::filesystem::path init_adapter;  // empty: a fresh adapter
  bool train_embeddings = false;       // embedding and head are trained beside the adapter

  // The steps.
  int64_t batch_size = 1;       // rows of seq_len tokens
  int64_t grad_accum = 1;       // batches a step, on each rank
  int64_t effective_batch = 0;  // rows a step, with batch_size auto; 0: not given
  int64_t max_steps = 0;        // 0: by epochs
  double epochs = 3;
  double lr = 2e-4;
  ScheduleKind schedule = ScheduleKind::kCosine;
  double warmup_ratio = 0.03;
  int64_t warmup_steps = 0;  // where given: in place of warmup_ratio
  OptimizerKind optimizer = OptimizerKind::kAdamw;
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip = 1;  // largest gradient norm; 0: off
  RecomputeOption recompute = RecomputeOption::kNone;
  int64_t mlp_chunk = 0;  // tokens of a block's MLP at once; 0: all; kAutomatic: as many as make it no larger than attention
  std::vector<std::string> offload;  // what lies in memory of the host beside a GPU: optimizer, activations, embedding
  bool offloads(std::string_view what) const { return std::find(offload.begin(), offload.end(), what) != offload.end(); }
  bool plan = false;  // `train --plan`; the parser turns it into the command plan

  // The plan.
  std::string gpu;            // a published GPU to plan for; empty: none
  std::string sweep;          // "rank=4,8;weights=bf16,nf4"
  bool tensors = false;       // the table of tensors
  bool csv = false;           // of a sweep
  std::filesystem::path svg;  // the picture of the arena; empty: none

  // The data.
  DataFormat data_format = DataFormat::kAuto;
  std::vector<std::string> columns;  // "prompt=question": the field of the format, and what it is called in the data
  TemplateName chat_template = TemplateName::kAuto;
  std::string system;                         // a system text for conversations that have none; empty: the template's own
  std::string template_date = "26 Jul 2024";  // of templates that say what day it is
  TrainOn train_on = TrainOn::kAnswers;
  LongSamples long_samples = LongSamples::kCut;
  bool parse_special = false;
  bool check = false;  // show
  bool packing = true;
  bool shuffle = true;
  double valid_split = 0.1;          // share of the data set held out where it has no split of its own
  std::filesystem::path valid_data;  // a data set to validate on, in place of a split
  UnanswerableOption unanswerable = UnanswerableOption::kSkip;
  bool allow_empty = false;
  SplitOption split = SplitOption::kAuto;  // auto: validation where the set has one, else all
  int64_t docs = 1;                        // documents of dump, samples of show
  int64_t max_samples = 0;                 // evaluate; 0: all
  int64_t stride = 0;                      // evaluate: new tokens a window, over text; 0: documents by themselves

  // Evaluations and checkpoints.
  int64_t eval_samples = 0;                              // questions answered before and after training; 0: none
  int64_t eval_steps = 0;                                // 0: before and after training only
  bool eval_on_start = true;                             // evaluate before the first step
  int64_t eval_docs = 1000;                              // validation documents evaluated each time, from the first; 0: all
  int64_t save_steps = kAutomatic;                       // about every ten minutes and at the end; 0: at the end only
  int64_t save_total_limit = 0;                          // checkpoints kept; 0: all
  std::optional<std::filesystem::path> resume;           // empty path: the newest checkpoint in output
  KeepOption keep = KeepOption::kLast;                   // the values that --output gets
  int64_t patience = 0;                                  // evaluations without a better one after which the run ends; 0: never
  std::string sample_prompt;                             // continued at every evaluation; empty: none
  std::vector<std::string> report_to = {"tensorboard"};  // what a run is also written for, as it goes
  bool reschedule = false;                               // a resumed run lays its learning rates anew
  bool overwrite = false;                                // what an earlier run left in output is dropped, not kept beside the new

  // What export writes.
  ExportFormat format = ExportFormat::kMerged;
  GgufTypeOption gguf_type = GgufTypeOption::kF16;
  int64_t max_shard_size = 5'000'000'000;  // bytes of tensors in a file of safetensors
  std::string base_name;                   // the base model's name on the Hub; empty: not known. Also of train

  // Text.
  std::string prompt;
  int64_t max_new_tokens = 64;
  double temperature = 0;     // 0: greedy
  double top_p = 1;           // the most likely tokens that make up this probability; 1: all
  int64_t top_k = 0;          // the most likely tokens; 0: all
  double min_p = 0;           // tokens at least this times as likely as the most likely one; 0: all
  double repeat_penalty = 1;  // divides the logits of tokens that are there already; 1: none
  std::string stop;           // text that ends what is generated; empty: none
  bool add_special = false;
  bool chat = false;               // tokenize, generate: conversations in the model's template
  std::filesystem::path messages;  // generate: a conversation to answer, in place of a prompt

  // Whether the user gave this option (by its name or an alias), rather than the default. `name` is one of the table.
  bool given(std::string_view name) const;
  // Standard error for the commands whose result is on standard output, which is the result alone; else standard output.
  int progress_output() const;
  std::set<std::string, std::less<>> given_names;  // names as in the table
  // Values that a shorthand turned off, as in `--bf16 false`: `auto` does not choose them.
  std::set<std::string, std::less<>> declined;
  // Where this process stands among the ranks, and how many of them are on this machine: not an option, the launcher says it.
  int process_rank = 0, local_rank = 0, local_ranks = 1;
  int64_t memory_share = 0;   // bytes of the host's memory for this rank, of those of its machine; 0: it is the only one
  std::string meeting_place;  // HOST:PORT of rank 0, where GPUs of several machines meet
  // Options of other trainers that change nothing here, as typed (src/options/foreign_options.h).
  std::vector<std::string> without_effect;
};

// Arguments without the program's name. A user's mistake is thrown as Error with exit code 2: an unknown option (with the
// nearest known one), a value outside its range, an option that the command does not take, a missing required option, an option
// of another trainer that would change results. Without arguments it is the command help.
Options parse_options(const std::vector<std::string>& arguments);

// Every option that the command takes, by its snake_case name, as it stands now: whoever resolves an `auto` writes the outcome
// into the field first. Words are words, sizes bytes, an unset path null.
Json options_json(const Options&);

// In the same form, the options that a resumed run must have in common with the run that it goes on from.
Json resume_settings_json(const Options&);

const char* command_name(Command);

}  // namespace tll
