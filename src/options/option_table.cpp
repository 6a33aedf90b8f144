#include "src/options/option_table.h"

#include <fmt/ranges.h>

#include "src/ranks/collectives.h"

namespace tll {
namespace {

template <auto member>
EnumMember choice() {
  using Enum = std::remove_reference_t<decltype(std::declval<Options&>().*member)>;
  return {[](const Options& options) { return static_cast<int>(options.*member); },
          [](Options& options, int index) { options.*member = static_cast<Enum>(index); }};
}

constexpr unsigned bits(std::initializer_list<Command> commands) {
  unsigned mask = 0;
  for (Command command : commands) mask |= command_bit(command);
  return mask;
}

using enum Command;
constexpr unsigned kTraining = bits({kTrain, kPlan});
constexpr unsigned kAdapting = bits({kTrain, kPlan, kDump});
constexpr unsigned kRunning = bits({kTrain, kEvaluate, kGenerate, kDump});
constexpr unsigned kWeighing = kRunning | bits({kPlan});
constexpr unsigned kReading = bits({kTrain, kPlan, kPrepare, kShow, kEvaluate, kDump});
constexpr unsigned kTemplating = bits({kTrain, kPlan, kPrepare, kShow, kEvaluate, kDump, kTokenize, kGenerate});
constexpr unsigned kComputing = kReading | bits({kGenerate, kTokenize, kExport});
constexpr unsigned kWorking = kComputing | bits({kVerify});
constexpr unsigned kAny = kWorking | bits({kHelp, kCompletion, kVersion});

constexpr std::string_view kFiles = "Files";
constexpr std::string_view kMachine = "Machine and precision";
constexpr std::string_view kAdapter = "What is trained";
constexpr std::string_view kSteps = "Batches and steps";
constexpr std::string_view kPlanned = "The plan";
constexpr std::string_view kData = "Data";
constexpr std::string_view kCheckpoints = "Evaluations and checkpoints";
constexpr std::string_view kText = "Text";
constexpr std::string_view kOutput = "What is printed";

const WordPairs kDtypeSpellings = {{"float32", "fp32"},       {"float", "fp32"},         {"float16", "fp16"},
                                   {"half", "fp16"},          {"bfloat16", "bf16"},      {"torch.float32", "fp32"},
                                   {"torch.float16", "fp16"}, {"torch.bfloat16", "bf16"}};
const Words kDtypes = {"auto", "fp32", "bf16", "fp16"};
const Words kWeightTypes = {"auto", "fp32", "bf16", "fp16", "int8", "nf4"};
WordPairs weight_type_spellings() {
  WordPairs pairs = kDtypeSpellings;
  pairs.insert(pairs.end(), {{"4", "nf4"}, {"8", "int8"}});
  return pairs;
}
constexpr double kManyTokens = 1 << 24;

// "q" for "q_proj", as people type it.
std::string_view short_target(std::string_view name) { return name.substr(0, name.rfind('_')); }
WordPairs target_synonyms() {
  WordPairs pairs;
  for (const std::string_view name : adaptable_names()) pairs.emplace_back(short_target(name), name);
  pairs.emplace_back("all", "all-linear");
  return pairs;
}
std::string help_of_targets() {
  Words names;
  for (const std::string_view name : adaptable_names()) names.push_back(short_target(name));
  return fmt::format(
      "linear layers that get an adapter: any of {}, or their Hugging Face names, or all-linear. Phi-3 has qkv and "
      "gate_up, which their parts mean there too",
      fmt::join(names, ", "));
}
constexpr Range kCount = {0, 1e12};

}  // namespace

const std::vector<CommandRow>& command_rows() {
  static const std::vector<CommandRow> rows = {
      {kTrain, "train", "", "trains on a data set and writes an adapter; the command when none is named",
       "train --data squad.bin --output adapter --epochs 2", "trains the demo model on a prepared data set"},
      {kPlan, "plan", "",
       "says what a training run needs, byte by byte, before anything is allocated; needs only config.json, "
       "or the name of a published model",
       "plan --model meta-llama/Llama-3.2-1B --seq-len 512 --gpu T4", "exits 0 if the run fits on that GPU, 3 if it does not"},
      {kPrepare, "prepare", "", "turns a data set of any format into a file ready for training, however large",
       "prepare --data squad.json --output squad.bin", "tokenises a SQuAD file with the demo model's tokenizer"},
      {kShow, "show", "", "prints samples of a data set with the trained part marked", "show --data squad.bin --docs 2",
       "prints the first two samples"},
      {kEvaluate, "evaluate", "", "loss, perplexity, exact match and F1 on a data set",
       "evaluate --adapter adapter --data squad.bin", "evaluates a trained adapter on the validation split"},
      {kGenerate, "generate", "", "continues a prompt",
       "generate --adapter adapter --prompt 'Once upon a time' --max-new-tokens 40", "continues the prompt greedily"},
      {kTokenize, "tokenize", "", "standard input, one JSON string a line, to one JSON array of token ids a line",
       "tokenize --model models/smollm2-135m --add-special < strings.jsonl", "tokenises each line with the begin and end marks"},
      {kDump, "dump", "", "logits, loss and adapter gradients of the first documents, as one step, in a safetensors file",
       "dump --data documents.jsonl --docs 2 --dtype fp32 --output dump.safetensors",
       "writes numbers to compare with another framework"},
      {kExport, "export", "", "writes a model, with its adapter merged into it, in another format",
       "export --model models/smollm2-135m --adapter adapter --format gguf --gguf-type q8_0 --output smollm2.gguf",
       "writes what llama.cpp and Ollama load, in 8 bits"},
      {kVerify, "verify", "", "says whether an adapter or an exported model would load, and what in it matches nothing",
       "verify --model models/smollm2-135m --adapter adapter", "exits 0 if every target of the adapter is in the model"},
      {kHelp, "help", "[COMMAND]", "explains a command and its options; with --man prints the manual page", "help train",
       "lists the options of train"},
      {kCompletion, "completion", "bash|zsh|fish", "prints a completion script for a shell", "completion bash > completion.bash",
       "makes a script to `source` in bash"},
      {kVersion, "version", "", "says what this program was built from and with", "version",
       "prints the commit and the libraries"},
  };
  return rows;
}

const std::vector<OptionRow>& option_rows() {
  static const std::string targets_help = help_of_targets();
  // clang-format off
  static const std::vector<OptionRow> rows = {
      // Files
      {.name = "model", .section = kFiles, .commands = kWorking, .member = &Options::model, .value = "PATH",
       .help = "Hugging Face directory of the model, or a GGUF file; without it, the demo model. For plan also the Hub's name of a published model",
       .aliases = {"model-name-or-path", "model-name", "base-model"}, .letter = 'm'},
      {.name = "adapter", .section = kFiles, .commands = bits({kEvaluate, kGenerate, kDump, kExport, kVerify}), .member = &Options::adapter,
       .value = "DIR", .help = "PEFT adapter to apply; without one, the model alone",
       .aliases = {"adapter-name-or-path", "peft-model"}},
      {.name = "data", .section = kFiles, .commands = kReading | bits({kExport}), .member = &Options::data, .value = "PATH",
       .help = "data set: a file or a folder of them, in any format that --format names, also compressed by gzip or zstd; or "
               "what prepare made of one. export takes the loss on its validation documents, before and after",
       .aliases = {"dataset", "dataset-name", "dataset-path", "data-path", "train-file"}, .letter = 'd',
       .required = bits({kTrain, kPrepare, kShow, kEvaluate, kDump})},
      {.name = "valid-data", .section = kFiles, .commands = kTraining, .member = &Options::valid_data, .value = "PATH",
       .help = "data set to validate on, in place of a split of --data",
       .aliases = {"validation-file", "eval-file", "eval-dataset"}},
      {.name = "output", .section = kFiles, .commands = bits({kTrain, kPlan, kPrepare, kEvaluate, kDump, kExport}),
       .member = &Options::output, .value = "PATH",
       .help = "where the result goes: a directory for train and export, a file for prepare and dump, either for export "
               "--format gguf and gguf-adapter; for evaluate, a file for the answers, {id: text}, as the official SQuAD scripts "
               "read them",
       .aliases = {"output-dir"}, .letter = 'o', .required = bits({kExport}),
       .command_defaults = {{kTrain, "adapter"}, {kPlan, "adapter"}, {kPrepare, "squad.bin"}, {kDump, "dump.safetensors"}}},
      {.name = "format", .section = kFiles, .commands = bits({kExport}), .member = choice<&Options::format>(),
       .help = "merged: safetensors that transformers and vLLM load; gguf: a model file for llama.cpp and Ollama; gguf-adapter: the "
               "adapter alone for them; bnb-4bit: as transformers saves a model that bitsandbytes quantised to nf4",
       .choices = {"merged", "gguf", "gguf-adapter", "bnb-4bit"}, .required = bits({kExport})},
      {.name = "gguf-type", .section = kFiles, .commands = bits({kExport}), .member = choice<&Options::gguf_type>(),
       .help = "type of the matrices of --format gguf", .aliases = {"outtype"},
       .choices = {"f16", "bf16", "q8_0", "q4_0", "f32"},
       .synonyms = {{"F16", "f16"}, {"BF16", "bf16"}, {"Q8_0", "q8_0"}, {"Q4_0", "q4_0"}, {"F32", "f32"}}},
      {.name = "max-shard-size", .section = kFiles, .commands = bits({kExport}), .member = &Options::max_shard_size,
       .value = "SIZE", .help = "largest file of safetensors; what does not fit goes into further ones. 0 means one file", .size = true},
      {.name = "base-name", .section = kFiles, .commands = bits({kTrain, kPlan, kExport}), .member = &Options::base_name,
       .value = "NAME", .help = "the base model's name on the Hub, such as Qwen/Qwen3-0.6B, which the result names in place of a "
                                "directory of this machine"},
      {.name = "init", .section = kFiles, .commands = kWeighing, .member = choice<&Options::init>(),
       .help = "start from the weights of --model, or from random ones", .choices = {"pretrained", "random"}},
      {.name = "config", .section = kFiles, .commands = kWeighing, .member = &Options::config, .value = "FILE",
       .help = "run.json of a run, to repeat it: its options become the defaults; or config.json of the model to plan, or to fill "
               "with random weights, in place of --model"},

      // Machine and precision
      {.name = "device", .section = kMachine, .commands = kComputing, .member = choice<&Options::device>(),
       .help = "where to compute; auto takes the GPU if this build and machine have one; cuda fails without. plan needs no GPU for cuda",
       .choices = {"auto", "cpu", "cuda"}, .synonyms = {{"gpu", "cuda"}, {"cuda:0", "cuda"}},
       .shorthands = {{"use-cpu", "cpu"}, {"no-cuda", "cpu"}}},
      {.name = "dtype", .section = kMachine, .commands = kComputing, .member = choice<&Options::dtype>(),
       .help = "type of activations and matmuls; auto takes bf16 where a GPU multiplies it, or the processor multiplies it "
               "faster, else fp32, or on a GPU fp16, with dynamic loss scaling",
       .aliases = {"torch-dtype", "bnb-4bit-compute-dtype"}, .choices = kDtypes, .synonyms = kDtypeSpellings,
       .shorthands = {{"bf16", "bf16"}, {"fp16", "fp16"}, {"fp32", "fp32"}, {"bfloat16", "bf16"}, {"float16", "fp16"},
       {"float32", "fp32"}}, .fixed_on_resume = true},
      {.name = "weights", .section = kMachine, .commands = kWeighing, .member = choice<&Options::weights>(),
       .help = "type of the frozen weights in memory; auto means as --dtype, or as the model's files are quantised, or on the "
               "CPU with --dtype fp32 the 16 bits that the files have, which are the same values. int8 and "
               "nf4 are of the layers that may have an adapter, in blocks of 64; embedding and head stay in 16 bits",
       .aliases = {"quantization-bit"}, .choices = kWeightTypes,
       .synonyms = weight_type_spellings(), .shorthands = {{"load-in-8bit", "int8"}, {"load-in-4bit", "nf4"}},
       .fixed_on_resume = true},
      {.name = "logits", .section = kMachine, .commands = kTraining, .member = choice<&Options::logits>(),
       .help = "type of a training step's logits; 16bit is that of --dtype, which halves what they take of memory and of its "
               "bandwidth, and rounds each once. auto is 16bit on a GPU, except with --dtype fp32. Evaluation and text have fp32",
       .choices = {"auto", "fp32", "16bit"}, .synonyms = {{"float32", "fp32"}, {"16", "16bit"}}, .fixed_on_resume = true},
      {.name = "double-quant", .section = kMachine, .commands = kWeighing | bits({kExport}), .member = &Options::double_quant,
       .help = "of nf4: the scales of blocks are quantised too, to 8 bits",
       .aliases = {"bnb-4bit-use-double-quant", "use-bnb-nested-quant", "double-quantization", "use-double-quant"},
       .bare = "true", .fixed_on_resume = true},
      {.name = "threads", .section = kMachine, .commands = kWorking, .member = &Options::threads, .value = "N",
       .help = "threads to compute with; 0 means every core, shared among the ranks of a machine", .range = {0, 4096}},
      {.name = "ranks", .section = kMachine, .commands = kTraining, .member = &Options::ranks, .value = "N",
       .help = "GPUs, or processes on CPUs, that train together on this machine; each takes --batch-size rows --grad-accum times a "
               "step. N ranks give the same bits as one with N times the accumulation. Under mpirun, srun or torchrun leave it out: "
               "they say how many there are",
       .aliases = {"gpus", "nproc-per-node", "num-processes"}, .range = {1, kMostRanks}},
      {.name = "shard", .section = kMachine, .commands = kTraining, .member = choice<&Options::shard>(),
       .help = "what is divided among the ranks in place of held by each: optimizer (its states, and the sums of gradients that they "
               "need), gradients (the same here), weights (those and the frozen weights of the blocks, each gathered before it is "
               "used). The results are the same bits",
       .choices = {"none", "optimizer", "gradients", "weights"}},
      {.name = "memory", .section = kMachine, .commands = kComputing, .member = &Options::memory, .value = "SIZE",
       .help = "memory that the run, or each of its ranks, may use, of the GPU if it computes there, such as 8GiB, 1.5G or 500MB "
               "(K, M, G, T and KiB ... are powers of 1024, KB ... of 1000); 0 means what is free",
       .size = true},
      {.name = "seed", .section = kMachine, .commands = kComputing, .member = &Options::seed, .value = "N",
       .help = "seed of every random choice", .aliases = {"random-state"}, .range = {0, 4294967295.0}, .fixed_on_resume = true},

      // What is trained
      {.name = "train", .section = kAdapter, .commands = kAdapting, .member = choice<&Options::train>(),
       .help = "train an adapter, or all weights", .aliases = {"finetuning-type"}, .choices = {"lora", "full"},
       .shorthands = {{"full-finetuning", "full"}}, .fixed_on_resume = true},
      {.name = "rank", .section = kAdapter, .commands = kAdapting, .member = &Options::rank, .value = "N",
       .help = "rank of the adapter", .aliases = {"lora-r", "r", "lora-rank"}, .range = {1, 4096}},
      {.name = "alpha", .section = kAdapter, .commands = kAdapting, .member = &Options::alpha, .value = "X",
       .help = "the adapter's output is scaled by alpha / rank", .aliases = {"lora-alpha"}, .range = {0, 1e6, true}},
      {.name = "dropout", .section = kAdapter, .commands = kAdapting, .member = &Options::dropout, .value = "P",
       .help = "probability of dropping an input of the adapter", .aliases = {"lora-dropout"}, .range = {0, 1, false, true},
       .fixed_on_resume = true},
      {.name = "targets", .section = kAdapter, .commands = kAdapting, .member = &Options::targets, .value = "A,B,...",
       .help = targets_help,
       .aliases = {"lora-target-modules", "target-modules", "lora-target"},
       .choices = adaptable_names(), .synonyms = target_synonyms(),
       .shorthands = {{"lora-target-linear", "all-linear"}}},
      {.name = "rslora", .section = kAdapter, .commands = kAdapting, .member = &Options::rslora,
       .help = "scale by alpha / sqrt(rank) instead", .aliases = {"use-rslora", "peft-use-rslora"}, .bare = "true"},
      {.name = "lora-states", .section = kAdapter, .commands = kAdapting, .member = choice<&Options::lora_states>(),
       .help = "type of the adapter's values and gradients; bf16 takes half of their memory, and loses steps below 1/512 of a "
               "value",
       .choices = {"fp32", "bf16"}, .synonyms = kDtypeSpellings, .fixed_on_resume = true},
      {.name = "lora-gemm", .section = kAdapter, .commands = kAdapting | bits({kEvaluate, kGenerate}), .member = choice<&Options::lora_gemm>(),
       .help = "joined: an adapter's products are a part of those of the weights, which takes less time on a GPU and in bf16, and rounds "
               "once; separate: they are products of their own. auto is joined on a GPU, and on a CPU in bf16. There those of quantised "
               "weights are separate",
       .choices = {"auto", "joined", "separate"}, .fixed_on_resume = true},
      {.name = "init-adapter", .section = kAdapter, .commands = kAdapting, .member = &Options::init_adapter, .value = "DIR",
       .help = "start from this PEFT LoRA adapter instead of a fresh one", .aliases = {"lora-model-dir"}},
      {.name = "train-embeddings", .section = kAdapter, .commands = kAdapting, .member = &Options::train_embeddings,
       .help = "also train the embedding and the head, at the same learning rate, and save them whole beside the adapter (PEFT's "
               "modules_to_save); where the tokenizer has more tokens than the model, both grow by rows that begin as the mean of "
               "the others",
       .bare = "true", .fixed_on_resume = true},

      // Batches and steps
      {.name = "batch-size", .section = kSteps, .commands = kAdapting | bits({kEvaluate, kExport}), .member = &Options::batch_size,
       .value = "N", .help = "rows of --seq-len tokens computed at once; auto, with --effective-batch: the fastest that fits",
       .aliases = {"per-device-train-batch-size", "micro-batch-size", "train-batch-size"}, .range = {1, 65536},
       .automatic = true, .fixed_on_resume = true},
      {.name = "grad-accum", .section = kSteps, .commands = kTraining, .member = &Options::grad_accum, .value = "N",
       .help = "batches whose gradients make one step, on each rank", .aliases = {"gradient-accumulation-steps"}, .range = {1, 65536},
       .fixed_on_resume = true},
      {.name = "effective-batch", .section = kSteps, .commands = kTraining, .member = &Options::effective_batch, .value = "N",
       .help = "with --batch-size auto: rows a step. How many are computed at once, and what else was not given of --grad-accum, "
               "--recompute, --mlp-chunk and --offload, is chosen so that a step is fastest within --memory. 0 means not given",
       .range = {0, 1 << 20}},
      {.name = "seq-len", .section = kSteps, .commands = kComputing, .member = &Options::seq_len, .value = "N",
       .help = "tokens a row, and so of the longest sample",
       .aliases = {"max-seq-length", "max-length", "sequence-len", "cutoff-len", "max-seq-len", "seq-length", "block-size",
                   "model-max-length"},
       .range = {1, kManyTokens}, .demo_default = "512", .fixed_on_resume = true},
      {.name = "epochs", .section = kSteps, .commands = kTraining, .member = &Options::epochs, .value = "X",
       .help = "passes over the training data; may be a fraction", .aliases = {"num-train-epochs", "num-epochs"},
       .range = {0, 1e6, true}},
      {.name = "max-steps", .section = kSteps, .commands = kTraining, .member = &Options::max_steps, .value = "N",
       .help = "optimizer steps, whatever --epochs says; 0 means by epochs", .aliases = {"max-train-steps"},
       .synonyms = {{"-1", "0"}}, .range = kCount},
      {.name = "lr", .section = kSteps, .commands = kTraining, .member = &Options::lr, .value = "X",
       .help = "highest learning rate", .aliases = {"learning-rate"}, .range = {0, 10},
       .demo_default = "3e-3", .fixed_on_resume = true},
      {.name = "schedule", .section = kSteps, .commands = kTraining, .member = choice<&Options::schedule>(),
       .help = "the learning rate after warm-up; constant has no warm-up", .aliases = {"lr-scheduler-type", "lr-scheduler"},
       .choices = {"constant", "constant_with_warmup", "linear", "cosine"},
       .synonyms = {{"constant-with-warmup", "constant_with_warmup"}}, .fixed_on_resume = true},
      {.name = "warmup-ratio", .section = kSteps, .commands = kTraining, .member = &Options::warmup_ratio, .value = "F",
       .help = "share of the steps in which the learning rate rises from 0", .range = {0, 1}},
      {.name = "warmup-steps", .section = kSteps, .commands = kTraining, .member = &Options::warmup_steps, .value = "N",
       .help = "number of those steps; where given, 0 too, it replaces --warmup-ratio",
       .aliases = {"num-warmup-steps", "lr-warmup-steps"},
       .range = kCount},
      {.name = "optimizer", .section = kSteps, .commands = kTraining, .member = choice<&Options::optimizer>(),
       .help = "how gradients become steps; adamw8bit keeps its two moments in 8 bits, as bitsandbytes does",
       .aliases = {"optim"}, .choices = {"adamw", "adamw8bit"},
       .synonyms = {{"adamw_torch", "adamw"}, {"adamw_torch_fused", "adamw"}, {"adamw_hf", "adamw"},
       {"adamw_apex_fused", "adamw"},
                    {"paged_adamw", "adamw"}, {"paged_adamw_32bit", "adamw"}, {"torch.optim.adamw", "adamw"},
                    {"adamw_8bit", "adamw8bit"}, {"adamw_bnb_8bit", "adamw8bit"}, {"paged_adamw_8bit", "adamw8bit"}},
       .implies = {{"paged_adamw", "offload", "optimizer"}, {"paged_adamw_32bit", "offload", "optimizer"},
                   {"paged_adamw_8bit", "offload", "optimizer"}},
       .fixed_on_resume = true},
      {.name = "weight-decay", .section = kSteps, .commands = kTraining, .member = &Options::weight_decay, .value = "X",
       .help = "decoupled weight decay", .range = {0, 10}, .fixed_on_resume = true},
      {.name = "beta1", .section = kSteps, .commands = kTraining, .member = &Options::beta1, .value = "X",
       .help = "decay of the mean of gradients", .aliases = {"adam-beta1"}, .range = {0, 1, false, true},
       .fixed_on_resume = true},
      {.name = "beta2", .section = kSteps, .commands = kTraining, .member = &Options::beta2, .value = "X",
       .help = "decay of the mean of squared gradients", .aliases = {"adam-beta2"}, .range = {0, 1, false, true},
       .fixed_on_resume = true},
      {.name = "eps", .section = kSteps, .commands = kTraining, .member = &Options::eps, .value = "X",
       .help = "added to the root of the mean square", .aliases = {"adam-epsilon"}, .range = {0, 1, true},
       .fixed_on_resume = true},
      {.name = "clip", .section = kSteps, .commands = kTraining, .member = &Options::clip, .value = "X",
       .help = "largest norm of the gradients; 0 means no limit", .aliases = {"max-grad-norm"}, .range = {0, 1e9},
       .fixed_on_resume = true},
      {.name = "recompute", .section = kSteps, .commands = kAdapting, .member = choice<&Options::recompute>(),
       .help = "activations computed again in the backward pass instead of kept: selective those of norms, full all but the "
               "residual stream between blocks, for about a third more time. The gradients are the same bits",
       .aliases = {"gradient-checkpointing", "use-gradient-checkpointing", "activation-checkpointing",
                   "enable-activation-checkpointing"},
       .choices = {"none", "selective", "full"}, .synonyms = {{"true", "full"}, {"unsloth", "full"}, {"false", "none"}},
       .bare = "full"},
      {.name = "mlp-chunk", .section = kSteps, .commands = kAdapting, .member = &Options::mlp_chunk, .value = "N",
       .help = "tokens of a block's MLP at once, with --recompute full; 0 means the whole batch, auto as few as leave its memory "
               "no larger than that of attention",
       .range = {0, kManyTokens}, .automatic = true, .fixed_on_resume = true},
      {.name = "offload", .section = kSteps, .commands = kAdapting, .member = &Options::offload, .value = "A,B,...",
       .help = "what lies in the host's memory beside a GPU, and passes to and fro while it computes: none, or any of optimizer (its "
               "state), activations (those between blocks, with --recompute full) and embedding (where the head is another "
               "matrix). The results are the same bits; on a CPU it changes nothing",
       .choices = {"optimizer", "activations", "embedding"}, .nothing = "none"},
      {.name = "plan", .section = kSteps, .commands = kTraining, .member = &Options::plan,
       .help = "only say what the run needs, as the command plan does", .aliases = {"dry-run"}, .bare = "true"},

      // The plan
      {.name = "gpu", .section = kPlanned, .commands = bits({kPlan}), .member = &Options::gpu, .value = "NAME",
       .help = "plan for this GPU, such as T4, RTX-4090, A100-80GB or H100, in place of --device cuda --memory SIZE"},
      {.name = "sweep", .section = kPlanned, .commands = bits({kPlan}), .member = &Options::sweep, .value = "LIST",
       .help = "a plan for every combination of values: \"rank=4,8;targets=q,v|all-linear\"; alternatives are separated by "
               "commas, or by | where one has a comma in it"},
      {.name = "csv", .section = kPlanned, .commands = bits({kPlan}), .member = &Options::csv,
       .help = "print the table of --sweep as comma-separated values", .bare = "true"},
      {.name = "tensors", .section = kPlanned, .commands = bits({kPlan}), .member = &Options::tensors,
       .help = "print every group of tensors", .bare = "true"},
      {.name = "svg", .section = kPlanned, .commands = bits({kPlan}), .member = &Options::svg, .value = "FILE",
       .help = "draw what lies where in memory over the phases of a step"},

      // Data
      {.name = "format", .section = kData, .commands = kReading, .member = choice<&Options::data_format>(), .value = "NAME",
       .help = "what the rows of --data are; auto looks at every row, and says what it found",
       .choices = data_format_names(),
       .synonyms = {{"openai", "messages"}, {"chat", "messages"}, {"chatml", "messages"}, {"completion", "prompt"}, {"plain", "text"}}},
      {.name = "columns", .section = kData, .commands = kReading | bits({kExport}), .member = &Options::columns, .value = "NAME=FIELD,...",
       .help = "what the fields of the format are called in the data: prompt=question,response=answer"},
      {.name = "template", .section = kData, .commands = kTemplating | bits({kExport}), .member = choice<&Options::chat_template>(), .value = "NAME",
       .help = "how a conversation becomes text; auto: as the model's own chat_template does, if that is a known one, and for "
               "questions in SQuAD's format the form that show prints",
       .choices = template_names()},
      {.name = "system", .section = kData, .commands = kTemplating | bits({kExport}), .member = &Options::system, .value = "TEXT",
       .help = "system text of conversations that have none"},
      {.name = "template-date", .section = kData, .commands = kTemplating | bits({kExport}), .member = &Options::template_date, .value = "DATE",
       .help = "the day that the templates of Llama 3.1 and later name; fixed, so that runs repeat",
       .aliases = {"date-string"}},
      {.name = "train-on", .section = kData, .commands = kReading | bits({kTokenize, kExport}), .member = choice<&Options::train_on>(),
       .help = "what is trained: every answer with its end mark, the last answer of each conversation, or all tokens",
       .choices = train_on_names(),
       .shorthands = {{"completion-only-loss", "answers", "all"}, {"assistant-only-loss", "answers", "all"},
                      {"train-on-inputs", "all", "answers"}, {"train-on-prompt", "all", "answers"},
                      {"train-on-source", "all", "answers"}, {"mask-prompt", "answers", "all"}}},
      {.name = "long", .section = kData, .commands = kReading, .member = choice<&Options::long_samples>(),
       .help = "samples longer than --seq-len: of conversations whole turns leave from the front first. What is still too long is "
               "cut, dropped, or refused with the data set",
       .choices = long_samples_names()},
      {.name = "parse-special", .section = kData, .commands = kTemplating, .member = &Options::parse_special,
       .help = "special tokens that are spelled out in users' texts become tokens; without it they stay text",
       .bare = "true"},
      {.name = "check", .section = kData, .commands = bits({kShow}), .member = &Options::check,
       .help = "count over the whole set what is trained, ends, lengths, duplicates, empty answers and what was cut",
       .bare = "true"},
      {.name = "packing", .section = kData, .commands = kAdapting | bits({kEvaluate}), .member = &Options::packing,
       .help = "several documents a row; off: one document a row, padded", .aliases = {"sample-packing"}, .bare = "true",
       .fixed_on_resume = true},
      {.name = "shuffle", .section = kData, .commands = kAdapting, .member = &Options::shuffle,
       .help = "a new order of documents every epoch; off: the order of the file", .bare = "true", .fixed_on_resume = true},
      {.name = "valid-split", .section = kData, .commands = bits({kTrain, kPlan, kPrepare, kShow, kEvaluate, kExport}),
       .member = &Options::valid_split, .value = "F", .help = "share held out for validation where the data set has no split",
       .aliases = {"val-set-size", "val-size", "test-split-size"}, .range = {0, 1, false, true},
       .command_defaults = {{kEvaluate, "0"}}},
      {.name = "split", .section = kData, .commands = bits({kShow, kEvaluate}), .member = choice<&Options::split>(),
       .help = "which part of the data set; auto means all for show, and for evaluate validation where there is one, else all",
       .choices = {"auto", "train", "validation", "all"}},
      {.name = "unanswerable", .section = kData, .commands = kReading, .member = choice<&Options::unanswerable>(),
       .help = "questions without an answer: leave them out, or train the text `no answer`; for data that is not prepared yet",
       .choices = {"skip", "train"}},
      {.name = "allow-empty", .section = kData, .commands = bits({kTrain, kPlan, kPrepare}), .member = &Options::allow_empty,
       .help = "accept samples in which nothing is trained", .bare = "true"},
      {.name = "docs", .section = kData, .commands = bits({kShow, kDump}), .member = &Options::docs, .value = "N",
       .help = "how many samples, from the first", .range = {1, 1e12}},
      {.name = "max-samples", .section = kData, .commands = bits({kEvaluate}), .member = &Options::max_samples, .value = "N",
       .help = "evaluate at most this many samples; 0 means all", .range = kCount},
      {.name = "stride", .section = kData, .commands = bits({kEvaluate}), .member = &Options::stride, .value = "N",
       .help = "perplexity of text in windows of --seq-len tokens that move on by N, each token predicted once; 0 means that every "
               "document stands by itself",
       .range = {0, kManyTokens}},

      // Evaluations and checkpoints
      {.name = "eval-steps", .section = kCheckpoints, .commands = kTraining, .member = &Options::eval_steps, .value = "N",
       .help = "steps between evaluations; 0 means before and after training only", .range = kCount},
      {.name = "eval-on-start", .section = kCheckpoints, .commands = kTraining, .member = &Options::eval_on_start,
       .help = "evaluate before the first step; off: begin with it", .bare = "true"},
      {.name = "eval-docs", .section = kCheckpoints, .commands = kTraining | bits({kExport}), .member = &Options::eval_docs, .value = "N",
       .help = "validation documents of which the loss is taken, the first, the same each time; 0 means all",
       .aliases = {"max-eval-samples"}, .range = kCount},
      {.name = "eval-samples", .section = kCheckpoints, .commands = kTraining | bits({kEvaluate}),
       .member = &Options::eval_samples, .value = "N",
       .help = "validation samples with a reference answer that are answered before and after training; 0 means none. Of evaluate: "
               "how many, from the first; without it all questions that the data set has gold answers to, else 100", .range = kCount, .demo_default = "100"},
      {.name = "save-steps", .section = kCheckpoints, .commands = kTraining, .member = &Options::save_steps, .value = "N",
       .help = "steps between checkpoints; auto means about every ten minutes and at the end, 0 at the end only",
       .range = kCount, .automatic = true},
      {.name = "save-total-limit", .section = kCheckpoints, .commands = kTraining, .member = &Options::save_total_limit,
       .value = "N", .help = "checkpoints to keep, the newest; 0 means all. Without it two stay of those that --save-steps auto writes", .range = kCount},
      {.name = "resume", .section = kCheckpoints, .commands = kTraining, .member = &Options::resume, .value = "[DIR]",
       .help = "go on from this checkpoint, or from the newest in --output", .aliases = {"resume-from-checkpoint"},
       .bare = "true"},
      {.name = "keep", .section = kCheckpoints, .commands = kTraining, .member = choice<&Options::keep>(),
       .help = "which values the result has: those of the last step, or of the evaluation with the lowest loss (with --eval-steps)",
       .choices = {"last", "best"}, .shorthands = {{"load-best-model-at-end", "best"}}},
      {.name = "patience", .section = kCheckpoints, .commands = kTraining, .member = &Options::patience, .value = "N",
       .help = "end the run after N evaluations in a row without a lower loss; 0 means never",
       .aliases = {"early-stopping-patience"}, .range = kCount},
      {.name = "sample-prompt", .section = kCheckpoints, .commands = bits({kTrain}), .member = &Options::sample_prompt,
       .value = "TEXT", .help = "print how the model continues this at every evaluation; with a chat template, what it answers"},
      {.name = "report-to", .section = kCheckpoints, .commands = kTraining, .member = &Options::report_to, .value = "A,B,...",
       .help = "what else the run is written for while it goes: none, or tensorboard (event files in OUTPUT/runs)",
       .choices = {"tensorboard"}, .nothing = "none", .synonyms = {{"all", "tensorboard"}},
       .foreign = {"wandb", "mlflow", "comet", "comet_ml", "clearml", "codecarbon", "dagshub", "dvclive", "flyte", "neptune",
                   "swanlab", "trackio", "azure_ml"}},
      {.name = "reschedule", .section = kCheckpoints, .commands = kTraining, .member = &Options::reschedule,
       .help = "with --resume: learning rates as --lr, --schedule, the warm-up, --max-steps and --epochs say now",
       .bare = "true"},
      {.name = "overwrite", .section = kCheckpoints, .commands = kTraining | bits({kExport}), .member = &Options::overwrite,
       .help = "drop what an earlier run left in --output instead of keeping it in a folder earlier-N there; of export, a model",
       .aliases = {"overwrite-output-dir"}, .bare = "true"},

      // Text
      {.name = "prompt", .section = kText, .commands = bits({kGenerate}), .member = &Options::prompt, .value = "TEXT",
       .help = "text to continue; - reads it from standard input", .letter = 'p'},
      {.name = "chat", .section = kText, .commands = bits({kTokenize, kGenerate}), .member = &Options::chat,
       .help = "the prompt is a user's turn in the chat template, and each line for tokenize a list of messages", .bare = "true"},
      {.name = "messages", .section = kText, .commands = bits({kGenerate}), .member = &Options::messages, .value = "FILE",
       .help = "a conversation to answer, as a JSON list of messages; implies --chat"},
      {.name = "max-new-tokens", .section = kText, .commands = bits({kEvaluate, kGenerate}), .member = &Options::max_new_tokens,
       .value = "N", .help = "tokens to add at most", .aliases = {"max-tokens"}, .range = {1, kManyTokens}},
      {.name = "temperature", .section = kText, .commands = bits({kGenerate}), .member = &Options::temperature, .value = "X",
       .help = "0 takes the most likely token; above, tokens are drawn", .range = {0, 100}},
      {.name = "top-p", .section = kText, .commands = bits({kGenerate}), .member = &Options::top_p, .value = "P",
       .help = "draw from the most likely tokens that together have this probability; 1 means from all", .range = {0, 1, true}},
      {.name = "top-k", .section = kText, .commands = bits({kGenerate}), .member = &Options::top_k, .value = "N",
       .help = "draw from this many tokens, the most likely; 0 means from all", .range = kCount},
      {.name = "min-p", .section = kText, .commands = bits({kGenerate}), .member = &Options::min_p, .value = "P",
       .help = "draw from tokens that are at least this times as likely as the most likely one; 0 means from all", .range = {0, 1}},
      {.name = "repeat-penalty", .section = kText, .commands = bits({kGenerate}), .member = &Options::repeat_penalty, .value = "X",
       .help = "make tokens that the text has already less likely: their logits are divided by X, or multiplied if negative; 1 "
               "means not", .aliases = {"repetition-penalty"}, .range = {0, 100, true}},
      {.name = "stop", .section = kText, .commands = bits({kGenerate}), .member = &Options::stop, .value = "TEXT",
       .help = "end where this text would begin; several as a JSON list: '[\"Q:\", \"\\n\\n\"]'"},
      {.name = "add-special", .section = kText, .commands = bits({kTokenize}), .member = &Options::add_special,
       .help = "add the begin and end marks that the tokenizer's files ask for", .bare = "true"},

      // What is printed
      {.name = "json", .section = kOutput, .commands = kWorking | bits({kVersion}), .member = &Options::json,
       .help = "print the result as JSON; of export also losses, which are empty without --data",
       .bare = "true"},
      {.name = "quiet", .section = kOutput, .commands = kWorking, .member = &Options::quiet,
       .help = "print results, errors and notes of what may be lost or wrong", .letter = 'q', .bare = "true"},
      {.name = "profile", .section = kOutput, .commands = kRunning, .member = &Options::profile,
       .help = "print each op's calls, time, GB/s, GFLOP/s and share of the machine's ceiling; of a training run after its first step", .bare = "true"},
      {.name = "help", .section = kOutput, .commands = kAny, .member = &Options::help, .help = "print this help",
       .letter = 'h', .bare = "true"},
      {.name = "version", .section = kOutput, .commands = kAny, .member = &Options::version,
       .help = "print what this program was built from and with", .bare = "true"},
      {.name = "man", .section = kOutput, .commands = kAny, .member = &Options::man, .help = "print the manual page",
       .bare = "true"},
  };
  // clang-format on
  return rows;
}

}  // namespace tll
